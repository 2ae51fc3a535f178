//! `kind: Rollout`: started, not declared. Its planner reads it on the coordinators; there is no conversion to share.

use super::{Kind, Usage};

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "Rollout",
    noun: "rollout",
    message: "quorate.v1.WorkSpec",
    canon: |bytes| Ok(bytes.to_vec()),
    usage: Usage::Started("quorate rollout start"),
};
