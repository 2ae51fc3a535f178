//! Snapshot files: written aside, synced, renamed, checked whole before use; two are kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_durable::{LowSpace, files, space_use};

/// Largest snapshot in bytes. 10,000 nodes need some 10 MiB; beyond this something else is wrong, and a member must not
/// be made to allocate without bound by its leader.
pub const MAX_SNAPSHOT_BYTES: u64 = 256 << 20;

/// Snapshots kept: the newest, and the one before for the day the newest cannot be read.
const KEEP: usize = 2;

/// Bytes that must be free for a first snapshot, and beyond twice the newest for a next one.
const ROOM: u64 = 1 << 20;

/// Frozen on 2026-11-21: magic (8), meta length (4), state length (8), crc32c of all but itself (4); integers LE. Meta
/// and state follow.
const HEADER: usize = 24;
const MAGIC: &[u8; 8] = b"QRSNAP\x00\x01";

/// A snapshot on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Last log index it covers.
    pub index: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// The directory of snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
}

/// Frames meta and state.
#[must_use]
pub fn encode(meta: &[u8], state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + meta.len() + state.len());
    out.extend_from_slice(MAGIC);
    // Both lengths are far below their types' limits (MAX_SNAPSHOT_BYTES).
    out.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&(state.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&out), meta), state);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(meta);
    out.extend_from_slice(state);
    out
}

/// Checks a whole snapshot; returns meta and state.
///
/// # Errors
/// What does not fit.
pub fn decode(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or("shorter than its header")?;
    let (fields, crc) = header.split_at(HEADER - 4);
    if !fields.starts_with(MAGIC) {
        return Err("not a snapshot, or of an unknown version");
    }
    let meta_len = fields.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let state_len = fields.get(12..20).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let meta_len = usize::try_from(meta_len).map_err(|_| "wrong length")?;
    let (meta, state) = rest.split_at_checked(meta_len).ok_or("wrong length")?;
    if state.len() as u64 != state_len {
        return Err("wrong length");
    }
    let expected = crc32c::crc32c_append(crc32c::crc32c(fields), rest);
    if crc != expected.to_le_bytes() {
        return Err("wrong checksum");
    }
    Ok((meta, state))
}

impl Snapshots {
    /// Opens the directory and removes what a crash left half-written.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let this = Self { dir: dir.to_owned() };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(this)
    }

    /// The files, newest first.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list(&self) -> io::Result<Vec<SnapshotFile>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let index = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".snapshot"))
                .and_then(|name| name.parse().ok());
            out.extend(index.map(|index| SnapshotFile { index, path: path.clone() }));
        }
        out.sort_by_key(|file| std::cmp::Reverse(file.index));
        Ok(out)
    }

    /// The newest snapshot that reads back whole, as bytes; logs those that do not.
    ///
    /// # Errors
    /// What the kernel says about the directory.
    pub fn newest(&self) -> io::Result<Option<Vec<u8>>> {
        for file in self.list()? {
            match files::read_limited(&file.path, MAX_SNAPSHOT_BYTES) {
                Ok(Some(bytes)) => match decode(&bytes) {
                    Ok(_) => return Ok(Some(bytes)),
                    Err(reason) => {
                        tracing::error!(path = %file.path.display(), reason, "snapshot is damaged")
                    }
                },
                Ok(None) => {}
                Err(error) => tracing::error!(path = %file.path.display(), %error, "snapshot cannot be read"),
            }
        }
        Ok(None)
    }

    /// Stores a whole, checked snapshot durably and removes all but the newest two.
    ///
    /// # Errors
    /// What the kernel says; the snapshots before still stand.
    pub fn store(&self, index: u64, bytes: &[u8]) -> io::Result<()> {
        // Fixed width, so that a listing is in order.
        let path = self.dir.join(format!("{index:020}.snapshot"));
        files::write_atomic(&path, bytes)?;
        for old in self.list()?.into_iter().skip(KEEP) {
            fs::remove_file(old.path)?;
        }
        Ok(())
    }

    /// Whether one more fits: twice the newest and a little, since the state may have grown.
    ///
    /// # Errors
    /// [`LowSpace`]; also when the file system does not tell.
    pub fn room(&self) -> Result<(), LowSpace> {
        let newest = self.list().ok().and_then(|list| fs::metadata(&list.first()?.path).ok());
        let wanted = newest.map_or(0, |file| file.len()).saturating_mul(2).saturating_add(ROOM);
        match space_use(&self.dir) {
            Ok(space) if space.free >= wanted => Ok(()),
            Ok(space) => Err(LowSpace { free: space.free, total: space.total, wanted }),
            Err(error) => {
                tracing::warn!(%error, "cannot read free space");
                Err(LowSpace { free: 0, total: 0, wanted })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_frozen() {
        let hex: String = encode(b"m", b"state").iter().map(|b| format!("{b:02x}")).collect();
        // 2026-11-21, format 1.
        assert_eq!(hex, "5152534e41500001010000000500000000000000645431036d7374617465");
    }

    #[test]
    fn damage_anywhere_is_found() {
        let good = encode(b"meta", b"some state");
        assert_eq!(decode(&good).unwrap(), (b"meta".as_slice(), b"some state".as_slice()));
        for n in 0..good.len() {
            let mut bad = good.clone();
            bad[n] ^= 0x40;
            assert!(decode(&bad).is_err(), "byte {n} went unchecked");
            assert!(decode(&good[..n]).is_err(), "cut at {n} went unnoticed");
        }
        let mut long = good.clone();
        long.push(0);
        assert!(decode(&long).is_err());
    }

    #[test]
    fn two_are_kept_and_a_damaged_one_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        assert!(snapshots.newest().unwrap().is_none());
        for index in [5, 9, 100] {
            snapshots.store(index, &encode(b"m", &[u8::try_from(index).unwrap()])).unwrap();
        }
        let list = snapshots.list().unwrap();
        assert_eq!(list.iter().map(|f| f.index).collect::<Vec<_>>(), [100, 9]);
        assert_eq!(snapshots.newest().unwrap().unwrap(), encode(b"m", &[100]));
        fs::write(&list[0].path, b"half").unwrap();
        assert_eq!(snapshots.newest().unwrap().unwrap(), encode(b"m", &[9]));
        fs::write(dir.path().join("1.tmp"), b"half").unwrap();
        Snapshots::open(dir.path()).unwrap();
        assert!(!dir.path().join("1.tmp").exists());
    }
}
