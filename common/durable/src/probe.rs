//! Trying a store where it does no harm: sled can panic or abort on damaged files, at open or at the first read.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::engine::EngineError;
use crate::error::StoreError;
use crate::read;
use crate::sled_engine::SledEngine;

/// First argument of a process that is a probe: its `main` does nothing but return [`probe_main`].
pub const PROBE_ARGUMENT: &str = "__probe-store";

/// A probe reads everything once; the largest log allowed (two snapshots' worth, some 10 MiB) takes well under a
/// second. After this it counts as unreadable.
const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// A probe is gone before sled's own thread has anything to clean.
const CLEAN_EVERY: Duration = Duration::from_secs(5);

/// SIGHUP, SIGINT, SIGKILL, SIGTERM: not what a process does to itself over damaged files.
const ENDED_BY_OTHERS: [i32; 4] = [1, 2, 9, 15];

const EXIT_READABLE: u8 = 0;
const EXIT_DAMAGED: u8 = 65;
const EXIT_REFUSED: u8 = 75;

/// What a probe found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Readable,
    Damaged(String),
    /// Not damage: locked, no space, no permission.
    Refused(EngineError),
}

/// The whole program of a probe: `<program> __probe-store <directory> <cache bytes>`. Says what is wrong on standard
/// output, in one sentence.
#[must_use]
pub fn probe_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let dir = args.next().map(PathBuf::from);
    let cache = args.next().and_then(|text| text.to_str().and_then(|text| text.parse().ok()));
    let (Some(dir), Some(cache)) = (dir, cache) else {
        println!("usage: {PROBE_ARGUMENT} DIRECTORY CACHE_BYTES");
        return ExitCode::from(64);
    };
    // The parent has no use for a backtrace, and a full pipe would block.
    std::panic::set_hook(Box::new(|_| {}));
    let (code, reason) = match here(&dir, cache) {
        Verdict::Readable => (EXIT_READABLE, String::new()),
        Verdict::Damaged(reason) => (EXIT_DAMAGED, reason),
        Verdict::Refused(error) => (EXIT_REFUSED, error.to_string()),
    };
    println!("{reason}");
    ExitCode::from(code)
}

/// Opens the store, reads every record, closes it.
pub(crate) fn here(dir: &Path, cache_bytes: u64) -> Verdict {
    let outcome = read::guarded(|| SledEngine::open(dir, cache_bytes, CLEAN_EVERY)).and_then(|engine| {
        let count = read::verify(&engine);
        // sled's destructor may meet the same damage.
        read::guarded(|| {
            drop(engine);
            Ok(())
        })?;
        count
    });
    match outcome {
        Ok(_) => Verdict::Readable,
        Err(StoreError::Engine(EngineError::Damage(reason))) => Verdict::Damaged(reason),
        Err(StoreError::Engine(
            error @ (EngineError::NoSpace | EngineError::Locked | EngineError::Other(_)),
        )) => Verdict::Refused(error),
        Err(error) => Verdict::Damaged(error.to_string()),
    }
}

/// The same in a child, which may die of it.
pub(crate) fn in_child(dir: &Path, cache_bytes: u64) -> io::Result<Verdict> {
    // Not `current_exe()`: during an upgrade that path may name another program, or none.
    let mut child = Command::new("/proc/self/exe")
        .arg(PROBE_ARGUMENT)
        .arg(dir)
        .arg(cache_bytes.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("/proc/self/exe does not run: {error}")))?;
    let deadline = Instant::now() + PROBE_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Verdict::Damaged(format!("not readable within {} s", PROBE_LIMIT.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        // The sentence of a probe is bounded; anything else is cut.
        out.take(2048).read_to_string(&mut said)?;
    }
    let said = said.trim().to_owned();
    Ok(match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(EXIT_READABLE) => Verdict::Readable,
        Some(EXIT_DAMAGED) => Verdict::Damaged(said),
        Some(EXIT_REFUSED) => Verdict::Refused(EngineError::Other(said)),
        Some(code) => Verdict::Damaged(format!("the probe ended with exit code {code} {said}")),
        // By somebody else: whoever stops a service also stops what it started, and the kernel kills when memory is short.
        None if status.signal().is_some_and(|signal| ENDED_BY_OTHERS.contains(&signal)) => {
            let signal = status.signal().unwrap_or(0);
            Verdict::Refused(EngineError::Other(format!("the probe was ended by signal {signal}")))
        }
        None => Verdict::Damaged(format!("the probe was ended by signal {}", status.signal().unwrap_or(0))),
    })
}
