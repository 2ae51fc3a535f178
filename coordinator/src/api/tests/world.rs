//! A coordinator in memory: `apply` on a `State`, a clock that stands still until it is moved, a real CA.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use quorate_common::tls::CertificateAuthority;
use quorate_common::wire::Problem;
use quorate_core::command::{
    ClusterCommand, IdentityCommand, InstanceCommand, Join, NewCertificate, NodeCommand, TokenCommand,
};
use quorate_core::hash::Hash;
use quorate_core::observations::NodeObservation;
use quorate_core::state::TokenPurpose;
use quorate_core::{Answer, Command, Entry, Observations, State, apply};
use quorate_model::{
    AccessRole, ActionKind, ClusterId, Digest, DurationMs, InstanceId, InstanceReading, InstanceRole,
    InstanceState, MemberId, MemberName, NodeName, NodeStatus, Principal, Serial, ServiceName, Sync,
    Timestamp, TokenId, UserName,
};
use quorate_proto::v1;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::api::backend::{
    Backend, Encoded, ForwardError, Health, LeaderForward, MemberView, MembershipError, NodeDetail,
    ProposeError, RaftRole, ReadError, SnapshotError, StateDigest, TransferError, Transferred,
};
use crate::api::caller::Connected;
use crate::api::gate::Gate;
use crate::api::signer::CaSigner;
use crate::api::{Api, ApiOptions, routes};
use crate::artifacts::tests::limits;
use crate::artifacts::{Artifacts, Chunk, Holder, Peers};

pub(crate) const NOW: i64 = 1_800_000_000_000;
/// How long everybody's certificate is accepted from then on: longer than any story but that of its end.
pub(crate) const CERTIFICATE_LIFE: DurationMs = DurationMs::from_secs(30 * 86_400);

/// The backend of a test.
pub(crate) struct Memory {
    pub(crate) state: Mutex<State>,
    pub(crate) obs: Mutex<Observations>,
    revision: watch::Sender<u64>,
    clock: AtomicI64,
    mint: AtomicU64,
    pub(crate) leads: AtomicBool,
    pub(crate) has_leader: AtomicBool,
    pub(crate) low_space: Mutex<Option<String>>,
    pub(crate) next_propose: Mutex<Option<ProposeError>>,
    /// Applied by somebody else between a call's look at the state and its write.
    pub(crate) before_propose: Mutex<Option<Command>>,
    /// Applied by somebody else, one at each look at what is observed.
    pub(crate) before_observe: Mutex<Vec<Command>>,
    pub(crate) admitted: Mutex<Vec<MemberId>>,
    pub(crate) retired: Mutex<Vec<MemberId>>,
    pub(crate) transferred: Mutex<Vec<MemberId>>,
    pub(crate) digests: Mutex<BTreeMap<MemberId, Option<Vec<StateDigest>>>>,
}

impl Memory {
    fn new(state: State) -> Self {
        let revision = watch::Sender::new(state.revision.0);
        Self {
            state: Mutex::new(state),
            obs: Mutex::default(),
            revision,
            clock: AtomicI64::new(NOW),
            mint: AtomicU64::new(0x1111_0000),
            leads: AtomicBool::new(true),
            has_leader: AtomicBool::new(true),
            low_space: Mutex::default(),
            next_propose: Mutex::default(),
            before_propose: Mutex::default(),
            before_observe: Mutex::default(),
            admitted: Mutex::default(),
            retired: Mutex::default(),
            transferred: Mutex::default(),
            digests: Mutex::default(),
        }
    }

    pub(crate) fn enter(&self, entry: &Entry) -> (u64, Answer) {
        let mut state = self.state.lock().unwrap();
        let index = state.revision.0 + 1;
        let answer = apply(&mut state, index, entry);
        drop(state);
        self.revision.send_replace(index);
        (index, answer)
    }

    pub(crate) fn system(&self, command: Command) -> Answer {
        let answer = self.enter(&Entry::system(self.now(), command)).1;
        assert_eq!(answer.refusal(), None, "the test's own set-up was refused");
        answer
    }

    pub(crate) fn advance(&self, span: DurationMs) {
        self.clock.fetch_add(i64::try_from(span.0).unwrap(), Ordering::Relaxed);
    }
}

