//! What is left to do for a rotation, from what lies where and what is remembered. Contents are compared, and nothing else is
//! done with them. Pure.

use super::record::{Phase, Record};

/// What lies where.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// In use.
    pub(super) file: Option<&'a [u8]>,
    /// Beside it.
    pub(super) previous: Option<&'a [u8]>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it was done before.
    Nothing,
    /// The files are as they should be; the service has still to read them.
    Use,
    /// Write them, then have the service read them.
    Write,
}

/// What a candidate is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// What comes next.
    Next,
    /// What is in use, since a rotation that came to its end here and stopped elsewhere.
    InUse,
}

/// Why nothing may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no secret in use that another could follow.
    NoSecret,
    /// The next one is empty.
    Empty,
    /// The next one is what is in use.
    Same,
    /// An earlier rotation has left two valid secrets here, and the next one is neither.
    Unretired,
    /// It was not staged for this rotation, or was changed since.
    NotStaged,
    /// What lies there is not what this rotation put there.
    Drifted,
    /// The service was not seen to work with the new one.
    Unconfirmed,
    /// The one before is gone already.
    Retired,
}

/// Whether a candidate may be what comes next. One that an earlier rotation has left here, on either side, may: that is how what
/// was stopped half way is gone on with, or taken back. One that is in use may only be it where the rotation that `stopped` has
/// brought it: anywhere else somebody forgot to put the next one there, and the others would get another secret.
pub(super) fn stage(
    record: &Record,
    seen: Seen<'_>,
    stopped: Option<&str>,
    next: &[u8],
) -> Result<Candidate, Refused> {
    let Some(file) = seen.file else { return Err(Refused::NoSecret) };
    if next.is_empty() {
        return Err(Refused::Empty);
    }
    match (record.open(), next == file, seen.previous == Some(next)) {
        (true, false, false) => Err(Refused::Unretired),
        (false, true, _) if stopped.is_some_and(|stopped| record.finished(stopped)) => Ok(Candidate::InUse),
        (false, true, _) => Err(Refused::Same),
        (true, ..) | (false, false, _) => Ok(Candidate::Next),
    }
}

/// What is left of putting the staged one in place.
pub(super) fn install(record: &Record, seen: Seen<'_>, rotation: &str, next: &[u8]) -> Result<Next, Refused> {
    if record.rotation != rotation {
        return Err(Refused::NotStaged);
    }
    let Some(file) = seen.file else { return Err(Refused::NoSecret) };
    if file != next {
        return match record.phase {
            Phase::Staged | Phase::Installing => Ok(Next::Write),
            Phase::Used
            | Phase::Confirmed
            | Phase::Returning
            | Phase::Returned
            | Phase::Retiring
            | Phase::Retired => Err(Refused::Drifted),
        };
    }
    match record.phase {
        // Also one that an earlier rotation has put there: nobody has seen the service read it for this one.
        Phase::Staged | Phase::Installing => Ok(Next::Use),
        Phase::Used | Phase::Confirmed => Ok(Next::Nothing),
        Phase::Returning | Phase::Returned | Phase::Retiring | Phase::Retired => Err(Refused::Drifted),
    }
}

/// Whether the service may be asked to show that it works with it.
pub(super) fn confirm(record: &Record, seen: Seen<'_>, rotation: &str, next: &[u8]) -> Result<(), Refused> {
    if record.rotation != rotation || !matches!(record.phase, Phase::Used | Phase::Confirmed) {
        return Err(Refused::NotStaged);
    }
    if seen.file == Some(next) { Ok(()) } else { Err(Refused::Drifted) }
}

/// What is left of removing the one before. `next` is gone once it was.
pub(super) fn retire(
    record: &Record,
    seen: Seen<'_>,
    rotation: &str,
    next: Option<&[u8]>,
) -> Result<Next, Refused> {
    if record.rotation != rotation {
        return Err(Refused::NotStaged);
    }
    match record.phase {
        Phase::Retired => Ok(Next::Nothing),
        Phase::Retiring if seen.previous.is_none() => Ok(Next::Use),
        Phase::Retiring | Phase::Confirmed => match next {
            // It was removed by the rotation that has put this one in use.
            Some(next) if seen.file == Some(next) && record.since.is_some() && seen.previous.is_none() => {
                Ok(Next::Nothing)
            }
            Some(next) if seen.file == Some(next) => Ok(Next::Write),
            Some(_) | None => Err(Refused::Drifted),
        },
        Phase::Staged | Phase::Installing | Phase::Used | Phase::Returning | Phase::Returned => {
            Err(Refused::Unconfirmed)
        }
    }
}

/// What is left of going back.
pub(super) fn revert(record: &Record, seen: Seen<'_>, rotation: &str, next: &[u8]) -> Result<Next, Refused> {
    if record.rotation != rotation {
        return Ok(Next::Nothing);
    }
    match record.phase {
        Phase::Staged | Phase::Returned => Ok(Next::Nothing),
        Phase::Retiring | Phase::Retired => Err(Refused::Retired),
        Phase::Used | Phase::Confirmed if record.since.is_some() => Ok(Next::Nothing),
        Phase::Installing | Phase::Used | Phase::Confirmed | Phase::Returning => {
            // The one before is in place: never left, or put back already. Once the service has read the new one, it can only be
            // somebody else's.
            let may_be = matches!(record.phase, Phase::Installing | Phase::Returning);
            match (seen.file, seen.previous) {
                (Some(file), Some(previous)) if file == next && previous != next => Ok(Next::Write),
                (Some(file), _) if file != next && may_be => Ok(Next::Use),
                (Some(_) | None, _) => Err(Refused::Drifted),
            }
        }
    }
}
