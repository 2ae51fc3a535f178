//! Logs: one set-up for every binary, one list of field names, one way to print what a stranger sent.
//!
//! Job: `tracing` to stderr as text or JSON, or to journald with its fields when stderr is the journal.
//! Must never: print hostile text raw. Names, paths, outputs and certificate contents come from outside; a newline or an
//! escape code in them forges log lines or drives the operator's terminal. Pass them through [`sanitize`].

mod chain;
mod journal;
mod sanitize;
mod setup;
mod stderr;

pub mod fields;

pub use chain::error_text;
pub use sanitize::{SANITIZE_MAX_CHARS, Sanitized, sanitize, sanitize_to};
pub use setup::{FILTER_VARIABLE, Format, SetupError, Whose, init};
pub use stderr::{Stderr, tell};
