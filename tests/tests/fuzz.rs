//! The fuzz targets in bounds, on stable: the committed corpus, and a fixed number of inputs made from it.
//!
//! `QUORATE_FUZZ_INPUTS` is the number for each target (1,000), `QUORATE_SEED` another sequence (1), `UPDATE=1` writes the
//! corpus of a target that has none. What fails is written to `target/fuzz-failures` and belongs into the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use quorate_tests::fuzz::{Mutator, TARGETS, Target};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn corpus_dir(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = corpus_dir(target);
    if std::env::var_os("UPDATE").is_some() && !dir.exists() {
        fs::create_dir_all(&dir).expect("a directory");
        for (at, seed) in (target.seeds)().iter().enumerate() {
            fs::write(dir.join(format!("{at:03}")), seed).expect("written");
        }
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(&dir).expect("a corpus").map(|entry| entry.expect("read").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("read")).collect()
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "an empty corpus fuzzes nothing");
    let mut mutator = Mutator::new(number("QUORATE_SEED", 1));
    let made = (0..number("QUORATE_FUZZ_INPUTS", 1_000)).map(|_| mutator.mutate(&corpus));
    for (at, input) in corpus.iter().cloned().chain(made).enumerate() {
        if catch_unwind(AssertUnwindSafe(|| (target.body)(&input))).is_err() {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failures");
            fs::create_dir_all(&dir).expect("a directory");
            let file = dir.join(format!("{name}-{at}"));
            fs::write(&file, &input).expect("written");
            panic!("input {at} breaks {name}: {}", file.display());
        }
    }
}

#[test]
fn messages_of_the_wire() {
    fuzz("1_wire");
}

#[test]
fn records_of_the_disk() {
    fuzz("2_records");
}

#[test]
fn entries_of_the_log() {
    fuzz("3_entries");
}

#[test]
fn configuration_files() {
    fuzz("4_config");
}

#[test]
fn paths_and_units() {
    fuzz("5_paths");
}

#[test]
fn certificates() {
    fuzz("8_certificates");
}

#[test]
fn audit_records() {
    fuzz("9_audit");
}

#[test]
fn answers_of_probes_and_expressions() {
    fuzz("10_probes");
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let corpus = [b"one".to_vec(), b"another".to_vec()];
    let made = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.mutate(&corpus)).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
