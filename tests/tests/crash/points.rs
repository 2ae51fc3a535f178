//! Every call that changes what is on disk, in the wrapper, in sled and in a member's store, crossed with every fault.
//!
//! A first run notes the calls of a fixed load. Then, for each kind of call and file, the load runs again once per
//! fault and per chosen occurrence (the first, the middle and the last; with `QUORATE_STATES` set, up to that many).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_tests::crash::place::{Cut, Place};
use quorate_tests::crash::rng::Rng;
use quorate_tests::crash::run::{Ended, Own, Progress, Subject, Verdict, check, load};
use quorate_tests::crash::shim::Fault;

use crate::{number, seed};

/// What happens at a point, and what is checked then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// SIGKILL before the call; the page cache lives on.
    Kill,
    /// SIGKILL in the middle of the write, and the power goes.
    Power,
    /// The call fails with EIO, and what was not durable may be gone.
    Eio,
    /// The call fails with ENOSPC.
    Enospc,
}

const KINDS: [Kind; 4] = [Kind::Kill, Kind::Power, Kind::Eio, Kind::Enospc];

impl Kind {
    const fn action(self, call: &str) -> &'static str {
        match self {
            Self::Kill => "kill",
            // Only a write has a middle.
            Self::Power if matches!(call.as_bytes(), [b'w', ..] | [b'd', b's', ..]) => "half",
            Self::Power => "kill",
            Self::Eio => "eio",
            Self::Enospc => "enospc",
        }
    }
}

struct Case {
    subject: usize,
    point: String,
    nth: u64,
    kind: Kind,
}

#[derive(Debug, Default, Clone)]
struct Row {
    cases: u64,
    whole: u64,
    findings: Vec<String>,
}

/// Loads of a fixed length: creation, batches large and small, every kind of change, and closing.
fn subjects() -> Vec<Own> {
    vec![
        Own { until: 12, writers: 1, name: "wrapper".to_owned(), ..Own::wrapper() },
        Own { until: 60, name: "member".to_owned(), ..Own::member_store() },
    ]
}

/// One seed for the load: the points of a seed are the same in each run.
const SEED: u64 = 11;

/// How often each point is passed.
fn trace(subject: &Own) -> BTreeMap<String, u64> {
    let place = Place::new();
    let fault = Fault { trace: Some(place.beside("trace")), ..Fault::default() };
    let ended = load(subject, &place, SEED, &mut Progress::default(), &fault, None);
    assert_eq!(ended.how(), "exit 0", "{}", ended.said);
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(place.beside("trace")).expect("it was traced").lines() {
        *points.entry(line.to_owned()).or_insert(0) += 1;
    }
    points
}

/// `most` of the occurrences, evenly spread; the middle one when it is to be one.
fn occurrences(times: u64, most: u64) -> BTreeSet<u64> {
    match most {
        _ if times <= most => (1..=times).collect(),
        1 => BTreeSet::from([times.div_ceil(2)]),
        _ => (0..most).map(|n| 1 + n * (times - 1) / (most - 1)).collect(),
    }
}

/// A process that met the fault went on, or ended with a reason that a person can read.
fn ended_well(kind: Kind, ended: &Ended) -> Result<(), String> {
    let said = ended.said.trim();
    match (kind, ended.how().as_str()) {
        (_, "hung") => Err("it hung".to_owned()),
        (_, "exit 0") | (Kind::Kill | Kind::Power, "signal 9") => Ok(()),
        (Kind::Kill | Kind::Power, how) => Err(format!("{how}: {said}")),
        // The barrier's own death, or an error; both must say something.
        (Kind::Eio | Kind::Enospc, "exit 74" | "signal 6") if !said.is_empty() => Ok(()),
        (Kind::Eio | Kind::Enospc, how) => Err(format!("{how}: {said:?}")),
    }
}

