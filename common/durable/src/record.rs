//! The frame around every stored value. Frozen on 2026-11-21: version, kind, length, checksum, payload.

use crate::error::StoreError;

/// Largest stored value in bytes, frame included (reliability.md §4.3 rule 3).
pub const MAX_STORED: usize = 4096;

/// `version (1) | kind (1) | length (4, LE) | crc32c (4, LE)`.
pub(crate) const HEADER: usize = 10;

/// The only version so far; a higher one was written by a newer release and is refused.
pub(crate) const VERSION: u8 = 1;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The caller's value.
    Whole,
    /// Where the chunks of the caller's value are.
    Manifest,
    /// One chunk.
    Chunk,
    /// The store's own bookkeeping.
    Meta,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Manifest => 1,
            Self::Chunk => 2,
            Self::Meta => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Whole),
            1 => Some(Self::Manifest),
            2 => Some(Self::Chunk),
            3 => Some(Self::Meta),
            _ => None,
        }
    }
}

fn checksum(key: &[u8], kind: Kind, payload: &[u8]) -> u32 {
    // The key takes part, so that a block written to the wrong place is not mistaken for its neighbor.
    let crc = crc32c::crc32c(&[VERSION, kind.byte()]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), payload)
}

/// Frames `payload`; the caller has checked its size.
pub(crate) fn encode(key: &[u8], kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.push(VERSION);
    out.push(kind.byte());
    // Payloads are at most MAX_STORED bytes, so the length always fits.
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&checksum(key, kind, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Checks a frame and returns what it holds.
pub(crate) fn decode<'a>(key: &[u8], stored: &'a [u8]) -> Result<(Kind, &'a [u8]), StoreError> {
    let corrupt = |reason: &str| StoreError::corrupt(key, reason);
    let (header, payload) =
        stored.split_at_checked(HEADER).ok_or_else(|| corrupt("shorter than its header"))?;
    let [version, kind, l0, l1, l2, l3, c0, c1, c2, c3] = *header else {
        return Err(corrupt("shorter than its header"));
    };
    if version != VERSION {
        return Err(corrupt(&format!("version {version} where {VERSION} is known")));
    }
    let kind = Kind::from_byte(kind).ok_or_else(|| corrupt("unknown kind"))?;
    if u32::from_le_bytes([l0, l1, l2, l3]) as usize != payload.len() {
        return Err(corrupt("wrong length"));
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(key, kind, payload) {
        return Err(corrupt("wrong checksum"));
    }
    Ok((kind, payload))
}

/// Where the chunks of one large value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The commit that wrote the chunks: chunks are never overwritten, so a reader sees one version or none.
    pub(crate) sequence: u64,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

impl Manifest {
    const BYTES: usize = 28;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(key: &[u8], payload: &[u8]) -> Result<Self, StoreError> {
        let bad = || StoreError::corrupt(key, "malformed manifest");
        if payload.len() != Self::BYTES {
            return Err(bad());
        }
        let u64_at =
            |at: usize| payload.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let u32_at =
            |at: usize| payload.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        Ok(Self {
            sequence: u64_at(0).ok_or_else(bad)?,
            first: u32_at(8).ok_or_else(bad)?,
            count: u32_at(12).ok_or_else(bad)?,
            bytes: u64_at(16).ok_or_else(bad)?,
            crc: u32_at(24).ok_or_else(bad)?,
        })
    }

    /// The key of chunk `n`, counted from zero.
    pub(crate) fn chunk_key(&self, n: u32) -> Vec<u8> {
        chunk_key(self.sequence, self.first.saturating_add(n))
    }
}

/// First byte of chunk keys; callers' keys stay below.
pub(crate) const CHUNK_PREFIX: u8 = 0xFE;

/// Key of the store's totals, rewritten in every batch.
pub(crate) const TOTALS_KEY: &[u8] = &[0xFF, b's'];

/// What the whole store must add up to. sled recovers a damaged log by leaving out what it cannot read, and the rest
/// then looks whole: each record's own checksum cannot see a missing neighbor, the totals can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Commits so far.
    pub(crate) sequence: u64,
    /// Records there are, this one not counted.
    pub(crate) count: u64,
    /// Sum of [`weight`] over these records.
    pub(crate) digest: u64,
}

impl Totals {
    const BYTES: usize = 24;

    pub(crate) fn add(&mut self, key: &[u8], stored: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(weight(key, stored));
    }

    pub(crate) fn remove(&mut self, key: &[u8], stored: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(weight(key, stored));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.sequence, self.count, self.digest].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, StoreError> {
        let bad = || StoreError::corrupt(TOTALS_KEY, "wrong length");
        if payload.len() != Self::BYTES {
            return Err(bad());
        }
        let word =
            |n: usize| payload.get(n * 8..n * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        Ok(Self {
            sequence: word(0).ok_or_else(bad)?,
            count: word(1).ok_or_else(bad)?,
            digest: word(2).ok_or_else(bad)?,
        })
    }
}

/// What one record adds to [`Totals::digest`].
fn weight(key: &[u8], stored: &[u8]) -> u64 {
    u64::from(crc32c::crc32c(key)) << 32 | u64::from(crc32c::crc32c(stored))
}

pub(crate) fn chunk_key(sequence: u64, n: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(CHUNK_PREFIX);
    key.extend_from_slice(&sequence.to_be_bytes());
    key.extend_from_slice(&n.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn frame_bytes_are_frozen() {
        // 2026-11-21, format 1. Never change these; add a version beside them.
        assert_eq!(hex(&encode(b"k", Kind::Whole, b"value")), "0100050000005824ccbe76616c7565");
        let totals = Totals { sequence: 1, count: 2, digest: 3 };
        assert_eq!(hex(&totals.encode()), "010000000000000002000000000000000300000000000000");
        let manifest = Manifest { sequence: 7, first: 1, count: 2, bytes: 5000, crc: 0xAABB_CCDD };
        assert_eq!(hex(&manifest.encode()), "070000000000000001000000020000008813000000000000ddccbbaa");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let frame = encode(b"key", Kind::Whole, b"some value");
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(b"key", &bad).is_err(), "bit {bit} went unnoticed");
        }
        for end in 0..frame.len() {
            assert!(decode(b"key", &frame[..end]).is_err(), "truncation to {end} went unnoticed");
        }
        assert!(decode(b"kez", &frame).is_err(), "a record under another key went unnoticed");
        assert_eq!(decode(b"key", &frame).unwrap(), (Kind::Whole, b"some value".as_slice()));
    }
}
