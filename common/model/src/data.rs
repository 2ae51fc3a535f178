//! The folders that hold an instance's data, and how they are put aside instead of removed.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Most folders of one service.
pub const DATA_PATHS_MAX: usize = 8;
/// Longest path of one, in bytes, before and after its variables are filled in. What is put aside has a longer name.
pub const DATA_PATH_MAX_BYTES: usize = 1_024;

/// Where an instance keeps what the other members can give it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSpec {
    /// Its folders, at most [`DATA_PATHS_MAX`], with `${…}`; none lies within another.
    pub paths: Vec<String>,
}

words! {
    /// What is done with the folders of an instance.
    pub enum DataVerb {
        /// Each is renamed aside on its own file system, and an empty one put in its place. Nothing is removed.
        Quarantine = "QUARANTINE",
        /// What was put aside is put back; what came in its place is put aside in turn.
        Revert = "REVERT",
    }
}
