//! `agent.toml`, read by `quorate-agent` and by `quorate-helper` of the same host.
//!
//! Job: turn the file, its drop-ins and `QUORATE_AGENT_*` into one checked [`Config`]. Must never: guess, or allow what
//! is not listed. An empty `[policy]` allows nothing: who forgets it has a host that only reports.
//!
//! ```toml
//! node = "node1"
//! data_dir = "/var/lib/quorate/agent"       # certificate, key, known coordinators; also helper_dir when that is not set
//! helper_dir = "/var/lib/quorate/helper"    # journal, process records; root's own on a real host
//! coordinators = ["coord1:7443"]            # gRPC; the list that coordinators hand out replaces it
//! enroll = ["coord1:7480"]                  # HTTPS, only until enrolled; the token names some too
//! token_file = "/etc/quorate/token"         # 0600; only until enrolled, removed then
//! helper_socket = "/run/quorate/helper.sock"
//! agent_user = "quorate"                    # who may talk to the helper besides root and the helper's own user
//! metrics_listen = "127.0.0.1:7481"         # loopback only
//! [labels]                                  # shown in metrics; labels that select are kept by the coordinators
//! [log]
//! format = "auto"                           # auto, text, json
//! level = "info"
//! [policy]                                  # the host has the last word; what is not listed is refused
//! actions = ["service.*", "host.*"]         # names, `family.*`, or "*"
//! services = ["ledger"]                     # names or "*"
//! units = ["scribe-*.service"]              # systemd units a service may stand for; default: `<service>.service`
//! paths = ["/srv/ledger"]                   # roots of backups and logs
//! hooks = ["ledger-pause", "ledger-migrate"]
//! run_hooks = ["ledger-migrate"]            # of those, what may be run for its own sake (exec.run); default: none
//! probes = ["/usr/lib/check_ledger"]        # programs of exec probes
//! backup_dir = "/var/backups/quorate"
//! install = ["/opt/ledger"]                 # folders below which releases are laid out; they must exist
//! packages = ["ledger"]                     # Debian packages that may be installed
//! configs = ["/etc/ledger"]                 # folders below which configuration files may be replaced
//! secrets = ["/etc/ledger/secrets"]         # folders below which secrets are kept and rotated
//! alertmanagers = ["http://10.0.0.9:9093"]   # those that may be told of silences; port * is any
//! keys = { builds = "RW…" }                 # minisign public keys; what none of them signed is refused
//! unsigned = false                          # true: an artifact without a signature may be installed, too
//! [limits]
//! backup_bytes_per_sec = "50MiB"            # default: no limit
//! nice = 10
//! workers = 2
//! reserve = "64MiB"                         # must stay free after a backup, a fetch or a release
//! spool = "8GiB"                            # artifacts on their way, in all
//! [journal]
//! cache = "2MiB"
//! min_free = "16MiB"                        # below this no new work is taken on
//! ballast = "0B"                            # given back when the disk is full
//! [process.ledger]                          # the process driver's declaration: argv, cwd, env, log, settle_ms
//! [hook.ledger-pause]                       # argv = […] or http_post = "http://127.0.0.1:PORT/…"
//! timeout = "30s"                           # longest run, whatever is asked for
//! expect_status = [200]                     # of http_post; default: any 2xx
//! [balancer.edge]                           # a load balancer that services of this host stand behind
//! kind = "haproxy"                          # its runtime API; level admin
//! sockets = ["/run/haproxy/admin.sock", "10.0.0.5:9999"]   # every one is told; TCP needs a helper with a network
//! settle = "5s"                             # healthy this long before this host alone puts an instance back
//! health = "ledger-healthy"                 # a hook: 0 is healthy; needed for nginx, hook, and servers without a check
//! [balancer.front]
//! kind = "nginx"
//! upstream_file = "/etc/nginx/upstreams/app.conf"          # one server on one line; ours is marked `down` in place
//! check = ["/usr/sbin/nginx", "-t"]         # before each load; what it refuses is not loaded
//! reload = ["/usr/sbin/nginx", "-s", "reload"]
//! health = "ledger-healthy"
//! [balancer.other]
//! kind = "hook"                             # names of hooks, each listed in [policy] hooks
//! drain = "lb-drain"
//! restore = "lb-restore"
//! connections = "lb-connections"            # prints the connections of the instance
//! others = "lb-others"                      # prints how many other servers of the pool serve
//! health = "ledger-healthy"
//! ```

