//! Frozen bytes: what a released version wrote to disk is read for ever. `golden/DATE-log.txt` holds one entry per line,
//! `name hex`, of every command; `golden/DATE-state.txt` what they gave. Lines are added, never edited: `UPDATE=1` writes a
//! file that does not exist yet, and refuses to touch one that does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use quorate_core::command::Entry;
use quorate_core::{State, apply};
use quorate_model::Timestamp;

use crate::samples::samples;

/// The releases whose bytes are kept, oldest first.
const DATES: &[&str] = &[
    "2026-11-21",
    "2026-11-21-2",
    "2026-11-22",
    "2026-11-23",
    "2026-11-24",
    "2026-11-25",
    "2026-11-26",
    "2026-11-29-rebuild",
];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/core/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Texts in `Command::name`: every command there is.
fn names() -> BTreeSet<String> {
    let source = include_str!("../../src/command/intent.rs");
    let all =
        source.lines().filter_map(|line| Some(line.split_once("=> \"")?.1.split_once('"')?.0.to_string()));
    let mut names: BTreeSet<String> = all.collect();
    // One stands on a line of its own, wherever rustfmt puts it.
    names.retain(|name| name.contains('.'));
    names
}

fn frozen_log(date: &str) -> String {
    let path = golden(&format!("{date}-log.txt"));
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        let line = |entry: &Entry| {
            format!("{} {}\n", entry.command.name(), hex(&rmp_serde::to_vec_named(entry).unwrap()))
        };
        std::fs::write(&path, samples().iter().map(line).collect::<String>()).unwrap();
    }
    std::fs::read_to_string(&path).unwrap()
}

fn replay(entries: &[Entry]) -> State {
    let mut state = State::default();
    for (index, entry) in (1..).zip(entries) {
        apply(&mut state, index, entry);
    }
    state
}

#[test]
fn every_command_is_among_the_samples() {
    let sampled: BTreeSet<String> = samples().iter().map(|entry| entry.command.name().to_string()).collect();
    let missing: Vec<_> = names().difference(&sampled).cloned().collect();
    assert!(names().len() > 40 && missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn every_command_has_frozen_bytes() {
    let newest = frozen_log(DATES.last().unwrap());
    let frozen: BTreeSet<String> =
        newest.lines().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect();
    let missing: Vec<_> = names().difference(&frozen).cloned().collect();
    assert!(missing.is_empty(), "add a date to DATES and run with UPDATE=1: {missing:?}");
}

#[test]
fn the_samples_are_applied_and_not_refused() {
    let mut state = State::default();
    for (index, entry) in (1..).zip(samples()) {
        let answer = apply(&mut state, index, &entry);
        assert!(answer.refusal().is_none(), "{}: {answer:?}", entry.command.name());
    }
}

#[test]
fn frozen_entries_read_and_write_the_same_bytes() {
    for date in DATES {
        let text = frozen_log(date);
        for line in text.lines() {
            let (name, frozen) = line.split_once(' ').unwrap();
            let entry: Entry = rmp_serde::from_slice(&bytes(frozen)).unwrap();
            assert_eq!(entry.command.name(), name);
            assert_eq!(
                hex(&rmp_serde::to_vec_named(&entry).unwrap()),
                frozen,
                "{name} of {date} is written differently"
            );
        }
    }
}

#[test]
fn a_frozen_log_gives_the_frozen_state() {
    for date in DATES {
        let text = frozen_log(date);
        let entries: Vec<Entry> = text
            .lines()
            .map(|line| rmp_serde::from_slice(&bytes(line.split_once(' ').unwrap().1)).unwrap())
            .collect();
        let state = replay(&entries);
        let path = golden(&format!("{date}-state.txt"));
        if std::env::var_os("UPDATE").is_some() && !path.exists() {
            let encoded = hex(&rmp_serde::to_vec_named(&state).unwrap());
            std::fs::write(&path, format!("digest {}\nstate {encoded}\n", state.digest())).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let digest = lines.next().unwrap().strip_prefix("digest ").unwrap();
        let frozen = lines.next().unwrap().strip_prefix("state ").unwrap();
        let read: State = rmp_serde::from_slice(&bytes(frozen)).unwrap();
        assert_eq!(read, state, "the log of {date} gives another state than it gave then");
        assert_eq!(read.digest().to_string(), digest, "the digest of the state of {date} has changed");
        assert_eq!(hex(&rmp_serde::to_vec_named(&read).unwrap()), frozen);
    }
}

#[test]
fn a_snapshot_goes_on_as_the_log_would() {
    let entries = samples();
    for cut in [1, entries.len() / 3, entries.len() / 2, entries.len() - 1] {
        let (before, after) = entries.split_at(cut);
        let mut state: State =
            rmp_serde::from_slice(&rmp_serde::to_vec_named(&replay(before)).unwrap()).unwrap();
        for (index, entry) in (u64::try_from(cut).unwrap() + 1..).zip(after) {
            apply(&mut state, index, entry);
        }
        assert_eq!(state, replay(&entries));
    }
}

#[test]
fn damaged_bytes_are_an_error_and_no_panic() {
    let whole = rmp_serde::to_vec_named(&samples()[7]).unwrap();
    for cut in 0..whole.len() {
        assert!(rmp_serde::from_slice::<Entry>(&whole[..cut]).is_err());
        let mut flipped = whole.clone();
        flipped[cut] ^= 0xff;
        if let Ok(entry) = rmp_serde::from_slice::<Entry>(&flipped) {
            // Some flips give another valid entry; it must apply without a panic. Raft's checksums find them before.
            apply(&mut State { clock: Timestamp(1), ..State::default() }, 1, &entry);
        }
    }
}
