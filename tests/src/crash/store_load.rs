//! Load on the wrapper alone, and what must be there of it afterwards. Only `quorate_durable` and `std` are used here:
//! an example of that crate includes this file, to run it with a rule taken out.
//!
//! Each thread writes batches of its own keys; the state after batch `s` is a function of the seed and `s`. So the state
//! found must be exactly that of the last acknowledged batch or of the one after it: less is a loss, a mixture is torn.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use quorate_durable::{Batch, Durable, Options, Probe, SpaceFloor};

/// Writers at once: several batches share a barrier.
pub const THREADS: u64 = 3;
/// Keys of a group, always written together.
const GROUP: u8 = 6;
/// Every fourth batch removes the later half of the group.
const REMOVED_FROM: u8 = 3;
/// Entries of each thread's log; older ones go in the same batch, which makes sled reuse its segments.
const WINDOW: u64 = 60;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Everything, and the position of each writer.
    Whole(Vec<u64>),
    /// Acknowledged data is gone or changed.
    Lost(String),
    /// A part of a batch.
    Torn(String),
    /// Only a spare copy is gone: an older one stands in for it.
    Repaired(String),
    /// The store does not open, and says why.
    Refused(String),
}

impl Found {
    /// One line for the parent.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Whole(at) => {
                let at: Vec<String> = at.iter().map(u64::to_string).collect();
                format!("whole {}", at.join(" "))
            }
            Self::Lost(why) => format!("lost {why}"),
            Self::Torn(why) => format!("torn {why}"),
            Self::Repaired(why) => format!("repaired {why}"),
            Self::Refused(why) => format!("refused {why}"),
        }
    }
}

fn options(dir: &Path) -> Options {
    Options {
        cache_bytes: 8 << 20,
        probe: Probe::SelfExe,
        space: SpaceFloor::small(),
        // As often as a coordinator's: what sled's own thread does lies between two crashes, too.
        ..Options::coordinator(dir)
    }
}

fn mixed(seed: u64, thread: u64, batch: u64, key: u64) -> u64 {
    let mut z = seed ^ (thread << 56) ^ (key << 48) ^ batch.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The value of one key after one batch: small ones, ones as large as a record may be, and ones in chunks.
fn value(seed: u64, thread: u64, batch: u64, key: u64) -> Vec<u8> {
    let random = mixed(seed, thread, batch, key);
    let bytes = match random % 20 {
        0 => 20_000 + random / 64 % 10_000,
        1..=3 => 1_000 + random / 64 % 3_000,
        _ => 16 + random / 64 % 300,
    };
    let mut out = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + 16);
    out.extend_from_slice(&batch.to_be_bytes());
    out.extend_from_slice(&random.to_be_bytes());
    while (out.len() as u64) < bytes {
        out.push((random >> (out.len() % 8 * 8)) as u8 ^ (out.len() % 251) as u8);
    }
    out
}

fn group_key(thread: u64, key: u8) -> Vec<u8> {
    format!("g/{thread}/{key}").into_bytes()
}

fn log_key(thread: u64, batch: u64) -> Vec<u8> {
    [format!("l/{thread}/").as_bytes(), &batch.to_be_bytes()].concat()
}

fn removes(batch: u64) -> bool {
    batch % 4 == 3
}

fn batch(seed: u64, thread: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    for key in 0..GROUP {
        let name = group_key(thread, key);
        if removes(number) && key >= REMOVED_FROM {
            batch.delete(&name).expect("within the limits");
        } else {
            let value = value(seed, thread, number, u64::from(key));
            batch.put_large(&name, &value).expect("within the limits");
        }
    }
    batch.put_large(&log_key(thread, number), &value(seed, thread, number, 100)).expect("within the limits");
    if number > WINDOW {
        batch.delete(&log_key(thread, number - WINDOW)).expect("within the limits");
    }
    batch
}

