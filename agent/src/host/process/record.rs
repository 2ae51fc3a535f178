//! What is remembered of a supervised program, in `<run_dir>/<name>.json`. Frozen bytes since 2026-11-21 (test below).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::host::fs;

/// Format written here; a higher one is from a newer release and is not touched.
pub(super) const FORMAT: u32 = 1;
/// A record is about 400 bytes; anything far above is not one.
const RECORD_MAX_BYTES: u64 = 64 * 1024;

/// Where a program is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Never started here.
    #[default]
    Never,
    /// Spawned; pid and start time are known.
    Running,
    /// Asked to stop.
    Stopping,
    /// Ended.
    Ended,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exit {
    /// Not known: an adopted child can not be waited for.
    #[default]
    Unknown,
    /// Its own exit code.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) format: u32,
    pub(super) phase: Phase,
    /// Token of a start that was begun: durable before the spawn, empty once the spawn's outcome is durable.
    #[serde(default)]
    pub(super) intent: String,
    /// Identifies the last run; also in the program's environment.
    pub(super) token: String,
    pub(super) boot_id: String,
    pub(super) pid: u32,
    /// `/proc/PID/stat` field 22.
    pub(super) start_ticks: u64,
    /// Starts so far, this one included.
    pub(super) starts: u64,
    /// When this phase began, wall clock, milliseconds.
    pub(super) since_ms: i64,
    /// When it was started, `CLOCK_MONOTONIC` microseconds.
    pub(super) started_us: u64,
    #[serde(default)]
    pub(super) exit: Exit,
    /// The end was asked for.
    #[serde(default)]
    pub(super) asked: bool,
    /// The end needed SIGKILL after the graceful deadline.
    #[serde(default)]
    pub(super) escalated: bool,
}

/// What the record file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Missing,
    Whole(Record),
    /// Not a record; it was set aside under the name given.
    SetAside(PathBuf),
}

/// Reads a record. A damaged one is renamed away, so that it is kept for a human and asked about only once.
pub(super) fn load(path: &Path) -> io::Result<Stored> {
    let bytes = match fs::read_limited(path, RECORD_MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(e) => return Err(e),
    };
    if let Ok(record) = serde_json::from_slice::<Record>(&bytes) {
        if record.format == FORMAT {
            return Ok(Stored::Whole(record));
        }
        let text = format!("format {} of {} is not known to this release", record.format, path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let aside = path.with_extension("json.damaged");
    std::fs::rename(path, &aside)?;
    Ok(Stored::SetAside(aside))
}

/// Writes a record durably.
pub(super) fn store(path: &Path, record: &Record) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    fs::write_atomic(path, &bytes, 0o600)
}

/// Sixteen hex digits that stand for a run folder.
pub(super) fn scope_of(run_dir: &Path) -> String {
    let digest = Sha256::digest(run_dir.as_os_str().as_encoded_bytes());
    crate::host::exec::hex(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_bytes_of_format_1() {
        let text = r#"{"format":1,"phase":"running","intent":"","token":"t","boot_id":"b","pid":7,"start_ticks":8,"starts":2,"since_ms":3,"started_us":4,"exit":"unknown","asked":false,"escalated":false}"#;
        let record: Record = serde_json::from_str(text).expect("released format");
        assert_eq!(serde_json::to_string(&record).expect("serializes"), text);
        assert_eq!(record.phase, Phase::Running);
        let ended: Exit = serde_json::from_str(r#"{"signal":9}"#).expect("released format");
        assert_eq!(ended, Exit::Signal(9));
    }

    #[test]
    fn a_damaged_record_is_set_aside_and_a_newer_one_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.json");
        assert_eq!(load(&path).expect("missing"), Stored::Missing);
        for bad in [&b""[..], b"{", b"\xff\xfe", &[b'a'; 4096]] {
            std::fs::write(&path, bad).expect("write");
            assert!(matches!(load(&path), Ok(Stored::SetAside(_))), "{bad:?}");
            assert!(!path.exists());
        }
        let newer = serde_json::to_vec(&Record { format: 2, ..Record::default() }).expect("serializes");
        std::fs::write(&path, &newer).expect("write");
        assert!(load(&path).is_err());
        assert_eq!(std::fs::read(&path).expect("still there"), newer);
    }
}
