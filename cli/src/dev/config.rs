//! The files `quorate dev` writes for the daemons: what an administrator would write under `/etc/quorate`.
//!
//! `coordinator.toml` (each `quorate-coordinator` reads its own):
//!
//! ```toml
//! name = "coord1"                  # member name
//! cluster_name = "dev"             # shown to people; the cluster id is made by `init`
//! data_dir = "…/coord1/data"
//! enroll = ["127.0.0.1:7480"]      # HTTPS addresses that `join` may ask; empty for the first member
//! [listen]
//! grpc = "127.0.0.1:7443"
//! http = "127.0.0.1:7480"
//! [advertise]                      # what others are told; the same here
//! grpc = "127.0.0.1:7443"
//! http = "127.0.0.1:7480"
//! [raft]
//! heartbeat_ms = 150
//! election_min_ms = 600
//! election_max_ms = 1200
//! promote_after_ms = 500           # a new member is healthy this long before it votes; 10 s in production
//! [fleet]
//! heartbeat_ms = 500               # of the agents
//! silence_ms = 3000                # then a node is DISCONNECTED
//! grace_ms = 5000                  # then it is DOWN
//! [store]
//! ballast_bytes = 0                # no reserve file, no free-space check: a laptop's disk may be nearly full
//! min_free_bytes = 0
//! min_free_percent = 0
//! [artifacts]
//! min_free = "0B"                  # the same
//! min_free_percent = 0
//! ```
//!
//! `quorate-coordinator init --config FILE --admin-out DIR` writes `ca.pem`, `cert.pem` and `key.pem` of the first
//! administrator into DIR; `quorate-coordinator join --config FILE --token-file FILE` ends when the member is admitted.
//!
//! `agent.toml` (read by `quorate-agent` and by `quorate-helper` of the same host):
//!
//! ```toml
//! node = "node1"
//! data_dir = "…/node1/data"
//! coordinators = ["127.0.0.1:7443", …]   # gRPC
//! enroll = ["127.0.0.1:7480", …]         # HTTPS, only until enrolled
//! token_file = "…/node1/token"           # 0600; only until enrolled
//! helper_socket = "…/node1/helper.sock"
//! metrics_listen = "127.0.0.1:7481"
//! [labels]
//! [policy]                               # the host has the last word
//! actions = ["service.*", "backup.*", "log.rotate", "artifact.*", "config.*", "secret.*", "data.*", "traffic.*", "host.*"]
//! services = ["ledger"]
//! paths = ["…"]
//! hooks = ["ledger-pause", "ledger-resume", "ledger-check"]
//! actions = ["service.*", "backup.*", "log.rotate", "artifact.*", "traffic.*", "exec.run", "host.*"]
//! services = ["ledger"]
//! paths = ["…"]
//! hooks = ["ledger-pause", "ledger-resume", "ledger-compact"]
//! run_hooks = ["ledger-compact"]          # upkeep: quorate rollout start ledger --run ledger-compact
//! backup_dir = "…/node1/backups"
//! install = ["…/apps/ledger/node1"]      # releases of the sample; `current` is the one in use
//! configs = ["…/apps/ledger/node1/etc"]  # configuration files of the sample
//! secrets = ["…/apps/ledger/node1/secrets"]  # tokens of the sample's writers
//! unsigned = true                        # a fleet on one's own machine; production pins keys
//! alertmanagers = ["http://127.0.0.1:*"]  # one on this machine may be told of silences
//! [process.ledger]                       # the process driver's declaration
//! argv = ["…/apps/ledger/node1/current/ledger", "dev", "ledger", "--config", "…"]
//! cwd = "…"
//! log = "…"
//! [hook.ledger-pause]
//! argv = ["…/quorate", "dev", "ledger-admin", "pause-writes", "--port", "…"]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fleet::Coordinator;
use super::layout::Layout;

/// `coordinator.toml`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CoordinatorConfig {
    name: String,
    cluster_name: String,
    data_dir: PathBuf,
    enroll: Vec<String>,
    listen: Addresses,
    advertise: Addresses,
    raft: RaftTimes,
    fleet: FleetTimes,
    store: StoreLimits,
    artifacts: ArtifactFloor,
}

