//! Artifacts on this member's disk: `parts/DIGEST`, which grow, and `blobs/DIGEST`, which are whole.
//!
//! Job: take bytes in order, keep them within the limits, make a part a blob when all of it, read again from disk, has the
//! digest it came under. Must never: name a file otherwise than by a parsed digest, or give bytes of a part.
//!
//! A blob is durable: its file is synced, then renamed, then both directories are synced. A part is not: after a power cut it
//! may hold less or other bytes than were taken, which the reading again finds; then all of it is thrown away.
//!
//! **Locks.** Each part has one, held while its file is worked on; the index has one, held for moments. Whoever needs both
//! takes the part's first.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_durable::{SpaceUse, files, space_use};
use quorate_model::{ArtifactSpec, Digest, DurationMs, Timestamp};
use rustix::fs::OFlags;

use super::disk::{found, remove, sha256};
use super::error::ArtifactError;
use super::limits::ArtifactLimits;

/// A blob that the catalogue does not know is removed, but not before it is this old: its upload may just be ending.
const FRESH: DurationMs = DurationMs::from_secs(600);
/// An upload that rested for so long gives its place, not its bytes, to another one that needs it.
const RESTING: DurationMs = DurationMs::from_secs(600);

/// The files and what is known of them.
#[derive(Debug)]
pub(super) struct Store {
    parts: PathBuf,
    blobs: PathBuf,
    limits: ArtifactLimits,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    blobs: BTreeMap<Digest, Blob>,
    parts: BTreeMap<Digest, Part>,
    /// What callers said of the uploads that they began here.
    uploads: BTreeMap<Digest, Upload>,
}

#[derive(Debug)]
struct Blob {
    size: u64,
    since: Timestamp,
    /// The catalogue was seen to list it: no longer listed, it was deleted.
    listed: bool,
}

#[derive(Debug)]
struct Part {
    len: u64,
    /// The size announced.
    size: u64,
    touched: Timestamp,
    /// Begun since this process started: before that, nobody has said its size.
    open: bool,
    file: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Upload {
    spec: ArtifactSpec,
    used: Timestamp,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Bytes that are there.
    pub received: u64,
    /// All of them are, and they are right.
    pub complete: bool,
}

/// Some bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub data: Vec<u8>,
    /// Size of the whole.
    pub size: u64,
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Complete artifacts.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were begun and not finished.
    pub uploads: usize,
}

impl Store {
    /// Opens or makes the directory and looks through it. What is no digest, or no plain file, is left alone and not used.
    pub(super) fn open(root: &Path, limits: ArtifactLimits) -> Result<Self, ArtifactError> {
        let (parts, blobs) = (root.join("parts"), root.join("blobs"));
        for dir in [root, &parts, &blobs] {
            files::create_dir(dir).map_err(ArtifactError::io("make", dir))?;
        }
        let mut index = Index::default();
        for (digest, size, since) in found(&blobs)? {
            index.blobs.insert(digest, Blob { size, since, listed: false });
        }
        for (digest, len, touched) in found(&parts)? {
            index.parts.insert(digest, Part { len, size: len, touched, open: false, file: Arc::default() });
        }
        Ok(Self { parts, blobs, limits, index: Mutex::new(index) })
    }

