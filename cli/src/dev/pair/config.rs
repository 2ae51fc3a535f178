//! The TOML file of one instance of the pair.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// One instance's own file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::dev) struct PairConfig {
    /// What it is called.
    pub(in crate::dev) node: String,
    /// Where it listens, on loopback.
    pub(in crate::dev) port: u16,
    /// Where the other one listens, on loopback.
    pub(in crate::dev) peer_port: u16,
    /// Its log, its standing, and what it accepted.
    pub(in crate::dev) data_dir: PathBuf,
    /// It leads as long as nobody has ever said anything else.
    #[serde(default)]
    pub(in crate::dev) first: bool,
}

impl PairConfig {
    /// Reads and checks the file.
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text).with_context(|| format!("{} is bad", path.display()))?;
        if config.port == config.peer_port {
            bail!("{}: an instance is not its own peer", path.display());
        }
        Ok(config)
    }

    pub(super) fn at(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn peer(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.peer_port).into()
    }
}
