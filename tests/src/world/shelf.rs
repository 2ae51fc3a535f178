//! What can be installed in a world, and the folders of the nodes: real files, which outlive agents as on a host.
//!
//! They lie in memory where the machine has such a folder: what a barrier takes is the simulated disk's business, and a real
//! one would only cost time.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use quorate_agent::config::SPOOL;
use quorate_model::{ArtifactSpec, Digest};
use sha2::Digest as _;

use super::agents::APP;
use super::machine::CRASHES;

/// In memory on every Linux that has not been told otherwise.
const MEMORY: &str = "/dev/shm";
/// The spool removes by simulated time what nobody wants; what lies there was put there in this far future.
const FAR: Duration = Duration::from_secs(4_000_000_000);

/// A release that is good.
pub const ONE: &str = "1.0.0";
/// Another.
pub const TWO: &str = "1.1.0";
/// It does not start.
pub const CRASH: &str = "1.2.0-crash";
/// It starts, and ends by itself a little later.
pub const FADE: &str = "1.2.0-fades";

/// The folder of a world. It goes with this.
pub struct Shelf {
    dir: tempfile::TempDir,
}

/// Bytes of a release.
fn bytes(version: &str) -> Vec<u8> {
    format!("the sample {version}\n").into_bytes()
}

/// sha256 of a release.
#[must_use]
pub fn digest(version: &str) -> String {
    sha2::Sha256::digest(bytes(version)).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shelf {
    /// An empty one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> std::io::Result<Self> {
        let memory = Path::new(MEMORY);
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("quorate-sim-");
            builder
        };
        let dir = if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() };
        debug_assert!(CRASH.contains(CRASHES));
        Ok(Self { dir: dir? })
    }

    /// Folder of a node's own.
    #[must_use]
    pub fn home(&self, node: &str) -> PathBuf {
        self.dir.path().join(node)
    }

    /// What the cluster is born with.
    pub fn specs(&self) -> impl Iterator<Item = ArtifactSpec> {
        [ONE, TWO, CRASH, FADE].into_iter().filter_map(|version| {
            let size = u64::try_from(bytes(version).len()).ok()?;
            let digest = Digest::new(digest(version)).ok()?;
            Some(ArtifactSpec { digest, size, file_name: format!("ledger-{version}"), signature: None })
        })
    }

    /// Makes a node's folder; every artifact has arrived there already.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn furnish(&self, node: &str) -> std::io::Result<PathBuf> {
        let home = self.home(node);
        fs::create_dir_all(home.join(APP))?;
        let spool = home.join(SPOOL);
        fs::create_dir_all(&spool)?;
        for version in [ONE, TWO, CRASH, FADE] {
            let mut file = File::create(spool.join(digest(version)))?;
            file.write_all(&bytes(version))?;
            file.set_modified(SystemTime::UNIX_EPOCH + FAR)?;
        }
        Ok(home)
    }
}
