//! A failed command: its exit code by the contract, and what, why, what to do.

use std::fmt;

use quorate_common::wire::status::Problem;

/// Exit codes of the contract.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// It ran and failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage, invalid file, or input needed and none possible.
    pub const USAGE: u8 = 2;
    /// Refused; nothing was changed.
    pub const REFUSED: u8 = 3;
    /// Coordinator not reachable, or no leader.
    pub const UNREACHABLE: u8 = 4;
    /// `--timeout` passed; the operation goes on.
    pub const TIMED_OUT: u8 = 5;
    /// No such thing.
    pub const NOT_FOUND: u8 = 6;
    /// Not allowed, or not logged in.
    pub const NOT_ALLOWED: u8 = 7;
    /// Still pending, or there are changes.
    pub const PENDING: u8 = 8;
    /// Ctrl-C, detached.
    pub const DETACHED: u8 = 130;
}

/// Why a command did not do what was asked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What, one line.
    pub what: String,
    /// Facts behind it, subject and text.
    pub why: Vec<(String, String)>,
    /// What to do; may be empty.
    pub hint: String,
    /// Stable reason code; may be empty.
    pub reason: String,
    /// Request id; may be empty.
    pub request_id: String,
}

impl Failure {
    fn plain(code: u8, what: impl Into<String>) -> Self {
        let (why, hint) = (Vec::new(), String::new());
        Self { code, what: what.into(), why, hint, reason: String::new(), request_id: String::new() }
    }

    /// It ran and failed.
    #[must_use]
    pub fn failed(what: impl Into<String>) -> Self {
        Self::plain(exit::FAILED, what)
    }

    /// Wrong usage or an invalid file.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self::plain(exit::USAGE, what)
    }

    /// With another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// With what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Writes it to stderr as the contract shows errors.
    pub fn show(&self) {
        use super::render::{style, talk};
        if self.what.is_empty() {
            return;
        }
        let refused =
            if self.code == exit::REFUSED && !self.what.starts_with("refused") { "refused: " } else { "" };
        talk(&format!(
            "{} {refused}{}",
            style::paint("error:", anstyle::AnsiColor::Red),
            style::safe(&self.what)
        ));
        let width = self.why.iter().map(|(subject, _)| subject.chars().count()).max().unwrap_or(0);
        for (subject, text) in &self.why {
            talk(&format!("  {:width$}   {}", style::safe(subject), style::safe(text)));
        }
        if !self.hint.is_empty() {
            talk(&format!("{} {}", style::paint("hint:", anstyle::AnsiColor::Cyan), style::safe(&self.hint)));
        }
        if !self.reason.is_empty() {
            talk(&format!("reason: {}  request: {}", self.reason, style::safe(&self.request_id)));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let problem = Problem::from_status(&status);
        let code = problem.exit_code();
        Self {
            code,
            what: problem.what,
            why: problem.why,
            hint: problem.hint,
            reason: problem.reason,
            request_id: problem.request_id,
        }
    }
}
