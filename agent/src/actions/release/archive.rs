//! Reads a release's tar archive and refuses the whole of it for anything that is not plain (reliability.md B-8, B-9).
//!
//! One reader for both passes: the first only looks, the second writes what the first has found good, with every rule once more.
//! The members are read raw, because the crate's own reading of long names holds whatever size a header claims in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;
use quorate_common::wire::text::printable;
use zstd::stream::raw::DParameter;
use zstd::stream::read::Decoder;

use super::names::{Unfit, inside, plain};
use super::tree::CHUNK_BYTES;
use crate::actions::ActionError;
use crate::actions::job::Job;

/// Most members.
const MEMBERS_MAX: usize = 100_000;
/// Most names, folders that are not named included, and bytes of their paths: all are held until the end.
const NAMES_MAX: u64 = 200_000;
const PATHS_MAX_BYTES: usize = 12 * 1024 * 1024;
/// Largest extended header: two paths and some numbers.
const HEADER_MAX_BYTES: u64 = 64 * 1024;
/// Largest content in all.
const CONTENT_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// An archive may grow to this many times its own size when it is unpacked …
const RATIO_MAX: u64 = 100;
/// … and a small one to this size whatever the ratio is.
const SMALL_BYTES: u64 = 16 * 1024 * 1024;
/// Largest window accepted of zstd, log2: 32 MiB of memory, what level 19 needs at the most.
const WINDOW_LOG_MAX: u32 = 25;
/// Extended headers that change nothing we would lay out.
const HARMLESS: &[&str] = &["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"];

/// A regular file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Plain and relative.
    pub(super) path: String,
    /// Permission bits.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) size: u64,
}

/// Where members go.
pub(super) trait Sink {
    /// A folder; its parent came before.
    fn folder(&mut self, path: &str) -> Result<(), ActionError>;
    /// A symbolic link that stays inside.
    fn link(&mut self, path: &str, target: &str) -> Result<(), ActionError>;
    /// A file begins.
    fn begin(&mut self, member: &Member) -> Result<(), ActionError>;
    /// Its bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ActionError>;
    /// It ends.
    fn end(&mut self) -> Result<(), ActionError>;
}

/// Takes everything and keeps nothing.
pub(super) struct Look;

impl Sink for Look {
    fn folder(&mut self, _path: &str) -> Result<(), ActionError> {
        Ok(())
    }

    fn link(&mut self, _path: &str, _target: &str) -> Result<(), ActionError> {
        Ok(())
    }

    fn begin(&mut self, _member: &Member) -> Result<(), ActionError> {
        Ok(())
    }

    fn bytes(&mut self, _bytes: &[u8]) -> Result<(), ActionError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), ActionError> {
        Ok(())
    }
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Members of every kind, folders that are not named included.
    pub(super) names: u64,
    /// Regular files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Why reading ended early.
enum Stop {
    /// The caller wants it, or the machine fails.
    Action(ActionError),
    /// The archive is not plain, or can not be read.
    Read(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Read(e)
    }
}

impl From<Unfit> for Stop {
    fn from(unfit: Unfit) -> Self {
        bad(unfit.0)
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

/// Stops what expands beyond all measure.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "expanded_size_limit: it expands too much")
        })?;
        Ok(n)
    }
}

/// Reads an archive from its first byte to its last.
pub(super) fn read(
    file: &mut File,
    size: u64,
    sink: &mut dyn Sink,
    job: &mut Job,
) -> Result<Totals, ActionError> {
    whole(file, size, sink, job).map_err(|stop| match stop {
        Stop::Action(e) => e,
        // The kernel's own errors have a number; the parsers' have none.
        Stop::Read(e) if e.raw_os_error().is_some() => ActionError::io("reading", "the archive", e),
        Stop::Read(e) => {
            ActionError::BadArtifact { why: format!("archive_rejected: {}", printable(&e.to_string(), 400)) }
        }
    })
}

fn whole(file: &mut File, size: u64, sink: &mut dyn Sink, job: &mut Job) -> Result<Totals, Stop> {
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; 4];
    let n = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let left = size.saturating_mul(RATIO_MAX).max(SMALL_BYTES);
    let input = BufReader::with_capacity(CHUNK_BYTES, &*file);
    match magic.get(..n).unwrap_or_default() {
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = Decoder::with_buffer(input)?.single_frame();
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
            let (totals, decoder) = tar(Bounded { inner: decoder, left }, sink, job)?;
            nothing_follows(decoder.finish())?;
            Ok(totals)
        }
        [0x1f, 0x8b, ..] => {
            let (totals, decoder) = tar(Bounded { inner: GzDecoder::new(input), left }, sink, job)?;
            nothing_follows(decoder.into_inner())?;
            Ok(totals)
        }
        _ => Ok(tar(Bounded { inner: input, left }, sink, job)?.0),
    }
}

