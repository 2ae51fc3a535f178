//! Errors on the wire: `google.rpc.Status` with `ErrorInfo` and our `Refusal` as details, and back.
//!
//! A status travels in HTTP/2 headers, of which a peer accepts 16 KiB in all: everything here is cut to fit.

use std::collections::HashMap;

use prost::Message as _;
use quorate_model::{Reason, Refusal};
use quorate_proto::v1;
use tonic::{Code, Status};
use tonic_types::pb;

use super::text::printable;

/// `ErrorInfo.domain` of every error of ours.
pub const DOMAIN: &str = "quorate";
/// Metadata with the request id of a call, in answers and, if the caller wants its own, in requests.
pub const REQUEST_ID_KEY: &str = "quorate-request-id";
/// Metadata with the log index an answer was served at.
pub const INDEX_KEY: &str = "quorate-index";

/// Longest line of a status; base64 and percent encoding may treble it.
const LINE_MAX_BYTES: usize = 512;
/// Most facts in a status. A quorum of hundreds may have hundreds out; the first ones tell the story.
const WHY_MAX: usize = 12;
const ERROR_INFO_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const REFUSAL_URL: &str = "type.googleapis.com/quorate.v1.Refusal";
const REQUEST_ID: &str = "request_id";

/// An error as a caller sees it: what, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The gRPC code.
    pub code: Code,
    /// Stable code (`QUORUM_MARGIN`); empty when the other side is not ours, or the call did not reach it.
    pub reason: String,
    /// What failed or was refused, one line.
    pub what: String,
    /// Facts behind it, subject and text.
    pub why: Vec<(String, String)>,
    /// What to do; may be empty.
    pub hint: String,
    /// The request id; may be empty.
    pub request_id: String,
}