    pub(super) const fn limits(&self) -> &ArtifactLimits {
        &self.limits
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.parts.join(digest.as_str())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.as_str())
    }

    /// Whether an upload of this may begin, and where it would go on; changes nothing.
    pub(super) fn look(&self, spec: &ArtifactSpec, now: Timestamp) -> Result<Begun, ArtifactError> {
        let index = self.index();
        let begun = self.room(&index, &spec.digest, spec.size)?;
        if !index.uploads.contains_key(&spec.digest) {
            index.place(self.limits.max_uploads, now)?;
        }
        Ok(begun)
    }

    /// Opens an upload, or goes on with one.
    pub(super) fn begin(&self, spec: &ArtifactSpec, now: Timestamp) -> Result<Begun, ArtifactError> {
        self.drop_longer(&spec.digest, spec.size)?;
        let mut index = self.index();
        let begun = self.room(&index, &spec.digest, spec.size)?;
        if !index.uploads.contains_key(&spec.digest)
            && let Some(resting) = index.place(self.limits.max_uploads, now)?
        {
            index.uploads.remove(&resting);
        }
        index.uploads.insert(spec.digest.clone(), Upload { spec: spec.clone(), used: now });
        if !begun.complete {
            index.reserve(&spec.digest, spec.size, now);
        }
        Ok(begun)
    }

    /// Opens a copy from a fellow member. It takes no caller's place.
    pub(super) fn begin_copy(
        &self,
        digest: &Digest,
        size: u64,
        now: Timestamp,
    ) -> Result<Begun, ArtifactError> {
        self.drop_longer(digest, size)?;
        let mut index = self.index();
        let begun = self.room(&index, digest, size)?;
        if !begun.complete {
            index.reserve(digest, size, now);
        }
        Ok(begun)
    }

    /// A part that is longer than the whole came under a wrong size.
    fn drop_longer(&self, digest: &Digest, size: u64) -> Result<(), ArtifactError> {
        let longer = self.index().parts.get(digest).is_some_and(|part| part.len > size);
        if longer { self.discard(digest) } else { Ok(()) }
    }

    /// Where it stands, or why there is no room for the rest of it.
    fn room(&self, index: &Index, digest: &Digest, size: u64) -> Result<Begun, ArtifactError> {
        if let Some(blob) = index.blobs.get(digest) {
            if blob.size != size {
                return Err(ArtifactError::Size { size: blob.size, said: size });
            }
            return Ok(Begun { received: size, complete: true });
        }
        let max = self.limits.max_size.bytes();
        if size > max {
            return Err(ArtifactError::TooLarge { size, max });
        }
        let received = index.parts.get(digest).map_or(0, |part| part.len.min(size));
        let total = index.bytes_without(digest).saturating_add(size);
        let max = self.limits.max_total.bytes();
        if total > max {
            return Err(ArtifactError::Full { total, max });
        }
        let to_come = index.to_come_without(digest).saturating_add(size - received);
        self.check_space(to_come)?;
        Ok(Begun { received, complete: false })
    }

    fn check_space(&self, to_come: u64) -> Result<(), ArtifactError> {
        let SpaceUse { free, total } =
            space_use(&self.parts).map_err(ArtifactError::io("ask", &self.parts))?;
        self.limits.floor().check(SpaceUse { free: free.saturating_sub(to_come), total })?;
        Ok(())
    }

    /// Whether these bytes would be taken; changes nothing.
    pub(super) fn check_write(&self, digest: &Digest, offset: u64, bytes: u64) -> Result<(), ArtifactError> {
        let max = self.limits.chunk.bytes();
        if bytes == 0 || bytes > max {
            return Err(ArtifactError::BadPart { max });
        }
        let index = self.index();
        let (len, size) = match (index.parts.get(digest), index.blobs.get(digest)) {
            (Some(part), _) if part.open => (part.len, part.size),
            (None, Some(blob)) => (blob.size, blob.size),
            (Some(_) | None, _) => return Err(ArtifactError::NotOpen),
        };
        if offset != len {
            return Err(ArtifactError::Offset { offset, expected: len });
        }
        if bytes > size - len {
            return Err(ArtifactError::TooMuch { size });
        }
        Ok(())
    }

    /// Adds bytes to a part; gives how many are there then.
    pub(super) fn write(
        &self,
        digest: &Digest,
        offset: u64,
        data: &[u8],
        now: Timestamp,
    ) -> Result<u64, ArtifactError> {
        let bytes = data.len() as u64;
        let file = self.index().parts.get(digest).map(|part| part.file.clone());
        let file = file.unwrap_or_default();
        let _held = file.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_write(digest, offset, bytes)?;
        self.check_space(bytes)?;
        let path = self.part_path(digest);
        let mut options = OpenOptions::new();
        // A link under a digest's name is nobody's upload.
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let part = options.open(&path).map_err(ArtifactError::io("open", &path))?;
        if let Err(error) = part.write_all_at(data, offset) {
            // What was written of it must not look like bytes that were taken, also after a restart.
            let _ = part.set_len(offset);
            return Err(ArtifactError::io("write", &path)(error));
        }
        let mut index = self.index();
        if let Some(part) = index.parts.get_mut(digest) {
            part.len = offset + bytes;
            part.touched = now;
        }
        if let Some(upload) = index.uploads.get_mut(digest) {
            upload.used = now;
        }
        Ok(offset + bytes)
    }

    /// Makes a part a blob, when it is whole and right; one that is wrong is thrown away. A blob stays one.
    pub(super) fn finish(&self, digest: &Digest, now: Timestamp) -> Result<(), ArtifactError> {
        let (blob, file) = {
            let index = self.index();
            (index.blobs.contains_key(digest), index.parts.get(digest).map(|part| part.file.clone()))
        };
        if blob {
            return Ok(());
        }
        let file = file.ok_or(ArtifactError::NotOpen)?;
        let held = file.lock().unwrap_or_else(PoisonError::into_inner);
        let (received, size) = {
            let index = self.index();
            match (index.parts.get(digest), index.blobs.contains_key(digest)) {
                // Somebody else finished it while this waited.
                (_, true) => return Ok(()),
                (Some(part), false) if part.open => (part.len, part.size),
                (Some(_) | None, false) => return Err(ArtifactError::NotOpen),
            }
        };
        if received != size {
            return Err(ArtifactError::Incomplete { received, size });
        }
        let path = self.part_path(digest);
        let part = File::open(&path).map_err(ArtifactError::io("open", &path))?;
        part.sync_all().map_err(ArtifactError::io("sync", &path))?;
        let found = sha256(&path)?;
        if found != digest.as_str() {
            drop(held);
            self.discard(digest)?;
            return Err(ArtifactError::Digest { found });
        }
        let to = self.blob_path(digest);
        fs::rename(&path, &to).map_err(ArtifactError::io("rename", &path))?;
        for dir in [&self.blobs, &self.parts] {
            files::fsync_dir(dir).map_err(ArtifactError::io("sync", dir))?;
        }
        let mut index = self.index();
        index.parts.remove(digest);
        index.blobs.insert(digest.clone(), Blob { size, since: now, listed: false });
        Ok(())
    }

    /// What its caller said when it began the upload here.
    pub(super) fn upload(&self, digest: &Digest) -> Option<ArtifactSpec> {
        self.index().uploads.get(digest).map(|upload| upload.spec.clone())
    }

    /// An upload is over: the catalogue lists it.
    pub(super) fn ended(&self, digest: &Digest) {
        self.listed(digest);
        self.index().uploads.remove(digest);
    }

    /// Some bytes of a blob.
    pub(super) fn read(&self, digest: &Digest, offset: u64, limit: u32) -> Result<Chunk, ArtifactError> {
        let size = self.blob(digest).ok_or(ArtifactError::NotHere)?;
        if offset > size {
            return Err(ArtifactError::BeyondEnd { size });
        }
        let wanted = (size - offset).min(u64::from(limit));
        let mut data = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let path = self.blob_path(digest);
        match File::open(&path).and_then(|file| file.read_exact_at(&mut data, offset)) {
            Ok(()) => Ok(Chunk { data, size }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                tracing::error!(%digest, "an artifact is gone or cut off on this disk; it is fetched anew");
                self.remove_blob(digest)?;
                Err(ArtifactError::NotHere)
            }
            Err(error) => Err(ArtifactError::io("read", &path)(error)),
        }
    }

    /// Size of a blob, when there is one.
    pub(super) fn blob(&self, digest: &Digest) -> Option<u64> {
        self.index().blobs.get(digest).map(|blob| blob.size)
    }

    /// Reads a blob again in full; a damaged one is removed. Gives whether it is good.
    pub(super) fn verify(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        if self.blob(digest).is_none() {
            return Ok(false);
        }
        let good = sha256(&self.blob_path(digest))? == digest.as_str();
        if !good {
            tracing::error!(%digest, "an artifact is damaged on this disk; it is fetched anew");
            self.remove_blob(digest)?;
        }
        Ok(good)
    }

    /// Removes a blob, if it is there.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), ArtifactError> {
        let mut index = self.index();
        remove(&self.blob_path(digest))?;
        index.blobs.remove(digest);
        Ok(())
    }

    /// Removes a part, if it is there.
    pub(super) fn discard(&self, digest: &Digest) -> Result<(), ArtifactError> {
        let Some(file) = self.index().parts.get(digest).map(|part| part.file.clone()) else { return Ok(()) };
        let _held = file.lock().unwrap_or_else(PoisonError::into_inner);
        remove(&self.part_path(digest))?;
        self.index().parts.remove(digest);
        Ok(())
    }

    /// The catalogue lists it: when it no longer does, the blob goes at once.
    pub(super) fn listed(&self, digest: &Digest) {
        if let Some(blob) = self.index().blobs.get_mut(digest) {
            blob.listed = true;
        }
    }

    /// Blobs that may have to go; [`Store::sweep`] looks again.
    pub(super) fn stray(&self, known: impl Fn(&Digest) -> bool, now: Timestamp) -> Vec<Digest> {
        let index = self.index();
        let stray = |(digest, blob): (&Digest, &Blob)| index.may_go(digest, blob, now) && !known(digest);
        index.blobs.iter().filter(|found| stray(*found)).map(|(digest, _)| digest.clone()).collect()
    }

    /// Removes a blob that the catalogue does not know. `known` is asked while nobody can begin an upload of it.
    pub(super) fn sweep(
        &self,
        digest: &Digest,
        known: impl Fn(&Digest) -> bool,
        now: Timestamp,
    ) -> Result<bool, ArtifactError> {
        let mut index = self.index();
        let goes = index.blobs.get(digest).is_some_and(|blob| index.may_go(digest, blob, now));
        if !goes || known(digest) {
            return Ok(false);
        }
        remove(&self.blob_path(digest))?;
        index.blobs.remove(digest);
        Ok(true)
    }

    /// Removes parts that nobody touched for long.
    pub(super) fn expire(&self, now: Timestamp) -> Result<(), ArtifactError> {
        let life = DurationMs(u64::try_from(self.limits.part_expiry.0.as_millis()).unwrap_or(u64::MAX));
        let horizon = now.minus(life);
        let old: Vec<Digest> = {
            let mut index = self.index();
            index.uploads.retain(|_, upload| upload.used >= horizon);
            let old = index.parts.iter().filter(|(_, part)| part.touched < horizon);
            old.map(|(digest, _)| digest.clone()).collect()
        };
        for digest in old {
            tracing::info!(%digest, "an upload that nobody goes on with is removed");
            self.discard(&digest)?;
        }
        Ok(())
    }

    pub(super) fn kept(&self) -> Kept {
        let index = self.index();
        let bytes = index.blobs.values().map(|blob| blob.size).sum();
        Kept { blobs: index.blobs.len(), bytes, uploads: index.uploads.len() }
    }
}