fn run(subject: &Own, case: &Case, rng: &mut Rng) -> Result<(), String> {
    let place = Place::new();
    let call = case.point.split(' ').next().unwrap_or_default();
    let at = format!("{}:{}:{}", case.point, case.nth, case.kind.action(call));
    let fault = Fault { at: Some(at), ..Fault::default() };
    let mut progress = Progress::default();
    let ended = load(subject, &place, SEED, &mut progress, &fault, None);
    ended_well(case.kind, &ended)?;
    let cuts: &[Option<Cut>] = match case.kind {
        Kind::Kill | Kind::Enospc => &[None],
        Kind::Power | Kind::Eio => &[
            Some(Cut { keep: 0, block: 4096 }),
            Some(Cut { keep: 500, block: 512 }),
            Some(Cut { keep: 970, block: 4096 }),
        ],
    };
    for cut in cuts {
        let state = place.beside("state");
        // Everything kept is what a killed process leaves.
        place.cut(cut.unwrap_or(Cut { keep: 1000, block: 4096 }), rng, &state);
        match check(subject, &state, SEED, &progress) {
            Verdict::Whole(_) => {}
            other => {
                return Err(format!(
                    "{cut:?} after {:?}: {other:?}; it said {:?}",
                    progress.acked, ended.said
                ));
            }
        }
    }
    Ok(())
}

pub(crate) fn every_point_and_every_fault() {
    let subjects = subjects();
    let most = number("QUORATE_STATES", 1).clamp(1, 64);
    let mut cases = Vec::new();
    for (n, subject) in subjects.iter().enumerate() {
        let points = trace(subject);
        println!("  {}: {} points, {} calls", subject.name(), points.len(), points.values().sum::<u64>());
        for (point, times) in points {
            for nth in occurrences(times, most) {
                cases.extend(KINDS.map(|kind| Case { subject: n, point: point.clone(), nth, kind }));
            }
        }
    }
    let rows: Mutex<BTreeMap<(usize, String, Kind), Row>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut rng = Rng::new(seed(), case.nth);
                    let outcome =
                        subjects.get(case.subject).map_or(Ok(()), |subject| run(subject, case, &mut rng));
                    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                    let row = rows.entry((case.subject, case.point.clone(), case.kind)).or_default();
                    row.cases += 1;
                    match outcome {
                        Ok(()) => row.whole += 1,
                        Err(why) => {
                            row.findings.push(format!("{} #{} {:?}: {why}", case.point, case.nth, case.kind))
                        }
                    }
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    print(&subjects, &rows);
    let findings: Vec<&String> = rows.values().flat_map(|row| &row.findings).collect();
    assert!(findings.is_empty(), "{} of {} cases: {findings:#?}", findings.len(), cases.len());
    assert!(
        rows.len() >= 40 * KINDS.len(),
        "reliability.md asks for at least 40 points, these are {}",
        rows.len() / KINDS.len()
    );
}

fn print(subjects: &[Own], rows: &BTreeMap<(usize, String, Kind), Row>) {
    println!("  {:<8} {:<34} {:>9} {:>9} {:>9} {:>9}", "store", "point", "kill", "power", "EIO", "ENOSPC");
    let points: BTreeSet<(usize, &String)> =
        rows.keys().map(|(subject, point, _)| (*subject, point)).collect();
    for (subject, point) in points {
        let cell = |kind| {
            let row = rows.get(&(subject, point.clone(), kind)).cloned().unwrap_or_default();
            format!("{}/{}", row.whole, row.cases)
        };
        let name = subjects.get(subject).map_or("", |s| s.name());
        let [kill, power, eio, enospc] = KINDS.map(cell);
        println!("  {name:<8} {point:<34} {kill:>9} {power:>9} {eio:>9} {enospc:>9}");
    }
    let (cases, whole) = rows.values().fold((0, 0), |(c, w), row| (c + row.cases, w + row.whole));
    println!(
        "  {} points x {} faults, {cases} cases, {whole} of them whole",
        rows.len() / KINDS.len(),
        KINDS.len()
    );
}
