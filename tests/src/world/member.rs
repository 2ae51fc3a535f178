//! The software of a coordinator's host: the real member on a simulated ground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_common::config::Span;
use quorate_common::task::{Shutdown, TaskSet};
use quorate_common::with_causes;
use quorate_coordinator::api::backend::{SignError, Signed, Signer};
use quorate_coordinator::config::Config;
use quorate_coordinator::listen::{GrpcListener, GrpcParts, ListenLimits, Registry};
use quorate_coordinator::member::{Clock, Ground, Member};
use quorate_coordinator::raft::RaftConfig;
use quorate_coordinator::store::{Identity, MemoryStore};
use quorate_core::command::{
    ArtifactCommand, ClusterCommand, IdentityCommand, Join, NewCertificate, TokenCommand,
};
use quorate_core::hash::Hash;
use quorate_core::state::TokenPurpose;
use quorate_core::{Command, Entry};
use quorate_model::{
    AccessRole, ArtifactSpec, ClusterId, MemberId, MemberName, NodeName, Principal, Serial, Timestamp,
    TokenId, UserName,
};

use quorate_durable::Pace;

use super::board::Board;
use super::net::{CLUSTER, Caller, PORT, Port, Who};
use super::post::Post;
use super::trace::{self, Trace};

/// When a simulated run begins, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_800_000_000_000;
/// End of every certificate's life.
const FOREVER: Timestamp = Timestamp(EPOCH_MS + 10 * 365 * 86_400_000);

/// Simulated time as a wall clock.
#[derive(Clone, Copy, Debug)]
pub struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MS + i64::try_from(trace::now().as_millis()).unwrap_or(0))
    }
}

/// Nobody enrols in a simulation.
struct NoSigner;

impl Signer for NoSigner {
    fn sign(&self, _: &[u8], _: &Principal, _: &[String], _: Timestamp) -> Result<Signed, SignError> {
        Err(SignError::Authority("certificates are made before the simulation".to_owned()))
    }

    fn ca_key_pem(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::default()
    }

    fn ca_sha256(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// What a barrier of a disk takes; the driver changes it.
#[derive(Debug)]
pub struct Slow {
    /// At most, in microseconds.
    pub most_us: AtomicU64,
    /// Nothing is finished before this simulated microsecond.
    pub stalled_us: AtomicU64,
}

impl Slow {
    /// A healthy disk.
    #[must_use]
    pub const fn new(most_us: u64) -> Self {
        Self { most_us: AtomicU64::new(most_us), stalled_us: AtomicU64::new(0) }
    }

    /// What is left of a pause.
    #[must_use]
    pub fn stall(&self) -> Duration {
        let now = u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.stalled_us.load(Ordering::Relaxed).saturating_sub(now))
    }
}

/// Shared by a disk and the driver.
pub type Slowness = Arc<Slow>;

/// One coordinator's host; outlives its crashes.
#[derive(Clone)]
pub struct Seat {
    /// Its number.
    pub id: u64,
    /// Members that the cluster is to have.
    pub members: u64,
    /// Nodes that the cluster is to have.
    pub nodes: u64,
    /// Its disk.
    pub disk: MemoryStore,
    /// How slow that is.
    pub slowness: Slowness,
    /// How it calls the others.
    pub caller: Caller,
    /// Certificates that the cluster is born with.
    pub identities: Arc<BTreeMap<String, Principal>>,
    /// The cluster's CA, PEM.
    pub ca_pem: Arc<str>,
    /// Where it is seen.
    pub board: Board,
    /// What happens to messages on their way to it.
    pub post: Post,
    /// Where it is told.
    pub trace: Trace,
    /// Artifacts that the cluster is born with; every member holds all of them.
    pub artifacts: Vec<ArtifactSpec>,
}

/// Name of a member's host.
#[must_use]
pub fn host(id: u64) -> String {
    format!("c{id}")
}

/// Its address.
#[must_use]
pub fn address(id: u64) -> String {
    format!("c{id}:{PORT}")
}

/// The serial of the caller in runs without certificates.
#[must_use]
pub fn plain_caller(principal: Principal) -> Who {
    let serial = match &principal {
        Principal::Coordinator { member } => format!("c0{member}"),
        Principal::Agent { node } => format!("a-{node}"),
        Principal::User { name } => format!("u-{name}"),
        Principal::System | Principal::Schedule { .. } => "none".to_owned(),
    };
    Who { serial, principal }
}

fn config(id: u64) -> Result<Config, String> {
    let raft = RaftConfig {
        // Snapshots, purges and installs several times a run.
        snapshot_entries: 150,
        // Some chunks each, so that a stream of them can break off.
        snapshot_chunk_bytes: 16 << 10,
        keep_entries: 40,
        lag_entries: 100,
        promote_after: Duration::from_millis(200),
        ..RaftConfig::default()
    };
    let second = Span(Duration::from_secs(1));
    let limits =
        ListenLimits { keepalive_interval: second, keepalive_timeout: second, ..ListenLimits::default() };
    Ok(Config {
        name: MemberName::new(format!("coord{id}")).map_err(|e| e.to_string())?,
        cluster_name: CLUSTER.to_owned(),
        data_dir: PathBuf::from("/nonexistent"),
        enroll: Vec::new(),
        grpc: ([127, 0, 0, 1], PORT).into(),
        http: ([127, 0, 0, 1], PORT + 1).into(),
        advertise_grpc: address(id),
        advertise_http: format!("c{id}:{}", PORT + 1),
        raft,
        heartbeat: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        grace: Duration::from_secs(10),
        ballast_bytes: 0,
        min_free_bytes: 0,
        min_free_percent: 0,
        cache_bytes: 0,
        artifacts: quorate_coordinator::artifacts::ArtifactLimits::default(),
        limits,
        certificate_life: Duration::from_secs(86_400),
        log_json: false,
        log_filter: String::new(),
    })
}

impl Seat {
    /// Makes its disk that of a member.
    ///
    /// # Errors
    /// When it was one before.
    pub fn format(&self) -> Result<(), String> {
        self.disk.format(Identity::of(CLUSTER, self.id)).map_err(|e| e.to_string())
    }

