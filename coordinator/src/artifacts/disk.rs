//! The few things the store does with files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use quorate_durable::files;
use quorate_model::{Digest, Timestamp};
use sha2::{Digest as _, Sha256 as Hasher};

use super::error::ArtifactError;

/// Bytes read at once when a file is hashed.
const HASH_BYTES: usize = 256 * 1024;

/// Removes a file, if it is there, durably.
pub(super) fn remove(path: &Path) -> Result<(), ArtifactError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ArtifactError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => {
            let dir = files::parent(path);
            files::fsync_dir(dir).map_err(ArtifactError::io("sync", dir))
        }
    }
}

/// Digest, size and time of every plain file whose name is a digest.
pub(super) fn found(dir: &Path) -> Result<Vec<(Digest, u64, Timestamp)>, ArtifactError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(ArtifactError::io("list", dir))? {
        let entry = entry.map_err(ArtifactError::io("list", dir))?;
        let digest = entry.file_name().to_str().and_then(|name| Digest::new(name).ok());
        // Not what a link points to: it could point anywhere.
        let meta = fs::symlink_metadata(entry.path()).map_err(ArtifactError::io("look at", &entry.path()))?;
        let (Some(digest), true) = (digest, meta.is_file()) else {
            tracing::warn!(path = %entry.path().display(), "this is no artifact and is not touched");
            continue;
        };
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let millis = modified.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        all.push((digest, meta.len(), Timestamp(millis)));
    }
    Ok(all)
}

/// sha256 of a whole file, as it lies on the disk.
pub(super) fn sha256(path: &Path) -> Result<String, ArtifactError> {
    let mut file = File::open(path).map_err(ArtifactError::io("open", path))?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; HASH_BYTES]);
    loop {
        let read = file.read(&mut buffer).map_err(ArtifactError::io("read", path))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
