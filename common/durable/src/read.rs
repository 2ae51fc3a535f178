//! Reading checked values back, whole or from chunks.

use std::ops::RangeInclusive;

use crate::batch::MAX_LARGE;
use crate::engine::{Engine, EngineError, Pair};
use crate::error::StoreError;
use crate::record::{self, Kind, Manifest, Totals};

/// How often a read starts over when a commit replaced the value under it. Each try needs one more concurrent
/// replacement of the same key within microseconds; eight in a row mean that the chunks are really gone.
const TRIES: u32 = 8;

/// Runs an engine call; sled panics on some damaged pages, which must become an error of this read only.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, StoreError> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    match outcome {
        Ok(result) => result.map_err(StoreError::Engine),
        Err(panic) => Err(StoreError::Engine(of_panic(panic_text(&*panic)))),
    }
}

/// sled also panics over what the kernel refused (`unwrap` of an I/O error); that is no damage.
pub(crate) fn of_panic(text: String) -> EngineError {
    // How `std::io::Error` shows an error of the operating system in `Debug`; 28 is ENOSPC, 22 EINVAL as above.
    match text.split_once("Os { code: ").map(|(_, code)| code) {
        Some(code) if code.starts_with("28,") => EngineError::NoSpace,
        Some(code) if !code.starts_with("22,") => EngineError::Other(text),
        _ => EngineError::Damage(text),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned());
    // A panic message may print a whole page.
    text.chars().take(400).collect()
}

/// The value of `key`.
pub(crate) fn get(engine: &dyn Engine, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    for _ in 0..TRIES {
        let Some(stored) = guarded(|| engine.get(key))? else {
            return Ok(None);
        };
        if let Some(value) = open(engine, key, &stored)? {
            return Ok(Some(value));
        }
    }
    Err(StoreError::corrupt(key, "chunks are missing"))
}

/// Takes a stored record apart; `None` when its chunks were replaced meanwhile.
fn open(engine: &dyn Engine, key: &[u8], stored: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match record::decode(key, stored)? {
        (Kind::Whole, payload) => Ok(Some(payload.to_vec())),
        (Kind::Manifest, payload) => assemble(engine, key, Manifest::decode(key, payload)?),
        (Kind::Chunk | Kind::Meta, _) => Err(StoreError::corrupt(key, "a record of another kind")),
    }
}

fn assemble(engine: &dyn Engine, key: &[u8], manifest: Manifest) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = usize::try_from(manifest.bytes).unwrap_or(usize::MAX);
    if bytes > MAX_LARGE {
        return Err(StoreError::corrupt(key, "manifest claims more than the largest value"));
    }
    let mut value = Vec::with_capacity(bytes);
    for n in 0..manifest.count {
        let chunk_key = manifest.chunk_key(n);
        let Some(stored) = guarded(|| engine.get(&chunk_key))? else {
            return Ok(None);
        };
        let (Kind::Chunk, payload) = record::decode(&chunk_key, &stored)? else {
            return Err(StoreError::corrupt(&chunk_key, "a record of another kind"));
        };
        value.extend_from_slice(payload);
        if value.len() > bytes {
            return Err(StoreError::corrupt(key, "chunks hold more than the manifest says"));
        }
    }
    if value.len() != bytes || crc32c::crc32c(&value) != manifest.crc {
        return Err(StoreError::corrupt(key, "chunks do not add up to the value"));
    }
    Ok(Some(value))
}

/// The records that hold the value of `key`: its own, and its chunks.
pub(crate) fn stored_records(engine: &dyn Engine, key: &[u8]) -> Result<Vec<Pair>, StoreError> {
    let Some(stored) = guarded(|| engine.get(key))? else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    match record::decode(key, &stored)? {
        (Kind::Manifest, payload) => {
            let manifest = Manifest::decode(key, payload)?;
            for n in 0..manifest.count {
                let chunk_key = manifest.chunk_key(n);
                let chunk = guarded(|| engine.get(&chunk_key))?
                    .ok_or_else(|| StoreError::corrupt(key, "chunks are missing"))?;
                out.push((chunk_key, chunk));
            }
        }
        (Kind::Whole | Kind::Chunk | Kind::Meta, _) => {}
    }
    out.push((key.to_vec(), stored));
    Ok(out)
}

