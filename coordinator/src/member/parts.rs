//! A member's parts on a given ground: Raft, leader loops, API, sessions. How it is reached is its caller's business.

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown, TaskSet};
use quorate_common::tls::AllowList;
use quorate_core::command::AuditCommand;
use quorate_core::{Command, Entry, State};
use quorate_model::{DurationMs, Principal};

use super::admit::Admit;
use super::allow::Allow;
use super::backend::MemberBackend;
use super::forward::Forward;
use super::ground::Ground;
use crate::api::backend::Backend;
use crate::api::caller::Connected;
use crate::api::gate::{Gate, Identify};
use crate::api::ledger::DRAIN_INTERVAL;
use crate::api::{self, Api, ApiOptions};
use crate::artifacts::{Keeper, PeerArtifacts};
use crate::config::Config;
use crate::leader::{Leader, Limits};
use crate::leases::{Book, Renewals};
use crate::listen::PeerIdentity;
use crate::observe::Table;
use crate::raft::{Dial, GrpcTransport, PeerServer, RaftNode, StartError};
use crate::sessions::{AgentSessions, Registry as Sessions, SessionOptions};

/// Time between two reports of a follower's sessions to the leader.
const REPORT: Duration = Duration::from_millis(200);

/// A member whose Raft part runs.
#[derive(Clone)]
pub struct Member {
    node: RaftNode<State>,
    backend: Arc<MemberBackend>,
    table: Arc<Table>,
    allow: Arc<Allow>,
    sessions: Sessions,
    leases: Arc<Book>,
    renewals: Arc<Renewals>,
    dial: Arc<dyn Dial>,
    api: Api,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Member {
    /// Opens the store and starts Raft; serves nobody yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config, ground: Ground) -> Result<Self, StartError> {
        let Ground { identity, disk, dial, clock, signer, artifacts } = ground;
        let (allow, admit) = (Arc::new(Allow::default()), Arc::new(Admit::default()));
        let transport = Arc::new(GrpcTransport::new(dial.clone()));
        let node: RaftNode<State> =
            RaftNode::start_on(identity, disk, config.raft.clone(), transport, admit.clone()).await?;
        let table = Arc::new(Table::new());
        allow.set(node.state().clone());
        admit.set(node.clone(), table.clone(), clock.clone());
        let sessions = Sessions::default();
        let backend = Arc::new(MemberBackend {
            node: node.clone(),
            table: table.clone(),
            sessions: sessions.clone(),
            name: config.name.clone(),
            clock,
        });
        let leases = Arc::new(Book::default());
        let renewals = Arc::new(Renewals::new(node.clone(), backend.clone(), leases.clone()));
        admit.set_renewals(renewals.clone());
        let options = ApiOptions { limit_loopback: !config.grpc.ip().is_loopback(), ..ApiOptions::default() };
        let api = Api::new(backend.clone(), signer, artifacts, &options);
        Ok(Self { node, backend, table, allow, sessions, leases, renewals, dial, api })
    }

    /// The Raft part.
    #[must_use]
    pub const fn node(&self) -> &RaftNode<State> {
        &self.node
    }

    /// The API's own services.
    #[must_use]
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// The coordinator behind the API.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// Which certificates are accepted, by the replicated state.
    #[must_use]
    pub fn allow(&self) -> Arc<dyn AllowList> {
        self.allow.clone()
    }

