//! The spool: where artifacts arrive. `DIGEST` is whole, `DIGEST.part` is on its way, `DIGEST.error` says in one line why it
//! does not come.
//!
//! Must never: be believed. The helper copies what lies here and proves the copy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_model::Digest as ArtifactDigest;
use sha2::{Digest as _, Sha256};

use crate::host::clock;
use crate::host::dir::{self, Folder, Kind};
use crate::host::exec::hex;

/// What nobody wants any more is kept this long: another service may want the same artifact next.
const KEPT: Duration = Duration::from_secs(3_600);
/// Most names that are looked at; the total size allows a handful of artifacts.
const NAMES_MAX: usize = 10_000;
/// Bytes that are hashed or copied at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Bounds of the spool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes in all.
    pub(super) total: u64,
    /// Bytes that stay free on its disk.
    pub(super) reserve: u64,
}

/// The folder, not opened yet: nothing is made before something is wanted.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    path: PathBuf,
}

/// An artifact on its way.
pub(super) struct Part {
    folder: Folder,
    file: File,
    hash: Sha256,
    digest: ArtifactDigest,
    /// Bytes that are there.
    pub(super) have: u64,
    /// Bytes it has in the end.
    pub(super) size: u64,
}

fn part_name(digest: &ArtifactDigest) -> OsString {
    format!("{digest}.part").into()
}

fn error_name(digest: &ArtifactDigest) -> OsString {
    format!("{digest}.error").into()
}