fn nothing_follows(mut input: impl BufRead) -> Result<(), Stop> {
    if input.fill_buf()?.is_empty() { Ok(()) } else { Err(bad("something follows the compressed data")) }
}

fn tar<R: Read>(input: Bounded<R>, sink: &mut dyn Sink, job: &mut Job) -> Result<(Totals, R), Stop> {
    let mut archive = tar::Archive::new(input);
    let mut reader = Members::default();
    for entry in archive.entries()?.raw(true) {
        reader.take(&mut entry?, sink, job)?;
    }
    if reader.pending.is_some() {
        return Err(bad("a member is announced and does not come"));
    }
    if reader.totals.files == 0 {
        return Err(bad("it holds no file"));
    }
    // The parser stops at the first of the two blocks of zeros that end an archive; tar pads with more of them.
    let mut rest = archive.into_inner();
    let mut zeros = 0_u64;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = rest.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|b| *b != 0) {
            return Err(bad("something follows the end of the archive"));
        }
        zeros = zeros.saturating_add(n as u64);
        job.worked(0)?;
    }
    if zeros < 512 {
        return Err(bad("it does not end where it should"));
    }
    Ok((reader.totals, rest.inner))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    /// Made because something lies in it.
    Implied,
    /// Named.
    Named,
    /// No folder.
    Leaf,
}

/// What extended headers say of the next member.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

#[derive(Default)]
struct Members {
    had: BTreeMap<String, Had>,
    folded: BTreeSet<String>,
    pending: Option<Pending>,
    count: usize,
    path_bytes: usize,
    totals: Totals,
}