impl Index {
    /// A place for one more upload: none is free, one rests and can be given away, or all are in use.
    fn place(&self, max: usize, now: Timestamp) -> Result<Option<Digest>, ArtifactError> {
        if self.uploads.len() < max {
            return Ok(None);
        }
        let oldest = self.uploads.iter().min_by_key(|(_, upload)| upload.used);
        match oldest {
            Some((digest, upload)) if upload.used < now.minus(RESTING) => Ok(Some(digest.clone())),
            Some(_) | None => Err(ArtifactError::TooManyUploads { max }),
        }
    }

    fn reserve(&mut self, digest: &Digest, size: u64, now: Timestamp) {
        let part = self.parts.entry(digest.clone()).or_insert_with(|| Part {
            len: 0,
            size,
            touched: now,
            open: true,
            file: Arc::default(),
        });
        part.open = true;
        part.size = size;
        part.touched = now;
    }

    fn bytes_without(&self, digest: &Digest) -> u64 {
        let parts = self.parts.iter().filter(|(other, _)| *other != digest).map(|(_, part)| part.size);
        self.blobs.values().map(|blob| blob.size).chain(parts).fold(0, u64::saturating_add)
    }

    fn to_come_without(&self, digest: &Digest) -> u64 {
        let others = self.parts.iter().filter(|(other, _)| *other != digest);
        others.map(|(_, part)| part.size.saturating_sub(part.len)).fold(0, u64::saturating_add)
    }

    /// Nobody is about to list it.
    fn may_go(&self, digest: &Digest, blob: &Blob, now: Timestamp) -> bool {
        !self.uploads.contains_key(digest) && (blob.listed || blob.since < now.minus(FRESH))
    }
}
