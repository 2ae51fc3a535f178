//! openraft's type parameters: a log entry is a batch of encoded commands, its answer a batch of encoded answers.
//!
//! Bytes, not commands: log, network and followers that only forward do not depend on what a command is, and an entry
//! of a newer release stops an older member with a clear error instead of being skipped.

use std::io::Cursor;

use bytes::Bytes;
use openraft::{BasicNode, Entry, TokioRuntime};
use serde::{Deserialize, Serialize};

/// One Raft entry: commands that were proposed together, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposals {
    pub(crate) commands: Vec<Bytes>,
}

/// The answers to one Raft entry, in the same order; empty for entries without commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Bytes>,
}

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Proposals,
        R = Answers,
        NodeId = u64,
        Node = BasicNode,
        Entry = Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = TokioRuntime,
);

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StorageIOError = openraft::StorageIOError<u64>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type Membership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type Raft = openraft::Raft<Types>;
