//! Reads an archive in full and believes nothing: every member against the manifest, every byte against a hash (X10).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zstd::stream::raw::DParameter;
use zstd::stream::read::Decoder;

use super::manifest::{Header, LineKind, ManifestReader, Totals};
use super::member::{Member, MemberKind, hex};
use super::plan::{ENTRIES_MAX, MANIFEST_MEMBER};
use super::store::Store;
use super::writer::{CHUNK_BYTES, Hashing};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Kind};

/// Largest window accepted, log2: our own archives use 23 at most; more would let a foreign file take our memory.
const WINDOW_LOG_MAX: u32 = 24;

/// The second block of zeros at the end of an archive.
const END_BYTES: u64 = 512;

/// An archive that was read in full and is what its manifest says.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
    pub(super) manifest_sha256: String,
    pub(super) header: Header,
    pub(super) totals: Totals,
}

/// Why reading ended early.
enum Stop {
    /// The caller wants it, or the machine fails.
    Action(ActionError),
    /// The archive is not what it should be, or can not be read.
    Read(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Read(e)
    }
}

impl From<ActionError> for Stop {
    fn from(e: ActionError) -> Self {
        Self::Action(e)
    }
}

fn bad(why: impl Into<String>) -> Stop {
    Stop::Read(io::Error::new(io::ErrorKind::InvalidData, why.into()))
}

/// Checks one archive of the store.
pub(super) fn check(store: &Store, name: &OsString, job: &mut Job) -> Result<Verified, ActionError> {
    let path = store.path(name);
    let file = open(store, name, &path)?;
    let size = dir::seen(&file).map_err(|e| ActionError::io("looking at", &path, e))?.size;
    let verified = read(file, job).map_err(|stop| match stop {
        Stop::Action(e) => e,
        // The kernel's own errors have a number; the parsers' have none.
        Stop::Read(e) if e.raw_os_error().is_some() => ActionError::io("reading", &path, e),
        Stop::Read(e) => ActionError::Damaged { path: path.clone(), why: e.to_string() },
    })?;
    if verified.size_bytes != size {
        let why = format!("{size} bytes, and {} of them belong to it", verified.size_bytes);
        return Err(ActionError::Damaged { path, why });
    }
    Ok(verified)
}

fn open(store: &Store, name: &OsString, path: &PathBuf) -> Result<File, ActionError> {
    let seen = store.folder.look(name).map_err(|e| ActionError::io("looking at", path, e))?;
    match seen.map(|s| s.kind) {
        None => Err(ActionError::NotFound(path.clone())),
        Some(Kind::File) => store.folder.open_read(name).map_err(|e| ActionError::io("opening", path, e)),
        Some(Kind::Folder | Kind::Link | Kind::Special(_)) => {
            Err(ActionError::Damaged { path: path.clone(), why: "it is no regular file".to_owned() })
        }
    }
}

fn read(file: File, job: &mut Job) -> Result<Verified, Stop> {
    let input = BufReader::with_capacity(CHUNK_BYTES, Hashing::new(file));
    let mut decoder = Decoder::with_buffer(input)?.single_frame();
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    let mut archive = tar::Archive::new(decoder);
    let (header, totals, manifest_sha256) = members(&mut archive, job)?;
    let mut decoder = archive.into_inner();
    // The parser stops at the first of the two blocks of zeros that end an archive. Reading on to the end of the frame also
    // compares zstd's own checksum.
    let mut rest = Vec::new();
    decoder.by_ref().take(END_BYTES + 1).read_to_end(&mut rest)?;
    if rest.len() as u64 != END_BYTES || rest.iter().any(|b| *b != 0) {
        return Err(bad("the tar archive does not end where it should"));
    }
    let mut input = decoder.finish();
    if !input.fill_buf()?.is_empty() {
        return Err(bad("something follows the end of the compressed data"));
    }
    let (_, size_bytes, sha256) = input.into_inner().into_parts();
    Ok(Verified { size_bytes, sha256, manifest_sha256, header, totals })
}

fn members<R: Read>(archive: &mut tar::Archive<R>, job: &mut Job) -> Result<(Header, Totals, String), Stop> {
    let mut digests: Vec<[u8; 16]> = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut found = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if found.is_some() {
            return Err(bad("a member follows the manifest"));
        }
        let member = member_of(&entry)?;
        if member.path == MANIFEST_MEMBER.as_bytes() {
            found = Some(manifest(&mut entry, &digests, job)?);
            continue;
        }
        if digests.len() == ENTRIES_MAX {
            return Err(bad(format!("more than {ENTRIES_MAX} members")));
        }
        let content =
            if member.kind == MemberKind::File { hash(&mut entry, &mut chunk, job)? } else { String::new() };
        job.worked(512)?;
        digests.push(member.digest(&content));
    }
    found.ok_or_else(|| bad("it has no manifest"))
}

fn hash(entry: &mut impl Read, chunk: &mut [u8], job: &mut Job) -> Result<String, Stop> {
    let mut hash = Sha256::new();
    loop {
        let n = entry.read(chunk)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..n]);
        job.worked(n as u64)?;
    }
}

fn member_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Member, Stop> {
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Regular => MemberKind::File,
        tar::EntryType::Directory => MemberKind::Folder,
        tar::EntryType::Symlink => MemberKind::Link,
        tar::EntryType::Link => MemberKind::HardLink,
        other => return Err(bad(format!("a member of type {:?} is not ours", char::from(other.as_byte())))),
    };
    let small = |n: u64| u32::try_from(n).map_err(|_| bad("an owner is out of range"));
    let mut path = entry.path_bytes().into_owned();
    if kind == MemberKind::Folder && path.last() == Some(&b'/') {
        path.pop();
    }
    Ok(Member {
        path,
        kind,
        size: entry.size(),
        mode: header.mode()?,
        uid: small(header.uid()?)?,
        gid: small(header.gid()?)?,
        mtime: header.mtime()?,
        link: entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default(),
    })
}

/// Reads the manifest and compares it, line by line, with the members before it.
fn manifest(
    entry: &mut impl Read,
    digests: &[[u8; 16]],
    job: &mut Job,
) -> Result<(Header, Totals, String), Stop> {
    let mut reader = ManifestReader::new(BufReader::new(entry))?;
    let mut rest = digests.iter();
    let mut counted = Totals::default();
    loop {
        job.worked(0)?;
        let line = match reader.next()? {
            Ok(line) => line,
            Err((totals, sha256)) => {
                if rest.next().is_some() {
                    return Err(bad("it has members that the manifest does not name"));
                }
                if totals != counted {
                    return Err(bad("the manifest's totals are not those of its entries"));
                }
                return Ok((reader.header, totals, sha256));
            }
        };
        let Some(member) = line.member().map_err(bad)? else {
            counted.skipped += 1;
            continue;
        };
        counted.members += 1;
        if line.kind == LineKind::File {
            counted.files += 1;
            counted.content_bytes = counted.content_bytes.saturating_add(line.size);
        }
        match rest.next() {
            None => return Err(bad(format!("{} is in the manifest and not in the archive", line.path))),
            Some(digest) if *digest == member.digest(&line.sha256) => {}
            Some(_) => return Err(bad(format!("{} is not what the manifest says", line.path))),
        }
    }
}
