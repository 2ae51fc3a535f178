//! Seeded randomness for a whole process, without `--cfg tokio_unstable`.
//!
//! turmoil seeds tokio's own generator only under that flag. The flag would hold for the whole workspace (cargo knows no
//! flags for one package) and so change the shipped binaries, or need a second copy of every dependency. Instead the
//! simulator starts itself once per seed with a small library in front of libc (`tests/shim/entropy.c`), whose
//! `getrandom` is a function of the seed. That reaches further than the flag: tokio's generator, `rand`'s thread-local
//! one (openraft's election timeouts), minted ids, and the keys of every hash map in every dependency. The same library
//! answers for the real monotonic clock, which h2 asks behind tokio's back.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::preload::{self, PRELOAD};

/// The seed, for the library.
const SEED: &str = "QUORATE_SIM_ENTROPY";

/// The library, compiled.
///
/// # Errors
/// As [`preload::library`].
pub fn library() -> io::Result<PathBuf> {
    preload::library("quorate-sim-entropy", include_str!("../../shim/entropy.c"))
}

/// Starts `program` for one seed with its standard output piped.
///
/// # Errors
/// What [`library`] or the kernel says.
pub fn start(program: &Path, seed: u64, arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).env(PRELOAD, library()?).env(SEED, seed.to_string());
    // Names and places of this machine must not show in a trace.
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}

/// Whether this process runs under the library, by what its randomness gives: the same for the same seed.
#[must_use]
pub fn seeded(seed: u64) -> bool {
    let loaded =
        std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("quorate-sim-entropy"));
    loaded && std::env::var(SEED).is_ok_and(|text| text == seed.to_string())
}