    /// Every service of the gRPC port behind the gate. Each request must carry a [`PeerIdentity`] that the caller has
    /// verified.
    ///
    /// # Errors
    /// When the services do not fit together.
    pub fn router(&self, config: &Config, shutdown: &Shutdown) -> Result<axum::Router, BoxError> {
        let mut routes = api::routes(&self.api)?;
        let agents = AgentSessions::new(
            self.backend.clone(),
            self.api.clone(),
            self.table.clone(),
            self.sessions.clone(),
            self.renewals.clone(),
            SessionOptions { coordinator: config.name.to_string(), heartbeat: config.heartbeat },
            shutdown.child(),
        );
        routes.add_service(agents.into_service());
        let certified = |extensions: &tonic::Extensions| {
            extensions.get::<PeerIdentity>().and_then(|peer| member_of(&peer.principal))
        };
        routes.add_service(PeerServer::new(self.node.handler(), certified).into_service());
        if let Some(artifacts) = self.api.artifacts() {
            let peers = PeerArtifacts::new(artifacts.clone(), self.node.handler(), certified);
            routes.add_service(peers.into_service());
        }
        let identify: Identify = Arc::new(|extensions: &http::Extensions| {
            let peer = extensions.get::<PeerIdentity>()?;
            Some(Connected {
                serial: peer.serial.clone(),
                principal: peer.principal.clone(),
                client_ip: peer.remote.ip().to_string(),
                not_after: peer.not_after,
            })
        });
        let forward = Arc::new(Forward::new(self.node.clone(), self.dial.clone()));
        let gate = Gate::new(self.api.clone(), routes.routes(), forward, identify);
        Ok(axum::Router::new().fallback_service(gate))
    }

    /// What runs beside the listeners: the leader's loops, the reports to the leader, the audit of reads.
    pub fn background(&self, config: &Config, tasks: &mut TaskSet) {
        let shutdown = tasks.shutdown().clone();
        let leader = Leader {
            node: self.node.clone(),
            backend: self.backend.clone(),
            table: self.table.clone(),
            leases: self.leases.clone(),
            limits: Limits { silence: ms(config.silence), grace: ms(config.grace) },
        };
        tasks.spawn("leader", leader.run(shutdown.child()));
        let (name, backend) = (config.name.to_string(), self.backend.clone());
        tasks.spawn("reports", report(backend.clone(), self.table.clone(), name, shutdown.child()));
        if let Some(artifacts) = self.api.artifacts() {
            tasks.spawn_service(Keeper::new(artifacts.clone(), self.backend.clone()));
        }
        tasks.spawn("ledger", drain(self.api.clone(), backend, shutdown.child()));
    }
}

/// The member that a certificate is of. The gate lets no others through to Raft; should it ever, they are nobody here.
const fn member_of(principal: &Principal) -> Option<u64> {
    match principal {
        Principal::Coordinator { member } => Some(member.0),
        Principal::Agent { .. } | Principal::User { .. } | Principal::System => None,
        Principal::Schedule { .. } => None,
    }
}

/// Tells the leader what the sessions here observed.
async fn report(
    backend: Arc<MemberBackend>,
    table: Arc<Table>,
    name: String,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    while shutdown.pause(REPORT).await {
        if backend.node.status().is_leader() {
            continue;
        }
        let report = table.report(&name, backend.now());
        let payload = rmp_serde::to_vec_named(&report)?;
        if let Err(error) = backend.node.report_observations(payload.into(), Duration::from_secs(1)).await {
            // Level-triggered: the next report holds it all, facts and metrics included.
            table.tell_all();
            tracing::debug!(%error, "observations not delivered");
        }
    }
    Ok(())
}

/// Puts counted reads and denials into the audit.
async fn drain(api: Api, backend: Arc<MemberBackend>, shutdown: Shutdown) -> Result<(), BoxError> {
    loop {
        let goes_on = shutdown.pause(Duration::from_millis(DRAIN_INTERVAL.0)).await;
        for records in api.ledger().drain(backend.now()) {
            let command = Command::Audit(AuditCommand::Append { records });
            let entry = Entry::system(backend.now(), command);
            match tokio::time::timeout(Duration::from_secs(5), backend.propose(entry)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "counted calls did not reach the audit"),
                Err(_) => tracing::warn!("counted calls may not have reached the audit"),
            }
        }
        if !goes_on {
            return Ok(());
        }
    }
}

fn ms(span: Duration) -> DurationMs {
    DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use quorate_model::{MemberId, NodeName, UserName};

    use super::*;

    #[test]
    fn only_a_coordinators_certificate_is_a_members() {
        assert_eq!(member_of(&Principal::Coordinator { member: MemberId(7) }), Some(7));
        let others = [
            Principal::Agent { node: NodeName::new("node1").unwrap() },
            Principal::User { name: UserName::new("alice").unwrap() },
            Principal::System,
        ];
        for other in others {
            assert_eq!(member_of(&other), None, "{other}");
        }
    }
}