/// The last batch of a thread that is there, by its first key.
fn position(store: &Durable, thread: u64) -> Result<u64, String> {
    let found = store.get(&group_key(thread, 0)).map_err(|e| e.to_string())?;
    Ok(found.and_then(|bytes| bytes.get(..8)?.try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}

/// Compares one thread's keys with what batch `at` leaves.
fn differs(store: &Durable, seed: u64, thread: u64, at: u64) -> Result<Option<String>, String> {
    for key in 0..GROUP {
        let found = store.get(&group_key(thread, key)).map_err(|e| e.to_string())?;
        let absent = at == 0 || (removes(at) && key >= REMOVED_FROM);
        let wanted = (!absent).then(|| value(seed, thread, at, u64::from(key)));
        if found != wanted {
            return Ok(Some(format!("key {key} of writer {thread} is not that of batch {at}")));
        }
    }
    let range = log_key(thread, 0)..=log_key(thread, u64::MAX);
    let pairs = store.scan(range, usize::MAX).map_err(|e| e.to_string())?;
    let first = at.saturating_sub(WINDOW) + 1;
    let mut expected = first..=at;
    for (key, bytes) in &pairs {
        let Some(number) = expected.next() else {
            return Ok(Some(format!("writer {thread} has entries beyond batch {at}")));
        };
        if *key != log_key(thread, number) || *bytes != value(seed, thread, number, 100) {
            return Ok(Some(format!("entry {number} of writer {thread} is not what was written")));
        }
    }
    Ok((expected.next().is_some())
        .then(|| format!("entries of writer {thread} are missing before batch {at}")))
}

fn look(store: &Durable, seed: u64, acked: &[u64]) -> Result<Found, String> {
    let mut at = Vec::new();
    for (thread, acked) in (0..).zip(acked) {
        let found = position(store, thread)?;
        if found < *acked {
            return Ok(Found::Lost(format!("writer {thread} is at batch {found}, {acked} was acknowledged")));
        }
        if found > acked + 1 {
            return Ok(Found::Lost(format!(
                "writer {thread} is at batch {found}, only {acked} was acknowledged"
            )));
        }
        if let Some(why) = differs(store, seed, thread, found)? {
            return Ok(Found::Torn(why));
        }
        at.push(found);
    }
    Ok(Found::Whole(at))
}

/// Opens the store and compares it with what was acknowledged; then one more batch of each writer must go in.
#[must_use]
pub fn verify(dir: &Path, seed: u64, acked: &[u64]) -> Found {
    let store = match Durable::open(options(dir)) {
        Ok(store) => store,
        // Nothing was promised before the first acknowledgement.
        Err(error) => return Found::Refused(causes(&error)),
    };
    match look(&store, seed, acked) {
        Ok(Found::Whole(mut at)) => {
            for (thread, at) in (0..).zip(&mut at) {
                if let Err(error) = store.commit_blocking(batch(seed, thread, *at + 1)) {
                    return Found::Refused(format!("it opens but takes no batch: {error}"));
                }
                *at += 1;
            }
            Found::Whole(at)
        }
        Ok(found) => found,
        Err(error) => Found::Lost(format!("it opens but does not read: {error}")),
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace('\n', " ")
}

fn writer(store: &Durable, seed: u64, thread: u64, until: u64) -> Result<(), String> {
    let mut at = position(store, thread)?;
    while at < until {
        store.commit_blocking(batch(seed, thread, at + 1)).map_err(|e| format!("{e:?}"))?;
        at += 1;
        writeln!(std::io::stdout().lock(), "ack {thread} {at}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Writes from where the store stands until batch `until` of each writer; says each acknowledged batch.
///
/// # Errors
/// One sentence.
pub fn work(dir: &Path, seed: u64, threads: u64, until: u64) -> Result<(), String> {
    let store = Durable::open(options(dir)).map_err(|error| causes(&error))?;
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn({
                    let store = &store;
                    move || writer(store, seed, thread, until)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err("a writer panicked".to_owned())))
            .collect()
    });
    outcomes.into_iter().collect()
}

/// The processes of this load: `work DIR SEED THREADS UNTIL` and `verify DIR SEED ACKED…`; anything else is `None`.
pub fn process(args: &[OsString]) -> Option<ExitCode> {
    let number = |n: usize| args.get(n).and_then(|a| a.to_str()?.parse::<u64>().ok());
    let dir = args.get(1).map(PathBuf::from)?;
    let seed = number(2)?;
    match args.first()?.to_str()? {
        "store-work" => Some(match work(&dir, seed, number(3)?, number(4)?) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(74)
            }
        }),
        "store-verify" => {
            let acked: Vec<u64> = (3..args.len()).filter_map(number).collect();
            println!("{}", verify(&dir, seed, &acked).line());
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}
