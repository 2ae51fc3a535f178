//! One log: what is seen of it, and each step of its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use quorate_model::Timestamp;
use quorate_model::backup::LogRotation;

use super::find::Found;
use super::plan::{Aside, Front, LogFile, State, Step, front};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Kind, NAME_MAX_BYTES, Seen};
use crate::host::writers::{self, Writers};

/// Ending of the name under which the new, then the old log waits.
pub(super) const ASIDE_ENDING: &str = ".quorate-aside";
/// Ending of an incomplete, and of a complete copy.
const COPY_ENDING: &str = ".quorate-copy";
const CUT_ENDING: &str = ".quorate-cut";
/// Bytes copied at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Most names looked at in one folder.
const NAMES_MAX: usize = 100_000;
/// How often a log that goes on growing is followed before it is truncated on a file system that cannot cut.
const FOLLOW_MAX: u32 = 1_000;

/// A log with the rules for its new file.
pub(super) struct Log<'a> {
    pub(super) at: &'a Found,
    pub(super) policy: &'a LogRotation,
    /// Owner of new files, when the policy names one.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) reserve_bytes: u64,
    /// The file system cannot cut: something may have been lost in the instant before the truncation.
    pub(super) uncertain: bool,
}

impl Log<'_> {
    pub(super) fn slot_name(&self, n: u32, packed: bool) -> OsString {
        let mut name = self.at.name.clone();
        name.push(format!(".{n}{}", if packed { ".gz" } else { "" }));
        name
    }

    pub(super) fn hidden(&self, ending: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.at.name);
        name.push(ending);
        name
    }

    pub(super) fn path(&self, name: &OsString) -> PathBuf {
        self.at.folder.path().join(name)
    }

    pub(super) fn failed<'n>(
        &self,
        doing: &'static str,
        name: &'n OsString,
    ) -> impl Fn(io::Error) -> ActionError + use<'n> {
        let path = self.path(name);
        move |e| ActionError::io(doing, &path, e)
    }

    /// A name's regular file; anything else under that name is refused.
    pub(super) fn regular(&self, name: &OsString) -> Result<Option<Seen>, ActionError> {
        let seen = self.at.folder.look(name).map_err(self.failed("looking at", name))?;
        let refuse = |why: &str| Err(ActionError::Occupied { path: self.path(name), why: why.to_owned() });
        match seen.map(|s| (s.kind, s.links)) {
            None | Some((Kind::File, 0 | 1)) => Ok(seen),
            // The other name may lie where the writer of this folder has no rights.
            Some((Kind::File, _)) => refuse("it has a second name (hard link)"),
            Some((Kind::Link, _)) => refuse("it is a symbolic link"),
            Some((Kind::Folder, _)) => refuse("it is a folder"),
            Some((Kind::Special(what), _)) => refuse(what),
        }
    }

    /// What is seen of the log now.
    pub(super) fn state(&self) -> Result<State, ActionError> {
        if self.at.name.len() + ".1000.gz.quorate-pack".len() + 1 > NAME_MAX_BYTES {
            return Err(ActionError::invalid(
                "paths",
                format!("{}: the name is too long", self.at.path().display()),
            ));
        }
        let mut state = State::default();
        let mut inodes: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (n, packed) in self.rotated()? {
            let Some(seen) = self.regular(&self.slot_name(n, packed))? else { continue };
            let slot = state.slots.entry(n).or_default();
            slot.plain |= !packed;
            slot.packed |= packed;
            slot.modified = slot.modified.max(timestamp(seen.mtime_ns));
            if !packed {
                inodes.insert(n, seen.identity());
            }
        }
        let aside = self.regular(&self.hidden(ASIDE_ENDING))?;
        let mut wanted: BTreeSet<_> = inodes.values().copied().collect();
        wanted.extend(aside.map(|seen| seen.identity()));
        let held = self.writers(&wanted)?.held;
        for (n, identity) in inodes {
            if let Some(slot) = state.slots.get_mut(&n) {
                slot.held = held.contains(&identity);
            }
        }
        state.aside = aside.map(|seen| {
            let fresh = seen.size == 0 && !held.contains(&seen.identity());
            if fresh { Aside::Fresh } else { Aside::Old }
        });
        state.copy = self.regular(&self.hidden(COPY_ENDING))?.is_some();
        state.cut = self.regular(&self.hidden(CUT_ENDING))?.is_some();
        if let Some(seen) = self.regular(&self.at.name)? {
            let short = self.policy.copy_truncate
                && !state.copy
                && front(seen.size, seen.block_bytes, true) == Front::Nothing;
            let below_block = short && self.can_cut(&self.hidden(COPY_ENDING), seen.block_bytes)?;
            let born = seen.born_ns.map(timestamp);
            state.log = Some(LogFile { size: seen.size, born, below_block });
        }
        Ok(state)
    }

    pub(super) fn writers(&self, wanted: &BTreeSet<(u64, u64)>) -> Result<Writers, ActionError> {
        writers::writers(wanted).map_err(|e| ActionError::io("looking for writers of", self.at.path(), e))
    }

    /// Numbers of the rotated files in the folder, and whether each is compressed.
    fn rotated(&self) -> Result<Vec<(u32, bool)>, ActionError> {
        let names = self.at.folder.names(NAMES_MAX);
        let names = names.map_err(|e| ActionError::io("listing", self.at.folder.path(), e))?;
        let mut prefix = self.at.name.as_bytes().to_vec();
        prefix.push(b'.');
        let number = |name: &OsString| {
            let rest = name.as_bytes().strip_prefix(prefix.as_slice())?;
            let (digits, packed) = rest.strip_suffix(b".gz").map_or((rest, false), |d| (d, true));
            let n: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            // `x.01` is not ours.
            (n > 0 && n.to_string().as_bytes() == digits).then_some((n, packed))
        };
        Ok(names.iter().filter_map(number).collect())
    }

    fn sync(&self) -> Result<(), ActionError> {
        self.at.folder.sync().map_err(|e| ActionError::io("syncing", self.at.folder.path(), e))
    }

    /// Does one step.
    pub(super) fn step(&mut self, step: Step, job: &mut Job) -> Result<(), ActionError> {
        let (name, aside, cut) = (self.at.name.clone(), self.hidden(ASIDE_ENDING), self.hidden(CUT_ENDING));
        match step {
            Step::DropPacked(n) => self.remove(&self.slot_name(n, true))?,
            Step::DropAside => self.remove(&aside)?,
            Step::DropCopy => self.remove(&self.hidden(COPY_ENDING))?,
            Step::Delete(n) => {
                self.remove(&self.slot_name(n, false))?;
                self.remove(&self.slot_name(n, true))?;
            }
            Step::Shift(n) => {
                for packed in [false, true] {
                    let from = self.slot_name(n, packed);
                    if self.regular(&from)?.is_some() {
                        self.rename(&from, &self.slot_name(n + 1, packed))?;
                    }
                }
            }
            Step::Fresh => self.make(&aside, &name)?,
            Step::Create => self.make(&name, &self.slot_name(1, false))?,
            Step::Swap => self.swap(&name, &aside)?,
            Step::Copy => self.copy(job)?,
            Step::Cut => return self.cut(job),
            Step::Place => self.rename(&aside, &self.slot_name(1, false))?,
            Step::PlaceCut => {
                if self.regular(&cut)?.is_some() {
                    self.rename(&cut, &self.slot_name(1, false))?;
                }
            }
        }
        self.sync()
    }

    fn remove(&self, name: &OsString) -> Result<(), ActionError> {
        self.at.folder.remove(name).map_err(self.failed("removing", name))
    }

    fn rename(&self, from: &OsString, to: &OsString) -> Result<(), ActionError> {
        self.at.folder.rename_new(from, to).map_err(self.failed("renaming", from))
    }

    /// Makes an empty log with the owner and mode of the policy, else of the file it stands in for.
    fn make(&self, name: &OsString, like: &OsString) -> Result<(), ActionError> {
        let like = self.regular(like)?;
        let file = match self.at.folder.create_new(name, 0o600) {
            // The writer was faster: its log is as good as ours.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && *name == self.at.name => return Ok(()),
            made => made.map_err(self.failed("making", name))?,
        };
        self.dress(&file, like.as_ref()).map_err(self.failed("giving an owner to", name))
    }

    /// Owner and mode of a new log.
    fn dress(&self, file: &File, like: Option<&Seen>) -> io::Result<()> {
        let now = dir::seen(file)?;
        let (uid, gid) =
            self.owner.unwrap_or_else(|| like.map_or((now.uid, now.gid), |seen| (seen.uid, seen.gid)));
        let mode = match (self.policy.create_mode, like) {
            (0, Some(seen)) => seen.mode,
            (0, None) => 0o640,
            (mode, _) => mode,
        };
        dir::set_owner_and_mode(file, uid, gid, mode & 0o777)
    }

    fn swap(&self, log: &OsString, aside: &OsString) -> Result<(), ActionError> {
        self.regular(log)?;
        if self.at.folder.exchange(log, aside).map_err(self.failed("swapping", log))? {
            return Ok(());
        }
        // Not in one step here: the log is missing for an instant, and a crash in it is finished by `Place` and `Create`.
        self.remove(aside)?;
        self.rename(log, aside)?;
        self.sync()?;
        self.make(log, aside)
    }

    /// Copies the front of the log to a hidden file, complete and synced when it has its second name.
    fn copy(&self, job: &mut Job) -> Result<(), ActionError> {
        let (name, copy, cut) = (&self.at.name, self.hidden(COPY_ENDING), self.hidden(CUT_ENDING));
        let Some(seen) = self.regular(name)? else { return Ok(()) };
        let free_bytes =
            self.at.folder.free_bytes().map_err(self.failed("asking for free space of", name))?;
        let needed_bytes = seen.size.saturating_add(self.reserve_bytes);
        if free_bytes < needed_bytes {
            let path = self.at.folder.path().to_path_buf();
            return Err(ActionError::LowSpace { path, needed_bytes, free_bytes });
        }
        let length = match front(seen.size, seen.block_bytes, self.can_cut(&copy, seen.block_bytes)?) {
            Front::Nothing => return Ok(()),
            Front::Blocks(bytes) => bytes,
            Front::Whole => seen.size,
        };
        let from = self.at.folder.open_read(name).map_err(self.failed("opening", name))?;
        let mut to = self.at.folder.create_new(&copy, 0o600).map_err(self.failed("making", &copy))?;
        let copied = append(&from, 0, length, &mut to, job).and_then(|()| {
            let failed = self.failed("writing", &copy);
            dir::set_owner_and_mode(&to, seen.uid, seen.gid, seen.mode & 0o777).map_err(&failed)?;
            to.sync_all().map_err(failed)
        });
        if let Err(error) = copied {
            self.remove(&copy)?;
            return Err(error);
        }
        self.rename(&copy, &cut)
    }

    /// Whether the file system cuts blocks off the front of a file: tried on a file of our own.
    fn can_cut(&self, probe: &OsString, block_bytes: u64) -> Result<bool, ActionError> {
        let failed = self.failed("trying", probe);
        let mut file = self.at.folder.create_new(probe, 0o600).map_err(&failed)?;
        let blocks = vec![0; usize::try_from(block_bytes.min(1 << 20)).unwrap_or(0).saturating_mul(2)];
        let tried = file.write_all(&blocks).and_then(|()| dir::cut_front(&file, block_bytes));
        self.remove(probe)?;
        tried.map_err(failed)
    }

    /// Cuts what was copied, unless the log no longer begins with it: then it was cut before a crash.
    fn cut(&mut self, job: &mut Job) -> Result<(), ActionError> {
        let (name, cut) = (self.at.name.clone(), self.hidden(CUT_ENDING));
        let (Some(copied), Some(_)) = (self.regular(&cut)?, self.regular(&name)?) else { return Ok(()) };
        let log = self.at.folder.open_change(&name).map_err(self.failed("opening", &name))?;
        let mut copy = self.at.folder.open_change(&cut).map_err(self.failed("opening", &cut))?;
        if copied.size == 0 || !begins_with(&log, &copy, copied.size, job)? {
            return Ok(());
        }
        if dir::cut_front(&log, copied.size).map_err(self.failed("cutting", &name))? {
            return log.sync_all().map_err(self.failed("syncing", &name));
        }
        self.uncertain = true;
        self.truncate(&log, &mut copy, copied.size, job)
    }

    /// Follows the log until it is no longer than its copy, and truncates it at once.
    fn truncate(&self, log: &File, copy: &mut File, from: u64, job: &mut Job) -> Result<(), ActionError> {
        let failed = self.failed("truncating", &self.at.name);
        let mut at = from;
        for _ in 0..FOLLOW_MAX {
            let size = dir::seen(log).map_err(&failed)?.size;
            if size > at {
                copy.seek(SeekFrom::Start(at)).map_err(&failed)?;
                append(log, at, size - at, copy, job)?;
                copy.sync_all().map_err(&failed)?;
                at = size;
                continue;
            }
            return log.set_len(0).and_then(|()| log.sync_all()).map_err(failed);
        }
        Err(failed(io::Error::other("it grows faster than it can be copied")))
    }
}

