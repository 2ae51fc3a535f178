//! The leader's part in leases: it draws its number before it answers renewals, and closes a lease before it proposes its end.

use quorate_common::task::Shutdown;
use quorate_core::command::LeaseCommand;
use quorate_core::{Command, Entry};
use quorate_model::{Epoch, GroupName};

use super::look;
use crate::api::backend::Backend;
use crate::leases::Book;

/// Begins to answer renewals, once there is a lease to be had: the number is committed before.
pub(super) async fn lead(backend: &dyn Backend, book: &Book, stop: &Shutdown) {
    let number = book.number();
    let wanted = look(backend, |state| {
        // Somebody else has led since, or nobody has yet.
        number != Some(state.cluster.lease_lead)
            && state.groups.values().any(|group| group.spec.failover.is_some())
    });
    if wanted != Some(true) {
        return;
    }
    let lead = backend.mint().max(1);
    let command = Command::Lease(LeaseCommand::Lead { lead });
    match backend.propose(Entry::system(backend.now(), command)).await {
        Ok((_, answer)) if answer.refusal().is_none() && !stop.is_triggered() => {
            tracing::info!("renewals of leases are answered from now on");
            book.begin(lead);
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "renewals of leases are not answered yet"),
    }
}

/// Closes the lease whose end a command proposes, with what is measured at that moment. False when it was renewed meanwhile.
pub(super) fn close(backend: &dyn Backend, book: &Book, command: &mut Command) -> bool {
    let Command::Lease(LeaseCommand::Expire { group, epoch, lead, silent_for, leads_for }) = command else {
        return true;
    };
    let ttl = look(backend, |state| {
        let lease = state.groups.get(group)?.primary.as_ref()?;
        (lease.epoch == *epoch).then_some(lease.ttl)
    });
    let Some(found) = ttl.flatten().and_then(|ttl| book.close(group, *epoch, ttl)) else { return false };
    (*lead, *silent_for, *leads_for) = (found.lead, found.silent_for, found.leads_for);
    true
}

/// The lease whose end a command proposes.
pub(super) fn closed(command: &Command) -> Option<(GroupName, Epoch)> {
    match command {
        Command::Lease(LeaseCommand::Expire { group, epoch, .. }) => Some((group.clone(), *epoch)),
        _ => None,
    }
}
