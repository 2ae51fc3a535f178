//! What the leader checks about a write that a follower passed on: the original principal, authorised anew.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_core::command::{
    ArtifactCommand, AuditCommand, ClusterCommand, ExecutionCommand, IdentityCommand, LeaseCommand,
    ObligationCommand, TokenCommand,
};
use quorate_core::safety::approval;
use quorate_core::{Command, Entry, State};
use quorate_model::{AccessRole, Principal};

use super::ground::Clock;
use crate::leases::Renewals;
use crate::observe::{Report, Table};
use crate::raft::{Hooks, RaftNode, Refusal};

/// The member, what is seen of the fleet, and the time.
type Parts = (RaftNode<State>, Arc<Table>, Arc<dyn Clock>);

/// Hooks of the Raft handler.
#[derive(Default)]
pub(super) struct Admit {
    inner: OnceLock<Parts>,
    renewals: OnceLock<Arc<Renewals>>,
}

impl Admit {
    /// Gives it the member; once.
    pub(super) fn set(&self, node: RaftNode<State>, table: Arc<Table>, clock: Arc<dyn Clock>) {
        let _ = self.inner.set((node, table, clock));
    }

    /// Gives it what answers renewals; once.
    pub(super) fn set_renewals(&self, renewals: Arc<Renewals>) {
        let _ = self.renewals.set(renewals);
    }
}

impl Hooks<Entry> for Admit {
    fn admit(&self, sender: u64, entry: &Entry) -> Result<(), String> {
        let (node, ..) = self.inner.get().ok_or("this member is starting")?;
        node.state().read(|state, _| admitted(state, entry)).map_err(|why| {
            tracing::warn!(sender, principal = %entry.principal, command = entry.command.name(), %why, "a passed-on write was refused");
            why
        })
    }

    fn observations(&self, _sender: u64, payload: Bytes) -> Result<Bytes, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable(why.to_owned());
        let (node, table, clock) = self.inner.get().ok_or_else(|| unavailable("this member is starting"))?;
        if !node.status().is_leader() {
            return Err(unavailable("this member does not lead"));
        }
        let report: Report = rmp_serde::from_slice(&payload).map_err(|e| Refusal::Invalid(e.to_string()))?;
        table.merge(report, clock.now());
        Ok(Bytes::new())
    }

    fn leases(&self, _sender: u64, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let renewals = self.renewals.get().cloned();
        Box::pin(async move {
            let unavailable = |why: &str| Refusal::Unavailable(why.to_owned());
            let renewals = renewals.ok_or_else(|| unavailable("this member is starting"))?;
            renewals.passed_on(&payload).await
        })
    }
}

/// Whether a principal may propose a command.
fn admitted(state: &State, entry: &Entry) -> Result<(), String> {
    let own = |principal: &Principal| *principal == entry.principal;
    let may = match (&entry.principal, &entry.command) {
        // Whoever joins is nobody yet: the token is the proof, and `apply` uses it up once.
        (_, Command::Token(TokenCommand::Consume { .. })) => true,
        // Only ever by a member's own hand, off line.
        (_, Command::Cluster(ClusterCommand::Refound { .. })) => false,
        (Principal::System, Command::Audit(AuditCommand::Append { .. })) => true,
        // What a schedule does, the leader proposes of itself.
        (Principal::System | Principal::Schedule { .. }, _) => false,
        (Principal::Agent { node }, command) => match command {
            Command::Execution(execution) => match &**execution {
                ExecutionCommand::Report(report) => report.node == *node,
                ExecutionCommand::MarkUnknown { .. }
                | ExecutionCommand::Cancel { .. }
                | ExecutionCommand::Resolve { .. } => false,
            },
            Command::Obligation(
                ObligationCommand::Open { node: of, .. } | ObligationCommand::Close { node: of, .. },
            ) => of == node,
            Command::Lease(LeaseCommand::Release { group, .. }) => {
                let lease = state.groups.get(group).and_then(|group| group.primary.as_ref());
                lease.is_some_and(|lease| lease.node == *node)
            }
            Command::Identity(IdentityCommand::Register { certificate }) => {
                own(&certificate.principal) && state.nodes.present(node).is_some()
            }
            _ => false,
        },
        (Principal::Coordinator { member }, command) => match command {
            // A member speaks for its own disk.
            Command::Artifact(
                ArtifactCommand::Hold { member: of, .. } | ArtifactCommand::Release { member: of, .. },
            ) => of == member && state.members.by_id.get(of).is_some_and(|m| m.removed_at.is_none()),
            Command::Identity(IdentityCommand::Register { certificate }) => {
                own(&certificate.principal)
                    && state.members.by_id.get(member).is_some_and(|m| m.removed_at.is_none())
            }
            _ => false,
        },
        // What a member holds is for that member to say.
        (
            Principal::User { .. },
            Command::Artifact(ArtifactCommand::Hold { .. } | ArtifactCommand::Release { .. }),
        ) => false,
        // What the leader finds is for the leader to say.
        (Principal::User { .. }, Command::Alarm(_)) => false,
        (
            Principal::User { .. },
            Command::Lease(
                LeaseCommand::Lead { .. }
                | LeaseCommand::Adopt { .. }
                | LeaseCommand::Confirm { .. }
                | LeaseCommand::Release { .. }
                | LeaseCommand::Expire { .. },
            ),
        ) => false,
        (Principal::User { .. }, command) => {
            approval::access(state, &entry.principal) >= Some(needed(command))
        }
    };
    if may { Ok(()) } else { Err(format!("{} may not propose {}", entry.principal, entry.command.name())) }
}

fn needed(command: &Command) -> AccessRole {
    match command {
        Command::Cluster(_) | Command::Token(_) | Command::Identity(_) | Command::Policy(_) => {
            AccessRole::Admin
        }
        Command::Node(_)
        | Command::Declared(_)
        | Command::Calendar(_)
        | Command::Schedule(_)
        | Command::Instance(_)
        | Command::Operation(_)
        | Command::Step(_)
        | Command::Execution(_)
        | Command::Obligation(_)
        | Command::Backup(_)
        | Command::Artifact(_)
        | Command::Audit(_)
        | Command::Alarm(_)
        | Command::Lease(_) => AccessRole::Operator,
    }
}
