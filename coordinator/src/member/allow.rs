//! The allow-list over the replicated state: asked at each handshake and each request.

use std::sync::OnceLock;

use quorate_common::tls::{AccessInfo, AllowList, Denied};
use quorate_core::State;
use quorate_model::{Principal, Serial};

use crate::raft::StateHandle;

/// The list. Until the state is there nobody may speak.
#[derive(Debug, Default)]
pub(super) struct Allow {
    state: OnceLock<StateHandle<State>>,
}

impl Allow {
    /// Gives it the state; once.
    pub(super) fn set(&self, state: StateHandle<State>) {
        let _ = self.state.set(state);
    }
}

impl AllowList for Allow {
    fn check(&self, serial: &Serial, principal: &Principal) -> Result<AccessInfo, Denied> {
        let state = self.state.get().ok_or(Denied::Unavailable)?;
        state.read(|state, _| check(state, serial, principal))
    }
}

fn check(state: &State, serial: &Serial, principal: &Principal) -> Result<AccessInfo, Denied> {
    if state.cluster.id.is_none() {
        // A member that has just joined knows nobody yet and learns the list from the other members: their certificates
        // are signed by the CA that its token pinned.
        return match principal {
            Principal::Coordinator { .. } => Ok(AccessInfo::default()),
            Principal::System
            | Principal::Agent { .. }
            | Principal::User { .. }
            | Principal::Schedule { .. } => Err(Denied::Unavailable),
        };
    }
    let Some(identity) = state.identities.get(serial) else {
        return match principal {
            // A member whose log is behind may not list a fellow member's new certificate yet; without that member's
            // entries it never would. It must be a member by what is known, and not a removed one.
            Principal::Coordinator { member } => match state.members.by_id.get(member) {
                Some(known) if known.removed_at.is_some() => Err(Denied::Removed),
                Some(_) => Ok(AccessInfo::default()),
                None if *member > state.members.last => Ok(AccessInfo::default()),
                None => Err(Denied::UnknownSerial),
            },
            Principal::System
            | Principal::Agent { .. }
            | Principal::User { .. }
            | Principal::Schedule { .. } => Err(Denied::UnknownSerial),
        };
    };
    if identity.revoked_at.is_some() {
        return Err(Denied::Revoked);
    }
    if identity.principal != *principal {
        return Err(Denied::UnknownSerial);
    }
    match principal {
        Principal::Agent { node } => {
            let node = state.nodes.present(node).ok_or(Denied::Removed)?;
            Ok(AccessInfo { access: None, node: Some(node.id) })
        }
        Principal::Coordinator { member } => {
            let member = state.members.by_id.get(member).ok_or(Denied::Removed)?;
            if member.removed_at.is_some() { Err(Denied::Removed) } else { Ok(AccessInfo::default()) }
        }
        Principal::User { .. } => Ok(AccessInfo { access: identity.access, node: None }),
        // Neither ever has a certificate.
        Principal::System | Principal::Schedule { .. } => Err(Denied::UnknownSerial),
    }
}
