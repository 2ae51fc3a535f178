//! The live connections, by identity: how revocation closes them at once, and how one identity is kept from taking all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_common::task::Shutdown;
use quorate_model::Principal;

use super::parked::Parked;
use super::peer::{ConnectionId, PeerIdentity};

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    live: BTreeMap<ConnectionId, Entry>,
    by_principal: BTreeMap<Principal, Share>,
}

/// What all connections of one identity share.
#[derive(Debug, Default)]
struct Share {
    connections: usize,
    parked: Arc<Parked>,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<PeerIdentity>,
    close: Shutdown,
}

/// What is known about one live connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// Who, as at the handshake.
    pub identity: Arc<PeerIdentity>,
}

/// The live connections of one process. Cheap to clone; all clones are one registry.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

/// One connection's entry; leaving the registry when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    pub(super) identity: Arc<PeerIdentity>,
    pub(super) close: Shutdown,
    /// What its identity has parked, over all of its connections.
    pub(super) parked: Arc<Parked>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes every connection whose identity matches, at once and without a goodbye; says how many. New connections of
    /// a revoked identity are refused by the allow-list, so change that first.
    pub fn close_where(&self, matches: impl Fn(&PeerIdentity) -> bool) -> usize {
        let inner = self.lock();
        let chosen = inner.live.values().filter(|entry| matches(&entry.identity));
        chosen.map(|entry| entry.close.trigger()).count()
    }

    /// The live connections, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let inner = self.lock();
        inner
            .live
            .iter()
            .map(|(id, entry)| ConnectionInfo { id: *id, identity: entry.identity.clone() })
            .collect()
    }

    /// How many connections are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Whether no connection is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a connection, or says which limit is reached. The identity's connection number is set here.
    pub(super) fn enter(
        &self,
        mut identity: PeerIdentity,
        max_total: usize,
        max_of_identity: usize,
    ) -> Result<Registration, &'static str> {
        let mut inner = self.lock();
        if inner.live.len() >= max_total {
            return Err("too_many_connections");
        }
        let share = inner.by_principal.entry(identity.principal.clone()).or_default();
        if share.connections >= max_of_identity {
            return Err("too_many_of_identity");
        }
        share.connections += 1;
        let parked = share.parked.clone();
        inner.next += 1;
        identity.connection = ConnectionId(inner.next);
        let identity = Arc::new(identity);
        let close = Shutdown::new();
        inner.live.insert(identity.connection, Entry { identity: identity.clone(), close: close.clone() });
        drop(inner);
        Ok(Registration { registry: self.clone(), identity, close, parked })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.live.remove(&self.identity.connection);
        if let Some(share) = inner.by_principal.get_mut(&self.identity.principal) {
            share.connections = share.connections.saturating_sub(1);
            if share.connections == 0 {
                inner.by_principal.remove(&self.identity.principal);
            }
        }
    }
}
