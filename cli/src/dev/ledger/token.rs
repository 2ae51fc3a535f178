//! Who may write: whoever brings the token in use, or the one before it. Both are read at every start and on SIGHUP; where
//! neither file is there, everybody may.
//!
//! Must never: write a token down, or say which one was brought.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use quorate_common::tls::constant_time_eq;
use serde::{Deserialize, Serialize};

/// The header that brings one.
pub(crate) const TOKEN: &str = "x-ledger-token";
/// Longest token, in bytes.
const TOKEN_MAX_BYTES: u64 = 4 * 1024;

/// Where the tokens lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The one in use.
    pub file: PathBuf,
    /// The one before it.
    pub previous: PathBuf,
}

/// The tokens that are accepted now.
pub(super) struct Tokens {
    config: Option<TokenConfig>,
    accepted: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads both files.
    pub(super) fn load(config: Option<TokenConfig>) -> anyhow::Result<Self> {
        let tokens = Self { config, accepted: Mutex::new(Vec::new()) };
        tokens.reload()?;
        Ok(tokens)
    }

    /// Reads both files again; what cannot be read changes nothing.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        let mut fresh = Vec::new();
        for path in [&config.file, &config.previous] {
            fresh.extend(read(path)?);
        }
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Whether whoever brings this may write.
    pub(super) fn lets_write(&self, brought: &str) -> bool {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.is_empty()
            || accepted.iter().any(|token| constant_time_eq(token.as_bytes(), brought.as_bytes()))
    }
}

/// A token from its file; none when there is no file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    use std::io::Read as _;
    let cannot = || format!("cannot read {}", path.display());
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(cannot)?,
    };
    let mut text = String::new();
    file.take(TOKEN_MAX_BYTES).read_to_string(&mut text).with_context(cannot)?;
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_is_accepted_and_nothing_is_asked_where_there_is_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = TokenConfig { file: dir.path().join("token"), previous: dir.path().join("previous") };
        let tokens = Tokens::load(Some(config)).expect("no file is no error");
        assert!(tokens.lets_write(""));
        std::fs::write(dir.path().join("token"), "new\n").expect("written");
        std::fs::write(dir.path().join("previous"), "old").expect("written");
        tokens.reload().expect("readable");
        assert!(tokens.lets_write("new") && tokens.lets_write("old"));
        assert!(!tokens.lets_write("") && !tokens.lets_write("other"));
        std::fs::remove_file(dir.path().join("previous")).expect("it was there");
        tokens.reload().expect("readable");
        assert!(!tokens.lets_write("old"));
        assert!(!format!("{tokens:?}").contains("new"), "it is told to nobody");
    }
}
