//! Lays a release out in a folder of its own, and tells later whether it is still the same.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::{Member, Sink};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Folder, Kind};
use crate::host::exec::hex;

/// Most names of one release, folders included: twice what an archive may hold, since it need not name its folders.
const NAMES_MAX: usize = 200_000;
/// Deepest folder of a release, one more than an archive's.
const DEPTH_MAX: usize = 66;
/// Bytes copied or hashed at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Mode of folders, and the widest of files: nobody but their owner ever writes here.
const MODE: u32 = 0o755;

fn failed(folder: &Folder, name: &OsStr) -> impl FnOnce(io::Error) -> ActionError {
    let path = folder.path().join(name);
    move |e| ActionError::io("laying out", path, e)
}

/// Copies a file's bytes from its start, each chunk shown to a visitor.
pub(super) fn copy(
    source: &mut impl Read,
    from: &Path,
    to: &mut impl Write,
    job: &mut Job,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<u64, ActionError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut copied = 0_u64;
    loop {
        let n = source.read(&mut chunk).map_err(|e| ActionError::io("reading", from, e))?;
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { return Ok(copied) };
        visit(bytes);
        to.write_all(bytes).map_err(|e| ActionError::io("copying", from, e))?;
        copied = copied.saturating_add(n as u64);
        job.worked(n as u64)?;
    }
}

/// sha256 of a file.
pub(super) fn digest_of(file: &mut File, path: &Path, job: &mut Job) -> Result<String, ActionError> {
    let mut hash = Sha256::new();
    copy(file, path, &mut io::sink(), job, &mut |bytes| hash.update(bytes))?;
    Ok(hex(&hash.finalize()))
}

/// Lays out one executable.
pub(super) fn executable(
    into: &Folder,
    name: &str,
    source: &mut File,
    from: &Path,
    job: &mut Job,
) -> Result<(), ActionError> {
    let name = OsStr::new(name);
    let mut file = into.create_new(name, 0o600).map_err(failed(into, name))?;
    copy(source, from, &mut file, job, &mut |_| {})?;
    finish(&file, MODE).map_err(failed(into, name))
}

fn finish(file: &File, mode: u32) -> io::Result<()> {
    let own = dir::seen(file)?;
    dir::set_owner_and_mode(file, own.uid, own.gid, mode)?;
    file.sync_all()
}

/// Writes an archive's members as they come.
pub(super) struct Unpack<'f> {
    into: &'f Folder,
    open: Option<(File, Folder, OsString, u32)>,
}

impl<'f> Unpack<'f> {
    pub(super) const fn new(into: &'f Folder) -> Self {
        Self { into, open: None }
    }

    /// The folder a member goes into, opened without following a link, and its name there.
    fn parent(&self, path: &str) -> Result<(Folder, OsString), ActionError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.into.beneath(Path::new(above)).map_err(failed(self.into, OsStr::new(above)))?;
        Ok((folder, OsString::from(name)))
    }
}

impl Sink for Unpack<'_> {
    fn folder(&mut self, path: &str) -> Result<(), ActionError> {
        let (parent, name) = self.parent(path)?;
        parent.make_folder(&name, MODE).map_err(failed(&parent, &name))?;
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), ActionError> {
        let (parent, name) = self.parent(path)?;
        parent.link(&name, target.as_bytes()).map_err(failed(&parent, &name))
    }

    fn begin(&mut self, member: &Member) -> Result<(), ActionError> {
        let (parent, name) = self.parent(&member.path)?;
        let file = parent.create_new(&name, 0o600).map_err(failed(&parent, &name))?;
        self.open = Some((file, parent, name, (member.mode & MODE) | 0o400));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ActionError> {
        let Some((file, parent, name, _)) = &mut self.open else { return Ok(()) };
        file.write_all(bytes).map_err(failed(parent, name))
    }

    fn end(&mut self) -> Result<(), ActionError> {
        let Some((file, parent, name, mode)) = self.open.take() else { return Ok(()) };
        let own = dir::seen(&file).map_err(failed(&parent, &name))?;
        // Not synced one by one: the whole file system is, before the release gets its name.
        dir::set_owner_and_mode(&file, own.uid, own.gid, mode).map_err(failed(&parent, &name))
    }
}

/// One digest over every name, kind, mode, owner, link and byte.
pub(super) fn fingerprint(folder: &Folder, job: &mut Job) -> Result<String, ActionError> {
    let mut walk = Walk { hash: Sha256::new(), left: NAMES_MAX, chunk: vec![0; CHUNK_BYTES] };
    walk.folder(folder, DEPTH_MAX, job)?;
    Ok(hex(&walk.hash.finalize()))
}

struct Walk {
    hash: Sha256,
    left: usize,
    chunk: Vec<u8>,
}

impl Walk {
    fn word(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn folder(&mut self, folder: &Folder, depth: usize, job: &mut Job) -> Result<(), ActionError> {
        let io = |e| ActionError::io("looking into", folder.path(), e);
        let damaged =
            |why: &str| ActionError::Damaged { path: folder.path().to_path_buf(), why: why.to_owned() };
        let depth = depth.checked_sub(1).ok_or_else(|| damaged("it is deeper than any release"))?;
        let names = folder.names(self.left).map_err(io)?;
        self.left = self.left.saturating_sub(names.len());
        self.hash.update((names.len() as u64).to_le_bytes());
        for name in names {
            job.worked(0)?;
            let seen = folder.look(&name).map_err(io)?.ok_or_else(|| damaged("a name went away"))?;
            self.word(name.as_encoded_bytes());
            for number in [seen.mode, seen.uid, seen.gid] {
                self.hash.update(number.to_le_bytes());
            }
            match seen.kind {
                Kind::Folder => {
                    self.hash.update(b"d");
                    self.folder(&folder.folder(&name).map_err(io)?, depth, job)?;
                }
                Kind::Link => {
                    self.hash.update(b"l");
                    let target = folder.link_target(&name).map_err(io)?;
                    self.word(&target);
                }
                Kind::File => {
                    self.hash.update(b"f");
                    self.file(&mut folder.open_read(&name).map_err(io)?, seen.size, job).map_err(|stop| {
                        match stop {
                            Ok(action) => action,
                            Err(e) => io(e),
                        }
                    })?;
                }
                Kind::Special(what) => return Err(damaged(&format!("it holds a {what}"))),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        file: &mut File,
        size: u64,
        job: &mut Job,
    ) -> Result<(), Result<ActionError, io::Error>> {
        self.hash.update(size.to_le_bytes());
        loop {
            let n = file.read(&mut self.chunk).map_err(Err)?;
            let Some(bytes) = self.chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.hash.update(bytes);
            job.worked(n as u64).map_err(Ok)?;
        }
    }
}
