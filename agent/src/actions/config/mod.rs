//! `config.validate`, `config.apply`, `config.revert` and `config.confirm`: configuration files on this host.
//!
//! Job: have the service's own check look at a candidate before anything is touched, show what it would change, put it in the
//! place of the file before, and put that one back unless somebody confirms the new one in time (commit-confirm). Must never:
//! write a file that was not checked as declared, replace one that is not what the candidate was compared with, follow a
//! symbolic link, or disturb a service before the way back is durable.
//!
//! `plan.rs` decides (pure), `diff.rs` compares (pure), `record.rs` remembers and keeps contents, `place.rs` reads and writes the
//! file itself, `validate.rs` and `exec.rs` do the work, `undo.rs` is the way back that the helper takes alone.

mod diff;
pub(super) mod exec;
mod place;
mod plan;
mod record;
mod undo;
pub(super) mod validate;

use quorate_model::{ConfigSpec, Release, RiskClass};

use super::ActionError;

#[cfg(test)]
mod tests;

/// What the catalogue tells of an action: class, input, summary.
type About = (RiskClass, &'static str, &'static str);
pub(super) const VALIDATE: About = (
    RiskClass::Safe,
    "service, release (version, artifact, size, signature, file)",
    "Check a configuration file with the service's own check and show what it would change.",
);
pub(super) const APPLY: About = (
    RiskClass::Disruptive,
    "service, release",
    "Put a checked configuration file in place; it goes back by itself unless it is confirmed.",
);
pub(super) const REVERT: About = (
    RiskClass::Disruptive,
    "service, release",
    "Put the configuration file from before back, and have the service use it.",
);
pub(super) const CONFIRM: About =
    (RiskClass::Safe, "service, release", "Keep a configuration file that was put in place.");

/// The file that a release is of.
fn file_of(release: &Release) -> Result<&ConfigSpec, ActionError> {
    release.config().ok_or_else(|| ActionError::invalid("install", "it is no configuration file"))
}

pub(in crate::actions) use place::Place;
pub(crate) use undo::{PutBack, put_back};
pub(in crate::actions) use undo::{User, turn};
