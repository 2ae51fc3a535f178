//! What an instance keeps: its log of writes and its standing.
//!
//! **Invariant:** nothing is told to anybody before it is on disk. A torn last line is cut off at start; a bad line with others
//! behind it is never cut, the instance refuses to start. After a failed write nothing more is written: its tail is not known.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::record::{Outline, Record};
use crate::dev::layout::write_atomically;

/// Most bytes of a log: it is kept in memory too.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// What an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Role {
    Primary,
    Standby,
}

/// What survives a restart, on purpose: a primary that crashed leads again once it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) role: Role,
    /// Of the newest primary it knows, itself included.
    pub(super) epoch: u64,
    /// It was told to go on without a standby, until one has everything.
    #[serde(default)]
    pub(super) alone: bool,
    /// Whom a standby follows; none: the one its file names.
    #[serde(default)]
    pub(super) follows: Option<SocketAddr>,
}

/// The files of one instance; held by one process.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    file: File,
    bytes: u64,
    records: Vec<Record>,
    standing: Standing,
    broken: bool,
    /// The kernel frees it however the process ends.
    _lock: OwnedFd,
}

impl Store {
    /// Opens or creates it.
    ///
    /// # Errors
    /// When another process has it, or it is damaged.
    pub(super) fn open(dir: &Path, first: Role) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("{} is in use by another process", dir.display());
        }
        let path = dir.join("write.log");
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut text = Vec::new();
        (&file).take(MAX_LOG_BYTES * 2).read_to_end(&mut text)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let torn = text.len() > whole;
        text.truncate(whole);
        let records = read_lines(&text).with_context(|| format!("{} is damaged", path.display()))?;
        if torn {
            file.set_len(whole as u64)?;
        }
        // A line of a process that was killed may be in the file and not on the disk.
        file.sync_all()?;
        let standing = match std::fs::read(dir.join("standing.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("standing.json is damaged")?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Standing { role: first, epoch: 0, alone: false, follows: None }
            }
            Err(error) => return Err(error).context("cannot read standing.json"),
        };
        let bytes = whole as u64;
        let store =
            Self { dir: dir.to_owned(), file, bytes, records, standing, broken: false, _lock: lock.into() };
        store.sync_dir()?;
        Ok(store)
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Changes the standing; on an error the old one stands.
    pub(super) fn set_standing(&mut self, standing: Standing) -> anyhow::Result<()> {
        if standing != self.standing {
            write_atomically(&self.dir.join("standing.json"), &serde_json::to_vec(&standing)?, 0o600)?;
            self.sync_dir()?;
            self.standing = standing;
        }
        Ok(())
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn last(&self) -> u64 {
        self.records.last().map_or(0, |record| record.sequence)
    }

    /// Lines after a sequence number, at most so many.
    pub(super) fn after(&self, sequence: u64, limit: usize) -> &[Record] {
        let from = usize::try_from(sequence).unwrap_or(usize::MAX).min(self.records.len());
        let rest = self.records.split_at(from).1;
        rest.split_at(limit.min(rest.len())).0
    }

    /// The epoch of a line; 0 for the one before the first.
    pub(super) fn epoch_at(&self, sequence: u64) -> Option<u64> {
        let Some(index) = sequence.checked_sub(1) else { return Some(0) };
        self.records.get(usize::try_from(index).ok()?).map(|record| record.epoch)
    }

    /// Appends lines that follow the last one, and makes them durable.
    pub(super) fn append(&mut self, records: &[Record]) -> anyhow::Result<()> {
        if self.broken {
            bail!("an earlier write to the log failed; restart the instance");
        }
        let mut text = String::new();
        for (record, sequence) in records.iter().zip(self.last() + 1..) {
            if record.sequence != sequence {
                bail!("line {} does not follow: {sequence} is the next", record.sequence);
            }
            text.push_str(&format!("{record}\n"));
        }
        if self.bytes + text.len() as u64 > MAX_LOG_BYTES {
            bail!("the log is full ({MAX_LOG_BYTES} bytes)");
        }
        self.broken = true;
        self.file.write_all(text.as_bytes()).context("cannot append to the log")?;
        self.file.sync_data().context("cannot make the log durable")?;
        self.broken = false;
        self.bytes += text.len() as u64;
        self.records.extend_from_slice(records);
        Ok(())
    }

    /// Puts the lines after a sequence number aside, in a file that says so. Told again it changes nothing.
    pub(super) fn put_aside(&self, common: u64) -> anyhow::Result<Option<PathBuf>> {
        let cut = self.after(common, usize::MAX);
        let (Some(first), Some(last)) = (cut.first(), cut.last()) else { return Ok(None) };
        let (epoch, from, to) = (first.epoch, first.sequence, last.sequence);
        let path = self.dir.join(format!("cut-off-epoch-{epoch}-lines-{from}-to-{to}.log"));
        let text: String = cut.iter().map(|record| format!("{record}\n")).collect();
        write_atomically(&path, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.sync_dir()?;
        Ok(Some(path))
    }

    /// Cuts the log off after a sequence number.
    pub(super) fn cut(&mut self, common: u64) -> anyhow::Result<()> {
        let kept = usize::try_from(common).unwrap_or(usize::MAX).min(self.records.len());
        let bytes: u64 =
            self.records.split_at(kept).0.iter().map(|record| record.to_string().len() as u64 + 1).sum();
        self.broken = true;
        self.file.set_len(bytes).and_then(|()| self.file.sync_all()).context("cannot cut the log")?;
        self.broken = false;
        self.records.truncate(kept);
        self.bytes = bytes;
        Ok(())
    }

    pub(super) fn outline(&self) -> Outline {
        Outline::of(&self.records)
    }

    fn sync_dir(&self) -> anyhow::Result<()> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("cannot make the folder durable")
    }
}

