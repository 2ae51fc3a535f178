//! Changes of alarms.

use alloc::vec::Vec;

use quorate_model::{AlarmLevel, GroupName, MissingVoter, Revision};
use serde::{Deserialize, Serialize};

/// Changes of alarms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmCommand {
    /// The level of a group's alarm has changed, by the ticker.
    Set {
        /// Which group.
        group: GroupName,
        /// The revision of the group that was judged: what is found of other voters says nothing.
        revision: Revision,
        /// The level now.
        level: AlarmLevel,
        /// How many voters are available.
        available: u32,
        /// Who is not, the first [`AlarmCommand::MISSING_MAX`].
        missing: Vec<MissingVoter>,
    },
}

impl AlarmCommand {
    /// Most missing voters that are named, so that an entry and its line stay small; the others are counted.
    pub const MISSING_MAX: usize = 8;
}
