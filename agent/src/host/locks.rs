//! Locks that other programs hold on files, seen and never taken.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::{Flock, FlockType, fcntl_getlk};

/// Whether somebody holds a POSIX write lock on a file, as `dpkg` does while it works. A missing file is not locked.
///
/// # Errors
/// As `open` and `fcntl`.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    // A read lock is in the way of nobody but a writer, and can be asked about with a file that is only read.
    Ok(fcntl_getlk(&file, &Flock::from(FlockType::ReadLock))?.is_some())
}
