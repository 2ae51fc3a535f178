//! Puts one entry of the walk into the archive, and notices when it changes while it is read (X9).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::manifest::Line;
use super::member::{Member, MemberKind, hex};
use super::plan::{MANIFEST_MEMBER, SMALL_BYTES};
use super::walk::{Entry, changed, opened};
use super::writer::{CHUNK_BYTES, Writer};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Kind, Seen};

/// Most files with several names that are remembered, about 150 bytes each. Beyond it the further names are stored as files
/// of their own, which loses nothing.
const LINKED_MAX: usize = 100_000;

/// What is remembered while one archive is written.
pub(super) struct Copier {
    /// The first name of each file that has several.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    chunk: Vec<u8>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { linked: BTreeMap::new(), chunk: vec![0; CHUNK_BYTES] }
    }

    /// Stores one entry.
    pub(super) fn entry(
        &mut self,
        job: &mut Job,
        out: &mut Writer,
        at: &Entry<'_>,
    ) -> Result<(), ActionError> {
        let mut member = member(at, MemberKind::Folder);
        let mtime = at.seen.mtime_ns;
        if at.is_store {
            return out.line(&Line::skipped(&member, mtime, "the folder of the backups"));
        }
        match at.seen.kind {
            Kind::Special(what) => out.line(&Line::skipped(&member, mtime, what)),
            Kind::Folder => {
                out.begin(&member)?;
                out.line(&Line::of(&member, mtime, String::new()))
            }
            Kind::Link => {
                member.kind = MemberKind::Link;
                member.link = at.folder.link_target(at.name).map_err(|e| opened(e, at.member))?;
                out.begin(&member)?;
                out.line(&Line::of(&member, mtime, String::new()))
            }
            Kind::File => self.file(job, out, at),
        }
    }

    fn file(&mut self, job: &mut Job, out: &mut Writer, at: &Entry<'_>) -> Result<(), ActionError> {
        if at.member == MANIFEST_MEMBER.as_bytes() {
            return Err(ActionError::invalid(
                "paths",
                format!("{MANIFEST_MEMBER} is the manifest's own name"),
            ));
        }
        if at.seen.links > 1 {
            if let Some(first) = self.linked.get(&at.seen.identity()) {
                let member = Member { size: 0, link: first.clone(), ..member(at, MemberKind::HardLink) };
                out.begin(&member)?;
                return out.line(&Line::of(&member, at.seen.mtime_ns, String::new()));
            }
            if self.linked.len() < LINKED_MAX {
                self.linked.insert(at.seen.identity(), at.member.to_vec());
            }
        }
        if at.seen.size <= SMALL_BYTES { small(job, out, at) } else { self.large(job, out, at) }
    }

    /// A file too large to hold: its header is written before its content is known to be stable, so a change throws the
    /// whole attempt away.
    fn large(&mut self, job: &mut Job, out: &mut Writer, at: &Entry<'_>) -> Result<(), ActionError> {
        let mut file = at.folder.open_read(at.name).map_err(|e| opened(e, at.member))?;
        same(&file, &at.seen, at.member)?;
        let member = member(at, MemberKind::File);
        out.begin(&member)?;
        let mut hash = Sha256::new();
        let mut left = member.size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let n = read(&mut file, &mut self.chunk[..want], at)?;
            if n == 0 {
                return Err(changed(at.member, "it became shorter"));
            }
            let bytes = &self.chunk[..n];
            hash.update(bytes);
            out.content(bytes)?;
            left -= n as u64;
            job.worked(n as u64)?;
        }
        if read(&mut file, &mut self.chunk[..1], at)? != 0 {
            return Err(changed(at.member, "it grew"));
        }
        same(&file, &at.seen, at.member)?;
        out.line(&Line::of(&member, at.seen.mtime_ns, hex(&hash.finalize())))
    }
}

fn member(at: &Entry<'_>, kind: MemberKind) -> Member {
    let size = if at.seen.kind == Kind::File { at.seen.size } else { 0 };
    Member {
        path: at.member.to_vec(),
        kind,
        size,
        mode: at.seen.mode,
        uid: at.seen.uid,
        gid: at.seen.gid,
        mtime: u64::try_from(at.seen.mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0),
        link: Vec::new(),
    }
}

fn read(file: &mut File, buffer: &mut [u8], at: &Entry<'_>) -> Result<usize, ActionError> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(|e| ActionError::io("reading", at.path(), e)),
        }
    }
}

/// A file that fits into memory: nothing is written before it was read twice the same way, so a change costs one more read.
fn small(job: &mut Job, out: &mut Writer, at: &Entry<'_>) -> Result<(), ActionError> {
    let (seen, bytes) = match small_once(at, &at.seen) {
        Err(ActionError::Changed { .. }) => {
            let again = at.folder.look(at.name).map_err(|e| ActionError::io("looking at", at.path(), e))?;
            let again = again.filter(|seen| seen.kind == Kind::File && seen.size <= SMALL_BYTES);
            let again = again.ok_or_else(|| changed(at.member, "it was replaced"))?;
            (again, small_once(at, &again)?)
        }
        done => (at.seen, done?),
    };
    let member = member(&Entry { seen, ..*at }, MemberKind::File);
    out.begin(&member)?;
    if !bytes.is_empty() {
        out.content(&bytes)?;
    }
    job.worked(bytes.len() as u64)?;
    out.line(&Line::of(&member, seen.mtime_ns, hex(&Sha256::digest(&bytes))))
}

fn small_once(at: &Entry<'_>, expected: &Seen) -> Result<Vec<u8>, ActionError> {
    let file = at.folder.open_read(at.name).map_err(|e| opened(e, at.member))?;
    same(&file, expected, at.member)?;
    let mut bytes = Vec::with_capacity(usize::try_from(expected.size).unwrap_or(0));
    let limit = expected.size.saturating_add(1);
    (&file).take(limit).read_to_end(&mut bytes).map_err(|e| ActionError::io("reading", at.path(), e))?;
    match (bytes.len() as u64).cmp(&expected.size) {
        std::cmp::Ordering::Less => Err(changed(at.member, "it became shorter")),
        std::cmp::Ordering::Greater => Err(changed(at.member, "it grew")),
        std::cmp::Ordering::Equal => same(&file, expected, at.member).map(|()| bytes),
    }
}

/// Whether an open file still is what the walk saw.
fn same(file: &File, expected: &Seen, member: &[u8]) -> Result<(), ActionError> {
    let now = dir::seen(file).map_err(|e| ActionError::io("looking at", super::walk::path_of(member), e))?;
    if now.identity() != expected.identity() {
        return Err(changed(member, "it was replaced"));
    }
    if now.size != expected.size {
        return Err(changed(member, "its size changed"));
    }
    if (now.mtime_ns, now.ctime_ns) != (expected.mtime_ns, expected.ctime_ns) {
        return Err(changed(member, "it was written to"));
    }
    Ok(())
}
