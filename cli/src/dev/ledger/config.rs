//! The instance's TOML file, and how it can be told to misbehave.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tls::TlsConfig;
use super::token::TokenConfig;

/// The folder of the records, in the data directory.
pub const STORE: &str = "store";
/// Longest configuration or `misbehave` file read, in bytes: a few peers need well under 2 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Most members of one sample group: the quorum tables are proved for 1..9 voters.
const MAX_MEMBERS: usize = 9;

/// Longest delay that may be configured, one hour: more is a typing error.
const MAX_DELAY_MS: u64 = 3_600_000;

/// Why a ledger file was refused.
#[derive(Debug, thiserror::Error)]
pub enum LedgerConfigError {
    /// The file cannot be read or is larger than 64 KiB.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML of the known keys.
    #[error("{path} is not a valid ledger file")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{path}: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which value, and what it may be.
        what: String,
    },
}

/// One other member of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// The member's number, from 1.
    pub id: u32,
    /// The node it runs on.
    pub node: String,
    /// Where it listens: 127.0.0.1 unless told.
    #[serde(default = "loopback", skip_serializing_if = "is_loopback")]
    pub address: IpAddr,
    /// Its port there.
    pub port: u16,
}

impl PeerConfig {
    /// Where it is reached.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.port))
    }
}

/// What the instance does wrong on purpose, for tests. All off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Misbehave {
    /// Exit with code 1 right after the start was counted.
    pub crash_at_start: bool,
    /// Answer 503 and stop serving this many milliseconds after the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_after_ms: Option<u64>,
    /// On SIGTERM stop serving, but never exit.
    pub hang_on_stop: bool,
    /// Go on as if SIGTERM had not come.
    pub ignore_sigterm: bool,
    /// Go on with the certificate from before as if SIGHUP had not come.
    pub ignore_sighup: bool,
    /// Stay a lagging learner for ever (an instance that is a voter already stays one).
    pub never_catch_up: bool,
    /// Answer 503 for at least this long after the start, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start_ms: Option<u64>,
    /// Report at least this as the 99th percentile of latencies, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99_ms: Option<u64>,
}

/// Everything one instance needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerConfig {
    /// The node this instance runs on.
    pub node: String,
    /// This member's number, from 1.
    pub id: u32,
    /// Where it listens: 127.0.0.1 unless told. Loopback or a private network, for nobody is asked who he is.
    #[serde(default = "loopback", skip_serializing_if = "is_loopback")]
    pub address: IpAddr,
    /// Its port there.
    pub port: u16,
    /// Where the data, `starts.log` and `reloads.log` are kept.
    pub data_dir: PathBuf,
    /// The log file; reopened on SIGHUP.
    pub log_file: PathBuf,
    /// How long every request is answered 503 after a start, in milliseconds.
    #[serde(default = "default_starting_ms")]
    pub starting_ms: u64,
    /// How long it is a lagging learner after that, in milliseconds.
    #[serde(default = "default_catch_up_ms")]
    pub catch_up_ms: u64,
    /// Misbehaviour from the first moment; the file `misbehave` in `data_dir` overrides it while it exists.
    #[serde(default)]
    pub misbehave: Misbehave,
    /// A file of its own with what may be changed while the group is in use; read at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_file: Option<PathBuf>,
    /// Where it is served over TLS, too; nowhere unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// The tokens of those who may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenConfig>,
    /// What this build says it is; not a setting.
    #[serde(skip)]
    pub version: &'static str,
    /// The members; an entry with this instance's own id is ignored.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
    /// The numbers of those who are members from the first; everybody unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<u32>,
}

/// The settings: a configuration file that is rolled out by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Anything; nothing rests on it.
    pub note: String,
    /// What the instance does wrong, unless its own file says so already.
    pub misbehave: Misbehave,
}

