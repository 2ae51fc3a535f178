//! `data.quarantine` and `data.revert`: an instance's folders are put aside, and back.
//!
//! Job: make room for a copy from the others without removing anything, and undo that. Must never: remove a file, touch a folder
//! whose service runs, a root of the policy, a mount point or a folder of ours, follow a symbolic link, or rename the first folder
//! before what is renamed is durably written down.
//!
//! All folders are aside, or none: each is renamed within its own parent, so on its own file system, and who comes after a crash
//! goes on by the record, the folder's own number telling where it lies. `plan.rs` decides (pure), `record.rs` remembers, `place.rs`
//! looks and renames, `exec.rs` does the work.

pub(super) mod exec;
mod place;
mod plan;
mod record;
#[cfg(test)]
mod tests;

use quorate_model::RiskClass;

/// What the catalogue tells of an action: class, input, summary.
type About = (RiskClass, &'static str, &'static str);
pub(super) const QUARANTINE: About = (
    RiskClass::Destructive,
    "service, folders, what they are called by while they are aside",
    "Rename the folders of a stopped instance aside and put empty ones in their place; nothing is removed.",
);
pub(super) const REVERT: About = (
    RiskClass::Disruptive,
    "service, folders, what they are called by while they are aside",
    "Put the folders of a stopped instance back; what came in their place is put aside in turn.",
);
