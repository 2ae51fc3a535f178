//! What is left to do for a change of a file, from what is in place and what is remembered. Pure.
//!
//! Must never: let a file be replaced that nobody has compared with the one that comes.

use super::record::{Applied, Phase, Record};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it was done before.
    Nothing,
    /// The content is in place; the service has still to use it.
    Use,
    /// Write the content, then have the service use it.
    Write,
}

/// Why nothing may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The content is not checked and compared on this host.
    NotStaged,
    /// What is in place is neither what was compared nor what we put there.
    Drifted,
    /// We did not put it there, so there is no way back.
    NoRecord,
}

/// What is left of putting a content to use. `seen` is the digest of what is in place.
pub(super) fn apply(record: &Record, seen: Option<&str>, digest: &str) -> Result<Next, Refused> {
    let staged = record.staged.get(digest).ok_or(Refused::NotStaged)?;
    if seen == Some(digest) {
        return Ok(match &record.applied {
            // Written by us, and nobody has seen the service use it.
            Some(applied) if applied.digest == digest && applied.phase <= Phase::Written => Next::Use,
            Some(_) | None => Next::Nothing,
        });
    }
    if seen != staged.against.as_deref() {
        return Err(Refused::Drifted);
    }
    Ok(Next::Write)
}

/// What is left of going back from a content.
pub(super) fn revert(record: &Record, seen: Option<&str>, digest: &str) -> Result<Next, Refused> {
    let Some(applied) = record.applied.as_ref().filter(|applied| applied.digest == digest) else {
        // It never came into place by our hand.
        return if seen == Some(digest) { Err(Refused::NoRecord) } else { Ok(Next::Nothing) };
    };
    if seen == Some(digest) {
        return Ok(Next::Write);
    }
    if seen == before(applied) {
        return Ok(match applied.phase {
            // Nothing was written yet, or it was gone back from before.
            Phase::Owed | Phase::Returned => Next::Nothing,
            Phase::Written | Phase::Used | Phase::Confirmed | Phase::Returning => Next::Use,
        });
    }
    Err(Refused::Drifted)
}

/// Digest of what was in place before.
pub(super) fn before(applied: &Applied) -> Option<&str> {
    applied.previous.as_ref().map(|previous| previous.digest.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Previous, Staged};
    use super::*;

    fn record(against: Option<&str>) -> Record {
        let mut record = Record::empty("/etc/app.toml");
        record.staged.insert(
            "new".to_owned(),
            Staged {
                version: "2".to_owned(),
                signed_by: String::new(),
                key: String::new(),
                against: against.map(str::to_owned),
                at_ms: 1,
            },
        );
        record
    }

    fn applied(phase: Phase) -> Record {
        let previous = Some(Previous { digest: "old".to_owned(), mode: 0o644, uid: 0, gid: 0 });
        let applied =
            Applied { execution: "e1".to_owned(), digest: "new".to_owned(), previous, running: true, phase };
        let mut record = record(Some("old"));
        record.applied = Some(applied);
        record
    }

    #[test]
    fn only_what_was_compared_is_replaced() {
        assert_eq!(apply(&record(Some("old")), Some("old"), "new"), Ok(Next::Write));
        assert_eq!(apply(&record(None), None, "new"), Ok(Next::Write), "there was no file");
        for seen in [None, Some("other")] {
            assert_eq!(apply(&record(Some("old")), seen, "new"), Err(Refused::Drifted), "{seen:?}");
        }
        assert_eq!(apply(&record(None), Some("old"), "new"), Err(Refused::Drifted), "it came meanwhile");
        assert_eq!(apply(&record(None), None, "unknown"), Err(Refused::NotStaged));
    }

    #[test]
    fn a_crash_is_gone_on_from_where_it_was() {
        assert_eq!(apply(&applied(Phase::Owed), Some("old"), "new"), Ok(Next::Write));
        assert_eq!(apply(&applied(Phase::Written), Some("new"), "new"), Ok(Next::Use));
        assert_eq!(apply(&applied(Phase::Used), Some("new"), "new"), Ok(Next::Nothing));
        for (phase, seen, next) in [
            (Phase::Owed, "old", Next::Nothing),
            (Phase::Written, "new", Next::Write),
            (Phase::Confirmed, "new", Next::Write),
            (Phase::Returning, "old", Next::Use),
            (Phase::Returned, "old", Next::Nothing),
        ] {
            assert_eq!(revert(&applied(phase), Some(seen), "new"), Ok(next), "{phase:?} {seen}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_is_left() {
        assert_eq!(revert(&applied(Phase::Used), Some("other"), "new"), Err(Refused::Drifted));
        assert_eq!(revert(&applied(Phase::Used), None, "new"), Err(Refused::Drifted), "it was removed");
        assert_eq!(revert(&record(None), Some("new"), "new"), Err(Refused::NoRecord));
        assert_eq!(revert(&record(None), Some("old"), "new"), Ok(Next::Nothing));
    }
}
