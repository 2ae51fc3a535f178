//! Small files done right: temporary file, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes the names in `dir` durable.
///
/// # Errors
/// What the kernel says.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` (and its parents) with mode 0700 and makes its name durable.
///
/// # Errors
/// What the kernel says.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fsync_dir(dir)?;
    fsync_dir(parent(dir))
}

/// Replaces `path` by `bytes`, mode 0600: a reader sees the old or the new content, also after a power cut.
///
/// # Errors
/// What the kernel says; the old content then still stands.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    fsync_dir(parent(path))
}

/// Reads a file of at most `limit` bytes; `None` when it does not exist.
///
/// # Errors
/// What the kernel says; `InvalidData` when the file is larger.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// `path` with `suffix` appended to its last component.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that holds `path`.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Moves `path` to `quarantine-<seconds since 1970>-<name>` beside it, durably; returns the new place.
///
/// # Errors
/// What the kernel says.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let name = path.file_name().map_or_else(|| "store".into(), |n| n.to_string_lossy().into_owned());
    let mut target = parent(path).join(format!("quarantine-{seconds}-{name}"));
    let mut n = 1;
    // A second loss within the same second; the bound only stops a directory full of leftovers.
    while target.exists() && n < 1000 {
        target = parent(path).join(format!("quarantine-{seconds}-{n}-{name}"));
        n += 1;
    }
    fs::rename(path, &target)?;
    fsync_dir(parent(path))?;
    Ok(target)
}