mod balancer;
mod raw;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_common::config::ConfigError;
use quorate_common::telemetry::Format;
use quorate_common::tls::Address;
use quorate_model::{BalancerName, HookName, NodeName};

pub use self::balancer::{Balancer, BalancerKind};
pub(crate) use self::raw::RawPolicy;
use self::raw::{Raw, RawHook};
use crate::actions::Limits;
use crate::host::process::ProcessSpec;
use crate::policy::Policy;

/// Prefix of the environment variables that override the file.
pub const ENVIRONMENT: &str = "QUORATE_AGENT";
/// Where packages put the file.
pub const DEFAULT_PATH: &str = "/etc/quorate/agent.toml";
/// Longest path of a Unix socket: 108 bytes with the closing zero (`unix(7)`).
pub const SOCKET_PATH_MAX_BYTES: usize = 107;
/// Longest run of a hook that names no time of its own.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time a hook may ask for: a service that is paused for an hour is down.
const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Most entries of a list or table of the file.
const ENTRIES_MAX: usize = 1_024;
/// sled's page cache in the helper: the journal holds a few hundred small records.
const JOURNAL_CACHE_BYTES: u64 = 2 << 20;
/// Free space below which no new work is taken on: a journal, its log segments and a snapshot fit in it.
const JOURNAL_MIN_FREE_BYTES: u64 = 16 << 20;

/// Why a configuration can not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text.
    #[error(transparent)]
    Text(#[from] ConfigError),
    /// The meaning.
    #[error("configuration {}: {field}: {why}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where artifacts arrive, below `data_dir`.
pub const SPOOL: &str = "spool/artifacts";

/// How a hook is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCall {
    /// A program; never a shell line.
    Program {
        /// Program (absolute path) and arguments.
        argv: Vec<String>,
        /// Working folder.
        cwd: Option<PathBuf>,
        /// Its environment, beside what tells it the instance.
        env: BTreeMap<String, String>,
    },
    /// `POST` without a body to an address on loopback.
    HttpPost {
        /// Host and port.
        address: SocketAddr,
        /// Path and query.
        path: String,
        /// Accepted codes; empty for any 2xx.
        expect_status: Vec<u16>,
    },
}

/// A hook as the host declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// How.
    pub call: HookCall,
    /// Longest run.
    pub timeout: Duration,
}

/// How the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Page cache in bytes.
    pub cache_bytes: u64,
    /// Bytes that must stay free for new work to be taken on.
    pub min_free_bytes: u64,
    /// Bytes of the ballast file; 0 for none.
    pub ballast_bytes: u64,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// The network half's folder.
    pub data_dir: PathBuf,
    /// The helper's folder.
    pub helper_dir: PathBuf,
    /// gRPC addresses of coordinators.
    pub coordinators: Vec<Address>,
    /// HTTPS addresses, for enrolment.
    pub enroll: Vec<Address>,
    /// The enrolment token.
    pub token_file: Option<PathBuf>,
    /// Where the helper listens.
    pub helper_socket: PathBuf,
    /// User name or number that may talk to the helper.
    pub agent_user: Option<String>,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Labels for metrics.
    pub labels: BTreeMap<String, String>,
    /// Form of log lines.
    pub log_format: Format,
    /// Log filter.
    pub log_level: String,
    /// What may be done here.
    pub policy: Policy,
    /// Bounds of long actions.
    pub limits: Limits,
    /// The journal.
    pub journal: JournalConfig,
    /// Programs of the process driver.
    pub processes: BTreeMap<String, ProcessSpec>,
    /// Declared hooks.
    pub hooks: BTreeMap<HookName, Hook>,
    /// Declared load balancers.
    pub balancers: BTreeMap<BalancerName, Balancer>,
}

