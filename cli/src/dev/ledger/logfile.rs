//! The instance's own log, and the counting files beside its data.
//!
//! A rotation renames the log under us and sends SIGHUP; until then lines go on into the renamed file, so none is lost.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An append-only text log that can be opened again under its name.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(open_append(path)?) })
    }

    /// Opens the path again; on failure the old file stays in use.
    pub(super) fn reopen(&self) -> std::io::Result<()> {
        let fresh = open_append(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Writes one line, in one write so that lines of a rotation never mix. A full disk must not stop the service.
    pub(super) fn line(&self, level: &str, text: &str) {
        let line = format!("{} {level} {text}\n", jiff::Timestamp::now());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("ledger: cannot write {}: {error}", self.path.display());
        }
    }
}

fn open_append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Appends `TIME PID` to a counting file and makes it durable: these lines are the evidence of how often a start happened.
pub(super) fn count(path: &Path) -> std::io::Result<()> {
    let mut file = open_append(path)?;
    file.write_all(format!("{} {}\n", jiff::Timestamp::now(), std::process::id()).as_bytes())?;
    file.sync_all()
}