impl Backend for Memory {
    fn read(&self, look: &mut dyn FnMut(&State)) {
        look(&self.state.lock().unwrap());
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn linearize(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        let leader = self.has_leader.load(Ordering::Relaxed);
        let index = self.state.lock().unwrap().revision.0;
        Box::pin(async move { if leader { Ok(index) } else { Err(ReadError::NoLeader) } })
    }

    fn propose(&self, entry: Entry) -> BoxFuture<'_, Result<(u64, Answer), ProposeError>> {
        Box::pin(async move {
            if let Some(error) = self.next_propose.lock().unwrap().take() {
                return Err(error);
            }
            if !self.has_leader.load(Ordering::Relaxed) {
                return Err(ProposeError::NoLeader);
            }
            let other = self.before_propose.lock().unwrap().take();
            if let Some(command) = other {
                self.system(command);
            }
            Ok(self.enter(&entry))
        })
    }

    fn observe(&self, look: &mut dyn FnMut(&Observations)) {
        let other = self.before_observe.lock().unwrap().pop();
        if let Some(command) = other {
            self.system(command);
        }
        look(&self.obs.lock().unwrap());
    }

    fn detail(&self, _: &NodeName, look: &mut dyn FnMut(&NodeDetail)) {
        look(&NodeDetail { coordinator: "coord1".into(), clock_offset_ms: -3, ..NodeDetail::default() });
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    fn mint(&self) -> u64 {
        // Every digit differs from call to call, as random bits would.
        self.mint.fetch_add(0x0101_0101_0101, Ordering::Relaxed)
    }

    fn health(&self) -> Health {
        let leads = self.leads.load(Ordering::Relaxed);
        let has_leader = self.has_leader.load(Ordering::Relaxed);
        let applied = self.state.lock().unwrap().revision.0;
        let role = if leads && has_leader { RaftRole::Leader } else { RaftRole::Follower };
        Health {
            id: MemberId(1),
            name: MemberName::new("coord1").unwrap(),
            role,
            term: 7,
            leader: has_leader.then_some(MemberId(if leads { 1 } else { 2 })),
            applied,
            last_log: applied,
            has_quorum: has_leader,
            sessions: 3,
            entries: 9,
            fdatasyncs: 11,
            committed_writes: 10,
            log_bytes: 4_096,
            low_space: self.low_space.lock().unwrap().clone(),
        }
    }

    fn members(&self) -> BoxFuture<'_, Vec<MemberView>> {
        let applied = self.state.lock().unwrap().revision.0;
        let view = MemberView {
            id: MemberId(1),
            role: RaftRole::Leader,
            voter: true,
            term: 7,
            applied,
            last_log: applied,
            snapshot: 0,
            version: "0.1.0".into(),
            sessions: 3,
        };
        Box::pin(async move { vec![view] })
    }

    fn admit_member(&self, member: MemberId, _: String) -> BoxFuture<'_, Result<(), MembershipError>> {
        self.admitted.lock().unwrap().push(member);
        Box::pin(async { Ok(()) })
    }

    fn retire_member(&self, member: MemberId) -> BoxFuture<'_, Result<(), MembershipError>> {
        self.retired.lock().unwrap().push(member);
        Box::pin(async { Ok(()) })
    }

    fn successor(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<MemberId, TransferError>> {
        Box::pin(async move { to.ok_or_else(|| TransferError::Unfit("no other member has a vote".into())) })
    }

    fn transfer_leader(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<Transferred, TransferError>> {
        Box::pin(async move {
            let leader = self.successor(to).await?;
            self.transferred.lock().unwrap().push(leader);
            Ok(Transferred { leader, term: 8, without_leader: DurationMs(21) })
        })
    }

    fn caught_up(&self, member: MemberId) -> BoxFuture<'_, Result<(), TransferError>> {
        let behind = TransferError::Unfit(format!("member {member} is behind"));
        Box::pin(async move { if member == MemberId(3) { Err(behind) } else { Ok(()) } })
    }

    fn encoded(&self) -> BoxFuture<'_, Result<Encoded, SnapshotError>> {
        let state = self.state.lock().unwrap().clone();
        let bytes = rmp_serde::to_vec_named(&state).unwrap();
        let index = state.revision.0;
        let encoded = Encoded { term: 7, leader: 1, index, state: Arc::new(state), bytes };
        Box::pin(async move { Ok(encoded) })
    }

    fn digests(&self) -> BoxFuture<'_, BTreeMap<MemberId, Option<Vec<StateDigest>>>> {
        let seen = self.digests.lock().unwrap().clone();
        Box::pin(async move { seen })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<u64, SnapshotError>> {
        let index = self.state.lock().unwrap().revision.0;
        Box::pin(async move { Ok(index) })
    }
}

