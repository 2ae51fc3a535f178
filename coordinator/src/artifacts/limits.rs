//! The `[artifacts]` section of the configuration: how much of this member's disk artifacts may take.

use quorate_common::config::{Size, Span};
use quorate_common::wire::limits::ARTIFACT_CHUNK_MAX_BYTES;
use quorate_durable::SpaceFloor;
use quorate_model::artifact::ARTIFACT_MAX_BYTES;
use serde::Deserialize;

/// The `[artifacts]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArtifactLimits {
    /// Largest artifact.
    pub max_size: Size,
    /// All of them together, with what uploads under way have announced.
    pub max_total: Size,
    /// Uploads open at once.
    pub max_uploads: usize,
    /// An upload that nobody touched for this long is removed.
    pub part_expiry: Span,
    /// Most bytes of one message of an upload.
    pub chunk: Size,
    /// Bytes of the disk that stay free whatever is pushed.
    pub min_free: Size,
    /// Percent of the disk that stay free; the larger of the two counts.
    pub min_free_percent: u8,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self {
            max_size: Size(2 << 30),
            max_total: Size(20 << 30),
            max_uploads: 8,
            part_expiry: Span::secs(24 * 3_600),
            chunk: Size(u64::from(ARTIFACT_CHUNK_MAX_BYTES)),
            min_free: Size(1 << 30),
            min_free_percent: 5,
        }
    }
}

impl ArtifactLimits {
    /// Refuses values that would switch a limit off or everybody out.
    ///
    /// # Errors
    /// The key and what it may be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let between = |key, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err((key, format!("between {least} and {most}")))
            }
        };
        let uploads = u64::try_from(self.max_uploads).unwrap_or(u64::MAX);
        between("artifacts.max_size", self.max_size.bytes(), 1, ARTIFACT_MAX_BYTES)?;
        between("artifacts.max_total", self.max_total.bytes(), self.max_size.bytes(), 1 << 50)?;
        between("artifacts.max_uploads", uploads, 1, 1_000)?;
        between("artifacts.part_expiry (seconds)", self.part_expiry.0.as_secs(), 60, 366 * 24 * 3_600)?;
        between("artifacts.chunk", self.chunk.bytes(), 4_096, u64::from(ARTIFACT_CHUNK_MAX_BYTES))?;
        between("artifacts.min_free_percent", u64::from(self.min_free_percent), 0, 90)
    }

    pub(super) fn floor(&self) -> SpaceFloor {
        SpaceFloor {
            min_free_bytes: self.min_free.bytes(),
            min_free_percent: self.min_free_percent,
            ballast_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_a_limit_is_never_off() {
        assert_eq!(ArtifactLimits::default().validate(), Ok(()));
        let bad = [
            ArtifactLimits { max_size: Size(0), ..ArtifactLimits::default() },
            ArtifactLimits { max_size: Size(5 << 30), ..ArtifactLimits::default() },
            ArtifactLimits { max_total: Size(1), ..ArtifactLimits::default() },
            ArtifactLimits { max_uploads: 0, ..ArtifactLimits::default() },
            ArtifactLimits { part_expiry: Span::secs(0), ..ArtifactLimits::default() },
            ArtifactLimits { chunk: Size(1 << 20), ..ArtifactLimits::default() },
            ArtifactLimits { min_free_percent: 100, ..ArtifactLimits::default() },
        ];
        for limits in bad {
            assert!(limits.validate().is_err(), "{limits:?}");
        }
    }
}
