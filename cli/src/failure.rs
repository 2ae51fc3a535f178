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
        if !self.what.is_empty() {
            super::render::talk(&self.text());
        }
    }

    /// What, why, what to do, then `reason: CODE  request: ID`.
    #[must_use]
    pub fn text(&self) -> String {
        use super::render::style;
        let refused =
            if self.code == exit::REFUSED && !self.what.starts_with("refused") { "refused: " } else { "" };
        let head = style::paint("error:", anstyle::AnsiColor::Red);
        // More lines come from a file's reader that shows the place; whatever a server or a host said has one.
        let mut what = self.what.lines().map(style::safe);
        let mut lines = vec![format!("{head} {refused}{}", what.next().unwrap_or_default())];
        lines.extend(what.map(|line| format!("  {line}")));
        let width = self.why.iter().map(|(subject, _)| subject.chars().count()).max().unwrap_or(0);
        for (subject, text) in &self.why {
            lines.push(format!("  {:width$}   {}", style::safe(subject), style::safe(text)));
        }
        if !self.hint.is_empty() {
            let head = style::paint("hint:", anstyle::AnsiColor::Cyan);
            let mut hint = self.hint.lines().map(style::safe);
            lines.push(format!("{head} {}", hint.next().unwrap_or_default()));
            lines.extend(hint.map(|line| format!("  {line}")));
        }
        if !self.reason.is_empty() {
            lines.push(format!(
                "reason: {}  request: {}",
                style::safe(&self.reason),
                style::safe(&self.request_id)
            ));
        }
        lines.join("\n")
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

#[cfg(test)]
mod tests {
    use quorate_model::Reason;
    use tonic::{Code, Status};

    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.text()).to_string()
    }

    #[test]
    fn every_grpc_code_has_the_exit_code_of_the_contract() {
        let table = [
            (Code::InvalidArgument, exit::USAGE),
            (Code::FailedPrecondition, exit::REFUSED),
            (Code::Aborted, exit::REFUSED),
            (Code::ResourceExhausted, exit::REFUSED),
            (Code::AlreadyExists, exit::REFUSED),
            (Code::Unavailable, exit::UNREACHABLE),
            (Code::DeadlineExceeded, exit::TIMED_OUT),
            (Code::NotFound, exit::NOT_FOUND),
            (Code::PermissionDenied, exit::NOT_ALLOWED),
            (Code::Unauthenticated, exit::NOT_ALLOWED),
            (Code::Internal, exit::FAILED),
        ];
        for (code, wanted) in table {
            assert_eq!(Failure::from(Status::new(code, "x")).code, wanted, "{code:?}");
        }
    }

    #[test]
    fn a_change_of_unknown_outcome_is_told_as_unreachable() {
        let problem = Problem::new(Code::Unknown, Reason::OutcomeUnknown, "the leader changed");
        assert_eq!(Failure::from(problem.to_status()).code, exit::UNREACHABLE);
    }

    #[test]
    fn a_refusal_reads_as_the_contract_shows_it() {
        let failure = Failure {
            code: exit::REFUSED,
            what: "restarting ledger on node3 would leave the group without quorum".into(),
            why: vec![
                ("group ledger".into(), "3 voters, 2 up, 1 up after this step, needs 2".into()),
                ("already out".into(), "node2 (unreachable 4m12s)".into()),
            ],
            hint: "quorate quorum check --down node3, or bring node2 back first".into(),
            reason: "QUORUM_MARGIN".into(),
            request_id: "0192f3".into(),
        };
        let wanted = "error: refused: restarting ledger on node3 would leave the group without quorum
  group ledger   3 voters, 2 up, 1 up after this step, needs 2
  already out    node2 (unreachable 4m12s)
hint: quorate quorum check --down node3, or bring node2 back first
reason: QUORUM_MARGIN  request: 0192f3";
        assert_eq!(plain(&failure), wanted);
    }

    #[test]
    fn a_parser_s_lines_stay_lines_and_nothing_drives_the_terminal() {
        let text =
            plain(&Failure::usage("f.yaml: line 1\n1 | a: [\n  |    ^ \u{1b}[2J").with_hint("write\nthis"));
        assert!(text.starts_with("error: f.yaml: line 1\n  1 | a: [\n"), "{text}");
        assert!(text.ends_with("\nhint: write\n  this") && !text.contains('\u{1b}'), "{text}");
    }
}
