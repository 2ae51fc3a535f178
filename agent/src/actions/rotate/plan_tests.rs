//! A folder in memory, a writer, and a crash between any two steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn policy() -> LogRotation {
    LogRotation {
        paths: Vec::new(),
        size_bytes: 0,
        age: DurationMs::ZERO,
        keep: 3,
        compress: true,
        delay_compress: true,
        copy_truncate: false,
        rotate_empty: false,
        missing_ok: false,
        create_mode: 0,
        create_owner: String::new(),
        reload: true,
    }
}

/// Names to inodes, inodes to lines.
#[derive(Clone, Default)]
struct Model {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Vec<u64>>,
    next_inode: u64,
    writer: u64,
    next_line: u64,
    deleted: Vec<u64>,
}

impl Model {
    fn new() -> Self {
        let mut m = Self::default();
        m.make("log", Vec::new());
        m.reload();
        m
    }

    fn make(&mut self, name: &str, lines: Vec<u64>) {
        self.next_inode += 1;
        assert!(self.names.insert(name.to_owned(), self.next_inode).is_none(), "{name} was replaced");
        self.files.insert(self.next_inode, lines);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let inode = self.names.remove(from).unwrap_or_else(|| panic!("{from} is not there"));
        assert!(self.names.insert(to.to_owned(), inode).is_none(), "{to} was replaced");
    }

    fn write(&mut self) {
        self.next_line += 1;
        let line = self.next_line;
        self.files.get_mut(&self.writer).expect("the writer's file").push(line);
    }

    fn reload(&mut self) {
        self.writer = self.names["log"];
    }

    fn lines(&self, name: &str) -> Vec<u64> {
        self.files[&self.names[name]].clone()
    }

    fn held(&self, name: &str) -> bool {
        self.names.get(name) == Some(&self.writer)
    }