/// Forwards to another member's gate, over a connection with a coordinator's certificate.
pub(crate) struct ToLeader(pub(crate) Option<As>);

impl LeaderForward for ToLeader {
    fn forward(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, ForwardError>> {
        let leader = self.0.clone();
        Box::pin(async move {
            let mut leader = leader.ok_or(ForwardError::NoLeader)?;
            let (mut parts, body) = request.into_parts();
            // Nothing but bytes crosses a connection.
            parts.extensions = http::Extensions::new();
            leader
                .call(Request::from_parts(parts, body))
                .await
                .map_err(|never: std::convert::Infallible| match never {})
        })
    }
}

/// A connection to a gate, with the identity that its listener would have found.
#[derive(Clone)]
pub(crate) struct As {
    pub(crate) gate: Gate,
    pub(crate) connected: Option<Connected>,
}

impl Service<Request<Body>> for As {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, std::convert::Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(connected) = self.connected.clone() {
            request.extensions_mut().insert(connected);
        }
        self.gate.call(request)
    }
}

/// No fellow member answers.
pub(crate) struct NoPeers;

impl Peers for NoPeers {
    fn read<'a>(
        &'a self,
        _: &'a Holder,
        _: &'a Digest,
        _: u64,
        _: u32,
    ) -> BoxFuture<'a, Result<Chunk, String>> {
        Box::pin(async { Err("nobody is there".to_owned()) })
    }

    fn suspect<'a>(&'a self, _: &'a Holder, _: &'a Digest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// A coordinator with three READY nodes, users of every role, and itself.
pub(crate) struct World {
    pub(crate) memory: Arc<Memory>,
    pub(crate) api: Api,
    pub(crate) gate: Gate,
    /// Where its artifacts lie.
    pub(crate) disk: tempfile::TempDir,
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(crate) fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).unwrap() }
}

fn serial(text: &str) -> Serial {
    Serial::new(text).unwrap()
}

