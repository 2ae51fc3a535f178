//! The file of `quorate cluster snapshot save`: the coordinators' whole state with what it is, checked end to end.
//!
//! Job: write and read the frame, here and nowhere else, so that the command line can judge a file without knowing what a
//! state is. Must never: give out a part of a file that is not whole.
//!
//! Frozen on 2026-11-24: magic (8), length of the header (4), header (JSON), length of the state (8), state, sha256 of all
//! before (32); integers LE.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tls::hex;

/// The first bytes of every such file; the last one is the version of the frame.
const MAGIC: &[u8; 8] = b"QRSAVED\x01";
/// Longest header.
const HEADER_MAX_BYTES: usize = 64 << 10;
/// Bytes at the end.
const SUM: usize = 32;
/// Largest file: a state of 256 MiB, the limit of a snapshot, and its frame.
pub const SAVED_MAX_BYTES: u64 = (256 << 20) + (1 << 20);

/// What a saved state is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedHeader {
    /// Version of the header.
    pub format: u32,
    /// Id of the cluster.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// Last log index that the state holds.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Number of the leader that proposed that entry.
    pub leader_id: u64,
    /// The member that gave it.
    pub member: String,
    /// When, RFC 3339.
    pub saved_at: String,
    /// Release of that member's program.
    pub version: String,
    /// Behaviour level of the state.
    pub level: u32,
    /// sha256 of the encoded state, 64 lower-case hex digits: equal on all members at that index.
    pub state_sha256: String,
    /// How much it holds, by noun.
    pub counts: BTreeMap<String, u64>,
}

/// Version of the header that this release writes.
pub const FORMAT: u32 = 1;

/// Why a file is not one, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is something else.
    #[error("it is no saved snapshot of Quorate, or of an unknown version")]
    Stranger,
    /// It is cut off, or longer than it says.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The header cannot be read.
    #[error("its header cannot be read")]
    Header(#[source] serde_json::Error),
    /// A newer release wrote it.
    #[error("its format is {found}, this release reads {FORMAT}")]
    Format {
        /// What it says.
        found: u32,
    },
}

/// sha256 as text.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The whole file. The header's hash of the state is made here.
///
/// # Errors
/// [`SavedError::Header`] when the header does not encode.
pub fn encode(mut header: SavedHeader, state: &[u8]) -> Result<Vec<u8>, SavedError> {
    header.state_sha256 = sha256_hex(state);
    let header = serde_json::to_vec(&header).map_err(SavedError::Header)?;
    let mut out = Vec::with_capacity(MAGIC.len() + 12 + header.len() + state.len() + SUM);
    out.extend_from_slice(MAGIC);
    // A header is some hundred bytes.
    out.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&(state.len() as u64).to_le_bytes());
    out.extend_from_slice(state);
    let sum = Sha256::digest(&out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// Checks a file whole; gives its header and its state.
///
/// # Errors
/// [`SavedError`].
pub fn decode(bytes: &[u8]) -> Result<(SavedHeader, &[u8]), SavedError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SavedError::Stranger);
    }
    let short = || SavedError::Damaged("it is cut off");
    let body = bytes.len().checked_sub(SUM).ok_or_else(short)?;
    let (body, sum) = bytes.split_at_checked(body).ok_or_else(short)?;
    if Sha256::digest(body).as_slice() != sum {
        return Err(SavedError::Damaged("its checksum is wrong, or it is cut off"));
    }
    let rest = body.get(MAGIC.len()..).ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > HEADER_MAX_BYTES {
        return Err(SavedError::Damaged("its header is too long"));
    }
    let (header, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    let header: SavedHeader = serde_json::from_slice(header).map_err(SavedError::Header)?;
    if header.format != FORMAT {
        return Err(SavedError::Format { found: header.format });
    }
    let (length, state) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if state.len() as u64 != u64::from_le_bytes(*length) {
        return Err(SavedError::Damaged("the state has another length than it says"));
    }
    if sha256_hex(state) != header.state_sha256 {
        return Err(SavedError::Damaged("the state is another one than the header says"));
    }
    Ok((header, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SavedHeader {
        SavedHeader {
            format: FORMAT,
            cluster_id: "c-1".into(),
            cluster_name: "test".into(),
            index: 41_822,
            term: 7,
            leader_id: 2,
            member: "coord2".into(),
            saved_at: "2026-11-24T00:00:00Z".into(),
            version: "0.1.0".into(),
            level: 1,
            state_sha256: String::new(),
            counts: BTreeMap::from([("nodes".into(), 5)]),
        }
    }

    #[test]
    fn comes_back_whole_and_no_flipped_or_missing_byte_goes_unseen() {
        let bytes = encode(header(), b"a state").unwrap();
        let (found, state) = decode(&bytes).unwrap();
        assert_eq!((found.index, state), (41_822, b"a state".as_slice()));
        assert_eq!(found.state_sha256, sha256_hex(b"a state"));
        for n in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[n] ^= 1;
            assert!(decode(&bad).is_err(), "byte {n} went unchecked");
            assert!(decode(&bytes[..n]).is_err(), "cut at {n}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
    }

    /// A file that was put together by hand has a right checksum and may lie about anything else.
    #[test]
    fn a_file_that_lies_is_refused() {
        let sealed = |mut body: Vec<u8>| {
            let sum = Sha256::digest(&body);
            body.extend_from_slice(&sum);
            body
        };
        let good = encode(header(), b"a state").unwrap();
        let body = good[..good.len() - SUM].to_vec();
        assert!(decode(&sealed(body.clone())).is_ok());
        let mut other = body.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(matches!(decode(&sealed(other)), Err(SavedError::Damaged(_))));
        let mut long = body.clone();
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(decode(&sealed(long)), Err(SavedError::Damaged(_))));
        let newer = encode(SavedHeader { format: 2, ..header() }, b"").unwrap();
        assert!(matches!(decode(&newer), Err(SavedError::Format { found: 2 })));
        assert!(matches!(decode(b"PK\x03\x04"), Err(SavedError::Stranger)));
    }

    #[test]
    fn the_frame_is_frozen() {
        let bytes = encode(header(), b"a state").unwrap();
        // 2026-11-24, format 1.
        assert!(bytes.starts_with(b"QRSAVED\x01"));
        let header =
            br#"{"format":1,"clusterId":"c-1","clusterName":"test","index":41822,"term":7,"leaderId":2,"#;
        assert!(bytes[12..].starts_with(header), "{}", String::from_utf8_lossy(&bytes[12..]));
    }
}
