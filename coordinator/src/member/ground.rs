//! What a member stands on. Production's and a simulator's differ here and nowhere else.

use std::sync::Arc;

use quorate_model::Timestamp;

use crate::api::backend::Signer;
use crate::artifacts::Artifacts;
use crate::raft::Dial;
use crate::store::{Disk, Identity};

/// The clock that stamps entries and dates observations.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
}

/// This machine's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        super::now()
    }
}

/// All of it.
#[derive(Clone)]
pub struct Ground {
    /// The cluster, and the member in it.
    pub identity: Identity,
    /// Where the log, the vote and the snapshots lie.
    pub disk: Arc<dyn Disk>,
    /// How fellow members are reached.
    pub dial: Arc<dyn Dial>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who signs certificates.
    pub signer: Arc<dyn Signer>,
    /// The bytes of artifacts; none where there is no disk to keep them on.
    pub artifacts: Option<Artifacts>,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("identity", &self.identity).finish_non_exhaustive()
    }
}
