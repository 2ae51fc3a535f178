//! `secret.stage`, `secret.install`, `secret.confirm`, `secret.retire` and `secret.revert`: a secret of a service, rotated in
//! two phases.
//!
//! Job: take the next secret from where this host's operator put it, put it in place with the one in use beside it, have a hook
//! show that the service works with it, and remove the one before when the coordinators say that every member has confirmed.
//! Must never: tell a secret, or anything made of one, to anybody (no content, no hash, no output of a hook that was given
//! it), remove one that this host has not confirmed the successor of, or leave a moment in which the service finds neither.
//!
//! Every state in between is one in which both are valid: nothing is owed, and what a crash has cut off is gone on with.
//!
//! `plan.rs` decides (pure), `record.rs` remembers and keeps the staged content, `exec.rs` does the work.

pub(super) mod exec;
mod plan;
mod record;

use quorate_model::RiskClass;

#[cfg(test)]
mod tests;

/// What the catalogue tells of an action: class, input, summary.
type About = (RiskClass, &'static str, &'static str);
/// The input of each of them.
const INPUT: &str = "service, secret (file, previous, source, confirm, apply), rotation";
pub(super) const STAGE: About =
    (RiskClass::Safe, INPUT, "Take the next secret from its source and look at it; nothing is put to use.");
pub(super) const INSTALL: About = (
    RiskClass::Disruptive,
    INPUT,
    "Put a staged secret in place and the one in use beside it, and have the service read both.",
);
pub(super) const CONFIRM: About =
    (RiskClass::Safe, INPUT, "Have this host's own hook show that the service works with the new secret.");
pub(super) const RETIRE: About =
    (RiskClass::Disruptive, INPUT, "Remove the secret from before, once the new one is confirmed.");
pub(super) const REVERT: About =
    (RiskClass::Disruptive, INPUT, "Put the secret from before in place again and the new one beside it.");