fn certificate(serial_text: &str, principal: Principal, access: Option<AccessRole>) -> NewCertificate {
    let not_after = Timestamp(NOW).plus(CERTIFICATE_LIFE);
    NewCertificate { serial: serial(serial_text), principal, access, not_after }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_forward(ToLeader(None))
    }

    pub(crate) fn with_forward(forward: ToLeader) -> Self {
        let cluster = ClusterId::new("c1").unwrap();
        let authority = CertificateAuthority::create(&cluster, "test", Timestamp(NOW)).unwrap();
        let memory = Arc::new(Memory::new(State::default()));
        memory.system(Command::Cluster(ClusterCommand::Init {
            id: cluster,
            name: "test".into(),
            ca_pem: authority.pem().to_owned(),
            member: MemberName::new("coord1").unwrap(),
            grpc: "127.0.0.1:7443".into(),
            http: "127.0.0.1:7480".into(),
            certificates: vec![certificate("c01", Principal::Coordinator { member: MemberId(1) }, None)],
        }));
        for role in AccessRole::ALL {
            let name = role.as_str().to_lowercase();
            let put = IdentityCommand::PutUser { name: UserName::new(name.clone()).unwrap(), access: *role };
            memory.system(Command::Identity(put));
            let certificate = certificate(&format!("u-{name}"), user(&name), Some(*role));
            memory.system(Command::Identity(IdentityCommand::Register { certificate }));
        }
        let signer = CaSigner::new(authority, DurationMs::from_secs(86_400));
        let disk = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(disk.path(), limits(), Arc::new(NoPeers)).unwrap();
        let api = Api::new(memory.clone(), Arc::new(signer), Some(artifacts), &ApiOptions::default());
        let identify = Arc::new(|e: &http::Extensions| e.get::<Connected>().cloned());
        let services = routes(&api).unwrap().routes();
        let gate = Gate::new(api.clone(), services, Arc::new(forward), identify);
        let world = Self { memory, api, gate, disk };
        for n in 1..=3 {
            world.enrol(n);
        }
        world
    }

    fn enrol(&self, n: u32) {
        let name = node(&format!("node{n}"));
        let id = TokenId::new(format!("t-{n}")).unwrap();
        self.memory.system(Command::Token(TokenCommand::Create {
            id: id.clone(),
            secret_sha256: Hash::default(),
            purpose: TokenPurpose::Agent { node: None, labels: BTreeMap::new() },
            expires_at: Timestamp(NOW + 1_000),
        }));
        let agent = Principal::Agent { node: name.clone() };
        self.memory.system(Command::Token(TokenCommand::Consume {
            id,
            join: Join::Node { name: name.clone(), address: format!("10.0.0.{n}") },
            certificate: Some(certificate(&format!("a0{n}"), agent, None)),
        }));
        self.memory
            .system(Command::Node(NodeCommand::SetStatus { node: name.clone(), status: NodeStatus::Ready }));
        let seen = NodeObservation {
            heard: Timestamp(NOW),
            agent_version: "0.1.0".into(),
            capabilities: ActionKind::ALL.iter().copied().collect(),
        };
        self.memory.obs.lock().unwrap().nodes.insert(name, seen);
    }

    /// A connection of somebody. `coordinator`, `agent`, or the word of a user's role.
    pub(crate) fn as_role(&self, word: &str) -> As {
        let (serial_text, principal) = match word {
            "coordinator" => ("c01".to_owned(), Principal::Coordinator { member: MemberId(1) }),
            "agent" => ("a01".to_owned(), Principal::Agent { node: node("node1") }),
            role => (format!("u-{role}"), user(role)),
        };
        let connected = Connected {
            serial: serial(&serial_text),
            principal,
            client_ip: "192.0.2.7".into(),
            not_after: Timestamp(i64::MAX),
        };
        As { gate: self.gate.clone(), connected: Some(connected) }
    }

    pub(crate) fn admin(&self) -> As {
        self.as_role("admin")
    }

    /// A ledger of three voters on the three nodes, every one healthy.
    pub(crate) async fn with_ledger(self) -> Self {
        use v1::group_service_client::GroupServiceClient;
        let mut groups = GroupServiceClient::new(self.admin());
        groups
            .apply_service(v1::ApplyServiceRequest { spec: Some(ledger_service()), options: None })
            .await
            .unwrap();
        groups
            .apply_group(v1::ApplyGroupRequest { spec: Some(ledger_group()), ..Default::default() })
            .await
            .unwrap();
        for n in 1..=3 {
            self.see(&format!("node{n}"), InstanceState::Healthy);
        }
        self
    }

    /// A fresh reading of the ledger on a node.
    pub(crate) fn see(&self, name: &str, observed: InstanceState) {
        let instance = InstanceId { node: node(name), service: ServiceName::new("ledger").unwrap() };
        let reading = InstanceReading {
            instance: instance.clone(),
            observed,
            role: InstanceRole::Voter,
            sync: Sync::CaughtUp,
            up_since: Timestamp(NOW - 60_000),
            at: self.memory.now(),
            probes: Vec::new(),
            failing: false,
        };
        let change = quorate_core::command::InstanceChange {
            instance: instance.clone(),
            observed,
            role: InstanceRole::Voter,
            sync: Sync::CaughtUp,
            at: self.memory.now(),
        };
        self.memory.system(Command::Instance(InstanceCommand::Transition { changes: vec![change] }));
        self.memory.obs.lock().unwrap().instances.insert(instance, reading);
    }
}

pub(crate) fn ledger_service() -> v1::ServiceSpec {
    let driver = v1::Driver { kind: Some(v1::driver::Kind::Process("ledger".into())) };
    v1::ServiceSpec {
        name: "ledger".into(),
        driver: Some(driver),
        nodes: Some(v1::Selector { all: true, ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn ledger_group() -> v1::GroupSpec {
    v1::GroupSpec {
        name: "ledger".into(),
        service: "ledger".into(),
        voters: (1..=3).map(|n| format!("node{n}")).collect(),
        policy: Some(v1::QuorumPolicy { kind: v1::QuorumPolicyKind::Majority as i32, ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn options(request_id: &str) -> Option<v1::ChangeOptions> {
    Some(v1::ChangeOptions { request_id: request_id.into(), reason: "test".into(), validate_only: false })
}

pub(crate) fn dry() -> Option<v1::ChangeOptions> {
    Some(v1::ChangeOptions { validate_only: true, ..Default::default() })
}

pub(crate) fn problem(status: &Status) -> Problem {
    Problem::from_status(status)
}
