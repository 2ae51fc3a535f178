//! The store against a model, against lost writes, and against hostile directories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_durable::{
    Batch, Durable, EngineError, MAX_LARGE, MAX_VALUE, MemoryDisk, OpenError, Options, Probe, SpaceFloor,
    StoreError,
};

fn options(dir: &Path) -> Options {
    Options {
        cache_bytes: 8 << 20,
        probe: Probe::InProcess,
        space: SpaceFloor::small(),
        ..Options::agent(dir)
    }
}

fn everything() -> std::ops::RangeInclusive<Vec<u8>> {
    vec![]..=vec![0xFF; 4]
}

fn put(store: &Durable, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put_large(key, value).unwrap();
    store.commit_blocking(batch).unwrap();
}

type Change = (u8, Option<usize>);

fn batches() -> impl Strategy<Value = Vec<Vec<Change>>> {
    // Sizes around the limits of one chunk, two chunks, and nothing.
    let size =
        prop_oneof![0usize..40, Just(MAX_VALUE), Just(MAX_VALUE + 1), Just(2 * MAX_VALUE), 9000usize..20_000];
    let change = (0u8..12, proptest::option::weighted(0.7, size));
    proptest::collection::vec(proptest::collection::vec(change, 1..6), 1..12)
}

fn value(key: u8, size: usize, salt: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n * 31 + salt * 7 + usize::from(key)) % 251).unwrap()).collect()
}

fn run(store: &Durable, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: &[Change], salt: usize) {
    let mut batch = Batch::new();
    for (key, size) in changes {
        let name = vec![1, *key];
        if let Some(size) = size {
            let bytes = value(*key, *size, salt);
            batch.put_large(&name, &bytes).unwrap();
            model.insert(name, bytes);
        } else {
            batch.delete(&name).unwrap();
            model.remove(&name);
        }
    }
    store.commit_blocking(batch).unwrap();
}

fn same(store: &Durable, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let pairs = store.scan(everything(), 1000).unwrap();
    assert_eq!(pairs, model.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(store.last(everything()).unwrap(), model.clone().pop_last());
    assert_eq!(store.first(everything()).unwrap(), model.clone().pop_first());
    for (key, value) in model {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sled_agrees_with_a_map_also_after_reopening(batches in batches(), reopen_at in 0usize..12) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("s");
        let mut store = Durable::open(options(&at)).unwrap();
        let mut model = BTreeMap::new();
        for (n, changes) in batches.iter().enumerate() {
            run(&store, &mut model, changes, n);
            if n == reopen_at {
                drop(store);
                store = Durable::open(options(&at)).unwrap();
                prop_assert_eq!(store.sequence(), n as u64 + 2);
            }
            same(&store, &model);
        }
    }

    #[test]
    fn a_crash_loses_nothing_acknowledged(batches in batches(), crash_at in 0usize..12) {
        let disk = MemoryDisk::new();
        let mut store = Durable::open_engine(disk.engine(), false, true).unwrap();
        let mut model = BTreeMap::new();
        for (n, changes) in batches.iter().enumerate() {
            run(&store, &mut model, changes, n);
            if n == crash_at {
                disk.crash();
                prop_assert!(store.get(&[1, 0]).is_err(), "the handle of a dead process still reads");
                store = Durable::open_engine(disk.engine(), true, true).unwrap();
            }
            same(&store, &model);
        }
    }
}

#[test]
fn replaced_chunks_leave_nothing_behind() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, true).unwrap();
    let records = || disk.engine().scan(vec![]..=vec![0xFF; 4], 10_000).unwrap().len();
    let empty = records();
    put(&store, b"k", &vec![1; 50_000]);
    assert_eq!(records(), empty + 1 + 50_000usize.div_ceil(MAX_VALUE));
    put(&store, b"k", &vec![2; 9_000]);
    assert_eq!(records(), empty + 1 + 9_000usize.div_ceil(MAX_VALUE));
    let mut batch = Batch::new();
    batch.delete(b"k").unwrap();
    store.commit_blocking(batch).unwrap();
    assert_eq!(records(), empty);
    let largest = value(3, MAX_LARGE, 1);
    put(&store, b"k", &largest);
    assert_eq!(store.get(b"k").unwrap().unwrap(), largest);
}

