//! The bytes of artifacts: kept on this member's disk, outside the log, and copied between members.
//!
//! Job: take uploads, keep what the catalogue lists, give bytes to whoever may have them. Must never: list anything (the
//! catalogue is replicated state, changed by proposals only), trust a digest or a size that came from somewhere else before
//! all bytes were read again, or look at what is in an artifact. The signature beside one is the hosts' matter.
//!
//! - `store.rs`: files and limits. `disk.rs`: how files are read and removed.
//! - `peers.rs`: fellow members, both sides. `copy.rs`: the task that makes the disk what the catalogue says.

mod copy;
mod disk;
mod error;
mod limits;
mod peers;
mod store;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::State;
use quorate_model::{ArtifactSpec, Digest, MemberId, Timestamp};
use tokio::sync::{Notify, Semaphore};

pub use copy::Keeper;
pub use error::{ArtifactError, EXPECTED_OFFSET};
pub use limits::ArtifactLimits;
pub use peers::{GrpcPeers, Holder, PeerArtifacts, Peers};
pub use store::{Begun, Chunk, Kept};

use store::Store;

/// Pieces of disk work at once. Each may hold a thread for as long as the disk takes; the log's own writes need theirs.
const DISK_WORK: usize = 8;
/// Suspects remembered; there are at most 1,000 artifacts.
const SUSPECTS_MAX: usize = 1_000;

/// This member's artifacts. Clones are the same.
#[derive(Clone)]
pub struct Artifacts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    peers: Arc<dyn Peers>,
    work: Semaphore,
    /// Blobs of which a copy came out wrong.
    suspects: Mutex<BTreeSet<Digest>>,
    wake: Notify,
    copying: AtomicU64,
    copies_failed: AtomicU64,
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifacts").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl Artifacts {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(root: &Path, limits: ArtifactLimits, peers: Arc<dyn Peers>) -> Result<Self, ArtifactError> {
        let inner = Inner {
            store: Store::open(root, limits)?,
            peers,
            work: Semaphore::new(DISK_WORK),
            suspects: Mutex::default(),
            wake: Notify::new(),
            copying: AtomicU64::new(0),
            copies_failed: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does disk work on a thread for it.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ArtifactError> + Send + 'static,
    ) -> Result<T, ArtifactError> {
        let _permit = self.inner.work.acquire().await.map_err(|_| ArtifactError::Stopped)?;
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner.store)).await;
        done.map_err(|_| ArtifactError::Stopped)?
    }

    /// Most bytes of one message of an upload.
    #[must_use]
    pub fn chunk_bytes(&self) -> u32 {
        u32::try_from(self.inner.store.limits().chunk.bytes()).unwrap_or(u32::MAX)
    }

    /// Opens an upload, or goes on with one; with `dry` it only says whether it would.
    ///
    /// # Errors
    /// [`ArtifactError`]; nothing was opened.
    pub async fn begin(&self, spec: ArtifactSpec, dry: bool, now: Timestamp) -> Result<Begun, ArtifactError> {
        self.work(move |store| if dry { store.look(&spec, now) } else { store.begin(&spec, now) }).await
    }

    /// Adds bytes; gives how many are there then. With `dry` they are only checked.
    ///
    /// # Errors
    /// [`ArtifactError`]; nothing was added.
    pub async fn write(
        &self,
        digest: &Digest,
        offset: u64,
        data: Vec<u8>,
        dry: bool,
        now: Timestamp,
    ) -> Result<u64, ArtifactError> {
        let digest = digest.clone();
        self.work(move |store| {
            if dry {
                store.check_write(&digest, offset, data.len() as u64).map(|()| offset)
            } else {
                store.write(&digest, offset, &data, now)
            }
        })
        .await
    }

    /// Reads an upload again in full and keeps it for good; gives what its caller said of it.
    ///
    /// # Errors
    /// [`ArtifactError`]. After [`ArtifactError::Digest`] all its bytes are gone.
    pub async fn finish(&self, digest: &Digest, now: Timestamp) -> Result<ArtifactSpec, ArtifactError> {
        let spec = self.upload(digest).ok_or(ArtifactError::NotOpen)?;
        let digest = digest.clone();
        self.work(move |store| store.finish(&digest, now)).await?;
        Ok(spec)
    }

    /// What a caller said of an upload that it began here.
    #[must_use]
    pub fn upload(&self, digest: &Digest) -> Option<ArtifactSpec> {
        self.inner.store.upload(digest)
    }

    /// An upload is over, because the catalogue lists it.
    pub fn ended(&self, digest: &Digest) {
        self.inner.store.ended(digest);
        self.inner.wake.notify_one();
    }

    /// Whether all bytes are here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.inner.store.blob(digest).is_some()
    }

    /// Some bytes from this member's own disk.
    ///
    /// # Errors
    /// [`ArtifactError`].
    pub async fn read(&self, digest: &Digest, offset: u64, limit: u32) -> Result<Chunk, ArtifactError> {
        let digest = digest.clone();
        let read = self.work(move |store| store.read(&digest, offset, limit)).await;
        if matches!(read, Err(ArtifactError::NotHere)) {
            // It may have been thought to be here until now.
            self.inner.wake.notify_one();
        }
        read
    }

    /// Some bytes, from here or from a member that has them.
    ///
    /// # Errors
    /// [`ArtifactError`] of this member when it is about the question, else why the last one that was asked had none.
    pub async fn read_anywhere(
        &self,
        holders: &[Holder],
        digest: &Digest,
        offset: u64,
        limit: u32,
    ) -> Result<Chunk, ArtifactError> {
        match self.read(digest, offset, limit).await {
            Err(ArtifactError::NotHere) => {}
            other => return other,
        }
        let mut why = "nobody has them".to_owned();
        for holder in holders {
            match self.inner.peers.read(holder, digest, offset, limit).await {
                Ok(chunk) => return Ok(chunk),
                Err(error) => why = format!("member {}: {error}", holder.member),
            }
        }
        Err(ArtifactError::NoSource(why))
    }

    /// A copy made from this member's blob came out wrong: it is read again in full, soon.
    pub fn suspect(&self, digest: &Digest) {
        let mut suspects = self.inner.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has(digest) && suspects.len() < SUSPECTS_MAX {
            suspects.insert(digest.clone());
            self.inner.wake.notify_one();
        }
    }

    fn take_suspects(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut *self.inner.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is kept here.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.inner.store.kept()
    }

    /// Copies under way, and those that failed since the start.
    #[must_use]
    pub fn copies(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.inner.copying), read(&self.inner.copies_failed))
    }
}

/// The members that hold an artifact, but for this one, as far as they are members still.
#[must_use]
pub fn holders(state: &State, digest: &Digest, own: MemberId) -> Vec<Holder> {
    let Some(artifact) = state.artifacts.get(digest) else { return Vec::new() };
    let others = state.members.present().filter(|m| m.id != own && artifact.holders.contains(&m.id));
    others.map(|m| Holder { member: m.id, address: m.grpc.clone() }).collect()
}
