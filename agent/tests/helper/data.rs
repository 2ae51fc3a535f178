//! Folders that are put aside and back by a helper that dies at every point: each lies in exactly one place, and ends where it is
//! meant to.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use quorate_model::{ActionSpec, DataVerb, ExecutionState, QuarantineId};

use crate::fixture::{Host, service, work};

const FOLDERS: [&str; 2] = ["data/store", "data/wal"];
const MODE: u32 = 0o2750;

/// Wherever any work of a helper can end.
const ANY: [&str; 5] = ["accepted", "after-intent", "after-effect", "before-result", "after-result"];

const PUTTING_ASIDE: [&str; 7] = [
    "data-recorded",
    "data-renamed",
    "data-renamed@2",
    "data-bare",
    "data-bare@2",
    "data-made",
    "data-made@2",
];

const PUTTING_BACK: [&str; 5] = ["data-returning", "data-way", "data-back", "data-way@2", "data-back@2"];

fn folders(host: &Host, verb: DataVerb) -> ActionSpec {
    ActionSpec::Data {
        service: service(),
        paths: FOLDERS.iter().map(|folder| host.path(folder).display().to_string()).collect(),
        quarantine: QuarantineId::new("q-1").expect("a valid id"),
        verb,
    }
}

fn host() -> Host {
    let host = Host::new();
    for folder in FOLDERS {
        let path = host.path(folder);
        std::fs::create_dir(&path).expect("a folder");
        std::fs::write(path.join("records"), folder).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(MODE)).expect("it is ours");
    }
    host
}

/// How many of the folders have their data aside. Each has it in exactly one of both places.
fn aside(host: &Host, when: &str) -> usize {
    let has = |name: String| std::fs::read_to_string(host.path(&name).join("records")).is_ok();
    let mut aside = 0;
    for folder in FOLDERS {
        let (here, there) = (has(folder.to_owned()), has(format!("{folder}.quarantine-q-1")));
        assert!(here != there, "{when}: {folder} is in place: {here}, aside: {there}");
        aside += usize::from(there);
    }
    aside
}

/// What stands in their place is empty and looks as they did.
fn replaced(host: &Host, when: &str) {
    for folder in FOLDERS {
        let path = host.path(folder);
        let seen = std::fs::metadata(&path).expect("an empty one is in its place");
        assert_eq!(seen.mode() & 0o7777, MODE, "{when}: {folder}");
        assert_eq!(std::fs::read_dir(&path).expect("it is ours").count(), 0, "{when}: {folder}");
    }
}

async fn succeeds(host: &Host, id: &str, epoch: u64, action: &ActionSpec) {
    host.deliver(work(id, epoch, action.clone())).await;
    let end = host.ended(id).await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}\n{}", host.read("helper.log"));
}

/// Dies at a point of an execution and comes back.
async fn dies_at(host: &mut Host, point: &str, id: &str, epoch: u64, action: &ActionSpec) {
    host.start(Some(point));
    host.deliver(work(id, epoch, action.clone())).await;
    host.died().await;
    aside(host, point);
    host.start(None);
}

#[tokio::test]
async fn data_is_put_aside_once_wherever_the_helper_dies() {
    for point in ANY.into_iter().chain(PUTTING_ASIDE) {
        let mut host = host();
        let action = folders(&host, DataVerb::Quarantine);
        dies_at(&mut host, point, "x-1", 1, &action).await;
        // Told the same again, as a coordinator does that has no answer.
        succeeds(&host, "x-1", 1, &action).await;
        assert_eq!(aside(&host, point), FOLDERS.len(), "{point}");
        replaced(&host, point);
        succeeds(&host, "x-2", 2, &folders(&host, DataVerb::Revert)).await;
        assert_eq!(aside(&host, point), 0, "{point}");
    }
}

#[tokio::test]
async fn data_is_back_wherever_the_helper_dies() {
    for point in ANY.into_iter().chain(PUTTING_BACK) {
        let mut host = host();
        host.start(None);
        succeeds(&host, "x-1", 1, &folders(&host, DataVerb::Quarantine)).await;
        for folder in FOLDERS {
            std::fs::write(host.path(folder).join("copied"), "half of it").expect("it is ours");
        }
        host.kill();
        let action = folders(&host, DataVerb::Revert);
        dies_at(&mut host, point, "x-2", 2, &action).await;
        succeeds(&host, "x-2", 2, &action).await;
        assert_eq!(aside(&host, point), 0, "{point}");
        for folder in FOLDERS {
            let later = host.read(&format!("{folder}.quarantine-q-1-later/copied"));
            assert_eq!(later, "half of it", "{point}: what came meanwhile is kept");
        }
    }
}

/// The coordinator gave up on putting it aside while its helper was dead, and asks for the way back at once.
#[tokio::test]
async fn what_was_half_put_aside_is_put_back() {
    for point in PUTTING_ASIDE {
        let mut host = host();
        let action = folders(&host, DataVerb::Quarantine);
        dies_at(&mut host, point, "x-1", 1, &action).await;
        succeeds(&host, "x-2", 2, &folders(&host, DataVerb::Revert)).await;
        assert_eq!(aside(&host, point), 0, "{point}");
    }
}