    /// One life of the member.
    ///
    /// # Errors
    /// Never: what must not happen goes to the board, and the simulation goes on.
    pub async fn run(self) -> turmoil::Result {
        let (board, id) = (self.board.clone(), self.id);
        if let Err(why) = self.live().await {
            board.broke(format!("member {id} stopped by itself: {why}"));
        }
        Ok(())
    }

    async fn live(self) -> Result<(), String> {
        let config = config(self.id)?;
        self.post.born(&host(self.id));
        let ground = Ground {
            identity: Identity::of(CLUSTER, self.id),
            disk: Arc::new(self.disk.clone()),
            dial: Arc::new(self.caller.clone()),
            clock: Arc::new(SimClock),
            signer: Arc::new(NoSigner),
            artifacts: None,
        };
        let member = Member::start(&config, ground).await.map_err(|e| with_causes(&e))?;
        let start = self.board.started(self.id, member.clone());
        let applied = member.node().state().read(|_, revision| revision);
        self.trace.say(&host(self.id), format!("start {start}, applied {applied}"));
        let shutdown = Shutdown::new();
        let mut tasks = TaskSet::new(shutdown.clone());
        member.background(&config, &mut tasks);
        let router = member.router(&config, &shutdown).map_err(|e| e.to_string())?;
        let router = self.post.in_front(host(self.id), router);
        let port = Port::bind().await.map_err(|e| e.to_string())?;
        match &self.caller {
            Caller::Plain(_) => {
                let serving = async move { port.serve_plain(router).await.map_err(Into::into) };
                tasks.spawn("listener", serving);
            }
            Caller::Tls(live) => {
                let parts = GrpcParts {
                    tls: live.clone(),
                    allow: member.allow(),
                    registry: Registry::new(),
                    router,
                    streaming_paths: ["/quorate.agent.v1.AgentService/Session".to_owned()].into(),
                    limits: config.limits.clone(),
                };
                tasks.spawn_service(GrpcListener::new(port, parts).map_err(|e| with_causes(&e))?);
            }
        }
        if self.id == 1 && start == 1 {
            self.birth(&member).await?;
        }
        tokio::select! {
            end = tasks.supervise() => Err(format!("{end:?}")),
            why = member.node().failed() => Err(why.to_string()),
        }
    }

