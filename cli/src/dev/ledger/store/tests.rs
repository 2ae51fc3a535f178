use super::*;

fn version(seq: u64) -> Version {
    Version { term: 1, seq }
}

fn put(seq: u64, key: &str, value: &[u8]) -> Record {
    Record { version: version(seq), key: key.to_owned(), value: Some(value.to_vec()) }
}

fn filled(path: &Path) -> Store {
    let (mut store, _) = Store::open(path).expect("open");
    store.append(put(1, "a", b"one")).expect("append");
    store.append(put(2, "b", b"")).expect("append");
    store.append(put(3, "a", b"\xff\x00three")).expect("append");
    store.append(Record { version: version(4), key: "b".to_owned(), value: None }).expect("append");
    store
}

fn content(store: &Store) -> (Option<Vec<u8>>, Option<Vec<u8>>, Version) {
    (
        store.get("a").map(|(value, _)| value.to_vec()),
        store.get("b").map(|(value, _)| value.to_vec()),
        store.head(),
    )
}

#[test]
fn a_restart_replays_everything() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    let store = filled(&path);
    let (again, torn) = Store::open(&path).expect("open again");
    assert_eq!((content(&again), torn), (content(&store), 0));
    assert_eq!(again.verify("a"), Some((version(3), true)));
    assert_eq!(again.verify("b"), None);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_rest_kept() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    let (mut store, _) = Store::open(&path).expect("open");
    store.append(put(1, "a", b"one")).expect("append");
    let kept = store.bytes();
    store.append(put(2, "a", b"two")).expect("append");
    let whole = std::fs::read(&path).expect("read");
    for cut in usize::try_from(kept).expect("small") + 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("write");
        let (mut torn, bytes) = Store::open(&path).expect("opens");
        assert_eq!((bytes, torn.bytes()), (cut as u64 - kept, kept), "cut at {cut}");
        assert_eq!(torn.get("a").map(|(value, _)| value), Some(&b"one"[..]));
        torn.append(put(3, "a", b"after")).expect("append after the cut");
        let (again, bytes) = Store::open(&path).expect("opens again");
        assert_eq!((again.get("a").map(|(value, _)| value), bytes), (Some(&b"after"[..]), 0));
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    let store = filled(&path);
    let mut data = std::fs::read(&path).expect("read");
    data.extend_from_slice(&[0; 300]);
    std::fs::write(&path, data).expect("write");
    let (again, torn) = Store::open(&path).expect("opens");
    assert_eq!((content(&again), torn), (content(&store), 300));
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_cut() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    drop(filled(&path));
    let mut data = std::fs::read(&path).expect("read");
    data[20] ^= 1;
    std::fs::write(&path, &data).expect("write");
    let error = Store::open(&path).expect_err("refused");
    assert!(matches!(error, StoreError::Damaged { offset: 0, .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("read"), data);
}

#[test]
fn damage_behind_the_replay_is_seen_by_verify() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    let (mut store, _) = Store::open(&path).expect("open");
    store.append(put(1, "a", b"one")).expect("append");
    let mut data = std::fs::read(&path).expect("read");
    let last = data.len() - 1;
    data[last] ^= 1;
    std::fs::write(&path, data).expect("write");
    assert_eq!(store.verify("a"), Some((version(1), false)));
}

#[test]
fn compaction_keeps_the_newest_and_the_deletions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ledger.kv");
    let mut store = filled(&path);
    let before = content(&store);
    let (from, to) = store.compact().expect("compact");
    assert!(to < from, "{from} -> {to}");
    assert_eq!(content(&store), before);
    store.append(put(5, "c", b"five")).expect("append after compaction");
    let (again, _) = Store::open(&path).expect("open again");
    assert_eq!((again.keys(), again.head()), (2, version(5)));
}

#[test]
fn records_after_a_version_are_in_order_and_bounded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = filled(&dir.path().join("ledger.kv"));
    let all = store.records_after(version(2), usize::MAX);
    let Decoded::Record(first, len) = record::decode(&all) else { panic!("a record") };
    let Decoded::Record(second, rest) = record::decode(&all[len..]) else { panic!("a record") };
    assert_eq!((first.version, second.version, len + rest), (version(3), version(4), all.len()));
    assert_eq!(store.records_after(version(2), 1).len(), len, "always at least one record");
    assert!(store.records_after(version(4), usize::MAX).is_empty());
}

#[test]
fn hostile_bytes_are_never_a_record() {
    for data in [&[0xff; 64][..], b"GET / HTTP/1.1\r\nHost: x\r\nAccept: y\r\n\r\n", &[1; 9]] {
        assert!(!matches!(record::decode(data), Decoded::Record(..)));
    }
}