    fn state(&self) -> State {
        let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
        for name in self.names.keys() {
            let Some(rest) = name.strip_prefix("log.") else { continue };
            let (number, packed) = rest.strip_suffix(".gz").map_or((rest, false), |n| (n, true));
            let slot = slots.entry(number.parse().expect("a number")).or_default();
            slot.plain |= !packed;
            slot.packed |= packed;
            slot.held |= self.held(name);
        }
        let aside = self.names.contains_key("aside").then(|| {
            let fresh = self.lines("aside").is_empty() && !self.held("aside");
            if fresh { Aside::Fresh } else { Aside::Old }
        });
        let size = self.names.contains_key("log").then(|| self.lines("log").len() as u64);
        State {
            log: size.map(|size| LogFile { size, born: None, below_block: false }),
            slots,
            aside,
            copy: self.names.contains_key("copy"),
            cut: self.names.contains_key("cut"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::DropPacked(n) => drop(self.names.remove(&format!("log.{n}.gz"))),
            Step::DropAside => drop(self.names.remove("aside")),
            Step::DropCopy => drop(self.names.remove("copy")),
            Step::Delete(n) => {
                for name in [format!("log.{n}"), format!("log.{n}.gz")] {
                    assert!(!self.held(&name), "the writer is on a deleted file");
                    if let Some(inode) = self.names.remove(&name) {
                        self.deleted.extend(self.files[&inode].clone());
                    }
                }
            }
            Step::Shift(n) => {
                for ending in ["", ".gz"] {
                    let from = format!("log.{n}{ending}");
                    if self.names.contains_key(&from) {
                        self.rename(&from, &format!("log.{}{ending}", n + 1));
                    }
                }
            }
            Step::Fresh => self.make("aside", Vec::new()),
            Step::Create => self.make("log", Vec::new()),
            Step::Swap => {
                let (log, aside) = (self.names["log"], self.names["aside"]);
                self.names.insert("log".to_owned(), aside);
                self.names.insert("aside".to_owned(), log);
            }
            Step::Copy => {
                let lines = self.lines("log");
                self.make("cut", lines);
            }
            Step::Cut => {
                let copied = self.lines("cut");
                let log = self.files.get_mut(&self.names["log"]).expect("log");
                if log.starts_with(&copied) {
                    log.drain(..copied.len());
                }
            }
            Step::Place => self.rename("aside", "log.1"),
            Step::PlaceCut => self.rename("cut", "log.1"),
        }
    }

    fn pack(&mut self, n: u32, crash: bool) {
        let (plain, packed) = (format!("log.{n}"), format!("log.{n}.gz"));
        if self.held(&plain) {
            return;
        }
        let lines = self.lines(&plain);
        self.names.remove(&packed);
        self.make(&packed, lines);
        if !crash {
            self.names.remove(&plain);
        }
    }

    /// Every line that is to be found, in any file that has a name.
    fn kept(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.names.values().flat_map(|inode| self.files[inode].clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn rows(&self) -> usize {
        self.names.keys().filter(|n| n.starts_with("log.")).count()
    }
}

/// One rotation that ends after `steps` steps, the writer writing before each.
fn rotate(m: &mut Model, policy: &LogRotation, steps: usize, reloads: bool) -> bool {
    let plan = match plan(policy, &m.state(), Timestamp::ZERO) {
        Ok(plan) => plan,
        Err(Refused::Held(_)) => return true,
        Err(refused) => panic!("{refused:?}"),
    };
    let mut left = steps;
    for step in &plan.steps {
        m.write();
        if left == 0 {
            return false;
        }
        left -= 1;
        m.step(*step);
    }
    if plan.reload && policy.reload && reloads {
        m.reload();
    }
    for n in plan.pack {
        m.write();
        if left == 0 {
            m.pack(n, true);
            return false;
        }
        left -= 1;
        m.pack(n, false);
    }
    true
}

proptest! {
    #[test]
    fn no_line_is_lost_and_the_writer_is_never_on_a_deleted_file(
        runs in proptest::collection::vec((0_usize..12, any::<bool>()), 1..30),
        keep in 1_u32..5,
        compress in any::<bool>(),
        delay in any::<bool>(),
        copying in any::<bool>(),
    ) {
        let policy = LogRotation {
            keep, compress, delay_compress: compress && delay, copy_truncate: copying, ..policy()
        };
        let mut m = Model::new();
        for (steps, reloads) in runs {
            m.write();
            rotate(&mut m, &policy, steps, reloads);
            let mut all = m.kept();
            all.extend(&m.deleted);
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all, (1..=m.next_line).collect::<Vec<_>>());
            prop_assert!(m.names.values().any(|inode| *inode == m.writer), "the writer's file has no name");
        }
        // Left alone, it comes to rest: no temporary name, no double form, not more than is to be kept.
        for _ in 0..3 {
            m.write();
            prop_assert!(rotate(&mut m, &policy, usize::MAX, true));
        }
        prop_assert!(m.rows() <= usize::try_from(keep).expect("small"), "{:?}", m.names.keys());
        prop_assert!(!["aside", "copy", "cut"].iter().any(|n| m.names.contains_key(*n)), "{:?}", m.names.keys());
    }

    #[test]
    fn nothing_is_deleted_while_there_is_a_gap(gap in 1_u32..=5) {
        let mut m = Model::new();
        for n in (1..=5).filter(|n| *n != gap) {
            m.make(&format!("log.{n}"), Vec::new());
        }
        m.write();
        let plan = plan(&LogRotation { keep: 5, ..policy() }, &m.state(), Timestamp::ZERO).expect("a plan");
        prop_assert!(!plan.steps.iter().any(|s| matches!(s, Step::Delete(_))), "{:?}", plan.steps);
    }

    #[test]
    fn the_front_is_whole_blocks_and_never_the_end(size in 0_u64..1 << 40, shift in 9_u32..17) {
        let block = 1_u64 << shift;
        match front(size, block, true) {
            Front::Blocks(bytes) => prop_assert!(bytes % block == 0 && bytes < size && size - bytes <= block),
            Front::Nothing => prop_assert!(size <= block),
            Front::Whole => prop_assert!(false),
        }
        prop_assert_eq!(front(size, block, false), Front::Whole);
    }
}

#[test]
fn due_by_size_by_age_or_always() {
    let state = |modified| State {
        slots: BTreeMap::from([(1, Slot { plain: true, modified: Timestamp(modified), ..Slot::default() })]),
        ..State::default()
    };
    let log = |size, born| LogFile { size, born: Some(Timestamp(born)), below_block: false };
    let p = LogRotation { size_bytes: 100, ..policy() };
    assert!(is_due(&p, &state(0), log(100, 0), Timestamp(1)));
    assert!(!is_due(&p, &state(0), log(99, 0), Timestamp(1_000_000)));
    let p = LogRotation { age: DurationMs(1_000), ..policy() };
    assert!(is_due(&p, &state(500), log(1, 0), Timestamp(1_500)));
    assert!(!is_due(&p, &state(500), log(1, 0), Timestamp(1_499)));
    assert!(!is_due(&p, &state(0), log(1, 1_000), Timestamp(1_500)), "a quiet log counts from its birth");
    assert!(is_due(&policy(), &State::default(), log(1, 0), Timestamp(0)));
    assert!(!is_due(&policy(), &State::default(), log(0, 0), Timestamp(0)), "empty");
    assert!(is_due(
        &LogRotation { rotate_empty: true, ..policy() },
        &State::default(),
        log(0, 0),
        Timestamp(0)
    ));
}

#[test]
fn an_oldest_file_that_is_still_written_to_stays() {
    let mut m = Model::new();
    for n in 1..=3 {
        m.make(&format!("log.{n}"), Vec::new());
    }
    m.writer = m.names["log.3"];
    m.files.get_mut(&m.names["log"]).expect("log").push(1);
    assert_eq!(plan(&policy(), &m.state(), Timestamp::ZERO), Err(Refused::Held(3)));
}

#[test]
fn a_writer_left_behind_is_owed_a_reload_although_nothing_is_due() {
    let mut m = Model::new();
    m.make("log.1", vec![1]);
    m.writer = m.names["log.1"];
    let plan = plan(&policy(), &m.state(), Timestamp::ZERO).expect("a plan");
    assert!(plan.reload && plan.steps.is_empty(), "{plan:?}");
}

#[test]
fn a_missing_log_is_an_error_unless_it_may_be_missing() {
    let state = State::default();
    assert_eq!(plan(&policy(), &state, Timestamp::ZERO), Err(Refused::Missing));
    let fine = LogRotation { missing_ok: true, ..policy() };
    assert_eq!(plan(&fine, &state, Timestamp::ZERO), Ok(Plan::default()));
}

#[test]
fn policies_that_make_no_sense_are_refused_by_field() {
    for (p, field) in [
        (LogRotation { keep: 0, ..policy() }, "keep"),
        (LogRotation { keep: 1_001, ..policy() }, "keep"),
        (LogRotation { create_mode: 0o4755, ..policy() }, "create_mode"),
        (LogRotation { compress: false, ..policy() }, "delay_compress"),
    ] {
        assert_eq!(check(&p).expect_err("nonsense").0, field);
    }
}