fn read_lines(text: &[u8]) -> anyhow::Result<Vec<Record>> {
    let text = std::str::from_utf8(text)?;
    let records = super::record::parse_all(text).map_err(|line| anyhow::anyhow!("{line:?} is no line"))?;
    for (record, sequence) in records.iter().zip(1..) {
        if record.sequence != sequence {
            bail!("line {sequence} says that it is {}", record.sequence);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(epoch: u64, sequence: u64) -> Record {
        Record { epoch, sequence, key: "k".into(), value: format!("v{sequence}"), at: 1 }
    }

    #[test]
    fn lines_and_standing_survive_and_a_torn_line_does_not() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(base.path(), Role::Primary).expect("open");
        assert!(Store::open(base.path(), Role::Primary).is_err(), "one process at a time");
        store.append(&[line(0, 1), line(0, 2)]).expect("append");
        assert!(store.append(&[line(0, 4)]).is_err(), "a gap");
        let standing = Standing { role: Role::Standby, epoch: 7, alone: true, follows: None };
        store.set_standing(standing.clone()).expect("change");
        drop(store);
        let path = base.path().join("write.log");
        let mut file = OpenOptions::new().append(true).open(&path).expect("open");
        file.write_all(b"0 3 k v").expect("write");
        let store = Store::open(base.path(), Role::Primary).expect("open");
        assert_eq!((store.last(), store.standing(), store.epoch_at(2)), (2, &standing, Some(0)));
        drop(store);
        std::fs::write(&path, "0 1 k v1 1\nnonsense\n0 2 k v2 1\n").expect("write");
        assert!(Store::open(base.path(), Role::Primary).is_err(), "damage is no torn tail");
    }

    #[test]
    fn what_is_cut_off_is_kept_aside_and_twice_is_as_once() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(base.path(), Role::Primary).expect("open");
        store.append(&[line(0, 1), line(1, 2), line(1, 3)]).expect("append");
        let aside = store.put_aside(1).expect("put aside").expect("two lines");
        assert_eq!(store.put_aside(1).expect("again"), Some(aside.clone()));
        assert!(aside.ends_with("cut-off-epoch-1-lines-2-to-3.log"), "{}", aside.display());
        assert_eq!(std::fs::read_to_string(&aside).expect("read"), "1 2 k v2 1\n1 3 k v3 1\n");
        store.cut(1).expect("cut");
        assert_eq!(store.put_aside(1).expect("nothing is left"), None);
        store.append(&[line(2, 2)]).expect("goes on");
        drop(store);
        let store = Store::open(base.path(), Role::Primary).expect("open");
        assert_eq!(store.records(), [line(0, 1), line(2, 2)]);
    }
}
