//! The high-water mark: what this machine is known to have had on disk. A store behind it lost writes.

use crate::engine::EngineError;

/// Marks a caller may keep beside the commit sequence.
pub const MARKS: usize = 3;

/// Bytes of the file, frozen on 2026-11-21: magic (8), sequence (8), marks (24), reserved (20), crc32c (4).
pub(crate) const BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"QRHIGH\x00\x01";

/// Commits between two replacements of the file (reliability.md §4.3 rule 7).
pub(crate) const EVERY: u64 = 1000;

/// A reading of the high-water mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWater {
    /// Commit sequence of the store.
    pub sequence: u64,
    /// The caller's own marks, each only ever growing (vote term, committed index, journal sequence …).
    pub marks: [u64; MARKS],
}

impl HighWater {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        for mark in self.marks {
            out.extend_from_slice(&mark.to_le_bytes());
        }
        out.resize(BYTES - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EngineError> {
        let bad = |why: &str| EngineError::Damage(format!("high-water record: {why}"));
        if bytes.len() != BYTES {
            return Err(bad("wrong length"));
        }
        let (body, crc) = bytes.split_at(BYTES - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(bad("wrong checksum"));
        }
        if !body.starts_with(MAGIC) {
            return Err(bad("unknown version"));
        }
        let word = |n: usize| {
            body.get(8 + n * 8..16 + n * 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        Ok(Self { sequence: word(0), marks: [word(1), word(2), word(3)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_frozen_and_checked() {
        let mark = HighWater { sequence: 1000, marks: [1, 2, 3] };
        let bytes = mark.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // 2026-11-21, format 1.
        assert!(
            hex.starts_with(
                "5152484947480001e803000000000000010000000000000002000000000000000300000000000000"
            )
        );
        assert_eq!(bytes.len(), BYTES);
        assert_eq!(HighWater::decode(&bytes).unwrap(), mark);
        for n in 0..BYTES {
            let mut bad = bytes.clone();
            bad[n] ^= 1;
            assert!(HighWater::decode(&bad).is_err(), "byte {n} went unchecked");
        }
        assert!(HighWater::decode(&bytes[..63]).is_err());
    }
}
