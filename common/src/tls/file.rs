//! Key and certificate files: bounded reads, private modes, atomic writes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::TlsError;

/// Largest certificate or key file: a bundle of two CAs has 2 KiB; this only stops a wrong path.
const FILE_MAX_BYTES: u64 = 64 * 1024;

fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> TlsError {
    move |source| TlsError::File { verb, path: path.to_owned(), source }
}

/// Reads a text file of 64 KiB at most.
pub(super) fn read_text(path: &Path) -> Result<String, TlsError> {
    read_bounded(path, &File::open(path).map_err(failed("open", path))?)
}

/// Reads a secret file: a regular file that only its owner may read, 64 KiB at most.
///
/// # Errors
/// [`TlsError::KeyMode`] when group or others have any right to it.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, TlsError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let meta = file.metadata().map_err(failed("read", path))?;
    if !meta.is_file() {
        return Err(failed("read", path)(io::Error::other("it is not a regular file")));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TlsError::KeyMode { path: path.to_owned(), mode });
    }
    read_bounded(path, &file).map(Zeroizing::new)
}

fn read_bounded(path: &Path, file: &File) -> Result<String, TlsError> {
    // One allocation, so that no half-grown copy of a secret stays behind in freed memory.
    let mut text = Vec::with_capacity(usize::try_from(FILE_MAX_BYTES).unwrap_or(0) + 1);
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut text).map_err(failed("read", path))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(failed("read", path)(io::Error::other("it is larger than 64 KiB")));
    }
    String::from_utf8(text).map_err(|error| {
        error.into_bytes().zeroize();
        failed("read", path)(io::Error::other("it is not PEM text"))
    })
}

/// Writes a file so that a crash leaves the old or the new contents: exclusive temporary file beside it with the final
/// mode from its first moment, fsync, rename, fsync of the directory.
///
/// # Errors
/// [`TlsError::File`].
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> Result<(), TlsError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.tmp", crate::task::os_seed()));
    let temporary = dir.join(name);
    let written = write_new(&temporary, contents, mode)
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| sync_dir(dir));
    if written.is_err() {
        // Nothing half-written stays; that the removal may fail too changes nothing for the caller.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed("write", path))
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken rights away that the caller asked for.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