impl Members {
    fn take<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        sink: &mut dyn Sink,
        job: &mut Job,
    ) -> Result<(), Stop> {
        self.count += 1;
        if self.count > MEMBERS_MAX {
            return Err(bad(format!("more than {MEMBERS_MAX} members")));
        }
        job.worked(512)?;
        let kind = entry.header().entry_type();
        match kind {
            tar::EntryType::GNULongName | tar::EntryType::GNULongLink | tar::EntryType::XHeader => {
                let text = extension(entry)?;
                return self.announce(kind, &text);
            }
            tar::EntryType::XGlobalHeader => {
                let text = extension(entry)?;
                return extended(&text, &mut Pending::default(), true);
            }
            _ => {}
        }
        let pending = self.pending.take().unwrap_or_default();
        let raw = pending.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let count = self.count;
        self.member(entry, kind, &raw, pending.link, pending.size, sink, job).map_err(|stop| match stop {
            Stop::Read(e) if e.raw_os_error().is_none() => {
                bad(format!("entry {count} {:?}: {e}", String::from_utf8_lossy(&raw)))
            }
            other @ (Stop::Read(_) | Stop::Action(_)) => other,
        })
    }

    fn announce(&mut self, kind: tar::EntryType, text: &[u8]) -> Result<(), Stop> {
        let pending = self.pending.get_or_insert_default();
        let name = || text.strip_suffix(b"\0").unwrap_or(text).to_vec();
        let twice = match kind {
            tar::EntryType::GNULongName => pending.path.replace(name()).is_some(),
            tar::EntryType::GNULongLink => pending.link.replace(name()).is_some(),
            _ => return extended(text, pending, false),
        };
        if twice { Err(bad("two names for one member")) } else { Ok(()) }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a member is all of these, and they come from three places"
    )]
    fn member<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: tar::EntryType,
        raw: &[u8],
        link: Option<Vec<u8>>,
        size: Option<u64>,
        sink: &mut dyn Sink,
        job: &mut Job,
    ) -> Result<(), Stop> {
        let own = entry.size();
        if size.is_some_and(|size| size != own) {
            return Err(bad("its two headers tell different sizes"));
        }
        let mode = entry.header().mode()?;
        if mode & 0o7000 != 0 {
            return Err(bad("it sets the user, the group or the sticky bit"));
        }
        let is_folder = kind == tar::EntryType::Directory;
        if !is_folder && raw.ends_with(b"/") {
            return Err(bad("a name that ends with a slash is no folder"));
        }
        let path = plain(raw)?;
        match kind {
            tar::EntryType::Directory => {
                if own != 0 {
                    return Err(bad("a folder with content"));
                }
                if path.is_empty() {
                    return Ok(());
                }
                self.parents(&path, sink)?;
                if self.note(&path, Had::Named)? {
                    sink.folder(&path)?;
                }
                Ok(())
            }
            tar::EntryType::Regular => {
                self.parents(&path, sink)?;
                self.note(&path, Had::Leaf)?;
                self.content(entry, Member { path, mode, size: own }, sink, job)
            }
            tar::EntryType::Symlink => {
                if own != 0 {
                    return Err(bad("a link with content"));
                }
                let target = link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
                let target = inside(&path, &target.unwrap_or_default())?;
                self.parents(&path, sink)?;
                self.note(&path, Had::Leaf)?;
                Ok(sink.link(&path, &target)?)
            }
            tar::EntryType::Link => Err(bad("a hard link")),
            other => Err(bad(format!("a member of type {:?}", char::from(other.as_byte())))),
        }
    }

    fn content<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        member: Member,
        sink: &mut dyn Sink,
        job: &mut Job,
    ) -> Result<(), Stop> {
        self.totals.files += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(member.size);
        if self.totals.bytes > CONTENT_MAX_BYTES {
            return Err(bad("expanded_size_limit: it holds more than 16 GiB"));
        }
        sink.begin(&member)?;
        let mut chunk = vec![0; usize::try_from(member.size).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)];
        let mut left = member.size;
        while left > 0 {
            let n = entry.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
                return Err(bad("it is cut short"));
            };
            sink.bytes(bytes)?;
            left = left.saturating_sub(n as u64);
            job.worked(n as u64)?;
        }
        Ok(sink.end()?)
    }

    /// Every folder above a member is a folder, named or not.
    fn parents(&mut self, path: &str, sink: &mut dyn Sink) -> Result<(), Stop> {
        for (at, _) in path.match_indices('/') {
            let above = path.get(..at).unwrap_or_default();
            match self.had.get(above) {
                Some(Had::Implied | Had::Named) => {}
                Some(Had::Leaf) => return Err(bad("it lies in something that is no folder")),
                None => {
                    self.note(above, Had::Implied)?;
                    sink.folder(above)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a name; `false` when its folder is there already, implied by what lies in it.
    fn note(&mut self, path: &str, as_what: Had) -> Result<bool, Stop> {
        if path.is_empty() {
            return Err(bad("it has no name"));
        }
        self.path_bytes = self.path_bytes.saturating_add(path.len());
        if self.path_bytes > PATHS_MAX_BYTES || self.totals.names >= NAMES_MAX {
            return Err(bad("its names are too many or too long"));
        }
        match (self.had.insert(path.to_owned(), as_what), as_what) {
            (Some(Had::Implied), Had::Named) => return Ok(false),
            (Some(_), _) => return Err(bad("a second member of that name")),
            (None, _) => {}
        }
        if !self.folded.insert(path.to_lowercase()) {
            return Err(bad("its name differs from another one in case alone"));
        }
        self.totals.names += 1;
        Ok(true)
    }
}

fn extension<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, Stop> {
    let size = entry.size();
    if size > HEADER_MAX_BYTES {
        return Err(bad("an extended header is too long"));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    if text.len() as u64 != size {
        return Err(bad("it is cut short"));
    }
    Ok(text)
}

fn extended(text: &[u8], pending: &mut Pending, global: bool) -> Result<(), Stop> {
    for pair in tar::PaxExtensions::new(text) {
        let pair = pair?;
        let key = pair.key().map_err(|_| bad("an extended header that is not UTF-8"))?;
        let value = pair.value_bytes();
        let twice = match key {
            "path" if !global => pending.path.replace(value.to_vec()).is_some(),
            "linkpath" if !global => pending.link.replace(value.to_vec()).is_some(),
            "size" if !global => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                let size = size.ok_or_else(|| bad("an extended header with a size that is none"))?;
                pending.size.replace(size).is_some()
            }
            key if HARMLESS.contains(&key) => false,
            key => return Err(bad(format!("an extended header {key:?} is not known"))),
        };
        if twice {
            return Err(bad("two names for one member"));
        }
    }
    Ok(())
}
