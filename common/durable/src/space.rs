//! Free space: refuse early, and keep a reserve that can be given back.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::options::SpaceFloor;

/// Free and total bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceUse {
    /// Bytes an unprivileged process may still write.
    pub free: u64,
    /// Size in bytes.
    pub total: u64,
}

/// Too little space to take on new work: answer `RESOURCE_EXHAUSTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{free} bytes free of {total}: {wanted} must stay free")]
pub struct LowSpace {
    /// Bytes free now.
    pub free: u64,
    /// Size in bytes.
    pub total: u64,
    /// Bytes that must stay free.
    pub wanted: u64,
}

/// Free and total space of the file system that holds `path`.
///
/// # Errors
/// What the kernel says.
pub fn space_use(path: &Path) -> io::Result<SpaceUse> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(SpaceUse {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

impl SpaceFloor {
    /// Checks a reading against the floor.
    ///
    /// # Errors
    /// [`LowSpace`].
    pub fn check(&self, space: SpaceUse) -> Result<(), LowSpace> {
        let share = space.total / 100 * u64::from(self.min_free_percent);
        let wanted = self.min_free_bytes.max(share);
        if space.free < wanted {
            return Err(LowSpace { free: space.free, total: space.total, wanted });
        }
        Ok(())
    }
}

/// Makes sure that the ballast is there. A disk that would be short with it does without: what was given back when the disk
/// was full is what the next start works with, and must not be taken again before somebody made room.
pub(crate) fn keep_ballast(path: &Path, floor: &SpaceFloor) -> io::Result<()> {
    if floor.ballast_bytes == 0 {
        return remove_if_there(path);
    }
    if fs::metadata(path).is_ok_and(|m| m.len() == floor.ballast_bytes) {
        return Ok(());
    }
    let mut space = space_use(crate::files::parent(path))?;
    space.free = space.free.saturating_sub(floor.ballast_bytes);
    if let Err(low) = floor.check(space) {
        tracing::warn!(%low, path = %path.display(), "no ballast until there is room for it");
        return remove_if_there(path);
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, floor.ballast_bytes) {
        Ok(()) => file.sync_all(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no ballast");
            remove_if_there(path)
        }
    }
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_floor_counts() {
        let floor = SpaceFloor { min_free_bytes: 100, min_free_percent: 10, ballast_bytes: 0 };
        assert_eq!(floor.check(SpaceUse { free: 100, total: 1000 }), Ok(()));
        let low = floor.check(SpaceUse { free: 99, total: 1000 }).unwrap_err();
        assert_eq!(low, LowSpace { free: 99, total: 1000, wanted: 100 });
        assert_eq!(floor.check(SpaceUse { free: 199, total: 2000 }).unwrap_err().wanted, 200);
    }

    #[test]
    fn ballast_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut floor = SpaceFloor { ballast_bytes: 1 << 20, ..SpaceFloor::small() };
        keep_ballast(&path, &floor).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        floor.ballast_bytes = 0;
        keep_ballast(&path, &floor).unwrap();
        assert!(!path.exists());
    }

    /// reliability.md §4.3 rule 8: the start after ENOSPC must find the room that the ballast gave back.
    #[test]
    fn a_disk_that_would_be_short_keeps_no_ballast() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        // No disk has this much: what others free meanwhile changes nothing.
        let short = SpaceFloor { ballast_bytes: 1 << 20, min_free_bytes: u64::MAX, min_free_percent: 0 };
        keep_ballast(&path, &short).unwrap();
        assert!(!path.exists(), "the last room was taken as ballast");
        fs::write(&path, b"half a ballast").unwrap();
        keep_ballast(&path, &short).unwrap();
        assert!(!path.exists(), "what is left of a ballast is room, too");
    }
}
