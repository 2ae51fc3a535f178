//! Builds the shim once and puts it before a process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::place::Place;

const SOURCE: &str = include_str!("shim.c");

/// What is to go wrong in a process; see `shim.c`.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// `"<call> <file>:<n>:<action>"`.
    pub at: Option<String>,
    /// `"<call> <file>"`: a barrier that is none.
    pub lie: Option<String>,
    /// Where each call is noted.
    pub trace: Option<PathBuf>,
}

/// The shared object, compiled once per version of its source.
///
/// # Panics
/// When gcc does not compile it: without it no power can be cut.
#[must_use]
pub fn object() -> &'static Path {
    static OBJECT: OnceLock<PathBuf> = OnceLock::new();
    OBJECT.get_or_init(|| {
        let mut hash = DefaultHasher::new();
        SOURCE.hash(&mut hash);
        let own = std::env::current_exe().expect("a test knows its own path");
        let object = own.with_file_name(format!("crash-shim-{:016x}.so", hash.finish()));
        if object.exists() {
            return object;
        }
        let (source, fresh) =
            (object.with_extension("c"), object.with_extension(std::process::id().to_string()));
        std::fs::write(&source, SOURCE).expect("the target directory is writable");
        let output = Command::new("gcc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&fresh, &source])
            .arg("-ldl")
            .output()
            .expect("gcc is there: it also builds our cryptography");
        assert!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&fresh, &object).expect("the target directory is writable");
        object
    })
}

/// Puts the shim before `command`, for files below the root of `place`.
pub fn arm(command: &mut Command, place: &Place, fault: &Fault) {
    command.env("LD_PRELOAD", object());
    command.env("QUORATE_CRASH_ROOT", place.root()).env("QUORATE_CRASH_IMAGE", place.image());
    for (name, value) in [("QUORATE_CRASH_FAULT", &fault.at), ("QUORATE_CRASH_SKIP", &fault.lie)] {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(trace) = &fault.trace {
        command.env("QUORATE_CRASH_TRACE", trace);
    }
}
