//! Who a directory belongs to, and its first formatting.

use std::path::{Path, PathBuf};

use quorate_durable::{Durable, Options, Probe, SpaceFloor, files};

use super::committed::CommittedFile;
use super::error::StoreRefused;
use super::log;

/// The cluster and the member a store belongs to. Member ids are handed out by the state machine and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster, see [`Identity::of`].
    pub cluster_id: [u8; 16],
    /// Id of the member.
    pub member_id: u64,
}

/// Frozen on 2026-11-21: magic (8), cluster (16), member (8, LE), crc32c (4, LE).
const BYTES: usize = 36;
const MAGIC: &[u8; 8] = b"QRIDENT\x01";

impl Identity {
    /// The identity of a member of the cluster with this textual id: the store and the wire keep the first 16 bytes of
    /// its SHA-256, so that the id may be any text.
    #[must_use]
    pub fn of(cluster: &str, member_id: u64) -> Self {
        use sha2::Digest;
        let hash: [u8; 32] = sha2::Sha256::digest(cluster.as_bytes()).into();
        Self { cluster_id: std::array::from_fn(|n| hash[n]), member_id }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.cluster_id);
        out.extend_from_slice(&self.member_id.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(BYTES - 4)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let (magic, rest) = body.split_at_checked(8)?;
        let (cluster, member) = rest.split_at_checked(16)?;
        (magic == MAGIC).then_some(())?;
        Some(Self {
            cluster_id: cluster.try_into().ok()?,
            member_id: u64::from_le_bytes(member.try_into().ok()?),
        })
    }
}

/// Where a member's files lie.
#[derive(Debug, Clone)]
pub struct StoreDirs {
    root: PathBuf,
}

impl StoreDirs {
    /// All files under `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The member's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The identity file.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// sled's directory.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The committed index.
    #[must_use]
    pub fn committed(&self) -> PathBuf {
        self.root.join("committed")
    }

    /// Says that the state of this member was found to differ.
    #[must_use]
    pub fn diverged(&self) -> PathBuf {
        self.root.join("diverged")
    }

    /// The snapshot files.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
}

/// How the log store is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Where its files are tried first; `SelfExe` needs [`quorate_durable::probe_main`] in `main`.
    pub probe: Probe,
    /// Free space wanted.
    pub space: SpaceFloor,
    /// sled's page cache in bytes.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { probe: Probe::SelfExe, space: SpaceFloor::default(), cache_bytes: 128 << 20 }
    }
}

impl StoreOptions {
    pub(super) fn durable(&self, dirs: &StoreDirs, must_exist: bool) -> Options {
        Options {
            probe: self.probe,
            space: self.space,
            cache_bytes: self.cache_bytes,
            must_exist,
            ..Options::coordinator(dirs.log())
        }
    }
}

/// Whether the directory holds a member; a damaged identity counts, so that it is refused and not formatted over.
#[must_use]
pub fn is_formatted(dirs: &StoreDirs) -> bool {
    dirs.identity().exists()
}

pub(super) fn read(dirs: &StoreDirs) -> Result<Identity, StoreRefused> {
    let path = dirs.identity();
    let bytes = files::read_limited(&path, BYTES as u64).map_err(StoreRefused::io("read", &path))?;
    let Some(bytes) = bytes else {
        return Err(StoreRefused::NotFormatted { root: dirs.root().to_owned() });
    };
    Identity::decode(&bytes)
        .ok_or_else(|| StoreRefused::WrongIdentity { path, detail: "the identity is damaged".to_owned() })
}

/// Makes an empty store for a member whose id was just handed out. Called once per id, at `init` or `join`; the
/// identity is written last, so a formatting cut short can be repeated.
///
/// # Errors
/// [`StoreRefused`], in particular `AlreadyFormatted`.
pub fn format(dirs: &StoreDirs, identity: Identity, options: &StoreOptions) -> Result<(), StoreRefused> {
    if is_formatted(dirs) {
        let member_id = read(dirs)?.member_id;
        return Err(StoreRefused::AlreadyFormatted { root: dirs.root().to_owned(), member_id });
    }
    files::create_dir(dirs.root()).map_err(StoreRefused::io("create", dirs.root()))?;
    let snapshots = dirs.snapshots();
    files::create_dir(&snapshots).map_err(StoreRefused::io("create", &snapshots))?;
    let store = Durable::open(options.durable(dirs, false)).map_err(StoreRefused::Log)?;
    log::mark_owner(&store, &dirs.log(), identity)?;
    drop(store);
    let committed = dirs.committed();
    CommittedFile::create(&committed).map_err(StoreRefused::io("create", &committed))?;
    let path = dirs.identity();
    files::write_atomic(&path, &identity.encode()).map_err(StoreRefused::io("write", &path))
}

/// Whether a process has this member's log open.
///
/// # Errors
/// [`StoreRefused`] when the file system refuses.
pub fn in_use(dirs: &StoreDirs) -> Result<bool, StoreRefused> {
    quorate_durable::in_use(&dirs.log()).map_err(StoreRefused::Log)
}

/// Moves the whole directory of a member that cannot come back to a quarantine beside it, so that the machine can join
/// again with a new id. Only for an explicit command.
///
/// # Errors
/// [`StoreRefused`] when the file system refuses.
pub fn set_aside(dirs: &StoreDirs) -> Result<PathBuf, StoreRefused> {
    files::quarantine(dirs.root()).map_err(StoreRefused::io("quarantine", dirs.root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_frozen_and_checked() {
        let identity = Identity { cluster_id: *b"0123456789abcdef", member_id: 3 };
        let bytes = identity.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // 2026-11-21, format 1.
        assert!(hex.starts_with("51524944454e5401303132333435363738396162636465660300000000000000"), "{hex}");
        assert_eq!(Identity::decode(&bytes), Some(identity));
        for n in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[n] ^= 1;
            assert_eq!(Identity::decode(&bad), None, "byte {n} went unchecked");
            assert_eq!(Identity::decode(&bytes[..n]), None);
        }
        assert_ne!(Identity::of("a", 1), Identity::of("b", 1));
    }
}
