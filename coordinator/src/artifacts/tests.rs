//! Tests of the store, and of the task that makes the disk what the catalogue says.

mod keeper;
mod store;

use std::path::Path;

use quorate_common::config::Size;
use quorate_model::{ArtifactSpec, Digest, Timestamp};
use sha2::{Digest as _, Sha256 as Hasher};

use super::ArtifactLimits;
use super::store::Store;

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Limits that do not look at the disk the tests run on.
pub(crate) fn limits() -> ArtifactLimits {
    ArtifactLimits { min_free: Size(0), min_free_percent: 0, ..ArtifactLimits::default() }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let hex: String = Hasher::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    Digest::new(hex).unwrap()
}

pub(super) fn spec_of(bytes: &[u8]) -> ArtifactSpec {
    let (digest, size) = (digest_of(bytes), bytes.len() as u64);
    ArtifactSpec { digest, size, file_name: "ledger.tar".into(), signature: None }
}

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, limits()).unwrap()
}

/// Puts a whole artifact into a store.
pub(super) fn put(store: &Store, bytes: &[u8]) -> Digest {
    let spec = spec_of(bytes);
    let begun = store.begin(&spec, NOW).unwrap();
    let from = usize::try_from(begun.received).unwrap();
    for (number, part) in bytes[from..].chunks(1_000).enumerate() {
        store.write(&spec.digest, begun.received + number as u64 * 1_000, part, NOW).unwrap();
    }
    store.finish(&spec.digest, NOW).unwrap();
    store.ended(&spec.digest);
    spec.digest
}
