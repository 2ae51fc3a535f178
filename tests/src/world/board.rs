//! What is known about the members from outside: the driver looks here between two steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_coordinator::member::Member;
use quorate_coordinator::raft::RaftStatus;
use quorate_core::State;
use quorate_core::hash::Hash;

/// One look at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The member.
    pub member: u64,
    /// Number of its start.
    pub start: u64,
    /// Its own words.
    pub status: RaftStatus,
    /// Log index its state stands at.
    pub revision: u64,
    /// Place and hash of the last audit record: a hash chain over everything applied.
    pub head: (u64, Hash),
}

#[derive(Default)]
struct Inner {
    members: BTreeMap<u64, (u64, Member)>,
    starts: BTreeMap<u64, u64>,
    broken: Vec<String>,
}

/// The board. Clones are the same one.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Inner>>);

impl Board {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has started; gives the number of this start.
    pub fn started(&self, id: u64, member: Member) -> u64 {
        let mut inner = self.inner();
        let start = inner.starts.entry(id).or_default();
        *start += 1;
        let start = *start;
        inner.members.insert(id, (start, member));
        start
    }

    /// A member is gone.
    pub fn gone(&self, id: u64) {
        let gone = self.inner().members.remove(&id);
        drop(gone);
    }

    /// Something that must never happen.
    pub fn broke(&self, what: String) {
        self.inner().broken.push(what);
    }

    /// What must never happen, and did.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        self.inner().broken.clone()
    }

    /// Members that run.
    #[must_use]
    pub fn up(&self) -> Vec<u64> {
        self.inner().members.keys().copied().collect()
    }

    /// The member with this number, when it runs.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<Member> {
        self.inner().members.get(&id).map(|(_, member)| member.clone())
    }

    /// Who says it leads; of several the one of the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let looks = self.looks();
        let leads = looks.iter().filter(|look| look.status.is_leader());
        leads.max_by_key(|look| look.status.term).map(|look| look.member)
    }

    /// The highest term in which somebody says it leads.
    #[must_use]
    pub fn term_led(&self) -> Option<u64> {
        let looks = self.looks();
        looks.iter().filter(|look| look.status.is_leader()).map(|look| look.status.term).max()
    }

    /// Every running member as it stands now.
    #[must_use]
    pub fn looks(&self) -> Vec<Look> {
        let members: Vec<_> =
            self.inner().members.iter().map(|(id, (start, member))| (*id, *start, member.clone())).collect();
        let look = |(id, start, member): (u64, u64, Member)| {
            let seen = |state: &State, revision| (revision, (state.audit.head.seq, state.audit.head.hash));
            let (revision, head) = member.node().state().read(seen);
            Look { member: id, start, status: member.node().status(), revision, head }
        };
        members.into_iter().map(look).collect()
    }
}
