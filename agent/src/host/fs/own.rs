//! Our own small state files, at paths that nobody else chooses.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Reads a whole file of at most `max_bytes`; a larger one is an error, and never read into memory.
///
/// # Errors
/// As `open` and `read`; `FileTooLarge` above the limit.
pub fn read_limited(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("{} is larger than {max_bytes} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Replaces a file of our own: temporary file, fsync, rename, fsync of the folder. After a crash it is the old or the new.
///
/// # Errors
/// As the system calls; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?);
    name.push(".tmp");
    let temp = dir.join(name);
    let write = || {
        // A leftover of a crash is replaced; only one writer per file exists by design of the callers.
        match std::fs::remove_file(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)?;
        File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temp);
    })
}

/// Replaces the content of a file that the host's own configuration names: mode and owner stay. After a crash it is the old or
/// the new.
///
/// # Errors
/// As the system calls; `InvalidInput` for anything but a plain file, so that no link is replaced by what it points to.
pub fn replace_same(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let before = std::fs::symlink_metadata(path)?;
    if !before.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    write_atomic(path, bytes, before.mode() & 0o7777)?;
    let after = std::fs::symlink_metadata(path)?;
    if (after.uid(), after.gid()) != (before.uid(), before.gid()) {
        std::os::unix::fs::chown(path, Some(before.uid()), Some(before.gid()))?;
    }
    std::fs::set_permissions(path, before.permissions())
}
