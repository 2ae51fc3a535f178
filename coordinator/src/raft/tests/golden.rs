//! Frozen bytes of what this release writes. Never change a line; a new format gets its own beside it.

use bytes::Bytes;
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};

use crate::raft::codec;
use crate::raft::types::{Proposals, Types};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

/// 2026-11-21.
const ENTRY: &str = "82a66c6f675f696482a96c65616465725f696482a47465726d03a76e6f64655f696402a5696e646578cd012ca77061796c6f616481a64e6f726d616c81a8636f6d6d616e647392c4036f6e65c400";
/// 2026-11-21.
const VOTE: &str = "82a96c65616465725f696482a47465726d03a76e6f64655f696402a9636f6d6d6974746564c3";
/// 2026-11-21.
const PURGED: &str = "82a96c65616465725f696482a47465726d03a76e6f64655f696402a5696e646578cd012c";

#[test]
fn log_records_are_frozen() {
    let entry = Entry::<Types> {
        log_id: LogId::new(CommittedLeaderId::new(3, 2), 300),
        payload: EntryPayload::Normal(Proposals { commands: vec![Bytes::from_static(b"one"), Bytes::new()] }),
    };
    assert_eq!(hex(&codec::encode("log entry", &entry).unwrap()), ENTRY);
    let read: Entry<Types> = codec::decode("log entry", &unhex(ENTRY)).unwrap();
    assert_eq!((read.log_id, read.payload), (entry.log_id, entry.payload));
}

#[test]
fn votes_and_purge_marks_are_frozen() {
    let vote = Vote::<u64>::new_committed(3, 2);
    assert_eq!(hex(&codec::encode("vote", &vote).unwrap()), VOTE);
    assert_eq!(codec::decode::<Vote<u64>>("vote", &unhex(VOTE)).unwrap(), vote);
    let purged = LogId::<u64>::new(CommittedLeaderId::new(3, 2), 300);
    assert_eq!(hex(&codec::encode("purge mark", &purged).unwrap()), PURGED);
    assert_eq!(codec::decode::<LogId<u64>>("purge mark", &unhex(PURGED)).unwrap(), purged);
}

#[test]
fn hostile_bytes_are_errors() {
    for bytes in [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", &[0x91; 5000], &unhex(ENTRY)[..40]] {
        assert!(codec::decode::<Entry<Types>>("log entry", bytes).is_err());
        assert!(codec::decode::<Vote<u64>>("vote", bytes).is_err());
    }
}
