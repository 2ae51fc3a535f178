//! The file that is pushed: looked at once, read by offset, and told when it changed meanwhile.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use quorate_model::artifact::{ARTIFACT_MAX_BYTES, SIGNATURE_MAX_BYTES};
use quorate_model::{ArtifactSpec, Digest};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::failure::Failure;

/// Bytes read at once when the file is hashed.
const HASH_BYTES: usize = 1 << 20;

/// A file on this machine.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    seen: Metadata,
}

fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let text = format!("{} cannot be {what}", path.display());
    move |error| Failure::usage(format!("{text}: {error}"))
}

impl Source {
    /// Opens it; only a plain file that is not empty is one.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        // Looked at first: opening a pipe would wait for its writer.
        let meta = std::fs::metadata(path).map_err(cannot("read", path))?;
        let refuse = |why: &str| Err(Failure::usage(format!("{} {why}", path.display())));
        if meta.is_dir() {
            return refuse("is a directory; pack it into one file first");
        }
        if !meta.is_file() {
            return refuse("is not a plain file");
        }
        let file = File::open(path).map_err(cannot("read", path))?;
        let seen = file.metadata().map_err(cannot("read", path))?;
        match seen.len() {
            0 => refuse("is empty"),
            size if size > ARTIFACT_MAX_BYTES => refuse("is larger than 4 GiB"),
            _ => Ok(Self { path: path.to_owned(), file, seen }),
        }
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.seen.len()
    }

    /// Its digest, and what else is said of it.
    pub(super) fn spec(
        &self,
        signature: Option<String>,
        mut progress: impl FnMut(u64),
    ) -> Result<ArtifactSpec, Failure> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; HASH_BYTES], 0);
        while at < self.size() {
            let read = match (&self.file).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(cannot("read", &self.path))?,
            };
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Err(self.changed());
            };
            hasher.update(bytes);
            at += bytes.len() as u64;
            progress(at.min(self.size()));
        }
        self.unchanged()?;
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = Digest::new(hex).map_err(|e| Failure::failed(e.to_string()))?;
        let name = self.path.file_name().and_then(|name| name.to_str());
        let file_name = name.ok_or_else(|| Failure::usage("the file's name is not UTF-8"))?.to_owned();
        let spec = ArtifactSpec { digest, size: self.size(), file_name, signature };
        spec.check().map_err(|e| Failure::usage(format!("{}: {e}", self.path.display())))?;
        Ok(spec)
    }

    /// Bytes from an offset on, `most` or as many as are left.
    pub(super) fn part(&self, offset: u64, most: u32) -> Result<Vec<u8>, Failure> {
        let left = self.size().saturating_sub(offset).min(u64::from(most));
        let mut data = vec![0; usize::try_from(left).unwrap_or(0)];
        match self.file.read_exact_at(&mut data, offset) {
            Ok(()) => Ok(data),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.changed()),
            Err(error) => Err(cannot("read", &self.path)(error)),
        }
    }

    /// Whether it is still the file that was hashed, as far as its size and time tell.
    pub(super) fn unchanged(&self) -> Result<(), Failure> {
        let now = self.file.metadata().map_err(cannot("read", &self.path))?;
        let same = now.len() == self.seen.len() && now.modified().ok() == self.seen.modified().ok();
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Failure {
        Failure::failed(format!("{} changed while it was pushed; nothing was listed", self.path.display()))
            .with_hint("push it once nothing writes to it any more")
    }
}

/// The text of the signature: of the file that was named, or of the one beside FILE when there is one.
pub(super) fn signature(file: &Path, named: Option<&Path>) -> Result<Option<String>, Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".minisig");
    let path = named.map_or_else(|| PathBuf::from(beside), Path::to_owned);
    let opened = match File::open(&path) {
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(cannot("read", &path))?,
    };
    let refuse = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let limit = SIGNATURE_MAX_BYTES as u64 + 1;
    let read = opened.take(limit).read_to_string(&mut text);
    read.map_err(|_| refuse("it is not the text of a signature"))?;
    let text = text.replace("\r\n", "\n");
    if text.is_empty() || text.len() > SIGNATURE_MAX_BYTES {
        return Err(refuse("a signature has 1 to 4096 bytes"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::failure::exit;

    #[test]
    fn what_cannot_be_an_artifact_is_said_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        fs::write(&empty, b"").unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(ARTIFACT_MAX_BYTES + 1).unwrap();
        let none = dir.path().join("none");
        for (path, word) in [
            (dir.path(), "directory"),
            (&empty, "empty"),
            (&large, "4 GiB"),
            (&none, "No such file"),
            (Path::new("/dev/null"), "plain"),
        ] {
            let failure = Source::open(path).err().unwrap();
            assert!(failure.what.contains(word) && failure.code == exit::USAGE, "{}", failure.what);
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.tar");
        fs::write(&path, b"0123456789").unwrap();
        let source = Source::open(&path).unwrap();
        let mut told = Vec::new();
        let spec = source.spec(None, |at| told.push(at)).unwrap();
        assert_eq!((spec.size, spec.file_name.as_str(), told), (10, "ledger.tar", vec![10]));
        assert_eq!(spec.digest.as_str(), "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882");
        assert_eq!((source.part(8, 5).unwrap(), source.part(10, 5).unwrap()), (b"89".to_vec(), vec![]));
        fs::write(&path, b"01234").unwrap();
        assert!(source.part(0, 10).is_err() && source.unchanged().is_err());
    }

    #[test]
    fn a_signature_is_found_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("a"), dir.path().join("other"));
        assert_eq!(signature(&file, None).unwrap(), None);
        assert!(signature(&file, Some(&other)).is_err(), "one that was named must be there");
        fs::write(dir.path().join("a.minisig"), "untrusted comment: x\r\nRUQ=\r\n").unwrap();
        assert_eq!(signature(&file, None).unwrap().unwrap(), "untrusted comment: x\nRUQ=\n");
        for bad in [&b""[..], b"\xff\xfe", &[b'x'; 5_000]] {
            fs::write(&other, bad).unwrap();
            assert!(signature(&file, Some(&other)).is_err());
        }
    }
}
