//! Releases: what is installed for a service, and how a host does it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::config::ConfigSpec;
use crate::id::{Digest, Version};

/// Longest signature text in bytes; minisign writes some 300 with its two comments.
pub const SIGNATURE_MAX_BYTES: usize = 1024;
/// Largest artifact in bytes: 4 GiB.
pub const ARTIFACT_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// How a service's program comes onto a host. The host's own policy must allow the place or the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Install {
    /// One executable: `DIR/releases/VERSION-DIGEST/FILE`, and the symbolic link `DIR/current` to the directory in use.
    Binary {
        /// Absolute; `${…}` variables allowed.
        dir: String,
        /// Plain file name of the executable.
        file: String,
    },
    /// A tar archive, plain or compressed by zstd or gzip, unpacked into `DIR/releases/VERSION-DIGEST`, linked as above.
    Archive {
        /// Absolute; `${…}` variables allowed.
        dir: String,
    },
    /// A Debian package; the release's version is the package's own, exactly.
    Package {
        /// Its name.
        package: String,
    },
    /// A configuration file, put in the place of the one before.
    Config(ConfigSpec),
}

/// The immutable thing to install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name for people; for a package its exact version.
    pub version: Version,
    /// The artifact's sha256.
    pub artifact: Digest,
    /// The artifact's size in bytes.
    pub size: u64,
    /// Its minisign signature, as the text of the `.minisig` file; empty when it has none. Only the host judges it.
    #[serde(default)]
    pub signature: String,
    /// How it is installed.
    pub install: Install,
}

impl Release {
    /// The configuration file that it is, if it is one.
    #[must_use]
    pub const fn config(&self) -> Option<&ConfigSpec> {
        match &self.install {
            Install::Config(spec) => Some(spec),
            Install::Binary { .. } | Install::Archive { .. } | Install::Package { .. } => None,
        }
    }
}

/// What a host tells of a release it has staged, activated or left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReceipt {
    /// The version in use afterwards; for a staged one, its own. Empty when none of ours is in use.
    pub version: String,
    /// Its artifact's sha256; empty when none of ours is in use.
    #[serde(default)]
    pub artifact: String,
    /// The version that was in use before; empty when none of ours was.
    #[serde(default)]
    pub previous: String,
    /// Name of the host's trusted key that signed it; empty when the host's policy lets it go unsigned.
    #[serde(default)]
    pub signed_by: String,
    /// sha256 of the configuration file that was in place before; empty when there was none, and for everything else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replaces: String,
}
