//! openraft's own storage suite on our log store and state machine, on sled.

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};
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

/// openraft's core asks for no such append. If it ever does, the log would have an end that it can not be read up to.
#[tokio::test]
async fn an_append_that_would_leave_a_hole_is_refused_and_changes_nothing() {
    let (_dir, mut log, _machine) = Stores.build().await.unwrap();
    let entry = |index| Entry::<Types> {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Blank,
    };
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.blocking_append([entry(0), entry(1)]).await.unwrap();
    for gap in [vec![entry(3)], vec![entry(2), entry(4)], vec![entry(1)]] {
        let refused = log.blocking_append(gap).await.unwrap_err();
        assert!(refused.to_string().contains("would leave a hole"), "{refused}");
    }
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id.map(|id| id.index), Some(1));
    log.blocking_append([entry(2)]).await.unwrap();
}