impl Problem {
    /// A problem with its reason's own advice.
    #[must_use]
    pub fn new(code: Code, reason: Reason, what: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.as_str().to_owned(),
            what: what.into(),
            why: Vec::new(),
            hint: reason.what_to_do().to_owned(),
            request_id: String::new(),
        }
    }

    /// A refusal with its numbers.
    #[must_use]
    pub fn refused(code: Code, refusal: &Refusal) -> Self {
        Self {
            code,
            reason: refusal.reason().as_str().to_owned(),
            what: refusal.what(),
            why: refusal.why(),
            hint: refusal.hint(),
            request_id: String::new(),
        }
    }

    /// With the request it belongs to.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into();
        self
    }

    /// The reason, when it is one that this release knows.
    #[must_use]
    pub fn known_reason(&self) -> Option<Reason> {
        Reason::parse(&self.reason)
    }

    /// Whether the same request may succeed later without any change by the caller. An unknown outcome is retryable only
    /// with the same request id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.known_reason() {
            Some(reason) => reason.is_retryable(),
            None => self.code == Code::Unavailable,
        }
    }

    /// The exit code of a command that ended with this (contract.md).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.known_reason() == Some(Reason::OutcomeUnknown) {
            return 4;
        }
        match self.code {
            Code::Ok => 0,
            Code::InvalidArgument | Code::OutOfRange => 2,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted | Code::ResourceExhausted => 3,
            Code::Unavailable => 4,
            Code::DeadlineExceeded => 5,
            Code::NotFound => 6,
            Code::PermissionDenied | Code::Unauthenticated => 7,
            Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => 1,
        }
    }

    /// As a status, with `google.rpc.Status` details, cut to what headers can carry.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let line = |text: &str| printable(text, LINE_MAX_BYTES);
        let mut why: Vec<v1::RefusalDetail> = self
            .why
            .iter()
            .take(WHY_MAX)
            .map(|(subject, text)| v1::RefusalDetail { subject: line(subject), text: line(text) })
            .collect();
        if self.why.len() > WHY_MAX {
            let text = format!("{} more", self.why.len() - WHY_MAX);
            why.push(v1::RefusalDetail { subject: "and".into(), text });
        }
        let refusal =
            v1::Refusal { reason: line(&self.reason), what: line(&self.what), why, hint: line(&self.hint) };
        let mut metadata = HashMap::new();
        if !self.request_id.is_empty() {
            metadata.insert(REQUEST_ID.to_owned(), line(&self.request_id));
        }
        let info = pb::ErrorInfo { reason: line(&self.reason), domain: DOMAIN.into(), metadata };
        let any = |url: &str, value: Vec<u8>| prost_types::Any { type_url: url.to_owned(), value };
        let status = pb::Status {
            code: self.code.into(),
            message: line(&self.what),
            details: vec![
                any(ERROR_INFO_URL, info.encode_to_vec()),
                any(REFUSAL_URL, refusal.encode_to_vec()),
            ],
        };
        Status::with_details(self.code, status.message.clone(), status.encode_to_vec().into())
    }

    /// From a status of ours or of anybody else. Details that cannot be read are ignored; texts are made printable.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let mut problem = Self {
            code: status.code(),
            reason: String::new(),
            what: printable(status.message(), LINE_MAX_BYTES),
            why: Vec::new(),
            hint: String::new(),
            request_id: String::new(),
        };
        let details = pb::Status::decode(status.details()).map(|s| s.details).unwrap_or_default();
        for detail in &details {
            match detail.type_url.as_str() {
                ERROR_INFO_URL => problem.take_info(&detail.value),
                REFUSAL_URL => problem.take_refusal(&detail.value),
                _ => {}
            }
        }
        problem
    }

    fn take_info(&mut self, bytes: &[u8]) {
        let Ok(info) = pb::ErrorInfo::decode(bytes) else { return };
        if info.domain != DOMAIN {
            return;
        }
        self.reason = printable(&info.reason, LINE_MAX_BYTES);
        if let Some(id) = info.metadata.get(REQUEST_ID) {
            self.request_id = printable(id, LINE_MAX_BYTES);
        }
    }

    fn take_refusal(&mut self, bytes: &[u8]) {
        let Ok(v1::Refusal { reason, what, why, hint }) = v1::Refusal::decode(bytes) else { return };
        self.reason = printable(&reason, LINE_MAX_BYTES);
        self.what = printable(&what, LINE_MAX_BYTES);
        self.hint = printable(&hint, LINE_MAX_BYTES);
        self.why = why
            .into_iter()
            // One more than is written: the line that says how many were left out.
            .take(WHY_MAX + 1)
            .map(|v1::RefusalDetail { subject, text }| {
                (printable(&subject, LINE_MAX_BYTES), printable(&text, LINE_MAX_BYTES))
            })
            .collect();
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        Self::from_status(status)
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.to_status()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use quorate_model::{DurationMs, GroupName, NodeName, OutMember, OutReason};

    use super::*;

    fn quorum_refusal(out: usize) -> Refusal {
        let node = |n: usize| NodeName::new(format!("node{n}")).unwrap();
        Refusal::QuorumMargin {
            doing: "restarting".into(),
            nodes: vec![node(3)],
            group: GroupName::new("ledger").unwrap(),
            voters: 3,
            up: 2,
            after: 1,
            required: 2,
            spare: 0,
            already_out: (0..out)
                .map(|n| OutMember {
                    node: node(n),
                    why: OutReason::Unreachable,
                    lasting: Some(DurationMs(252_000)),
                })
                .collect(),
        }
    }

    #[test]
    fn a_refusal_comes_back_with_every_number() {
        let problem =
            Problem::refused(Code::FailedPrecondition, &quorum_refusal(1)).with_request_id("0192f3");
        assert_eq!(Problem::from_status(&problem.to_status()), problem);
        assert_eq!(problem.exit_code(), 3);
        assert_eq!(problem.known_reason(), Some(Reason::QuorumMargin));
    }

    #[test]
    fn hundreds_of_facts_still_fit_the_header_list() {
        let problem = Problem::refused(Code::FailedPrecondition, &quorum_refusal(500));
        let status = problem.to_status();
        // base64 makes 4 of 3; 16 KiB is what a peer accepts in all.
        assert!(status.details().len() * 4 / 3 < 12 * 1024, "{}", status.details().len());
        let back = Problem::from_status(&status);
        assert_eq!(back.why.len(), WHY_MAX + 1);
        assert_eq!(back.why[WHY_MAX].1, format!("{} more", 501 - WHY_MAX));
    }

    #[test]
    fn a_hostile_status_is_read_without_harm() {
        for details in [vec![], vec![0xff; 64], b"\x1a\x05hello".to_vec(), vec![0x1a; 4_096]] {
            let status = Status::with_details(Code::Internal, "a\u{1b}[2Jb", details.into());
            let problem = Problem::from_status(&status);
            assert_eq!(problem.what, "a\u{fffd}[2Jb");
            assert_eq!((problem.code, problem.exit_code()), (Code::Internal, 1));
        }
    }

    #[test]
    fn exit_codes_follow_the_contract() {
        let exit = |code, reason| Problem::new(code, reason, "x").exit_code();
        assert_eq!(exit(Code::InvalidArgument, Reason::InvalidArgument), 2);
        assert_eq!(exit(Code::FailedPrecondition, Reason::StalePlan), 3);
        assert_eq!(exit(Code::Unavailable, Reason::NoLeader), 4);
        assert_eq!(exit(Code::Unknown, Reason::OutcomeUnknown), 4);
        assert_eq!(exit(Code::DeadlineExceeded, Reason::DeadlineExceeded), 5);
        assert_eq!(exit(Code::NotFound, Reason::NotFound), 6);
        assert_eq!(exit(Code::PermissionDenied, Reason::NotAllowed), 7);
        assert_eq!(exit(Code::Unauthenticated, Reason::Unauthenticated), 7);
        assert_eq!(exit(Code::Internal, Reason::Internal), 1);
    }
}