impl Config {
    /// Reads the file, its drop-ins and the environment.
    ///
    /// # Errors
    /// [`LoadError`], ready to print.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let raw = quorate_common::config::load::<Raw>(path, ENVIRONMENT)?;
        check(raw).map_err(|Wrong { field, why }| LoadError::Value { path: path.to_owned(), field, why })
    }

    /// Reads one text, for tests.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let raw = quorate_common::config::parse::<Raw>("agent.toml", text)?;
        check(raw).map_err(|Wrong { field, why }| LoadError::Value { path: "agent.toml".into(), field, why })
    }

    /// The folder of the journal.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.helper_dir.join("journal")
    }

    /// The folder of the process driver's records.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.helper_dir.join("run")
    }

    /// The folder of the network half in which artifacts arrive; nobody believes what is in it.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.data_dir.join(SPOOL)
    }

    /// A file beside the helper's socket, `helper.hold`: while it is there, a pre-flight keeps work that changes something away.
    #[must_use]
    pub fn hold_file(&self) -> PathBuf {
        self.helper_socket.with_extension("hold")
    }

    /// The helper's own folder of what it has staged and switched.
    #[must_use]
    pub fn releases_dir(&self) -> PathBuf {
        self.helper_dir.join("releases")
    }

    /// The folder of certificate and key.
    #[must_use]
    pub fn tls_dir(&self) -> PathBuf {
        self.data_dir.join("tls")
    }
}

/// A value that can not be used.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) field: String,
    pub(crate) why: String,
}

pub(crate) fn wrong(field: impl Into<String>, why: impl Into<String>) -> Wrong {
    Wrong { field: field.into(), why: why.into() }
}

fn check(raw: Raw) -> Result<Config, Wrong> {
    let node = NodeName::new(raw.node).map_err(|e| wrong("node", e.to_string()))?;
    let data_dir = absolute("data_dir", raw.data_dir)?;
    let helper_dir = raw.helper_dir.map_or(Ok(data_dir.clone()), |dir| absolute("helper_dir", dir))?;
    let helper_socket = absolute("helper_socket", raw.helper_socket)?;
    if helper_socket.as_os_str().len() > SOCKET_PATH_MAX_BYTES {
        let why = format!("a socket's path has at most {SOCKET_PATH_MAX_BYTES} bytes");
        return Err(wrong("helper_socket", why));
    }
    let token_file = raw.token_file.map(|path| absolute("token_file", path)).transpose()?;
    for (what, count) in [
        ("process", raw.process.len()),
        ("hook", raw.hook.len()),
        ("balancer", raw.balancer.len()),
        ("labels", raw.labels.len()),
    ] {
        if count > ENTRIES_MAX {
            return Err(wrong(what, format!("{count} entries, {ENTRIES_MAX} is the limit")));
        }
    }
    let metrics_listen = raw.metrics_listen.map(|text| loopback("metrics_listen", &text)).transpose()?;
    let hooks = raw.hook.into_iter().map(|(name, hook)| read_hook(name, hook)).collect::<Result<_, _>>()?;
    let balancers = raw.balancer.into_iter().map(|(name, raw)| balancer::read_balancer(name, raw));
    let defaults = Limits::default();
    Ok(Config {
        balancers: balancers.collect::<Result<_, _>>()?,
        policy: Policy::new(raw.policy, &data_dir)?,
        coordinators: addresses("coordinators", &raw.coordinators)?,
        enroll: addresses("enroll", &raw.enroll)?,
        node,
        data_dir,
        helper_dir,
        token_file,
        helper_socket,
        agent_user: raw.agent_user,
        metrics_listen,
        labels: raw.labels,
        log_format: raw.log.format,
        log_level: raw.log.level.unwrap_or_else(|| "info".to_owned()),
        limits: Limits {
            backup_bytes_per_sec: raw
                .limits
                .backup_bytes_per_sec
                .map_or(defaults.backup_bytes_per_sec, |s| s.0),
            nice: raw.limits.nice.unwrap_or(defaults.nice).clamp(0, 19),
            workers: raw.limits.workers.unwrap_or(defaults.workers).clamp(1, 64),
            reserve_bytes: raw.limits.reserve.map_or(defaults.reserve_bytes, |s| s.0),
            spool_bytes: raw.limits.spool.map_or(defaults.spool_bytes, |s| s.0),
        },
        journal: JournalConfig {
            cache_bytes: raw.journal.cache.map_or(JOURNAL_CACHE_BYTES, |s| s.0).max(1 << 20),
            min_free_bytes: raw.journal.min_free.map_or(JOURNAL_MIN_FREE_BYTES, |s| s.0),
            ballast_bytes: raw.journal.ballast.map_or(0, |s| s.0),
        },
        processes: raw.process,
        hooks,
    })
}

