//! Builds the shim once and puts it before a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::place::Place;
use crate::preload;

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

/// The shared object.
///
/// # Panics
/// When it does not compile: without it no power can be cut.
#[must_use]
pub fn object() -> &'static Path {
    static OBJECT: OnceLock<PathBuf> = OnceLock::new();
    OBJECT.get_or_init(|| preload::library("quorate-crash", SOURCE).expect("a C compiler that does its work"))
}

/// Puts the shim before `command`, for files below the root of `place`.
pub fn arm(command: &mut Command, place: &Place, fault: &Fault) {
    command.env(preload::PRELOAD, object());
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
