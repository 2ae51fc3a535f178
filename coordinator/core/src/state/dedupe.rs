//! Answers kept for repeated request ids: same id, same answer.

use alloc::collections::{BTreeMap, VecDeque};

use quorate_model::{Principal, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::apply::Answer;
use crate::hash::Hash;

/// Most answers kept. Beyond it the oldest goes before its 24 hours are over: memory is bounded, and a client repeats within
/// minutes. At about 300 bytes each this is 60 MiB at the very worst.
pub const DEDUPE_MAX: usize = 200_000;

/// One answer that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// When.
    pub at: Timestamp,
    /// Digest of what was asked.
    pub intent: Hash,
    /// The answer.
    pub answer: Answer,
}

/// Answers by a digest of principal and request id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedupe {
    /// By digest of principal and request id.
    pub given: BTreeMap<Hash, Given>,
    /// The same digests, oldest first.
    pub order: VecDeque<Hash>,
}

impl Dedupe {
    /// The key of a request.
    #[must_use]
    pub fn key(principal: &Principal, request: &RequestId) -> Hash {
        crate::hash::canonical(&(principal, request))
    }

    /// The answer given to this request before, if it is still kept.
    #[must_use]
    pub fn lookup(&self, principal: &Principal, request: &RequestId) -> Option<&Given> {
        self.given.get(&Self::key(principal, request))
    }
}
