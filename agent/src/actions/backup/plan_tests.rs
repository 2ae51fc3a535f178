//! Requests that make no sense, and names of every kind.

use proptest::prelude::*;

use super::*;

fn policy(paths: &[&str]) -> BackupPolicy {
    BackupPolicy {
        paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        exclude: Vec::new(),
        pause: None,
        resume: None,
        pause_limit: DurationMs::ZERO,
        level: 3,
    }
}

#[test]
fn nonsense_is_refused_by_field() {
    let hook = |name: &str| Some(HookName::new(name).expect("a valid name"));
    let cases = [
        (policy(&[]), "paths"),
        (policy(&["/"]), "paths"),
        (policy(&["/a/${node}"]), "paths"),
        (policy(&["/a", "/a/b"]), "paths"),
        (policy(&["/a", "/a"]), "paths"),
        (policy(&["/quorate-manifest.json"]), "paths"),
        (BackupPolicy { level: 0, ..policy(&["/a"]) }, "level"),
        (BackupPolicy { level: 20, ..policy(&["/a"]) }, "level"),
        (BackupPolicy { exclude: vec!["[".to_owned()], ..policy(&["/a"]) }, "exclude"),
        (BackupPolicy { pause: hook("p"), ..policy(&["/a"]) }, "resume"),
        (BackupPolicy { resume: hook("r"), ..policy(&["/a"]) }, "pause"),
        (BackupPolicy { pause: hook("p"), resume: hook("r"), ..policy(&["/a"]) }, "pause_limit"),
    ];
    for (request, field) in cases {
        assert_eq!(check(&request).expect_err("nonsense").0, field, "{request:?}");
    }
    assert!(check(&policy(&["/a", "/ab"])).is_ok());
}

proptest! {
    #[test]
    fn the_worst_case_never_underestimates(content in 0_u64..1 << 50, entries in 0_u64..1 << 30) {
        prop_assert!(needed_bytes(content, entries) >= content + entries * 1024);
    }

    #[test]
    fn no_level_takes_unbounded_tables(level in 1_i32..=19, workers in 0_u32..64) {
        let e = effort(level, workers);
        prop_assert!(e.workers <= 2);
        prop_assert!(level <= 12 || e.chain_log.is_some());
    }
}
