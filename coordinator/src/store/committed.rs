//! The committed index, durable without a journal commit.
//!
//! openraft calls `save_committed` before each apply, and it must be durable before it returns: without it, 3 of 241
//! simulated seeds served a stale "linearizable" read after a leader restarted. As one more record of the log store it
//! would cost a second `fdatasync` per write. Instead it lives in a small preallocated file: two slots of 64 bytes in
//! separate 4 KiB blocks, each with a sequence and a CRC, written in turn like a double superblock. A torn write hits
//! only the slot that was the older one; the reader takes the newest valid. The write is `pwritev2` with `RWF_DSYNC`:
//! the data is on the device when it returns, and as neither the file's size nor its blocks change, the file system has
//! no journal to commit. It is still a synchronous write and is counted as such ([`CommittedFile::sync_writes`]).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_durable::files;
use rustix::io::{Errno, ReadWriteFlags};

/// Bytes of a slot, frozen on 2026-11-21: magic (8), sequence (8), present (8), term (8), leader (8), index (8),
/// reserved (12), crc32c (4); integers LE.
const SLOT: usize = 64;

/// One slot per block: a torn or misplaced block write cannot reach both.
const BLOCK: u64 = 4096;

const MAGIC: &[u8; 8] = b"QRCOMIT\x01";

/// Identity of a committed log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedIndex {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// That leader.
    pub leader: u64,
    /// Log index.
    pub index: u64,
}

/// The open file.
#[derive(Debug)]
pub struct CommittedFile {
    file: File,
    sequence: AtomicU64,
    writes: AtomicU64,
    /// Whether the file system took `RWF_DSYNC`.
    dsync: AtomicBool,
}

fn encode(sequence: u64, committed: Option<CommittedIndex>) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&u64::from(committed.is_some()).to_le_bytes());
    let words = committed.map_or([0; 3], |c| [c.term, c.leader, c.index]);
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.resize(SLOT - 4, 0);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

fn decode(slot: &[u8]) -> Option<(u64, Option<CommittedIndex>)> {
    let (body, crc) = slot.split_at_checked(SLOT - 4)?;
    if crc != crc32c::crc32c(body).to_le_bytes() || !body.starts_with(MAGIC) {
        return None;
    }
    let word = |n: usize| body.get(n * 8..n * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let committed = CommittedIndex { term: word(3)?, leader: word(4)?, index: word(5)? };
    Some((word(1)?, (word(2)? == 1).then_some(committed)))
}

impl CommittedFile {
    /// Creates the file, preallocated and durable, with nothing committed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(path: &Path) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(2 * BLOCK).unwrap_or(8192)];
        for (slot, content) in bytes.chunks_mut(usize::try_from(BLOCK).unwrap_or(4096)).zip([1, 0]) {
            slot[..SLOT].copy_from_slice(&encode(content, None));
        }
        files::write_atomic(path, &bytes)
    }

    /// Opens the file and returns the newest valid slot; `None` when the file is missing or neither slot is valid.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &Path) -> io::Result<Option<(Self, Option<CommittedIndex>)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut newest = None;
        for block in 0..2 {
            let mut slot = [0; SLOT];
            match file.read_exact_at(&mut slot, block * BLOCK) {
                Ok(()) => newest = newest.max_by_sequence(decode(&slot)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest.map(|(sequence, committed)| {
            let file = Self {
                file,
                sequence: AtomicU64::new(sequence),
                writes: AtomicU64::new(0),
                dsync: AtomicBool::new(true),
            };
            (file, committed)
        }))
    }

    /// Writes the other slot; on the device when it returns. Blocks. One caller at a time (the Raft core).
    ///
    /// # Errors
    /// What the kernel says when the write could not be started. A failed barrier ends the process instead.
    pub fn save(&self, committed: Option<CommittedIndex>) -> io::Result<()> {
        let sequence = self.sequence.load(Ordering::Acquire) + 1;
        let bytes = encode(sequence, committed);
        // Odd sequences live in the first block, as `create` left them.
        let offset = if sequence % 2 == 1 { 0 } else { BLOCK };
        self.write(&bytes, offset)?;
        self.sequence.store(sequence, Ordering::Release);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Synchronous slot writes since the file was opened.
    #[must_use]
    pub fn sync_writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.dsync.load(Ordering::Relaxed) {
            match rustix::io::pwritev2(&self.file, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC) {
                Ok(written) if written == bytes.len() => return Ok(()),
                // A short write of 64 bytes: rewrite whole below.
                Ok(_) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.dsync.store(false, Ordering::Relaxed)
                }
                Err(Errno::IO) => die("pwritev2", &Errno::IO.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        self.file.write_all_at(bytes, offset)?;
        if let Err(error) = rustix::fs::fdatasync(&self.file) {
            die("fdatasync", &error.to_string());
        }
        Ok(())
    }
}

trait MaxBySequence {
    fn max_by_sequence(self, other: Self) -> Self;
}

impl MaxBySequence for Option<(u64, Option<CommittedIndex>)> {
    fn max_by_sequence(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// As in the log store: after a failed barrier nothing is known.
fn die(call: &str, reason: &str) -> ! {
    tracing::error!(call, reason, "the committed index could not be made durable, ending the process");
    // Not eprintln!, which panics when the log's disk is full, too: this process must end.
    let _ = writeln!(
        io::stderr(),
        "{call} of the committed index failed ({reason}): ending the process, because what is on disk is unknown"
    );
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: CommittedIndex = CommittedIndex { term: 3, leader: 2, index: 77 };

    #[test]
    fn slot_bytes_are_frozen() {
        let hex: String = encode(5, Some(C)).iter().map(|b| format!("{b:02x}")).collect();
        // 2026-11-21, format 1.
        assert_eq!(
            hex,
            concat!(
                "5152434f4d49540105000000000000000100000000000000030000000000000002000000000000004d00000000000000",
                "000000000000000000000000d15c4480"
            )
        );
    }

    #[test]
    fn the_newest_valid_slot_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("committed");
        assert!(CommittedFile::open(&path).unwrap().is_none());
        CommittedFile::create(&path).unwrap();
        let (file, found) = CommittedFile::open(&path).unwrap().unwrap();
        assert_eq!(found, None);
        for index in 1..=9 {
            file.save(Some(CommittedIndex { index, ..C })).unwrap();
            let (_, found) = CommittedFile::open(&path).unwrap().unwrap();
            assert_eq!(found, Some(CommittedIndex { index, ..C }));
        }
        assert_eq!(file.sync_writes(), 9);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * BLOCK);
        // Tear the newest: the one before is read.
        let newest = if file.sequence.load(Ordering::Relaxed) % 2 == 1 { 0 } else { BLOCK };
        file.file.write_all_at(b"torn", newest + 20).unwrap();
        let (_, found) = CommittedFile::open(&path).unwrap().unwrap();
        assert_eq!(found, Some(CommittedIndex { index: 8, ..C }));
        // Tear both, cut, empty: refused.
        file.file.write_all_at(b"torn", BLOCK - newest + 20).unwrap();
        assert!(CommittedFile::open(&path).unwrap().is_none());
        std::fs::write(&path, b"").unwrap();
        assert!(CommittedFile::open(&path).unwrap().is_none());
    }
}
