//! How this half tells of what goes wrong outside: in one line, and not once more every few seconds.
//!
//! Must never: hide something new because it looks like what was told before.

use std::collections::BTreeMap;

use quorate_common::wire::text::printable;
use quorate_model::DurationMs;

/// What stays as it is is told again after this long.
const TELL_AGAIN: DurationMs = DurationMs::from_secs(300);
/// Bytes of what others say.
const TEXT_MAX: usize = 400;
/// Coordinators that are remembered at the most; a fleet has seven at the most.
const SUBJECTS_MAX: usize = 32;
/// What tonic puts before every cause.
const GENERIC: &str = "transport error";

/// A refused or failed call: its code and the most that is known of why.
pub(super) fn status_text(status: &tonic::Status) -> String {
    let message = status.message();
    let cause = std::error::Error::source(status).map(crate::helper::error_text).unwrap_or_default();
    let cause =
        cause.strip_prefix(GENERIC).map_or(cause.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let code = status.code();
    let text = if cause.is_empty() || message.contains(cause) {
        format!("{code:?}: {message}")
    } else if message == GENERIC || cause.contains(message) {
        format!("{code:?}: {cause}")
    } else {
        format!("{code:?}: {message} ({cause})")
    };
    printable(&text, TEXT_MAX)
}

/// The same, for an error that may be one.
pub(super) fn call_error_text(error: &(dyn std::error::Error + 'static)) -> String {
    let status = error.downcast_ref::<tonic::Status>();
    status.map_or_else(|| printable(&crate::helper::error_text(error), TEXT_MAX), status_text)
}

/// Lets the first of many equal lines about the same subject through, and one of them every five minutes.
#[derive(Debug, Default)]
pub(super) struct Repeats(BTreeMap<String, Told>);

#[derive(Debug)]
struct Told {
    text: String,
    at: DurationMs,
    kept: u32,
}

/// What is to be told, and how many lines like it were kept since the last that was; none of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tell(pub(super) Option<u32>);

impl Repeats {
    /// Whether this is to be told now.
    pub(super) fn tell(&mut self, subject: &str, text: &str, now: DurationMs) -> Option<Tell> {
        let mut kept = None;
        if let Some(told) = self.0.get_mut(subject).filter(|told| told.text == text) {
            if now.0.saturating_sub(told.at.0) < TELL_AGAIN.0 {
                told.kept = told.kept.saturating_add(1);
                return None;
            }
            kept = Some(told.kept).filter(|kept| *kept > 0);
        }
        if self.0.len() >= SUBJECTS_MAX {
            self.0.clear();
        }
        self.0.insert(subject.to_owned(), Told { text: text.to_owned(), at: now, kept: 0 });
        Some(Tell(kept))
    }

    /// All is well: the next one is new whatever it says.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn status(message: &str, cause: Option<&str>) -> String {
        let mut status = tonic::Status::unavailable(message);
        if let Some(cause) = cause {
            status.set_source(std::sync::Arc::new(io::Error::other(cause.to_owned())));
        }
        status_text(&status)
    }

    #[test]
    fn a_failed_call_is_told_once_with_its_cause() {
        let route = "No route to host (os error 113)";
        assert_eq!(
            status(route, Some(&format!("transport error: {route}"))),
            format!("Unavailable: {route}")
        );
        assert_eq!(
            status("transport error", Some("transport error: received fatal alert: X")),
            "Unavailable: received fatal alert: X"
        );
        assert_eq!(status("no leader", None), "Unavailable: no leader");
        assert_eq!(status("no answer", Some("broken pipe")), "Unavailable: no answer (broken pipe)");
        let boxed: Box<dyn std::error::Error + Send + Sync> = tonic::Status::not_found("who").into();
        assert_eq!(call_error_text(&*boxed), "NotFound: who");
    }

    #[test]
    fn what_others_say_is_bounded_and_printable() {
        let hostile = status("one\ntwo\u{1b}[31m", Some(&"x".repeat(10_000)));
        assert!(!hostile.contains(['\n', '\u{1b}']) && hostile.len() < 1_000, "{hostile}");
        let long = "y".repeat(1_000);
        assert_eq!(status(&long, Some(&long)).matches(&"y".repeat(200)).count(), 1, "it is said twice");
    }

    #[test]
    fn equal_lines_are_kept_and_counted() {
        let mut repeats = Repeats::default();
        let at = DurationMs::from_secs;
        assert_eq!(repeats.tell("c1", "a", at(0)), Some(Tell(None)));
        assert_eq!(repeats.tell("c1", "a", at(1)), None);
        assert_eq!(repeats.tell("c2", "a", at(2)), Some(Tell(None)), "another one fails in the same way");
        assert_eq!(repeats.tell("c1", "a", at(299)), None);
        assert_eq!(repeats.tell("c1", "a", at(300)), Some(Tell(Some(2))), "still so");
        assert_eq!(repeats.tell("c1", "a", at(301)), None);
        assert_eq!(
            repeats.tell("c1", "b", at(302)),
            Some(Tell(None)),
            "something else is news, and nothing is like it"
        );
        assert_eq!(repeats.tell("c2", "a", at(300)), None, "two that fail differently in turn");
        repeats.clear();
        assert_eq!(repeats.tell("c1", "b", at(303)), Some(Tell(None)), "it was well in between");
    }

    #[test]
    fn many_subjects_are_not_remembered_for_ever() {
        let mut repeats = Repeats::default();
        for subject in 0..SUBJECTS_MAX * 3 {
            let _ = repeats.tell(&subject.to_string(), "a", DurationMs::ZERO);
        }
        assert!(repeats.0.len() <= SUBJECTS_MAX);
    }
}
