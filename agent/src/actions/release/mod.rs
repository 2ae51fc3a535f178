//! `artifact.stage`, `artifact.activate`, `artifact.revert` and `package.install`: releases on this host.
//!
//! Job: bring an artifact that one of the host's own keys signed into place beside what is in use, switch to it, and back. Must
//! never: believe a byte of the network half (what it fetched is copied first, and the copy is proved), lay out anything of an
//! archive that is not wholly plain, disturb a service before the way back is durable, or leave one down.
//!
//! A binary or an archive lies in `DIR/releases/VERSION-DIGEST`, and `DIR/current` is the symbolic link to the one in use; a
//! package's file is kept in the helper's own folder and installed by `dpkg` alone, never by a resolver that could change
//! others. `plan.rs` decides (pure), `record.rs` remembers, `trust.rs` asks who signed, `stage.rs` brings in, `archive.rs` and
//! `names.rs` read what is packed, `tree.rs` lays out and compares, `place.rs` and `package.rs` look and switch, `exec.rs` stops and starts.

mod archive;
pub(super) mod exec;
mod names;
mod package;
mod place;
mod plan;
mod record;
pub(super) mod stage;
mod tree;
mod trust;

pub(super) use package::LOCK as DPKG_LOCK;
use quorate_model::RiskClass;

/// For the catalogue.
pub(super) const STAGE: (RiskClass, &str, &str) = (
    RiskClass::Safe,
    "service, release (version, artifact, size, signature, install)",
    "Bring a release onto the host, its digest and signature verified.",
);
/// For the catalogue.
pub(super) const ACTIVATE: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, release",
    "Stop a service, switch to a staged release, start it; what was in use is kept.",
);
/// For the catalogue.
pub(super) const REVERT: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, release",
    "Switch a service back to what was in use before a release, and start it.",
);
/// For the catalogue.
pub(super) const INSTALL: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, release",
    "Install a staged Debian package at its exact version, and nothing else.",
);

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod tests;