#[test]
fn damaged_records_are_errors_not_missing_keys() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, true).unwrap();
    put(&store, b"a", b"small");
    put(&store, b"b", &vec![7; 10_000]);
    assert!(disk.damage(b"a"));
    let chunk = disk.engine().last(vec![0xFE]..=vec![0xFE; 20]).unwrap().unwrap().0;
    assert!(disk.damage(&chunk));
    assert!(matches!(store.get(b"a"), Err(StoreError::Corrupt { .. })));
    assert!(matches!(store.get(b"b"), Err(StoreError::Corrupt { .. })));
    assert!(store.scan(everything(), 10).is_err());
    put(&store, b"c", &vec![7; 10_000]);
    let chunk = disk.engine().last(vec![0xFE]..=vec![0xFE; 20]).unwrap().unwrap().0;
    assert!(disk.lose(&chunk));
    assert!(matches!(store.get(b"c"), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_missing_or_old_record_is_found_when_opening() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, true).unwrap();
    put(&store, b"a", b"1");
    let old = disk.engine().get(b"a").unwrap();
    put(&store, b"a", b"2");
    put(&store, b"b", b"2");
    drop(store);
    let new = disk.engine().get(b"a").unwrap();
    for (stored, sound) in [(old, false), (new, true), (None, false)] {
        disk.engine().apply(vec![(b"a".to_vec(), stored)]).unwrap();
        let outcome = Durable::open_engine(disk.engine(), true, true);
        assert_eq!(outcome.is_ok(), sound, "{outcome:?}");
    }
}

#[test]
fn concurrent_committers_share_barriers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Durable::open(options(&dir.path().join("s"))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let before = store.counters();
    runtime.block_on(async {
        let tasks: Vec<_> = (0u32..64)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0u32..20 {
                        let mut batch = Batch::new();
                        batch.put(&[task.to_be_bytes(), n.to_be_bytes()].concat(), b"value").unwrap();
                        store.commit(batch).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let after = store.counters();
    let commits = after.commits - before.commits;
    let syncs = after.fdatasyncs - before.fdatasyncs;
    println!("64 committers: {commits} commits, {syncs} barriers");
    assert_eq!(commits, 64 * 20);
    assert!(syncs * 4 <= commits, "{syncs} barriers for {commits} commits");
    assert_eq!(store.scan(everything(), 10_000).unwrap().len(), 64 * 20);
}

#[test]
fn one_committer_pays_one_barrier_per_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Durable::open(options(&dir.path().join("s"))).unwrap();
    let before = store.counters().fdatasyncs;
    for n in 0u32..50 {
        put(&store, &n.to_be_bytes(), b"v");
    }
    assert_eq!(store.counters().fdatasyncs - before, 50);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn an_old_copy_put_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (at, old) = (dir.path().join("s"), dir.path().join("old"));
    let store = Durable::open(options(&at)).unwrap();
    put(&store, b"k", b"1");
    drop(store);
    copy(&at, &old);
    let store = Durable::open(options(&at)).unwrap();
    put(&store, b"k", b"2");
    store.raise_mark(1, 77);
    drop(store);
    std::fs::remove_dir_all(&at).unwrap();
    copy(&old, &at);
    let error = Durable::open(options(&at)).unwrap_err();
    let OpenError::Behind { quarantine, found, expected, .. } = &error else { panic!("{error}") };
    assert!(found < expected);
    assert!(quarantine.join("db").exists() && !at.exists());
    assert!(error.is_loss());
    assert_eq!(error.exit_code(), 74);
    // The next start must not take the empty place for a new store.
    let error = Durable::open(options(&at)).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    quorate_durable::forget(&at).unwrap();
    let store = Durable::open(options(&at)).unwrap();
    assert_eq!((store.get(b"k").unwrap(), store.high_water().marks), (None, [0; 3]));
}

#[test]
fn a_kill_after_a_thousand_commits_still_leaves_the_mark() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, true).unwrap();
    store.raise_mark(0, 5);
    for n in 0u32..1100 {
        put(&store, &n.to_be_bytes(), b"v");
    }
    disk.crash();
    drop(store);
    let store = Durable::open_engine(disk.engine(), true, true).unwrap();
    assert_eq!(store.sequence(), 1101);
    assert_eq!(store.high_water().marks, [5, 0, 0]);
    assert!(disk.lose(&[0xFF, b's']));
    drop(store);
    let error = Durable::open_engine(disk.engine(), true, true).unwrap_err();
    assert!(matches!(error, OpenError::Behind { found: 0, expected: 1101, .. }), "{error}");
}

