//! Files, limits, crashes, hostile names.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use quorate_common::config::Size;
use quorate_model::{ArtifactSpec, Digest, DurationMs, Reason};

use super::{NOW, digest_of, limits, open, put, spec_of};
use crate::artifacts::store::{Begun, Store};
use crate::artifacts::{ArtifactError, ArtifactLimits};

const BYTES: &[u8] = b"the bytes of an artifact, not many";

fn begun(received: u64, complete: bool) -> Begun {
    Begun { received, complete }
}

#[test]
fn an_upload_goes_on_after_a_crash_and_is_whole_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec_of(BYTES);
    let digest = &spec.digest;
    let store = open(dir.path());
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(0, false));
    assert_eq!(store.write(digest, 0, &BYTES[..10], NOW).unwrap(), 10);
    assert!(matches!(store.finish(digest, NOW), Err(ArtifactError::Incomplete { received: 10, size: 34 })));
    assert!(matches!(store.read(digest, 0, 9), Err(ArtifactError::NotHere)), "a part is given to nobody");

    let store = open(dir.path());
    // Nobody has said yet what it is to be.
    assert!(matches!(store.write(digest, 10, &BYTES[10..], NOW), Err(ArtifactError::NotOpen)));
    assert!(matches!(store.finish(digest, NOW), Err(ArtifactError::NotOpen)));
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(10, false));
    store.write(digest, 10, &BYTES[10..], NOW).unwrap();
    store.finish(digest, NOW).unwrap();
    store.finish(digest, NOW).unwrap();
    let chunk = store.read(digest, 4, 5).unwrap();
    assert_eq!((chunk.data.as_slice(), chunk.size), (&BYTES[4..9], 34));
    assert!(store.read(digest, 34, 5).unwrap().data.is_empty());
    assert!(matches!(store.read(digest, 35, 5), Err(ArtifactError::BeyondEnd { size: 34 })));
    assert!(fs::read_dir(dir.path().join("parts")).unwrap().next().is_none());
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("parts"), mode("blobs"), mode(&format!("blobs/{digest}"))), (0o700, 0o700, 0o600));
}

#[test]
fn a_part_that_does_not_follow_is_refused_and_the_offset_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spec) = (open(dir.path()), spec_of(BYTES));
    store.begin(&spec, NOW).unwrap();
    store.write(&spec.digest, 0, &BYTES[..10], NOW).unwrap();
    for offset in [0, 9, 11, u64::MAX] {
        let error = store.write(&spec.digest, offset, b"x", NOW).unwrap_err();
        assert!(matches!(error, ArtifactError::Offset { expected: 10, .. }), "{error:?}");
        let refusal = error.refusal(&spec.digest);
        assert_eq!(refusal.reason(), Reason::OffsetMismatch);
        assert_eq!(refusal.why(), [("expected".to_owned(), "10".to_owned())]);
    }
    assert!(matches!(store.write(&spec.digest, 10, b"", NOW), Err(ArtifactError::BadPart { .. })));
    let more = [0; 25];
    assert!(matches!(store.write(&spec.digest, 10, &more, NOW), Err(ArtifactError::TooMuch { size: 34 })));
    let large = vec![0; 256 * 1024 + 1];
    assert!(matches!(store.write(&spec.digest, 10, &large, NOW), Err(ArtifactError::BadPart { .. })));
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(10, false), "nothing of it was taken");
}

#[test]
fn other_bytes_than_the_digest_says_are_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spec) = (open(dir.path()), spec_of(BYTES));
    store.begin(&spec, NOW).unwrap();
    let mut other = BYTES.to_vec();
    other[7] ^= 1;
    store.write(&spec.digest, 0, &other, NOW).unwrap();
    let error = store.finish(&spec.digest, NOW).unwrap_err();
    assert!(matches!(&error, ArtifactError::Digest { found } if *found == digest_of(&other).as_str()));
    assert_eq!(error.refusal(&spec.digest).reason(), Reason::DigestMismatch);
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(0, false));
    assert_eq!(store.kept().blobs, 0);
    put(&store, BYTES);
    assert_eq!((store.kept().blobs, store.kept().bytes), (1, 34));
}