impl Settings {
    /// Reads and checks FILE.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML or has an unknown key.
    pub fn load(path: &Path) -> Result<Self, LedgerConfigError> {
        let text =
            read_limited(path).map_err(|source| LedgerConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| LedgerConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn is_loopback(address: &IpAddr) -> bool {
    *address == loopback()
}

/// Whether strangers cannot reach it (RFC 1918, RFC 4193, loopback).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

fn default_starting_ms() -> u64 {
    400
}

fn default_catch_up_ms() -> u64 {
    1200
}

impl LedgerConfig {
    /// Reads and checks FILE.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key, or a value is out of its range.
    pub fn load(path: &Path) -> Result<Self, LedgerConfigError> {
        let text =
            read_limited(path).map_err(|source| LedgerConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| LedgerConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let own = config.id;
        config.peers.retain(|peer| peer.id != own);
        config.check().map_err(|what| LedgerConfigError::Invalid { path: path.to_owned(), what })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let ids: BTreeSet<u32> = self.peers.iter().map(|peer| peer.id).collect();
        let places: BTreeSet<SocketAddr> = self.peers.iter().map(PeerConfig::at).collect();
        let names = std::iter::once(&self.node).chain(self.peers.iter().map(|peer| &peer.node));
        if self.id == 0 || ids.contains(&0) {
            return Err("id: members are numbered from 1".to_owned());
        }
        if ids.len() != self.peers.len() {
            return Err("peers: two members have the same id".to_owned());
        }
        if self.port == 0 || self.peers.iter().any(|peer| peer.port == 0) {
            return Err("port: 1 to 65535".to_owned());
        }
        if places.len() != self.peers.len() || places.contains(&self.at()) {
            return Err("peers: two members have the same address and port".to_owned());
        }
        if !is_private(self.address) {
            return Err(format!(
                "address: {} is not loopback or private, and the sample trusts everybody",
                self.address
            ));
        }
        if self.peers.len() >= MAX_MEMBERS {
            return Err(format!("peers: at most {MAX_MEMBERS} members"));
        }
        for name in names {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > 63 || !name.chars().all(good) {
                return Err(format!(
                    "node: {name:?} is not a name of 1 to 63 letters, digits, '-', '_', '.'"
                ));
            }
        }
        if self.starting_ms > MAX_DELAY_MS || self.catch_up_ms > MAX_DELAY_MS {
            return Err(format!("starting_ms, catch_up_ms: at most {MAX_DELAY_MS}"));
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.port))
    }

    /// Declared voters: this instance and its peers.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.peers.len() + 1
    }

    /// Where the records are, and what is known of the group: what the other members can give it again.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join(STORE)
    }

    /// The misbehaviour asked for now: the file in the data directory if it is there, else the configuration's.
    ///
    /// # Errors
    /// When the file is there but cannot be read or parsed (it may be half written).
    pub fn misbehave_now(&self) -> Result<Misbehave, LedgerConfigError> {
        let path = self.data_dir.join("misbehave");
        match read_limited(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| LedgerConfigError::Parse { path, source: Box::new(source) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(self.misbehave.clone()),
            Err(source) => Err(LedgerConfigError::Read { path, source }),
        }
    }
}

fn read_limited(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "node = 'node1'\nid = 1\nport = 4001\ndata_dir = '/d'\nlog_file = '/l'\n\
        [[peers]]\nid = 1\nnode = 'node1'\nport = 4001\n[[peers]]\nid = 2\nnode = 'node2'\nport = 4002\n";

    fn load(text: &[u8]) -> Result<LedgerConfig, LedgerConfigError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("ledger.toml");
        std::fs::write(&path, text).expect("write the file");
        LedgerConfig::load(&path)
    }

    #[test]
    fn own_entry_is_ignored_and_defaults_are_short() {
        let config = load(GOOD.as_bytes()).expect("a good file");
        assert_eq!(config.voters(), 2);
        assert_eq!((config.starting_ms, config.catch_up_ms), (400, 1200));
        assert_eq!(config.misbehave, Misbehave::default());
    }

    #[test]
    fn members_on_hosts_of_their_own_may_have_the_same_port() {
        let text = GOOD.replace("port = 4002", "address = '10.77.0.12'\nport = 4001");
        let config = load(text.as_bytes()).expect("a good file");
        assert_eq!(config.at().to_string(), "127.0.0.1:4001");
        assert_eq!(config.peers[0].at().to_string(), "10.77.0.12:4001");
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "missing field"),
            (b"\xff\xfe", "UTF-8"),
            (b"node = 'a'\nbogus = 1\n", "unknown field"),
            (b"node = 'a b'\nid = 1\nport = 1\ndata_dir = '/d'\nlog_file = '/l'\n", "not a name"),
            (b"node = 'a'\nid = 0\nport = 1\ndata_dir = '/d'\nlog_file = '/l'\n", "from 1"),
            (
                b"node = 'a'\nid = 1\naddress = '0.0.0.0'\nport = 1\ndata_dir = '/d'\nlog_file = '/l'\n",
                "not loopback",
            ),
            (b"node = 'a'\nid = 1\nport = 70000\ndata_dir = '/d'\nlog_file = '/l'\n", "65535"),
        ];
        for (text, wanted) in cases {
            let error = load(text).expect_err("refused");
            let chain = format!("{:#}", anyhow::Error::from(error));
            assert!(
                chain.contains(wanted) || (wanted == "65535" && chain.contains("u16")),
                "{chain:?} does not say {wanted:?}"
            );
        }
        let huge = vec![b'#'; 70_000];
        assert!(load(&huge).is_err());
    }

    #[test]
    fn the_misbehave_file_wins_while_it_exists_and_a_bad_one_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = load(GOOD.as_bytes()).expect("a good file");
        config.data_dir = dir.path().to_owned();
        config.misbehave.hang_on_stop = true;
        assert!(config.misbehave_now().expect("from the configuration").hang_on_stop);
        std::fs::write(dir.path().join("misbehave"), "slow_start_ms = 5\n").expect("write");
        let now = config.misbehave_now().expect("from the file");
        assert_eq!((now.hang_on_stop, now.slow_start_ms), (false, Some(5)));
        std::fs::write(dir.path().join("misbehave"), "slow_start").expect("write");
        assert!(config.misbehave_now().is_err());
    }
}