/// Milliseconds since 1970.
fn timestamp(ns: i128) -> Timestamp {
    Timestamp(i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(0))
}

/// Appends exactly `length` bytes of a file, from an offset.
fn append(from: &File, offset: u64, length: u64, to: &mut File, job: &mut Job) -> Result<(), ActionError> {
    let failed = |e| ActionError::io("copying", "the log", e);
    let mut from = from;
    from.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let n = from.read(&mut chunk[..want]).map_err(failed)?;
        if n == 0 {
            return Err(failed(io::Error::other("it became shorter while it was copied")));
        }
        to.write_all(&chunk[..n]).map_err(failed)?;
        left -= n as u64;
        job.worked(n as u64)?;
    }
    Ok(())
}

/// Whether the log begins with the `length` bytes of its copy.
fn begins_with(log: &File, copy: &File, length: u64, job: &mut Job) -> Result<bool, ActionError> {
    let failed = |e| ActionError::io("comparing", "the log with its copy", e);
    let (mut log, mut copy) = (log, copy);
    log.seek(SeekFrom::Start(0)).map_err(failed)?;
    copy.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (mut a, mut b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let n = read_full(&mut copy, &mut b[..want]).map_err(failed)?;
        let m = read_full(&mut log, &mut a[..want]).map_err(failed)?;
        if n != want || m != want || a[..want] != b[..want] {
            return Ok(false);
        }
        left -= want as u64;
        job.worked(0)?;
    }
    Ok(true)
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match from.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// A name as text for the outcome.
pub(super) fn shown(name: &OsString) -> String {
    String::from_utf8_lossy(&name.clone().into_vec()).into_owned()
}
