//! openraft's own storage suite on our log store and state machine, on sled.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{Map, format, identity, options};
use crate::raft::log_store::{LogStore, marks};
use crate::raft::machine::StateMachine;
use crate::raft::replicas::Sampler;
use crate::raft::types::{StorageError, Types};
use crate::store::{self, Blocking};

struct Stores;

impl StoreBuilder<Types, LogStore, StateMachine<Map>, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Map>), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let dirs = format(dir.path(), 1);
        let opened = store::open(&dirs, identity(1), &options(), marks).unwrap();
        let machine =
            StateMachine::open(opened.snapshots.clone(), Blocking::Pool, Sampler::new(1000).0).unwrap();
        let log = LogStore::new(opened.log, opened.committed, Blocking::Pool, opened.committed_index);
        Ok((dir, log, machine))
    }
}

#[test]
fn openrafts_storage_suite_passes() {
    Suite::test_all(Stores).unwrap();
}
