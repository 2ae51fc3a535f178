//! Small C libraries put in front of libc for one process: to cut its power, to seed its randomness, to turn its clock.
//!
//! Compiled once per version of their source, beside the running test, by the C compiler that our cryptography needs, too.
//! Must never be put in front of this process or of one that a test did not start.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// The variable by which the dynamic linker is told.
pub const PRELOAD: &str = "LD_PRELOAD";

const CLOCK: &str = include_str!("../shim/clock.c");

/// The compiled library; its file is called `<name>-<hash of the source>.so`.
///
/// # Errors
/// When there is no C compiler, it fails, or its result can not be written.
pub fn library(name: &str, source: &str) -> io::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    source.hash(&mut hash);
    let object = std::env::current_exe()?.with_file_name(format!("{name}-{:016x}.so", hash.finish()));
    if object.exists() {
        return Ok(object);
    }
    // Beside, then renamed: several processes may be at it.
    let own = std::process::id();
    let (text, fresh) = (object.with_extension(format!("{own}.c")), object.with_extension(own.to_string()));
    std::fs::write(&text, source)?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&fresh, &text])
        .arg("-ldl")
        .output()?;
    std::fs::remove_file(&text)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{name} does not compile: {why}")));
    }
    std::fs::rename(&fresh, &object)?;
    Ok(object)
}

/// The library that turns a clock.
///
/// # Errors
/// As [`library`].
pub fn clock() -> io::Result<PathBuf> {
    library("quorate-clock", CLOCK)
}

/// Turns the wall clock of a process so that it begins at `start`, in seconds since 1970. Timers go on as they are.
///
/// # Errors
/// As [`library`].
pub fn turn_clock(command: &mut Command, start: i64) -> io::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    let now = i64::try_from(now.as_secs()).map_err(io::Error::other)?;
    command.env(PRELOAD, clock()?);
    command.env("QUORATE_CLOCK_OFFSET", (start - now).to_string());
    Ok(())
}