    /// The first member makes the cluster; the leader's own reconciler then takes the others in.
    async fn birth(&self, member: &Member) -> Result<(), String> {
        let node = member.node();
        node.bootstrap(&address(1)).await.map_err(|e| with_causes(&e))?;
        let certificate = |serial: &String, principal: &Principal| {
            let access = matches!(principal, Principal::User { .. }).then_some(AccessRole::Admin);
            let serial = Serial::new(serial.clone()).map_err(|e| e.to_string())?;
            Ok::<_, String>(NewCertificate {
                serial,
                principal: principal.clone(),
                access,
                not_after: FOREVER,
            })
        };
        let (mut first, mut later, mut agents) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (serial, principal) in self.identities.iter() {
            let new = certificate(serial, principal)?;
            match principal {
                Principal::Agent { node } => drop(agents.insert(node.clone(), new)),
                Principal::Coordinator { member } if member.0 > 1 => later.push(new),
                Principal::Coordinator { .. }
                | Principal::User { .. }
                | Principal::System
                | Principal::Schedule { .. } => first.push(new),
            }
        }
        let mut commands = vec![Command::Cluster(ClusterCommand::Init {
            id: ClusterId::new(CLUSTER).map_err(|e| e.to_string())?,
            name: CLUSTER.to_owned(),
            ca_pem: self.ca_pem.to_string(),
            member: MemberName::new("coord1").map_err(|e| e.to_string())?,
            grpc: address(1),
            http: format!("c1:{}", PORT + 1),
            certificates: first,
        })];
        for other in 2..=self.members {
            commands.push(Command::Cluster(ClusterCommand::AddMember {
                name: MemberName::new(format!("coord{other}")).map_err(|e| e.to_string())?,
                grpc: address(other),
                http: format!("c{other}:{}", PORT + 1),
            }));
        }
        let register = |certificate| Command::Identity(IdentityCommand::Register { certificate });
        commands.extend(later.into_iter().map(register));
        for (name, certificate) in agents {
            commands.extend(enrol(&name, certificate)?);
        }
        for spec in &self.artifacts {
            commands.push(Command::Artifact(ArtifactCommand::Register { spec: spec.clone() }));
            for member in 1..=self.members {
                let (digest, member) = (spec.digest.clone(), MemberId(member));
                commands.push(Command::Artifact(ArtifactCommand::Hold { digest, member }));
            }
        }
        for command in commands {
            let name = command.name();
            let entry = Entry::system(SimClock.now(), command);
            let (_, answer) =
                node.propose(&entry).await.map_err(|e| format!("{name}: {}", with_causes(&e)))?;
            if let Some(refusal) = answer.refusal() {
                return Err(format!("{name} was refused: {refusal}"));
            }
        }
        self.trace.say("c1", "the cluster is born");
        Ok(())
    }
}

fn enrol(name: &NodeName, certificate: NewCertificate) -> Result<[Command; 2], String> {
    let id = TokenId::new(format!("t-{name}")).map_err(|e| e.to_string())?;
    let create = TokenCommand::Create {
        id: id.clone(),
        secret_sha256: Hash::default(),
        purpose: TokenPurpose::Agent { node: None, labels: BTreeMap::new() },
        expires_at: FOREVER,
    };
    let join = Join::Node { name: name.clone(), address: format!("{name}.sim") };
    let consume = TokenCommand::Consume { id, join, certificate: Some(certificate) };
    Ok([Command::Token(create), Command::Token(consume)])
}

/// The principals of a run, by the serials they have without certificates.
#[must_use]
pub fn principals(members: u64, nodes: u64) -> Vec<Principal> {
    let coordinators = (1..=members).map(|n| Principal::Coordinator { member: MemberId(n) });
    let agents = (1..=nodes)
        .filter_map(|n| NodeName::new(format!("node{n}")).ok())
        .map(|node| Principal::Agent { node });
    let user = UserName::new("admin").ok().map(|name| Principal::User { name });
    coordinators.chain(agents).chain(user).collect()
}

/// A disk whose barriers take between half and the whole of `slowness`, drawn from the seed.
#[must_use]
pub fn disk(seed: u64, slowness: &Slowness) -> MemoryStore {
    MemoryStore::new(pace(seed, slowness))
}

/// What barriers take.
#[must_use]
pub fn pace(seed: u64, slowness: &Slowness) -> Pace {
    let draws = AtomicU64::new(seed);
    let slowness = Arc::clone(slowness);
    Arc::new(move || {
        let draw = draws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let most = slowness.most_us.load(Ordering::Relaxed).max(1);
        let mixed = (draw ^ (draw >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33;
        slowness.stall() + Duration::from_micros(most / 2 + mixed % (most / 2).max(1))
    })
}
