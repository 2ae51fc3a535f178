//! Compresses one rotated file: written aside, synced, renamed; the plain one goes last, and only if nobody wrote to it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::log::{CHUNK_BYTES, Log};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Seen};

/// Ending of a compressed file that is not complete.
const PACK_ENDING: &str = ".gz.quorate-pack";

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// Compressed.
    Done,
    /// Left as it is; the next rotation tries again.
    Left(&'static str),
}

impl Log<'_> {
    /// Whether some process writes to the plain file of a slot.
    pub(super) fn is_held(&self, n: u32) -> Result<bool, ActionError> {
        let Some(seen) = self.regular(&self.slot_name(n, false))? else { return Ok(false) };
        Ok(self.writers(&BTreeSet::from([seen.identity()]))?.held.contains(&seen.identity()))
    }

    /// Compresses slot `n`. `crash` is asked before each change.
    pub(super) fn pack(
        &self,
        n: u32,
        job: &mut Job,
        crash: &mut dyn FnMut() -> Result<(), ActionError>,
    ) -> Result<Packed, ActionError> {
        let (plain, packed) = (self.slot_name(n, false), self.slot_name(n, true));
        let part = self.hidden(&format!(".{n}{PACK_ENDING}"));
        let folder = &self.at.folder;
        let Some(seen) = self.regular(&plain)? else { return Ok(Packed::Left("it is gone")) };
        if self.is_held(n)? {
            return Ok(Packed::Left("a process still writes to it"));
        }
        let free = folder.free_bytes().map_err(self.failed("asking for free space of", &plain))?;
        if free < seen.size.saturating_add(self.reserve_bytes) {
            return Ok(Packed::Left("the disk has too little free space"));
        }
        self.remove_part(&part)?;
        let from = folder.open_read(&plain).map_err(self.failed("opening", &plain))?;
        crash()?;
        let to = folder.create_new(&part, 0o600).map_err(self.failed("making", &part))?;
        if let Err(error) = self.write(&from, to, &seen, &part, job) {
            self.remove_part(&part)?;
            return Err(error);
        }
        if !self.is_unchanged(&plain, &seen)? {
            self.remove_part(&part)?;
            return Ok(Packed::Left("a process wrote to it meanwhile"));
        }
        crash()?;
        folder.rename(&part, &packed).map_err(self.failed("renaming", &part))?;
        folder.sync().map_err(self.failed("syncing the folder of", &packed))?;
        crash()?;
        // Looked at again at the last moment: what came after the compressing is in the plain file alone.
        if self.is_held(n)? || !self.is_unchanged(&plain, &seen)? {
            folder.remove(&packed).map_err(self.failed("removing", &packed))?;
            return Ok(Packed::Left("a process wrote to it meanwhile"));
        }
        folder.remove(&plain).map_err(self.failed("removing", &plain))?;
        folder.sync().map_err(self.failed("syncing the folder of", &plain))?;
        Ok(Packed::Done)
    }

    fn remove_part(&self, part: &OsString) -> Result<(), ActionError> {
        self.at.folder.remove(part).map_err(self.failed("removing", part))
    }

    fn is_unchanged(&self, name: &OsString, before: &Seen) -> Result<bool, ActionError> {
        Ok(self.regular(name)?.is_some_and(|now| now == *before))
    }

    fn write(
        &self,
        mut from: &File,
        to: File,
        seen: &Seen,
        part: &OsString,
        job: &mut Job,
    ) -> Result<(), ActionError> {
        let failed = self.failed("compressing", part);
        let mut out = GzEncoder::new(to, Compression::default());
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = match from.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                done => done.map_err(&failed)?,
            };
            if n == 0 {
                break;
            }
            out.write_all(&chunk[..n]).map_err(&failed)?;
            job.worked(n as u64)?;
        }
        let to = out.finish().map_err(&failed)?;
        dir::set_owner_and_mode(&to, seen.uid, seen.gid, seen.mode & 0o777).map_err(&failed)?;
        dir::set_modified(&to, seen.mtime_ns).map_err(&failed)?;
        to.sync_all().map_err(failed)
    }
}
