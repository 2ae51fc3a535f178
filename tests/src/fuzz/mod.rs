//! Bodies of the fuzz targets: what any bytes at all must not do to the doors of the product.
//!
//! Each target takes bytes and panics when a promise is broken. `cargo test -p quorate-tests --test fuzz` runs them in bounds
//! on stable; `tests/fuzz` gives the same bodies to libFuzzer. Must never: need a clock, a socket or a file outside a
//! temporary directory, or accept an answer that has no oracle beside it.

mod audit;
mod certificates;
mod config;
mod entries;
mod mutate;
mod paths;
mod probes;
mod records;
mod wire;

pub use mutate::Mutator;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its folder in the corpus. The number is that of reliability.md §9.
    pub name: &'static str,
    /// What is done with bytes.
    pub body: fn(&[u8]),
    /// Inputs to begin with, of which the committed corpus is made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "1_wire", body: wire::run, seeds: wire::seeds },
    Target { name: "2_records", body: records::run, seeds: records::seeds },
    Target { name: "3_entries", body: entries::run, seeds: entries::seeds },
    Target { name: "4_config", body: config::run, seeds: config::seeds },
    Target { name: "5_paths", body: paths::run, seeds: paths::seeds },
    Target { name: "8_certificates", body: certificates::run, seeds: certificates::seeds },
    Target { name: "9_audit", body: audit::run, seeds: audit::seeds },
    Target { name: "10_probes", body: probes::run, seeds: probes::seeds },
];

/// Runs one target on bytes; for libFuzzer.
///
/// # Panics
/// When a promise is broken, or no target has that name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").body)(data);
}

/// The frozen entries of every command, as they are on disk.
fn frozen_entries() -> Vec<Vec<u8>> {
    let text = include_str!("../../../coordinator/core/tests/core/golden/2026-11-21-log.txt");
    text.lines().filter_map(|line| unhex(line.split_once(' ')?.1)).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}
