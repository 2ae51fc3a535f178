//! What to do to put a release in use or to leave it, from what is seen. Pure.
//!
//! **Architecture Invariant:** the way back is written before the service is disturbed; a switch happens only while the service
//! is down by our own hand; what the same execution did before a crash is never done a second time.

use super::record::{Before, Record, Switch};

/// Why a change can not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// A package that is neither here nor there.
    #[error("the package is half installed: look at `dpkg --audit`, and mend it by hand")]
    Torn,
    /// Nobody knows the way back.
    #[error("this host has no record of what was in use before it")]
    NoRecord,
}

/// Releases that are kept beside the one in use and its previous one.
pub(super) const KEPT: usize = 3;
/// Hex digits of the artifact's digest in a folder's name.
const DIGEST_DIGITS: usize = 12;

/// Name of a release's folder: for people by its version, for us by its digest.
pub(super) fn name(version: &str, artifact: &str) -> String {
    format!("{version}-{}", artifact.get(..DIGEST_DIGITS).unwrap_or(artifact))
}

/// What is seen before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// This execution.
    pub(super) execution: String,
    /// What is in use: text of the link, or the package's version.
    pub(super) used: Option<String>,
    /// What is in use is neither the old nor the new: a package that was half installed.
    pub(super) torn: bool,
    /// The service runs.
    pub(super) up: bool,
    /// Its run, or its last one.
    pub(super) run: String,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// This execution has begun already, before a crash: whatever happens, the service is not left down.
    pub(super) begun: bool,
    /// Write this first.
    pub(super) record: Option<Switch>,
    /// And that this was in use before the release.
    pub(super) before: Option<Before>,
    /// Stop the service if it runs.
    pub(super) stop: bool,
    /// Switch to this; `Some(None)` is to nothing.
    pub(super) switch: Option<Option<String>>,
    /// Start the service.
    pub(super) start: bool,
    /// The run that a new one is told from.
    pub(super) old_run: String,
}

impl Flow {
    fn nothing(seen: &Seen) -> Self {
        Self {
            begun: false,
            record: None,
            before: None,
            stop: false,
            switch: None,
            start: false,
            old_run: seen.run.clone(),
        }
    }

    /// Nothing is left to do.
    pub(super) const fn is_nothing(&self) -> bool {
        !self.stop && self.switch.is_none() && !self.start
    }
}

/// What this execution began before a crash, if it did.
pub(super) fn begun<'r>(record: &'r Record, release: &str, execution: &str) -> Option<&'r Switch> {
    record.last.as_ref().filter(|last| last.execution == execution && last.release == release)
}

/// Goes on after a crash.
fn go_on(seen: &Seen, last: &Switch, start: bool) -> Flow {
    let there = seen.used == last.to && !seen.torn;
    let fresh = seen.up && seen.run != last.run;
    let begun = Flow { begun: true, old_run: last.run.clone(), ..Flow::nothing(seen) };
    if there {
        // A run that began after the stop is of what was switched to.
        return Flow { stop: seen.up && !fresh && start, start: !fresh && start, ..begun };
    }
    Flow { stop: true, switch: Some(last.to.clone()), start, ..begun }
}

/// Puts `wanted` (the text of `release`) in use.
///
/// # Errors
/// Why it can not be begun.
pub(super) fn activate(seen: &Seen, record: &Record, release: &str, wanted: &str) -> Result<Flow, Refused> {
    if let Some(last) = begun(record, release, &seen.execution) {
        return Ok(go_on(seen, last, true));
    }
    if seen.torn {
        return Err(Refused::Torn);
    }
    let in_use = seen.used.as_deref() == Some(wanted);
    let ours = record.last.as_ref().is_some_and(|last| last.finished && last.to.as_deref() == Some(wanted));
    if in_use && ours && seen.up {
        return Ok(Flow::nothing(seen));
    }
    let switch = Switch {
        execution: seen.execution.clone(),
        release: release.to_owned(),
        to: Some(wanted.to_owned()),
        run: seen.run.clone(),
        finished: false,
    };
    Ok(Flow {
        begun: false,
        record: Some(switch),
        before: (!in_use).then(|| Before { used: seen.used.clone(), running: seen.up }),
        stop: true,
        switch: (!in_use).then(|| Some(wanted.to_owned())),
        start: true,
        old_run: seen.run.clone(),
    })
}

/// Leaves `release`, whose text is `wanted`, for what was in use before it.
///
/// # Errors
/// Why it can not be begun.
pub(super) fn revert(seen: &Seen, record: &Record, release: &str, wanted: &str) -> Result<Flow, Refused> {
    let before = record.previous.get(release);
    // Where nothing was in use and nothing ran, nothing is started.
    let start = |to: Option<&String>| to.is_some() || before.is_none_or(|before| before.running);
    if let Some(last) = begun(record, release, &seen.execution) {
        return Ok(go_on(seen, last, start(last.to.as_ref())));
    }
    let about_it = record.last.as_ref().is_some_and(|last| last.release == release);
    let in_use = seen.used.as_deref() == Some(wanted);
    if !(in_use || seen.torn && about_it) {
        if seen.torn {
            return Err(Refused::Torn);
        }
        return Ok(Flow { start: !seen.up && start(seen.used.as_ref()), ..Flow::nothing(seen) });
    }
    let Some(before) = before else {
        return Err(Refused::NoRecord);
    };
    let switch = Switch {
        execution: seen.execution.clone(),
        release: release.to_owned(),
        to: before.used.clone(),
        run: seen.run.clone(),
        finished: false,
    };
    Ok(Flow {
        begun: false,
        record: Some(switch),
        before: None,
        stop: true,
        switch: Some(before.used.clone()),
        start: start(before.used.as_ref()),
        old_run: seen.run.clone(),
    })
}

/// Which staged releases may go: all but the newest, the one in use, and those a revert of these would need.
pub(super) fn old(record: &Record, used: Option<&str>, text: impl Fn(&str) -> String) -> Vec<String> {
    let newest = record.newest();
    let mut kept: Vec<String> = newest.iter().take(KEPT).map(|name| text(name)).collect();
    kept.extend(used.map(str::to_owned));
    let in_use = newest.iter().find(|name| Some(text(name).as_str()) == used);
    let previous = in_use.and_then(|name| record.previous.get(name));
    kept.extend(previous.and_then(|before| before.used.clone()));
    newest.into_iter().filter(|name| !kept.contains(&text(name))).collect()
}
