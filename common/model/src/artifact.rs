//! Artifacts: files that hosts install, known by the sha256 of their bytes. The bytes lie on the coordinators' disks, outside
//! the log; what is replicated is only this.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// Largest artifact that may be declared at all; a member's own configuration allows less.
pub const ARTIFACT_MAX_BYTES: u64 = 4 << 30;
/// Longest file name.
pub const FILE_NAME_MAX_BYTES: usize = 128;
/// Longest signature text; minisign's own are about 300 bytes.
pub const SIGNATURE_MAX_BYTES: usize = 4 * 1024;

/// What a caller says of an artifact before its bytes come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSpec {
    /// sha256 of all its bytes; its identity.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The name of the file it was made from, for people; never a path.
    pub file_name: String,
    /// minisign text beside it. Only stored here: the host that installs it checks it against its own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A field of an [`ArtifactSpec`] that cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidArtifact {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for InvalidArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl core::error::Error for InvalidArtifact {}

impl ArtifactSpec {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// [`InvalidArtifact`] of the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidArtifact> {
        let bad = |field, why| Err(InvalidArtifact { field, why });
        if self.size == 0 {
            return bad("size", "an empty file is no artifact");
        }
        if self.size > ARTIFACT_MAX_BYTES {
            return bad("size", "it is larger than 4 GiB");
        }
        let name = self.file_name.as_str();
        if name.is_empty() || name.len() > FILE_NAME_MAX_BYTES {
            return bad("file_name", "expected 1 to 128 bytes");
        }
        if matches!(name, "." | "..") || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
            return bad("file_name", "expected a plain name without slashes and control characters");
        }
        match &self.signature {
            Some(text) if text.is_empty() || text.len() > SIGNATURE_MAX_BYTES => {
                bad("signature", "expected 1 to 4096 bytes")
            }
            Some(text) if text.chars().any(|c| c.is_control() && c != '\n') => {
                bad("signature", "it holds control characters")
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn spec(file_name: &str, size: u64, signature: Option<&str>) -> ArtifactSpec {
        let digest = Digest::new("0f".repeat(32)).unwrap();
        ArtifactSpec { digest, size, file_name: file_name.into(), signature: signature.map(Into::into) }
    }

    #[test]
    fn hostile_specs_are_refused_and_the_field_is_named() {
        let field = |spec: ArtifactSpec| spec.check().unwrap_err().field;
        for name in ["", ".", "..", "a/b", "../x", "a\\b", "a\nb", "a\0", "\u{1b}[2J", &"x".repeat(129)] {
            assert_eq!(field(spec(name, 1, None)), "file_name", "{name:?}");
        }
        assert_eq!(field(spec("a", 0, None)), "size");
        assert_eq!(field(spec("a", ARTIFACT_MAX_BYTES + 1, None)), "size");
        for text in ["", "a\0", "a\rb", "\u{1b}[2J", &"x".repeat(4_097)] {
            assert_eq!(field(spec("a", 1, Some(text))), "signature", "{text:?}");
        }
        let good = spec("ledger-1.9.2.tar.zst", ARTIFACT_MAX_BYTES, Some("untrusted comment: x\nRUQ=\n"));
        assert_eq!(good.check(), Ok(()));
        assert_eq!(spec("é", 1, None).check(), Ok(()));
        assert!(spec("", 1, None).check().unwrap_err().to_string().starts_with("file_name: "));
    }
}
