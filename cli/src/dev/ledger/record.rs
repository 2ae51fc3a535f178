//! One record of the key-value file, also what members send each other.
//!
//! `crc32c(rest) | body length | term | seq | kind | key length | key | value`, integers little-endian.

use serde::{Deserialize, Serialize};

/// Longest key, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 256;
/// Longest value, in bytes: the limit of the PUT endpoint.
pub(super) const MAX_VALUE_BYTES: usize = 64 * 1024;

const HEADER: usize = 8;
const FIXED: usize = 8 + 8 + 1 + 2;
const MAX_BODY: usize = FIXED + MAX_KEY_BYTES + MAX_VALUE_BYTES;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Orders writes: first by the leader's term, then by its sequence number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) term: u64,
    pub(super) seq: u64,
}

/// A key's value (or `None`: its deletion) at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) version: Version,
    pub(super) key: String,
    pub(super) value: Option<Vec<u8>>,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A whole record and its length in bytes.
    Record(Record, usize),
    /// Fewer bytes than the record needs: a torn tail.
    Short,
    /// Not a record. `behind`: bytes follow after its end, so it is damage and no torn tail.
    Bad { behind: bool },
}

pub(super) fn encode(record: &Record) -> Vec<u8> {
    let key = record.key.as_bytes();
    let value = record.value.as_deref().unwrap_or_default();
    // Callers keep to MAX_KEY_BYTES and MAX_VALUE_BYTES, so neither length can be cut here.
    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let body_len = u32::try_from(FIXED + key.len() + value.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER + FIXED + key.len() + value.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&record.version.term.to_le_bytes());
    out.extend_from_slice(&record.version.seq.to_le_bytes());
    out.push(if record.value.is_some() { PUT } else { DELETE });
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn decode(data: &[u8]) -> Decoded {
    let Some((crc, rest)) = data.split_first_chunk::<4>() else { return Decoded::Short };
    let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Decoded::Short };
    let len = u32::from_le_bytes(*len) as usize;
    if !(FIXED..=MAX_BODY).contains(&len) {
        // The length itself is damaged, so nobody knows where the record ends. A file that was extended but not filled
        // by a crash ends in zeros: that is a torn tail.
        return Decoded::Bad { behind: data.iter().any(|byte| *byte != 0) };
    }
    let Some(body) = rest.get(..len) else { return Decoded::Short };
    let behind = rest.len() > len;
    if crc32c::crc32c(&data[4..HEADER + len]) != u32::from_le_bytes(*crc) {
        return Decoded::Bad { behind };
    }
    match parse_body(body) {
        Some(record) => Decoded::Record(record, HEADER + len),
        None => Decoded::Bad { behind },
    }
}

fn parse_body(body: &[u8]) -> Option<Record> {
    let (term, rest) = body.split_first_chunk::<8>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    let (key_len, rest) = rest.split_first_chunk::<2>()?;
    let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_len)))?;
    let value = match *kind {
        PUT if value.len() <= MAX_VALUE_BYTES => Some(value.to_vec()),
        DELETE if value.is_empty() => None,
        _ => return None,
    };
    let key = check_key(std::str::from_utf8(key).ok()?).ok()?.to_owned();
    let version = Version { term: u64::from_le_bytes(*term), seq: u64::from_le_bytes(*seq) };
    Some(Record { version, key, value })
}

/// A key is 1 to 256 bytes of UTF-8 without control characters (it is written to a log).
pub(super) fn check_key(key: &str) -> Result<&str, String> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {}", key.len()));
    }
    if key.chars().any(char::is_control) {
        return Err("a key has no control characters".to_owned());
    }
    Ok(key)
}
