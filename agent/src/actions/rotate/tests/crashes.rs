//! A crash between any two changes: the next rotation goes on from there.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_model::Timestamp;

use super::*;
use crate::actions::job::Job;
use crate::actions::rotate::exec::for_tests::rotate_one;
use crate::actions::rotate::find::Found;
use crate::host::dir::Folder;

fn open(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("open")
}

struct Scene {
    temp: tempfile::TempDir,
    bench: Bench,
    found: Found,
    file: File,
    next: u64,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("tempdir");
        let bench = bench(temp.path(), true);
        let folder = Arc::new(Folder::open_root(temp.path()).expect("open"));
        let file = open(&temp.path().join("x.log"));
        Self { found: Found { folder, name: OsString::from("x.log") }, temp, bench, file, next: 0 }
    }

    /// Enough lines for more than a block, so that copying has something to cut.
    fn write(&mut self) {
        let text: String = (self.next..self.next + 900).map(|n| format!("{n:08}\n")).collect();
        self.file.write_all(text.as_bytes()).expect("write");
        self.next += 900;
    }

    fn rotate(&mut self, policy: &LogRotation, crash_at: usize) -> bool {
        let mut job = Job::for_tests(&self.bench.context);
        let log = self.temp.path().join("x.log");
        let file = &mut self.file;
        let mut reload = || *file = open(&log);
        rotate_one(&self.found, policy, Timestamp::ZERO, &mut job, crash_at, &mut reload).is_ok()
    }

    fn numbers(&self) -> Vec<u64> {
        numbers(&history(&self.temp.path().join("x.log")))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_line_is_lost_nor_doubled_for_good(
        crashes in proptest::collection::vec(0_usize..14, 1..8),
        compress in any::<bool>(),
        copying in any::<bool>(),
    ) {
        let mut scene = Scene::new();
        let log = scene.temp.path().join("x.log");
        let policy = LogRotation { compress, copy_truncate: copying, ..policy(&log) };
        for crash_at in crashes {
            scene.write();
            scene.rotate(&policy, crash_at);
        }
        scene.write();
        // One run finishes what was left; a second one then has an ordinary log before it.
        for _ in 0..2 {
            prop_assert!(scene.rotate(&policy, usize::MAX));
        }
        prop_assert_eq!(scene.numbers(), (0..scene.next).collect::<Vec<_>>());
        let names = names(scene.temp.path());
        prop_assert!(!names.iter().any(|n| n.contains("quorate")), "{:?}", names);
    }
}

#[test]
fn every_single_point_of_one_rotation() {
    for copying in [false, true] {
        let mut points = 0;
        for crash_at in 0.. {
            let mut scene = Scene::new();
            let log = scene.temp.path().join("x.log");
            let policy = LogRotation { copy_truncate: copying, ..policy(&log) };
            for _ in 0..2 {
                scene.write();
                assert!(scene.rotate(&policy, usize::MAX));
            }
            scene.write();
            let finished = scene.rotate(&policy, crash_at);
            scene.write();
            assert!(scene.rotate(&policy, usize::MAX), "after a crash at {crash_at}");
            assert_eq!(scene.numbers(), (0..scene.next).collect::<Vec<_>>(), "crash at {crash_at}");
            points = crash_at;
            if finished {
                break;
            }
        }
        assert!(points >= 6, "only {points} points were tried");
    }
}