pub(crate) fn absolute(field: &str, path: PathBuf) -> Result<PathBuf, Wrong> {
    if !path.is_absolute() {
        return Err(wrong(field, "it must be an absolute path"));
    }
    if path.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(wrong(field, "it must not hold '..'"));
    }
    Ok(path)
}

fn addresses(field: &str, texts: &[String]) -> Result<Vec<Address>, Wrong> {
    if texts.len() > ENTRIES_MAX {
        return Err(wrong(field, format!("{} entries, {ENTRIES_MAX} is the limit", texts.len())));
    }
    texts.iter().map(|text| text.parse().map_err(|e| wrong(field, format!("{e}")))).collect()
}

fn loopback(field: &str, text: &str) -> Result<SocketAddr, Wrong> {
    let address: SocketAddr =
        text.parse().map_err(|_| wrong(field, "it must be an IP address and a port, like 127.0.0.1:7481"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err(wrong(field, "it must be a loopback address")) }
}

fn read_hook(name: String, raw: RawHook) -> Result<(HookName, Hook), Wrong> {
    let field = format!("hook.{name}");
    let name = HookName::new(name).map_err(|e| wrong(&field, e.to_string()))?;
    let timeout = raw.timeout.map_or(HOOK_TIMEOUT, |span| span.0);
    if timeout.is_zero() || timeout > HOOK_TIMEOUT_MAX {
        return Err(wrong(format!("{field}.timeout"), "it must be more than 0 and at most 1h"));
    }
    let call = match (raw.argv, raw.http_post) {
        (Some(argv), None) => {
            let absolute = argv.first().is_some_and(|program| program.starts_with('/'));
            if !absolute {
                return Err(wrong(format!("{field}.argv"), "it must begin with an absolute path"));
            }
            if !raw.expect_status.is_empty() {
                return Err(wrong(format!("{field}.expect_status"), "it goes with http_post only"));
            }
            HookCall::Program { argv, cwd: raw.cwd, env: raw.env }
        }
        (None, Some(url)) => {
            let why = "it must be http://ADDRESS:PORT/PATH on a loopback address";
            let bad = || wrong(format!("{field}.http_post"), why);
            let rest = url.strip_prefix("http://").ok_or_else(bad)?;
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = format!("/{path}");
            if path.parse::<http::uri::PathAndQuery>().is_err() {
                return Err(bad());
            }
            let host = host.strip_prefix("localhost:").map_or(host.to_owned(), |p| format!("127.0.0.1:{p}"));
            let address = loopback(&format!("{field}.http_post"), &host).map_err(|_| bad())?;
            HookCall::HttpPost { address, path, expect_status: raw.expect_status }
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(wrong(field, "it needs either argv or http_post"));
        }
    };
    Ok((name, Hook { call, timeout }))
}