#[derive(Debug, Clone, Serialize)]
struct Addresses {
    grpc: String,
    http: String,
}

/// On loopback a round trip takes under a millisecond; these leave room for a machine with fewer cores than processes.
#[derive(Debug, Clone, Serialize)]
struct RaftTimes {
    heartbeat_ms: u64,
    election_min_ms: u64,
    election_max_ms: u64,
    promote_after_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
struct FleetTimes {
    heartbeat_ms: u64,
    silence_ms: u64,
    grace_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
struct StoreLimits {
    ballast_bytes: u64,
    min_free_bytes: u64,
    min_free_percent: u8,
}

#[derive(Debug, Clone, Serialize)]
struct ArtifactFloor {
    min_free: &'static str,
    min_free_percent: u8,
}

impl CoordinatorConfig {
    /// The file of one member; `first_http` is where the others ask to join, `None` for the first.
    pub(super) fn new(layout: &Layout, member: &Coordinator, first_http: Option<&str>) -> Self {
        let (name, http) = (&member.name, &member.http);
        let addresses = |grpc: &str| Addresses { grpc: grpc.to_owned(), http: http.clone() };
        Self {
            name: name.clone(),
            cluster_name: "dev".to_owned(),
            data_dir: layout.coordinator(name).join("data"),
            enroll: first_http.map(str::to_owned).into_iter().collect(),
            listen: addresses(&member.grpc),
            advertise: addresses(member.advertised()),
            raft: RaftTimes {
                heartbeat_ms: 150,
                election_min_ms: 600,
                election_max_ms: 1200,
                promote_after_ms: 500,
            },
            fleet: FleetTimes { heartbeat_ms: 500, silence_ms: 3000, grace_ms: 5000 },
            store: StoreLimits { ballast_bytes: 0, min_free_bytes: 0, min_free_percent: 0 },
            artifacts: ArtifactFloor { min_free: "0B", min_free_percent: 0 },
        }
    }
}

/// `agent.toml`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AgentConfig {
    pub(super) node: String,
    pub(super) data_dir: PathBuf,
    pub(super) coordinators: Vec<String>,
    pub(super) enroll: Vec<String>,
    pub(super) token_file: PathBuf,
    pub(super) helper_socket: PathBuf,
    pub(super) metrics_listen: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) policy: Policy,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) process: BTreeMap<String, Process>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hook: BTreeMap<String, Hook>,
}

/// What the host lets be done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Policy {
    pub(super) actions: Vec<String>,
    pub(super) services: Vec<String>,
    pub(super) paths: Vec<PathBuf>,
    pub(super) hooks: Vec<String>,
    pub(super) run_hooks: Vec<String>,
    pub(super) backup_dir: PathBuf,
    pub(super) install: Vec<PathBuf>,
    pub(super) configs: Vec<PathBuf>,
    pub(super) secrets: Vec<PathBuf>,
    /// A fleet on one's own machine trusts what one gives it.
    pub(super) unsigned: bool,
    pub(super) alertmanagers: Vec<String>,
}

/// A program of the process driver.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pub(super) argv: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) log: PathBuf,
}

/// A program the host lets operations run at a named point.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hook {
    pub(super) argv: Vec<String>,
}

/// The command line's configuration (`DIR/config.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CliConfig {
    pub(super) current_context: String,
    pub(super) contexts: BTreeMap<String, CliContext>,
}

/// One cluster the command line can talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CliContext {
    pub(super) addresses: Vec<String>,
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl CliConfig {
    pub(super) fn new(layout: &Layout, addresses: Vec<String>) -> Self {
        let context = CliContext {
            addresses,
            ca: layout.admin().join("ca.pem"),
            cert: layout.admin().join("cert.pem"),
            key: layout.admin().join("key.pem"),
        };
        Self { current_context: "dev".to_owned(), contexts: BTreeMap::from([("dev".to_owned(), context)]) }
    }
}

/// Writes a configuration file whole or not at all.
pub(super) fn write_toml(path: &Path, what: &impl Serialize) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let text = toml::to_string(what).with_context(|| format!("cannot express {}", path.display()))?;
    super::layout::write_atomically(path, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))
}
