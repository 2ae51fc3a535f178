//! Load on a member's store (log, vote, committed index, snapshots), and what must be there of it afterwards.
//!
//! One operation after the other, as the Raft core calls them. Operation `n` is a function of the seed and of the model
//! before it, so that whoever checks can play the acknowledged ones again and knows the one that was under way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use quorate_coordinator::store::{
    self, CommittedIndex, Identity, LogBytes, LogMarks, Opened, SnapshotShelf, StoreDirs, StoreOptions,
};
use quorate_durable::{Probe, SpaceFloor};

use super::rng::Rng;
use super::store_load::{Found, causes};

/// Entries kept behind the snapshot.
const KEEP: u64 = 20;

/// What a member has promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    term: u64,
    /// Term and the operation that wrote it, by index.
    entries: BTreeMap<u64, (u64, u64)>,
    next: u64,
    committed: Option<(u64, u64)>,
    purged: Option<u64>,
    snapshot: Option<u64>,
}

enum Op {
    Vote,
    Append(u64),
    Commit,
    Truncate(u64),
    Snapshot,
    Purge(u64),
}

impl Model {
    fn choose(&self, seed: u64, number: u64) -> Op {
        let mut rng = Rng::new(seed, number);
        let committed = self.committed.map_or(0, |(_, index)| index);
        let open = self.next.saturating_sub(1).saturating_sub(committed);
        if self.term == 0 {
            return Op::Vote;
        }
        match rng.below(100) {
            0..=4 => Op::Vote,
            5..=9 if open > 1 => Op::Truncate(committed + 1 + rng.below(open)),
            10..=13 if committed > self.snapshot.unwrap_or(0) => Op::Snapshot,
            14..=17 if self.snapshot.unwrap_or(0) > self.purged.unwrap_or(0) + KEEP => {
                Op::Purge(self.snapshot.unwrap_or(0) - KEEP)
            }
            18..=55 if open > 0 => Op::Commit,
            _ => Op::Append(1 + rng.below(6)),
        }
    }

    fn after(&self, seed: u64, number: u64) -> Self {
        let mut next = self.clone();
        match self.choose(seed, number) {
            Op::Vote => next.term += 1,
            Op::Append(count) => {
                for index in self.next..self.next + count {
                    next.entries.insert(index, (self.term, number));
                }
                next.next += count;
            }
            Op::Commit => {
                next.committed = self.entries.last_key_value().map(|(index, (term, _))| (*term, *index))
            }
            Op::Truncate(from) => {
                next.entries.split_off(&from);
                next.next = from;
            }
            Op::Snapshot => next.snapshot = self.committed.map(|(_, index)| index),
            Op::Purge(upto) => {
                next.entries = next.entries.split_off(&(upto + 1));
                next.purged = Some(upto);
            }
        }
        next
    }

    fn at(seed: u64, done: u64) -> Self {
        // Index 0 is left out: nothing then is confused with "none".
        let mut model = Self { next: 1, ..Self::default() };
        for number in 1..=done {
            model = model.after(seed, number);
        }
        model
    }
}

fn entry(seed: u64, term: u64, index: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ index, number);
    let bytes = match rng.below(20) {
        0 => 20_000 + rng.below(20_000),
        1..=3 => 3_000 + rng.below(2_000),
        _ => 40 + rng.below(400),
    };
    let mut out = [term, index, number].map(u64::to_be_bytes).concat();
    while (out.len() as u64) < bytes {
        out.extend_from_slice(&rng.next_u64().to_be_bytes());
    }
    out
}

fn word(bytes: &[u8]) -> Option<u64> {
    bytes.get(..8)?.try_into().ok().map(u64::from_be_bytes)
}

/// As the Raft adapter's own reading, for our simpler bytes.
fn marks(log: &LogBytes, snapshots: &dyn SnapshotShelf) -> Result<LogMarks, String> {
    let text = |e: &dyn std::error::Error| e.to_string();
    let entries = log.entries(0, u64::MAX, usize::MAX).map_err(|e| text(&e))?;
    let purged = log.purged().map_err(|e| text(&e))?.and_then(|b| word(&b));
    let contiguous = entries.windows(2).all(|w| matches!(w, [a, b] if a.0 + 1 == b.0))
        && entries.first().is_none_or(|first| purged.is_none_or(|purged| purged + 1 == first.0));
    let newest = snapshots.newest().map_err(|e| text(&e))?;
    let snapshot = match newest.as_deref().map(store::decode_snapshot) {
        Some(Ok((meta, _))) => word(meta),
        Some(Err(why)) => return Err(why.to_owned()),
        None => None,
    };
    Ok(LogMarks {
        vote_term: log.vote().map_err(|e| text(&e))?.and_then(|b| word(&b)),
        last: entries.last().and_then(|(index, bytes)| Some((word(bytes)?, *index))),
        purged,
        snapshot,
        contiguous,
    })
}

fn identity() -> Identity {
    Identity::of("crash", 1)
}

fn options() -> StoreOptions {
    StoreOptions { probe: Probe::SelfExe, space: SpaceFloor::small(), cache_bytes: 8 << 20 }
}

fn open(dir: &Path) -> Result<Opened, String> {
    store::open(&StoreDirs::new(dir), identity(), &options(), marks).map_err(|error| causes(&error))
}