#[test]
fn a_crash_around_the_rename_leaves_a_part_or_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec_of(BYTES);
    drop(open(dir.path()));
    let (part, blob) = (dir.path().join("parts"), dir.path().join("blobs"));
    let (part, blob) = (part.join(spec.digest.as_str()), blob.join(spec.digest.as_str()));
    fs::write(&part, BYTES).unwrap();
    let store = open(dir.path());
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(34, false));
    store.finish(&spec.digest, NOW).unwrap();
    assert!(blob.exists() && !part.exists());
    // After the rename, before the catalogue knew: the caller begins again and finds nothing left to do.
    let store = open(dir.path());
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(34, true));
    store.finish(&spec.digest, NOW).unwrap();
    assert_eq!(store.upload(&spec.digest), Some(spec));
}

#[test]
fn bytes_that_a_power_cut_took_back_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec_of(BYTES);
    drop(open(dir.path()));
    // The length came through, the bytes did not.
    fs::write(dir.path().join("parts").join(spec.digest.as_str()), [0; 20]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.begin(&spec, NOW).unwrap(), begun(20, false));
    store.write(&spec.digest, 20, &BYTES[20..], NOW).unwrap();
    assert!(matches!(store.finish(&spec.digest, NOW), Err(ArtifactError::Digest { .. })));
    put(&store, BYTES);
    // Longer than it can be.
    fs::write(dir.path().join("parts").join(digest_of(b"ab").as_str()), b"abc").unwrap();
    let store = open(dir.path());
    assert_eq!(store.begin(&spec_of(b"ab"), NOW).unwrap(), begun(0, false));
}

#[test]
fn every_limit_refuses_before_a_byte_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let narrow = ArtifactLimits { max_size: Size(40), max_total: Size(60), max_uploads: 2, ..limits() };
    let store = Store::open(dir.path(), narrow).unwrap();
    let of = |n: u8, size: u64| ArtifactSpec { size, ..spec_of(&[n]) };
    assert!(matches!(store.begin(&of(1, 41), NOW), Err(ArtifactError::TooLarge { size: 41, max: 40 })));
    put(&store, BYTES);
    store.begin(&of(1, 20), NOW).unwrap();
    store.begin(&of(1, 20), NOW).unwrap();
    assert!(matches!(store.begin(&of(2, 7), NOW), Err(ArtifactError::Full { total: 61, max: 60 })));
    store.begin(&of(2, 6), NOW).unwrap();
    assert!(matches!(store.look(&of(3, 1), NOW), Err(ArtifactError::Full { .. })));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), ArtifactLimits { max_uploads: 2, ..limits() }).unwrap();
    store.begin(&of(1, 9), NOW).unwrap();
    store.begin(&of(2, 9), NOW).unwrap();
    assert!(matches!(store.begin(&of(3, 9), NOW), Err(ArtifactError::TooManyUploads { max: 2 })));
    store.begin(&of(1, 9), NOW).unwrap();
    // One that rests for long gives its place, and keeps its bytes.
    store.write(&of(1, 9).digest, 0, b"abc", NOW).unwrap();
    let later = NOW.plus(DurationMs::from_secs(601));
    store.write(&of(2, 9).digest, 0, b"abc", later).unwrap();
    store.begin(&of(3, 9), later).unwrap();
    assert_eq!((store.upload(&of(1, 9).digest), store.kept().uploads), (None, 2));
    let dir = tempfile::tempdir().unwrap();
    let full = ArtifactLimits { min_free: Size(1 << 60), ..limits() };
    let store = Store::open(dir.path(), full).unwrap();
    let error = store.begin(&of(1, 9), NOW).unwrap_err();
    assert_eq!(error.refusal(&of(1, 9).digest).reason(), Reason::LowSpace, "{error:?}");
    assert!(fs::read_dir(dir.path().join("parts")).unwrap().next().is_none());
}

