//! Real folders: writers that do not wait, crashes between any two changes, and names and links of every kind.

mod crashes;
mod hostile;
mod writers;

use std::io::Read;
use std::path::{Path, PathBuf};

use quorate_model::backup::LogRotation;
use quorate_model::{ActionOutcome, ActionSpec, DurationMs};

use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{ActionError, execute};

fn policy(glob: &Path) -> LogRotation {
    LogRotation {
        paths: vec![glob.to_str().expect("UTF-8").to_owned()],
        size_bytes: 0,
        age: DurationMs::ZERO,
        keep: 900,
        compress: true,
        delay_compress: false,
        copy_truncate: false,
        rotate_empty: false,
        missing_ok: false,
        create_mode: 0,
        create_owner: String::new(),
        reload: true,
    }
}

async fn rotate(bench: &Bench, policy: &LogRotation) -> Result<ActionOutcome, ActionError> {
    execute(&bench.context, &ActionSpec::LogRotate { service: service_name(), policy: policy.clone() }).await
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).expect("listing");
    let mut all: Vec<String> =
        all.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

fn unpacked(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("read");
    if path.extension().is_none_or(|e| e != "gz") {
        return bytes;
    }
    let mut all = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut all).expect("gunzip");
    all
}

/// Every rotated byte and the log's own, oldest first.
fn history(log: &Path) -> Vec<u8> {
    let folder = log.parent().expect("a folder");
    let prefix = format!("{}.", log.file_name().expect("a name").to_string_lossy());
    let mut slots: Vec<(u32, PathBuf)> = Vec::new();
    for name in names(folder) {
        let Some(rest) = name.strip_prefix(&prefix) else { continue };
        let digits = rest.strip_suffix(".gz").unwrap_or(rest);
        slots.push((digits.parse().expect("a number"), folder.join(&name)));
    }
    slots.sort();
    let mut all: Vec<u8> = slots.iter().rev().flat_map(|(_, path)| unpacked(path)).collect();
    all.extend(std::fs::read(log).expect("the log itself"));
    all
}

/// The numbered lines of a history.
fn numbers(history: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(history).expect("text");
    text.lines().map(|line| line.parse().expect("a number")).collect()
}