/// Up to `limit` values of a range, ascending.
pub(crate) fn scan(
    engine: &dyn Engine,
    range: RangeInclusive<Vec<u8>>,
    limit: usize,
) -> Result<Vec<Pair>, StoreError> {
    let Some(range) = below_reserved(range) else {
        return Ok(Vec::new());
    };
    let pairs = guarded(|| engine.scan(range, limit))?;
    let mut out = Vec::with_capacity(pairs.len());
    for (key, stored) in pairs {
        let value = match open(engine, &key, &stored)? {
            Some(value) => Some(value),
            None => get(engine, &key)?,
        };
        out.extend(value.map(|value| (key, value)));
    }
    Ok(out)
}

/// The last value of a range.
pub(crate) fn last(engine: &dyn Engine, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, StoreError> {
    let Some(range) = below_reserved(range) else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        let Some((key, stored)) = guarded(|| engine.last(range.clone()))? else {
            return Ok(None);
        };
        if let Some(value) = open(engine, &key, &stored)? {
            return Ok(Some((key, value)));
        }
    }
    Err(StoreError::corrupt(range.end(), "chunks are missing"))
}

/// Cuts a range down to the callers' keys; `None` when nothing is left. The engines panic on inverted ranges.
fn below_reserved(range: RangeInclusive<Vec<u8>>) -> Option<RangeInclusive<Vec<u8>>> {
    let (from, to) = range.into_inner();
    // Longest and highest key a caller can have.
    let highest = || {
        let mut key = vec![0xFF; crate::batch::MAX_KEY];
        if let Some(first) = key.first_mut() {
            *first = record::CHUNK_PREFIX - 1;
        }
        key
    };
    let to = if to.first().is_some_and(|first| *first >= record::CHUNK_PREFIX) { highest() } else { to };
    (from <= to).then_some(from..=to)
}

/// The totals; `None` in a store that was never written.
pub(crate) fn totals(engine: &dyn Engine) -> Result<Option<Totals>, StoreError> {
    let key = record::TOTALS_KEY;
    let Some(stored) = guarded(|| engine.get(key))? else {
        return Ok(None);
    };
    match record::decode(key, &stored)? {
        (Kind::Meta, payload) => Totals::decode(payload).map(Some),
        (Kind::Whole | Kind::Manifest | Kind::Chunk, _) => {
            Err(StoreError::corrupt(key, "a record of another kind"))
        }
    }
}

/// Reads every record once and compares the whole with the totals.
pub(crate) fn verify(engine: &dyn Engine) -> Result<Totals, StoreError> {
    /// Records per step: bounds memory to about 4 MiB.
    const STEP: usize = 1024;
    let expected = totals(engine)?.unwrap_or_default();
    let mut found = Totals { sequence: expected.sequence, ..Totals::default() };
    let mut from = Vec::new();
    loop {
        let range = from.clone()..=vec![0xFF; crate::batch::MAX_KEY];
        let pairs = guarded(|| engine.scan(range, STEP))?;
        let full = pairs.len() == STEP;
        for (key, stored) in &pairs {
            if key == record::TOTALS_KEY {
                continue;
            }
            found.add(key, stored);
            if let (Kind::Manifest, payload) = record::decode(key, stored)? {
                assemble(engine, key, Manifest::decode(key, payload)?)?
                    .ok_or_else(|| StoreError::corrupt(key, "chunks are missing"))?;
            }
        }
        match pairs.into_iter().next_back() {
            Some((mut key, _)) if full => {
                key.push(0);
                from = key;
            }
            _ => break,
        }
    }
    if found != expected {
        let reason =
            format!("{} records found where {} were written, or other ones", found.count, expected.count);
        return Err(StoreError::corrupt(record::TOTALS_KEY, &reason));
    }
    Ok(found)
}
