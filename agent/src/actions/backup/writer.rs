//! One archive being written: `tar` through zstd through a hash into a locked `.part`, the manifest beside it.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use super::manifest::{Header, Line, ManifestWriter, Totals};
use super::member::{Member, MemberKind, TarWriter, hex};
use super::plan::{Effort, MANIFEST_MEMBER};
use super::store::{Names, Store};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir;

/// Bytes read at once: large enough for the disk, small beside the compressor's own tables.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Hashes and counts what is written.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// What it wrote to or read from, how many bytes, and their sha256.
    pub(super) fn into_parts(self) -> (W, u64, String) {
        (self.inner, self.bytes, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }
}

/// Removes the parts unless they were published.
struct Parts {
    store: Arc<Store>,
    names: Names,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // After a success they have other names. A part that cannot be removed now is removed by the next backup.
        for name in [&self.names.part, &self.names.manifest_part] {
            let _ = self.store.folder.remove(name);
        }
    }
}

/// An archive being written.
pub(super) struct Writer {
    tar: TarWriter<Encoder<'static, Hashing<File>>>,
    manifest: ManifestWriter<BufWriter<File>>,
    parts: Parts,
}

/// An archive that is complete and synced, and not published yet.
pub(super) struct Sealed {
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
    pub(super) manifest_sha256: String,
    pub(super) totals: Totals,
    parts: Parts,
    /// Holds the lock.
    _file: File,
}

fn encoder(file: File, effort: Effort) -> io::Result<Encoder<'static, Hashing<File>>> {
    let mut out = Encoder::new(Hashing::new(file), effort.level)?;
    out.include_checksum(true)?;
    if let Some(log) = effort.window_log {
        out.set_parameter(CParameter::WindowLog(log))?;
    }
    if let Some(log) = effort.chain_log {
        out.set_parameter(CParameter::ChainLog(log))?;
    }
    if let Some(log) = effort.hash_log {
        out.set_parameter(CParameter::HashLog(log))?;
    }
    if effort.workers > 0 {
        out.multithread(effort.workers)?;
        out.set_parameter(CParameter::JobSize(effort.job_bytes))?;
    }
    Ok(out)
}

impl Writer {
    pub(super) fn open(
        store: &Arc<Store>,
        names: &Names,
        header: &Header,
        effort: Effort,
    ) -> Result<Self, ActionError> {
        let parts = Parts { store: Arc::clone(store), names: names.clone() };
        let make = |name| {
            let failed = |e| ActionError::io("making", store.path(name), e);
            let file = store.folder.create_new(name, 0o600).map_err(failed)?;
            // Nobody else can hold the lock of a file made this moment.
            dir::try_lock(&file).map_err(failed)?;
            Ok(file)
        };
        let archive = make(&names.part)?;
        let manifest = make(&names.manifest_part)?;
        let failed = |e| ActionError::io("writing", store.path(&names.part), e);
        Ok(Self {
            tar: TarWriter::new(encoder(archive, effort).map_err(failed)?),
            manifest: ManifestWriter::new(BufWriter::new(manifest), header).map_err(failed)?,
            parts,
        })
    }

    fn failed(&self, e: io::Error) -> ActionError {
        ActionError::io("writing", self.parts.store.path(&self.parts.names.part), e)
    }

    pub(super) fn begin(&mut self, member: &Member) -> Result<(), ActionError> {
        self.tar.begin(member).map_err(|e| self.failed(e))
    }

    pub(super) fn content(&mut self, bytes: &[u8]) -> Result<(), ActionError> {
        self.tar.content(bytes).map_err(|e| self.failed(e))
    }

    pub(super) fn line(&mut self, line: &Line) -> Result<(), ActionError> {
        self.manifest.line(line).map_err(|e| self.failed(e))
    }

    /// Appends the manifest and makes both files survive a power cut.
    pub(super) fn seal(self, job: &Job, created_ms: i64) -> Result<Sealed, ActionError> {
        let Self { tar, manifest, parts } = self;
        let failed = |e| ActionError::io("writing", parts.store.path(&parts.names.part), e);
        let totals = manifest.totals;
        let (buffered, bytes, manifest_sha256) = manifest.finish().map_err(failed)?;
        let mut manifest = buffered.into_inner().map_err(|e| failed(e.into_error()))?;
        manifest.sync_all().map_err(failed)?;
        let file = append(tar, &mut manifest, bytes, created_ms, job, failed)?;
        let (file, size_bytes, sha256) = file.into_parts();
        file.sync_all().map_err(failed)?;
        dir::forget_cache(&file);
        Ok(Sealed { sha256, size_bytes, manifest_sha256, totals, parts, _file: file })
    }
}

fn append(
    mut tar: TarWriter<Encoder<'static, Hashing<File>>>,
    manifest: &mut File,
    bytes: u64,
    created_ms: i64,
    job: &Job,
    failed: impl Fn(io::Error) -> ActionError + Copy,
) -> Result<Hashing<File>, ActionError> {
    let member = Member {
        path: MANIFEST_MEMBER.as_bytes().to_vec(),
        kind: MemberKind::File,
        size: bytes,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: u64::try_from(created_ms / 1_000).unwrap_or(0),
        link: Vec::new(),
    };
    tar.begin(&member).map_err(failed)?;
    manifest.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        job.check()?;
        let n = manifest.read(&mut chunk).map_err(failed)?;
        if n == 0 {
            break;
        }
        tar.content(&chunk[..n]).map_err(failed)?;
    }
    tar.finish().and_then(Encoder::finish).map_err(failed)
}

impl Sealed {
    /// Where it is until it is published.
    pub(super) fn part(&self) -> &Names {
        &self.parts.names
    }

    /// Gives both files their names; the archive's comes last, since it is what says "this is a backup".
    pub(super) fn publish(&self) -> Result<(), ActionError> {
        let (folder, names) = (&self.parts.store.folder, &self.parts.names);
        let path = self.parts.store.path(&names.archive);
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => ActionError::Occupied {
                path: path.clone(),
                why: "it came while this one was written".to_owned(),
            },
            _ => ActionError::io("publishing", &path, e),
        };
        folder.rename(&names.manifest_part, &names.manifest).map_err(failed)?;
        folder.sync().map_err(failed)?;
        folder.rename_new(&names.part, &names.archive).map_err(failed)?;
        folder.sync().map_err(failed)
    }
}