#[test]
fn what_is_no_artifact_is_neither_used_nor_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let secret = dir.path().join("secret");
    fs::write(&secret, BYTES).unwrap();
    let linked = digest_of(BYTES);
    let folder = digest_of(b"folder");
    for place in ["blobs", "parts"] {
        let place = dir.path().join(place);
        symlink(&secret, place.join(linked.as_str())).unwrap();
        fs::create_dir(place.join(folder.as_str())).unwrap();
        fs::write(place.join("README"), b"x").unwrap();
        fs::write(place.join(linked.as_str().to_uppercase()), b"x").unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.kept().blobs, 0);
    assert!(matches!(store.read(&linked, 0, 9), Err(ArtifactError::NotHere)));
    // Bytes are not written through a link.
    store.begin(&spec_of(BYTES), NOW).unwrap();
    assert!(matches!(store.write(&linked, 0, b"x", NOW), Err(ArtifactError::Io { .. })));
    assert_eq!(fs::read(&secret).unwrap(), BYTES);
    for climbs in ["../../secret", "..", "", "a/b"] {
        assert!(Digest::new(climbs).is_err(), "{climbs}: what is no digest never becomes a path");
    }
}

#[test]
fn what_nobody_lists_goes_but_not_under_a_callers_hands() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = digest_of(BYTES);
    store.begin_copy(&digest, BYTES.len() as u64, NOW).unwrap();
    store.write(&digest, 0, BYTES, NOW).unwrap();
    store.finish(&digest, NOW).unwrap();
    let unknown = |_: &Digest| false;
    assert!(store.stray(unknown, NOW).is_empty(), "it is fresh: its upload may just be ending");
    assert!(!store.sweep(&digest, unknown, NOW).unwrap());
    let later = NOW.plus(DurationMs::from_secs(601));
    assert_eq!(store.stray(unknown, later), std::slice::from_ref(&digest));
    assert!(!store.sweep(&digest, |_| true, later).unwrap(), "it is listed by now");
    // Pushed again: it is about to be listed.
    store.begin(&spec_of(BYTES), later).unwrap();
    assert!(!store.sweep(&digest, unknown, later).unwrap());
    // It was listed, and is no more: it was deleted, and goes at once.
    store.ended(&digest);
    assert!(store.sweep(&digest, unknown, NOW).unwrap());
    assert_eq!(store.kept().blobs, 0);
    assert!(!dir.path().join("blobs").join(digest.as_str()).exists());
}

#[test]
fn old_parts_expire_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (bytes, hours) in [(b"a", 0), (b"b", 20)] {
        let at = NOW.plus(DurationMs::from_secs(hours * 3_600));
        store.begin(&ArtifactSpec { size: 9, ..spec_of(bytes) }, at).unwrap();
        store.write(&digest_of(bytes), 0, b"x", at).unwrap();
    }
    store.expire(NOW.plus(DurationMs::from_secs(25 * 3_600))).unwrap();
    let left: Vec<_> =
        fs::read_dir(dir.path().join("parts")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!((left.len(), store.kept().uploads), (1, 1));
    assert_eq!(left[0].to_str(), Some(digest_of(b"b").as_str()));
}

#[test]
fn a_blob_that_is_gone_or_damaged_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = put(&store, BYTES);
    assert!(store.verify(&digest).unwrap());
    let path = dir.path().join("blobs").join(digest.as_str());
    let mut bytes = BYTES.to_vec();
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(!store.verify(&digest).unwrap());
    assert!(!path.exists() && store.blob(&digest).is_none());
    put(&store, BYTES);
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.read(&digest, 0, 9), Err(ArtifactError::NotHere)));
    assert!(store.blob(&digest).is_none(), "it is fetched anew");
}
