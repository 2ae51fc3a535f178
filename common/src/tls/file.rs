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

/// Reads a secret file, 64 KiB at most: a regular file that only its owner may read, or its owner and we by an access list.
///
/// The access list is for the credentials of systemd: from version 254 on they belong to root and let the service's user read
/// them by a list (on a ramfs, as before, they belong to that user and have mode 0400). The mode shows the list's mask where
/// the group's rights stand, 0440, though no group may read.
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
    let only_mask = mode & 0o037 == 0 && only_we_are_listed(&file);
    if mode & 0o077 != 0 && !only_mask {
        return Err(TlsError::KeyMode { path: path.to_owned(), mode });
    }
    read_bounded(path, &file).map(Zeroizing::new)
}

/// Whether an open file has an access list that lets nobody read but its owner and ourselves.
fn only_we_are_listed(file: &File) -> bool {
    // Longer than any list that we would accept.
    let mut list = [0; 128];
    let read = rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list);
    // No list, a longer one, or a file system that has none: what the mode says holds.
    read.ok()
        .and_then(|n| list.get(..n))
        .is_some_and(|list| lists_only(list, rustix::process::geteuid().as_raw()))
}

/// Judges an access list as the kernel gives it (`linux/posix_acl_xattr.h`): a version, then entries of tag, rights, id, all
/// little-endian.
pub(super) fn lists_only(list: &[u8], uid: u32) -> bool {
    const VERSION: &[u8] = &[2, 0, 0, 0];
    const USER_OBJ: u16 = 0x01;
    const USER: u16 = 0x02;
    const MASK: u16 = 0x10;
    let Some(entries) = list.strip_prefix(VERSION) else { return false };
    let (entries, rest) = entries.as_chunks::<8>();
    let harmless = |[t0, t1, r0, r1, i0, i1, i2, i3]: &[u8; 8]| {
        let rights = u16::from_le_bytes([*r0, *r1]);
        match u16::from_le_bytes([*t0, *t1]) {
            USER_OBJ | MASK => true,
            USER => u32::from_le_bytes([*i0, *i1, *i2, *i3]) == uid,
            // The owning group, others, and named groups.
            _ => rights == 0,
        }
    };
    rest.is_empty() && !entries.is_empty() && entries.iter().all(harmless)
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
