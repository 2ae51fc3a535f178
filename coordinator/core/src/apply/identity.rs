//! Certificates and users: who may come in.

use alloc::format;

use quorate_model::{AccessRole, Principal, Reason, Refusal, UserName};

use super::{Context, Effect};
use crate::command::{IdentityCommand, NewCertificate};
use crate::state::identity::{IDENTITIES_MAX, USERS_MAX};
use crate::state::{Identity, State, User};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &IdentityCommand,
) -> Result<Effect, Refusal> {
    match command {
        IdentityCommand::Register { certificate } => {
            let resource = format!("certificates/{}", certificate.serial);
            if list(state, context, certificate)? {
                Ok(Effect::changed(context.done(), resource, format!("{}", certificate.principal)))
            } else {
                Ok(Effect::unchanged(context.done()))
            }
        }
        IdentityCommand::Revoke { serial } => {
            let found = state
                .identities
                .get_mut(serial)
                .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no certificate {serial}")))?;
            if found.revoked_at.is_some() {
                return Ok(Effect::unchanged(context.done()));
            }
            found.revoked_at = Some(context.now);
            let who = format!("{}", found.principal);
            Ok(Effect::changed(context.done(), format!("certificates/{serial}"), who))
        }
        IdentityCommand::PutUser { name, access } => {
            put_user(state, context, name, *access)?;
            Ok(Effect::changed(context.done(), format!("users/{name}"), access.as_str()))
        }
        IdentityCommand::RemoveUser { name } => {
            if state.users.remove(name).is_none() {
                return Err(Refusal::new(Reason::NotFound, format!("there is no user {name}")));
            }
            revoke_all(state, context, &Principal::User { name: name.clone() });
            Ok(Effect::changed(context.done(), format!("users/{name}"), "removed"))
        }
    }
}

/// Makes a user or changes its role; its certificates follow.
pub(super) fn put_user(
    state: &mut State,
    context: &Context<'_>,
    name: &UserName,
    access: AccessRole,
) -> Result<(), Refusal> {
    if !state.users.contains_key(name) && state.users.len() >= USERS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {USERS_MAX} users already")));
    }
    let fresh = User { name: name.clone(), access, created_at: context.now, revision: context.revision };
    let user = state.users.entry(name.clone()).or_insert(fresh);
    user.access = access;
    user.revision = context.revision;
    let principal = Principal::User { name: name.clone() };
    for identity in state.identities.values_mut().filter(|i| i.principal == principal) {
        identity.access = Some(access);
    }
    Ok(())
}

/// Lists a certificate; false when the very same one is listed already.
pub(super) fn list(
    state: &mut State,
    context: &Context<'_>,
    certificate: &NewCertificate,
) -> Result<bool, Refusal> {
    let NewCertificate { serial, principal, access, not_after } = certificate;
    if let Some(known) = state.identities.get(serial) {
        let same = known.principal == *principal && known.access == *access && known.not_after == *not_after;
        return if same {
            Ok(false)
        } else {
            Err(Refusal::new(Reason::AlreadyExists, format!("serial number {serial} is in use")))
        };
    }
    check_principal(state, principal, *access)?;
    if state.identities.len() >= IDENTITIES_MAX {
        return Err(Refusal::new(Reason::LimitReached, "too many certificates are listed"));
    }
    let identity = Identity {
        serial: serial.clone(),
        principal: principal.clone(),
        access: *access,
        not_after: *not_after,
        registered_at: context.now,
        revoked_at: None,
    };
    state.identities.insert(serial.clone(), identity);
    Ok(true)
}

/// A certificate stands for somebody who is there, and gives a user no more than its role.
fn check_principal(state: &State, principal: &Principal, access: Option<AccessRole>) -> Result<(), Refusal> {
    let (known, role) = match principal {
        Principal::System | Principal::Schedule { .. } => (false, None),
        Principal::Coordinator { member } => {
            (state.members.by_id.get(member).is_some_and(|m| m.removed_at.is_none()), None)
        }
        Principal::Agent { node } => (state.nodes.present(node).is_some(), None),
        Principal::User { name } => {
            let role = state.users.get(name).map(|user| user.access);
            (role.is_some(), role)
        }
    };
    if !known {
        return Err(Refusal::new(Reason::IdentityRevoked, format!("{principal} is not admitted")));
    }
    if access != role {
        return Err(Refusal::new(Reason::NotAllowed, format!("the access of {principal} is another one")));
    }
    Ok(())
}

/// Revokes every certificate of somebody.
pub(super) fn revoke_all(state: &mut State, context: &Context<'_>, principal: &Principal) {
    for identity in state.identities.values_mut().filter(|i| i.principal == *principal) {
        identity.revoked_at.get_or_insert(context.now);
    }
}
