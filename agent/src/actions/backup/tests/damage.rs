//! Archives that are not what they were (X10).

use std::io::Read;

use quorate_model::Reason;
use sha2::{Digest, Sha256};

use super::*;
use crate::actions::backup::manifest::{escape, unescape};
use crate::actions::backup::member::hex;

async fn stored(place: &Place) -> (PathBuf, BackupReceipt) {
    place.put("one", b"the content that matters");
    place.put("two", &vec![1; 100_000]);
    let receipt = place.stored("b-1", place.policy()).await;
    (PathBuf::from(&receipt.path), receipt)
}

/// What verification says about other bytes under the same id, with the catalogue's hash made to fit.
async fn verdict(place: &Place, path: &Path, bytes: &[u8]) -> ActionError {
    std::fs::write(path, bytes).expect("write");
    let sha256 = hex(&Sha256::digest(bytes));
    place.verify("b-1", &sha256).await.expect_err("damaged")
}

#[tokio::test]
async fn the_catalogues_hash_must_fit() {
    let place = Place::new();
    let (_, receipt) = stored(&place).await;
    place.verify("b-1", &receipt.sha256).await.expect("whole");
    let error = place.verify("b-1", &"0".repeat(64)).await.expect_err("another hash");
    assert!(matches!(error, ActionError::Damaged { .. }), "{error}");
    for bad in ["", "xyz", &"A".repeat(64)] {
        assert_eq!(place.verify("b-1", bad).await.expect_err("no hash").reason(), Reason::InvalidArgument);
    }
    assert_eq!(place.verify("b-2", &receipt.sha256).await.expect_err("missing").reason(), Reason::NotFound);
}

#[tokio::test]
async fn truncation_trailing_garbage_and_flipped_bits_are_found() {
    let place = Place::new();
    let (path, _) = stored(&place).await;
    let good = std::fs::read(&path).expect("read");
    for length in [0, 1, 4, good.len() / 2, good.len() - 1] {
        let error = verdict(&place, &path, &good[..length]).await;
        assert!(matches!(error, ActionError::Damaged { .. }), "{length} bytes: {error}");
    }
    for tail in [&b"\0"[..], b"garbage", &good] {
        let longer = [good.as_slice(), tail].concat();
        let error = verdict(&place, &path, &longer).await;
        assert!(matches!(error, ActionError::Damaged { .. }), "{} bytes behind: {error}", tail.len());
    }
    for at in (0..good.len()).step_by(good.len() / 40 + 1) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).expect("write");
        // Some bits of zstd's own header mean nothing; then the content must still be exactly what it was.
        let result = place.verify("b-1", &hex(&Sha256::digest(&flipped))).await;
        assert!(result.is_err() || decoded(&flipped) == decoded(&good), "bit {at} went unseen");
    }
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    zstd::stream::read::Decoder::new(bytes).and_then(|mut d| d.read_to_end(&mut all)).expect("decodes");
    all
}

/// Packs the tar again after a change, so that every checksum of zstd fits.
fn repacked(good: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut tar = decoded(good);
    change(&mut tar);
    zstd::stream::encode_all(tar.as_slice(), 3).expect("encodes")
}

fn position(tar: &[u8], needle: &[u8]) -> usize {
    tar.windows(needle.len()).position(|w| w == needle).expect("it is in there")
}

#[tokio::test]
async fn altered_content_in_a_well_formed_archive_is_found() {
    let place = Place::new();
    let (path, _) = stored(&place).await;
    let good = std::fs::read(&path).expect("read");
    let altered = repacked(&good, |tar| {
        let at = position(tar, b"content that matters");
        tar[at..at + 7].copy_from_slice(b"CONTENT");
    });
    let error = verdict(&place, &path, &altered).await;
    assert!(error.to_string().contains("data/one is not what the manifest says"), "{error}");
}

#[tokio::test]
async fn missing_extra_and_following_members_are_found() {
    let place = Place::new();
    let (path, _) = stored(&place).await;
    let good = std::fs::read(&path).expect("read");
    // The first member is the folder: one block.
    let missing = repacked(&good, |tar| drop(tar.drain(..512)));
    let error = verdict(&place, &path, &missing).await;
    assert!(error.to_string().contains("not what the manifest says"), "{error}");
    let extra = repacked(&good, |tar| {
        let first = tar[..512].to_vec();
        tar.splice(..0, first);
    });
    assert!(matches!(verdict(&place, &path, &extra).await, ActionError::Damaged { .. }));
    let following = repacked(&good, |tar| {
        let first = tar[..512].to_vec();
        let end = tar.len() - 1024;
        tar.splice(end..end, first);
    });
    let error = verdict(&place, &path, &following).await;
    assert!(error.to_string().contains("a member follows the manifest"), "{error}");
    let behind = repacked(&good, |tar| tar.extend_from_slice(b"x"));
    let error = verdict(&place, &path, &behind).await;
    assert!(error.to_string().contains("does not end where it should"), "{error}");
    let headless = repacked(&good, |tar| tar.truncate(512));
    assert!(matches!(verdict(&place, &path, &headless).await, ActionError::Damaged { .. }));
}

#[tokio::test]
async fn a_link_in_the_archives_place_is_not_followed() {
    let place = Place::new();
    let (path, receipt) = stored(&place).await;
    let moved = place.temp.path().join("moved");
    std::fs::rename(&path, &moved).expect("rename");
    std::os::unix::fs::symlink(&moved, &path).expect("symlink");
    assert!(place.verify("b-1", &receipt.sha256).await.is_err());
}

#[test]
fn escapes_come_back_and_broken_ones_do_not() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(unescape(&escape(&all)).expect("well-formed"), all);
    for bad in ["%", "%4", "%zz", "%+1", "a%é"] {
        assert_eq!(unescape(bad), None, "{bad:?}");
    }
}