impl Spool {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Whether an artifact is there in full.
    pub(super) fn has(&self, digest: &ArtifactDigest, size: u64) -> io::Result<bool> {
        let folder = match Folder::open_root(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let seen = folder.look(OsStr::new(digest.as_str()))?;
        Ok(seen.is_some_and(|seen| seen.kind == Kind::File && seen.size == size))
    }

    /// Goes on where an earlier attempt ended, or begins. What is there already is hashed again.
    pub(super) fn begin(
        &self,
        digest: &ArtifactDigest,
        size: u64,
        wanted: &[ArtifactDigest],
        room: Room,
    ) -> io::Result<Part> {
        let folder = Folder::make_root(&self.path)?;
        let name = part_name(digest);
        let mut file = match folder.create_new(&name, 0o600) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => folder.open_change(&name)?,
            made => made?,
        };
        let mut hash = Sha256::new();
        let mut have = 0_u64;
        if dir::seen(&file)?.size > size {
            file.set_len(0)?;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            hash.update(chunk.get(..n).unwrap_or_default());
            have = have.saturating_add(n as u64);
        }
        make_room(&folder, size, wanted, room)?;
        let needed = size.saturating_sub(have).saturating_add(room.reserve);
        let free = folder.free_bytes()?;
        if free < needed {
            let text = format!("{} has {free} bytes free, {needed} are needed", self.path.display());
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(Part { folder, file, hash, digest: digest.clone(), have, size })
    }

    /// Says why an artifact does not come, or that nothing is in the way any more.
    pub(super) fn tell(&self, digest: &ArtifactDigest, error: Option<&str>) -> io::Result<()> {
        let Some(error) = error else {
            return match Folder::open_root(&self.path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                opened => opened?.remove(&error_name(digest)),
            };
        };
        let folder = Folder::make_root(&self.path)?;
        // Only a hint for people: one that is cut by a crash is worth as much as none.
        folder.remove(&error_name(digest))?;
        folder.create_new(&error_name(digest), 0o600)?.write_all(error.as_bytes())
    }

    /// Removes what nobody wants and is old.
    pub(super) fn sweep(&self, wanted: &[ArtifactDigest]) -> io::Result<()> {
        let folder = match Folder::open_root(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let now = ns_since_epoch();
        for (name, seen) in unwanted(&folder, wanted)? {
            let age = now.saturating_sub(seen.mtime_ns);
            if age > i128::try_from(KEPT.as_nanos()).unwrap_or(i128::MAX) {
                folder.remove_tree(&name)?;
            }
        }
        Ok(())
    }
}

fn ns_since_epoch() -> i128 {
    i128::from(clock::now().0).saturating_mul(1_000_000)
}

/// Every name that belongs to none of these.
fn unwanted(folder: &Folder, wanted: &[ArtifactDigest]) -> io::Result<Vec<(OsString, dir::Seen)>> {
    let mut found = Vec::new();
    for name in folder.names(NAMES_MAX)? {
        let ours = name.to_str().is_some_and(|text| {
            let digest = text.split('.').next().unwrap_or_default();
            wanted.iter().any(|wanted| wanted.as_str() == digest)
        });
        if !ours && let Some(seen) = folder.look(&name)? {
            found.push((name, seen));
        }
    }
    Ok(found)
}

/// Removes what nobody wants, oldest first, until all that is wanted fits.
fn make_room(folder: &Folder, size: u64, wanted: &[ArtifactDigest], room: Room) -> io::Result<()> {
    let mut others = 0_u64;
    for digest in wanted {
        if let Some(seen) = folder.look(OsStr::new(digest.as_str()))? {
            others = others.saturating_add(seen.size);
        }
    }
    let mut old = unwanted(folder, wanted)?;
    old.sort_by_key(|(_, seen)| seen.mtime_ns);
    let mut kept: u64 = old.iter().map(|(_, seen)| seen.size).fold(0, u64::saturating_add);
    for (name, seen) in old {
        let fits = kept.saturating_add(others).saturating_add(size) <= room.total;
        let free = folder.free_bytes()? >= size.saturating_add(room.reserve);
        if fits && free {
            break;
        }
        folder.remove_tree(&name)?;
        kept = kept.saturating_sub(seen.size);
    }
    if others.saturating_add(size) > room.total {
        let text = format!("{size} bytes beside {others} of others are more than [limits] spool allows");
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(())
}

impl Part {
    /// What it is.
    pub(super) const fn digest(&self) -> &ArtifactDigest {
        &self.digest
    }

    /// Whether every byte is there.
    pub(super) const fn is_whole(&self) -> bool {
        self.have >= self.size
    }

    /// Takes the next bytes.
    pub(super) fn put(mut self, bytes: &[u8]) -> io::Result<Self> {
        self.file.seek(SeekFrom::Start(self.have))?;
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.have = self.have.saturating_add(bytes.len() as u64);
        Ok(self)
    }

    /// Gives it its name when it is what it should be; removes it when it is not.
    pub(super) fn finish(self) -> io::Result<()> {
        let name = part_name(&self.digest);
        let got = hex(&self.hash.finalize());
        if got != self.digest.as_str() {
            self.folder.remove(&name)?;
            let text = format!("the bytes that came have the sha256 {got}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.file.sync_all()?;
        self.folder.rename(&name, OsStr::new(self.digest.as_str()))?;
        self.folder.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { total: 100, reserve: 0 };

    fn digest(bytes: &[u8]) -> ArtifactDigest {
        ArtifactDigest::new(hex(&Sha256::digest(bytes))).unwrap()
    }

    fn fill(spool: &Spool, bytes: &[u8]) {
        let name = digest(bytes);
        let part = spool.begin(&name, bytes.len() as u64, std::slice::from_ref(&name), ROOM).unwrap();
        part.put(bytes).unwrap().finish().unwrap();
    }

    #[test]
    fn it_goes_on_where_it_stopped_and_keeps_nothing_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(&dir.path().join("spool/artifacts"));
        let name = digest(b"abcdef");
        assert!(!spool.has(&name, 6).unwrap());
        drop(spool.begin(&name, 6, &[], ROOM).unwrap().put(b"abc").unwrap());
        let part = spool.begin(&name, 6, &[], ROOM).unwrap();
        assert_eq!(part.have, 3, "what a crash left is taken up");
        part.put(b"def").unwrap().finish().unwrap();
        assert!(spool.has(&name, 6).unwrap());
        let other = digest(b"other");
        let wrong = spool.begin(&other, 5, &[], ROOM).unwrap().put(b"0ther").unwrap().finish();
        assert_eq!(wrong.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(spool.begin(&other, 5, &[], ROOM).unwrap().have, 0, "and begins anew");
    }

    #[test]
    fn what_nobody_wants_makes_room_and_what_somebody_wants_stays() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path());
        let (old, kept) = ([1; 40], [2; 40]);
        fill(&spool, &old);
        fill(&spool, &kept);
        let new = digest(&[3; 50]);
        drop(spool.begin(&new, 50, &[new.clone(), digest(&kept)], ROOM).unwrap());
        assert!(!spool.has(&digest(&old), 40).unwrap(), "the one nobody wants went");
        assert!(spool.has(&digest(&kept), 40).unwrap());
        let large = spool.begin(&new, 70, &[new.clone(), digest(&kept)], ROOM);
        assert_eq!(large.err().map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
        let full = Room { total: u64::MAX, reserve: u64::MAX / 2 };
        let full = spool.begin(&new, 50, &[new.clone(), digest(&kept)], full);
        assert_eq!(full.err().map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn why_it_does_not_come_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path());
        let name = digest(b"x");
        spool.tell(&name, Some("first")).unwrap();
        spool.tell(&name, Some("second")).unwrap();
        let file = dir.path().join(format!("{name}.error"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "second");
        spool.tell(&name, None).unwrap();
        assert!(!file.exists());
    }
}