async fn carry_out(opened: &Opened, model: &Model, seed: u64, number: u64) -> Result<(), String> {
    let text = |e: quorate_durable::StoreError| causes(&e);
    let log = &opened.log;
    match model.choose(seed, number) {
        Op::Vote => log.save_vote(model.term + 1, &(model.term + 1).to_be_bytes()).await.map_err(text),
        Op::Append(count) => {
            let entries = model.next..model.next + count;
            let entries = entries.map(|index| (index, entry(seed, model.term, index, number))).collect();
            log.append(entries).await.map_err(text)
        }
        Op::Commit => {
            let (term, index) = model.after(seed, number).committed.unwrap_or_default();
            let slot = CommittedIndex { term, leader: 1, index };
            opened.committed.save(Some(slot)).map_err(|e| e.to_string())?;
            log.note_committed(index);
            Ok(())
        }
        Op::Truncate(from) => log.truncate(from).await.map_err(text),
        Op::Snapshot => {
            let index = model.after(seed, number).snapshot.unwrap_or(0);
            let bytes = store::encode_snapshot(&index.to_be_bytes(), &vec![7; 30_000]);
            opened.snapshots.store(index, &bytes).map_err(|e| e.to_string())
        }
        Op::Purge(upto) => log.purge(upto, &upto.to_be_bytes()).await.map_err(text),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

/// Works from operation `done` on until `until`; formats the store before the first.
///
/// # Errors
/// One sentence.
pub fn work(dir: &Path, seed: u64, done: u64, until: u64) -> Result<(), String> {
    if !store::is_formatted(&StoreDirs::new(dir)) {
        store::format(&StoreDirs::new(dir), identity(), &options()).map_err(|e| causes(&e))?;
        say("formatted")?;
    }
    let opened = open(dir)?;
    let mut model = Model::at(seed, done);
    for number in done + 1..=until {
        block_on(carry_out(&opened, &model, seed, number))?;
        model = model.after(seed, number);
        say(&format!("ack 0 {number}"))?;
    }
    Ok(())
}

fn say(line: &str) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(|e| e.to_string())
}

/// What a store holds, in the model's words; the error is damage of an entry.
fn held(opened: &Opened, seed: u64) -> Result<Model, String> {
    let found = marks(&opened.log, &*opened.snapshots)?;
    let mut entries = BTreeMap::new();
    for (index, bytes) in opened.log.entries(0, u64::MAX, usize::MAX).map_err(|e| e.to_string())? {
        let (term, number) = (word(&bytes).unwrap_or(0), bytes.get(16..).and_then(word).unwrap_or(0));
        if bytes != entry(seed, term, index, number) {
            return Err(format!("entry {index} is not what was written"));
        }
        entries.insert(index, (term, number));
    }
    let next =
        entries.last_key_value().map_or_else(|| found.purged.map_or(1, |p| p + 1), |(index, _)| index + 1);
    Ok(Model {
        term: found.vote_term.unwrap_or(0),
        entries,
        next,
        committed: opened.committed_index.map(|c| (c.term, c.index)),
        purged: found.purged,
        snapshot: found.snapshot,
    })
}

/// Opens the store and compares it with the model; then one more operation must go in.
#[must_use]
pub fn verify(dir: &Path, seed: u64, done: u64, formatted: bool) -> Found {
    if !formatted && !store::is_formatted(&StoreDirs::new(dir)) {
        // A formatting cut short can be repeated.
        return match store::format(&StoreDirs::new(dir), identity(), &options()) {
            Ok(()) => Found::Whole(vec![0]),
            Err(error) => Found::Refused(causes(&error)),
        };
    }
    let opened = match open(dir) {
        Ok(opened) => opened,
        Err(error) => return Found::Refused(error),
    };
    let (before, after) = (Model::at(seed, done), Model::at(seed, done + 1));
    let found = match held(&opened, seed) {
        Ok(found) => found,
        Err(why) => return Found::Torn(why),
    };
    let at = if found == before {
        done
    } else if found == after {
        done + 1
    } else if (Model { snapshot: before.snapshot, ..found.clone() }) == before
        && found.snapshot >= found.purged
    {
        return Found::Repaired("an older snapshot and the log behind it".to_owned());
    } else {
        return Found::Lost(format!("after operation {done}: {}", difference(&before, &found)));
    };
    let model = Model::at(seed, at);
    match block_on(carry_out(&opened, &model, seed, at + 1)) {
        Ok(()) => Found::Whole(vec![at + 1]),
        Err(error) => Found::Refused(format!("it opens but takes no change: {error}")),
    }
}

fn difference(wanted: &Model, found: &Model) -> String {
    let span = |m: &Model| (m.entries.keys().next().copied(), m.entries.keys().next_back().copied());
    format!(
        "term {}, entries {:?}, committed {:?}, purged {:?}, snapshot {:?} where term {}, {:?}, {:?}, {:?}, {:?} was promised",
        found.term,
        span(found),
        found.committed,
        found.purged,
        found.snapshot,
        wanted.term,
        span(wanted),
        wanted.committed,
        wanted.purged,
        wanted.snapshot
    )
}

/// The processes of this load: `log-work DIR SEED DONE UNTIL`, `log-verify DIR SEED DONE FORMATTED`.
pub fn process(args: &[OsString]) -> Option<ExitCode> {
    let number = |n: usize| args.get(n).and_then(|a| a.to_str()?.parse::<u64>().ok());
    let dir = args.get(1).map(PathBuf::from)?;
    let (seed, done) = (number(2)?, number(3)?);
    match args.first()?.to_str()? {
        "log-work" => Some(match work(&dir, seed, done, number(4)?) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(74)
            }
        }),
        "log-verify" => {
            println!("{}", verify(&dir, seed, done, number(4)? == 1).line());
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}
