//! The identity directory: `ca.pem`, `cert.pem`, `key.pem`, replaced together.
//!
//! Three renames are not atomic, so a change is prepared in `next/` and committed by the one rename that makes `next/`
//! appear; whoever finds a `next/` finishes it. A crash at any point leaves the old set or the new one, never a new
//! certificate with an old key.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{sync_dir, write_atomic};
use super::{Material, TlsError};

const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const NEXT: &str = "next";
const NEXT_DRAFT: &str = "next.tmp";

/// A directory with one identity. One process writes it; others may read.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Names the directory; nothing is touched yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether an identity is stored here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.join(CERT).exists() || self.dir.join(NEXT).exists()
    }

    /// Finishes an interrupted change and loads the identity.
    ///
    /// # Errors
    /// [`TlsError`] naming the file and the reason.
    pub fn load(&self) -> Result<Material, TlsError> {
        self.finish().map_err(|source| self.failed("finish writing", source))?;
        Material::load(&self.dir.join(CA), &self.dir.join(CERT), &self.dir.join(KEY))
    }

    /// The trust bundle's text, as stored.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn ca_pem(&self) -> Result<String, TlsError> {
        super::file::read_text(&self.dir.join(CA))
    }

    /// Checks the three texts together, stores them durably, and returns them ready for use.
    ///
    /// # Errors
    /// [`TlsError`]; the old identity is untouched then.
    pub fn save(
        &self,
        ca_pem: &str,
        cert_pem: &str,
        key_pem: &Zeroizing<String>,
    ) -> Result<Material, TlsError> {
        let material = Material::from_pem(ca_pem, cert_pem, key_pem)?;
        let failed = |source| self.failed("write", source);
        make_private_dir(&self.dir).map_err(failed)?;
        self.finish().map_err(failed)?;
        let draft = self.dir.join(NEXT_DRAFT);
        remove_dir_if_there(&draft).map_err(failed)?;
        make_private_dir(&draft).map_err(failed)?;
        write_atomic(&draft.join(KEY), key_pem.as_bytes(), 0o600)?;
        write_atomic(&draft.join(CERT), cert_pem.as_bytes(), 0o644)?;
        write_atomic(&draft.join(CA), ca_pem.as_bytes(), 0o644)?;
        // The commit.
        std::fs::rename(&draft, self.dir.join(NEXT)).map_err(failed)?;
        sync_dir(&self.dir).map_err(failed)?;
        self.finish().map_err(failed)?;
        Ok(material)
    }

    /// Moves what a committed `next/` still holds into place. Repeatable.
    fn finish(&self) -> io::Result<()> {
        let next = self.dir.join(NEXT);
        if !next.is_dir() {
            return Ok(());
        }
        for name in [KEY, CERT, CA] {
            match std::fs::rename(next.join(name), self.dir.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_dir(&self.dir)?;
        std::fs::remove_dir(&next)?;
        sync_dir(&self.dir)
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> TlsError {
        TlsError::File { verb, path: self.dir.clone(), source }
    }
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove_dir_if_there(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