#[test]
fn a_lost_store_or_mark_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    let error = Durable::open(Options { must_exist: true, ..options(&at) }).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let store = Durable::open(options(&at)).unwrap();
    put(&store, b"k", b"1");
    drop(store);
    let mark = quorate_durable::high_water_path(&at);
    let good = std::fs::read(&mark).unwrap();
    for bad in [&good[..10], b"".as_slice(), &[0; 64], &[1; 1000]] {
        std::fs::write(&mark, bad).unwrap();
        assert!(Durable::open(options(&at)).is_err());
    }
    std::fs::remove_file(&mark).unwrap();
    let error = Durable::open(options(&at)).unwrap_err();
    assert!(matches!(error, OpenError::HighWater { .. }), "{error}");
    std::fs::write(&mark, good).unwrap();
    assert_eq!(Durable::open(options(&at)).unwrap().get(b"k").unwrap().unwrap(), b"1");
    std::fs::remove_dir_all(&at).unwrap();
    let error = Durable::open(options(&at)).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[test]
fn leftovers_of_sled_are_cleared_and_blobs_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    let store = Durable::open(options(&at)).unwrap();
    put(&store, b"k", b"1");
    drop(store);
    std::fs::write(at.join("snap.0000.generating"), b"half a snapshot").unwrap();
    let store = Durable::open(options(&at)).unwrap();
    assert!(!at.join("snap.0000.generating").exists());
    drop(store);
    std::fs::create_dir_all(at.join("blobs")).unwrap();
    std::fs::write(at.join("blobs/1"), b"blob").unwrap();
    let error = Durable::open(options(&at)).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { reason, .. } if reason.contains("blobs")), "{error}");
}

#[test]
fn a_full_disk_poisons_until_reopened() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, false).unwrap();
    put(&store, b"k", b"1");
    disk.fail_writes(EngineError::NoSpace);
    let mut batch = Batch::new();
    batch.put(b"k", b"2").unwrap();
    assert!(matches!(store.commit_blocking(batch.clone()), Err(StoreError::NoSpace)));
    assert!(matches!(store.commit_blocking(batch.clone()), Err(StoreError::Poisoned(_))));
    disk.crash();
    drop(store);
    let store = Durable::open_engine(disk.engine(), true, false).unwrap();
    assert_eq!(store.get(b"k").unwrap().unwrap(), b"1");
    store.commit_blocking(batch).unwrap();
    store.close();
    assert!(matches!(store.commit_blocking(Batch::new()), Err(StoreError::Closed)));
}

#[test]
fn an_unsynced_batch_is_lost_whole() {
    let disk = MemoryDisk::new();
    let store = Durable::open_engine(disk.engine(), false, true).unwrap();
    put(&store, b"k", b"1");
    let engine: Arc<_> = disk.engine();
    engine.apply(vec![(vec![2], Some(vec![1])), (vec![3], Some(vec![1]))]).unwrap();
    engine.apply(vec![(vec![4], Some(vec![1]))]).unwrap();
    assert_eq!(disk.unsynced(), 2);
    disk.crash_keeping(1);
    let engine = disk.engine();
    assert!(engine.get(&[2]).unwrap().is_some() && engine.get(&[3]).unwrap().is_some());
    assert_eq!(engine.get(&[4]).unwrap(), None);
}

#[tokio::test]
async fn a_paced_commit_is_lost_when_the_power_goes_before_its_barrier_and_kept_after_it() {
    let disk = MemoryDisk::new();
    let batch = |key: &[u8]| {
        let mut batch = Batch::new();
        batch.put(key, b"value").unwrap();
        batch
    };
    let never = std::sync::Arc::new(|| std::time::Duration::from_secs(3_600));
    let store = Durable::open_engine_paced(disk.engine(), false, never).unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        let batch = batch(b"a");
        async move { store.commit(batch).await }
    });
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.get(b"a").unwrap().as_deref(), Some(b"value".as_slice()), "readers see what is applied");
    disk.crash();
    waiting.abort();
    let at_once = std::sync::Arc::new(|| std::time::Duration::ZERO);
    let store = Durable::open_engine_paced(disk.engine(), true, at_once).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    store.commit(batch(b"b")).await.unwrap();
    store.commit_blocking(batch(b"c")).unwrap();
    disk.crash();
    let store = Durable::open_engine(disk.engine(), true, true).unwrap();
    assert!(store.get(b"b").unwrap().is_some() && store.get(b"c").unwrap().is_some());
}
