//! Folders that are put aside and back, over real files and a unit that is told when to run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use quorate_model::{ActionOutcome, ActionSpec, DataVerb, ExecutionState, QuarantineId, Reason};

use super::record::{Phase, Record};
use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{ActionError, execute, finish};

struct Host {
    dir: tempfile::TempDir,
    bench: Bench,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (folder, content) in [("srv/store", "records"), ("srv/wal", "tail")] {
            let folder = dir.path().join(folder);
            fs::create_dir_all(folder.join("deep")).unwrap();
            fs::write(folder.join("deep/file"), content).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o2750)).unwrap();
        }
        let bench = bench(dir.path(), false);
        Self { dir, bench }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn spec(&self, paths: &[&str], verb: DataVerb) -> ActionSpec {
        ActionSpec::Data {
            service: service_name(),
            paths: paths.iter().map(|path| self.path(path).display().to_string()).collect(),
            quarantine: QuarantineId::new("q-1").unwrap(),
            verb,
        }
    }

    async fn run(&self, verb: DataVerb) -> Result<ActionOutcome, ActionError> {
        execute(&self.bench.context, &self.spec(&["srv/store", "srv/wal"], verb)).await
    }

    /// Whether the old content lies under these names, and no other.
    fn lies(&self, place: &str) -> bool {
        ["srv/store", "srv/wal"].iter().all(|folder| {
            let names = [(*folder).to_owned(), format!("{folder}.quarantine-q-1")];
            let has = |name: &String| self.path(name).join("deep/file").exists();
            let wanted = format!("{folder}{place}");
            names.iter().all(|name| has(name) == (*name == wanted))
        })
    }

    fn phase(&self) -> Option<Phase> {
        let record = Record::load(&self.bench.context.releases_dir, &service_name()).unwrap();
        record.get(&QuarantineId::new("q-1").unwrap()).map(|set| set.phase)
    }

    fn crashed_at(&self, phase: Phase) {
        let mut record = Record::load(&self.bench.context.releases_dir, &service_name()).unwrap();
        let set = record.get(&QuarantineId::new("q-1").unwrap()).unwrap().clone();
        record.put(&super::record::Set { phase, ..set }).unwrap();
    }
}

const ASIDE: &str = ".quarantine-q-1";

#[tokio::test]
async fn all_of_them_are_put_aside_and_empty_ones_look_the_same() {
    let host = Host::new();
    let outcome = host.run(DataVerb::Quarantine).await.unwrap();
    assert!(host.lies(ASIDE) && host.phase() == Some(Phase::Aside));
    for part in ["store.quarantine-q-1", "wal.quarantine-q-1", "bytes"] {
        assert!(outcome.message.contains(part), "{part}: {}", outcome.message);
    }
    let (new, old) =
        (fs::metadata(host.path("srv/store")), fs::metadata(host.path("srv/store.quarantine-q-1")));
    let look =
        |seen: std::io::Result<fs::Metadata>| seen.map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    assert_eq!(look(new), look(old));
    assert_eq!(fs::read_dir(host.path("srv/store")).unwrap().count(), 0);
    host.run(DataVerb::Quarantine).await.unwrap();
    assert!(host.lies(ASIDE), "the same again ends the same");
}

#[tokio::test]
async fn they_come_back_and_what_came_meanwhile_is_kept() {
    let host = Host::new();
    host.run(DataVerb::Quarantine).await.unwrap();
    fs::write(host.path("srv/store/new"), "copied").unwrap();
    let outcome = host.run(DataVerb::Revert).await.unwrap();
    assert!(host.lies("") && host.phase() == Some(Phase::Returned));
    assert_eq!(fs::read_to_string(host.path("srv/store.quarantine-q-1-later/new")).unwrap(), "copied");
    assert!(outcome.message.contains("store.quarantine-q-1-later"), "{}", outcome.message);
    host.run(DataVerb::Revert).await.unwrap();
    assert!(host.lies(""));
    let error = host.run(DataVerb::Quarantine).await.unwrap_err();
    assert_eq!((error.reason(), error.state()), (Reason::WrongState, ExecutionState::Rejected), "{error}");
}

#[tokio::test]
async fn nothing_is_touched_while_the_service_runs() {
    let host = Host::new();
    host.bench
        .context
        .services
        .get(&service_name())
        .unwrap()
        .driver
        .start(std::time::Duration::ZERO)
        .await
        .unwrap();
    for verb in [DataVerb::Quarantine, DataVerb::Revert] {
        let error = host.run(verb).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.state()),
            (Reason::WrongState, ExecutionState::Rejected),
            "{error}"
        );
    }
    assert!(host.lies("") && host.phase().is_none());
}

#[tokio::test]
async fn one_that_cannot_be_put_aside_leaves_all_where_they_are() {
    let host = Host::new();
    let refused = async |paths: &[&str], why: &str| {
        let error = execute(&host.bench.context, &host.spec(paths, DataVerb::Quarantine)).await.unwrap_err();
        assert!(error.message().contains(why), "{paths:?}: {error}");
        assert_eq!(error.state(), ExecutionState::Rejected, "{paths:?}: {error}");
        assert!(host.lies("") && host.phase().is_none(), "{paths:?}");
    };
    symlink(host.path("srv/wal"), host.path("srv/link")).unwrap();
    fs::write(host.path("srv/file"), "x").unwrap();
    fs::create_dir(host.path("srv/taken")).unwrap();
    fs::create_dir(host.path("srv/taken.quarantine-q-1")).unwrap();
    refused(&["srv/store", "srv/link"], "symbolic link").await;
    refused(&["srv/store", "srv/file"], "it is a file").await;
    refused(&["srv/store", "srv/gone"], "does not exist").await;
    refused(&["srv/store", "srv/taken"], "is there already").await;
    refused(&["srv/store", "srv/../srv/wal"], "'..'").await;
    refused(&["srv/store", "data"], "this host's own work").await;
    refused(&["srv/store", "backups/inner"], "this host's own work").await;
    let out = ActionSpec::Data {
        service: service_name(),
        paths: vec![host.path("srv/store").display().to_string(), "/etc".to_owned()],
        quarantine: QuarantineId::new("q-1").unwrap(),
        verb: DataVerb::Quarantine,
    };
    let error = execute(&host.bench.context, &out).await.unwrap_err();
    assert!(matches!(error, ActionError::PathNotAllowed(_)), "{error}");
    let root = host.spec(&[""], DataVerb::Quarantine);
    assert_eq!(execute(&host.bench.context, &root).await.unwrap_err().state(), ExecutionState::Rejected);
    symlink(host.path("srv"), host.path("around")).unwrap();
    let through = host.spec(&["around/store"], DataVerb::Quarantine);
    let error = execute(&host.bench.context, &through).await.unwrap_err();
    assert!(matches!(error, ActionError::PathNotAllowed(_)), "through a link: {error}");
    assert!(host.lies(""));
}

/// A folder that is a file system of its own can only be renamed there, and not in one step.
#[tokio::test]
async fn a_mount_point_is_refused_before_anything_moves() {
    let device = |path: &str| fs::metadata(path).ok().map(|seen| seen.dev());
    if device("/dev/shm").is_none() || device("/dev/shm") == device("/dev") {
        return;
    }
    let mut host = Host::new();
    host.bench.context.allowed_roots.push(PathBuf::from("/dev"));
    let spec = ActionSpec::Data {
        service: service_name(),
        paths: vec![host.path("srv/store").display().to_string(), "/dev/shm".to_owned()],
        quarantine: QuarantineId::new("q-1").unwrap(),
        verb: DataVerb::Quarantine,
    };
    let error = execute(&host.bench.context, &spec).await.unwrap_err();
    assert!(error.message().contains("mount point"), "{error}");
    assert!(host.lies("") && !Path::new("/dev/shm.quarantine-q-1").exists());
}

/// Whatever was done of it when the helper ended: the same again ends the same, and so does the way back.
#[tokio::test]
async fn a_crash_at_every_point_is_gone_on_from() {
    // How many renames, and then how many new folders, were done.
    for done in 0..=4_usize {
        for verb in [DataVerb::Quarantine, DataVerb::Revert] {
            let host = Host::new();
            host.run(DataVerb::Quarantine).await.unwrap();
            for (index, folder) in ["srv/store", "srv/wal"].iter().enumerate() {
                if done < 3 + index {
                    fs::remove_dir(host.path(folder)).unwrap();
                }
                if done < 1 + index {
                    fs::rename(host.path(&format!("{folder}{ASIDE}")), host.path(folder)).unwrap();
                }
            }
            host.crashed_at(Phase::Begun);
            // Its time is over as well: what was begun is brought to its end all the same.
            if verb == DataVerb::Quarantine {
                let spec = host.spec(&["srv/store", "srv/wal"], verb);
                finish(&host.bench.context, &spec).await.unwrap();
                assert!(host.lies(ASIDE), "{done}");
                assert!(host.path("srv/wal").is_dir() && host.path("srv/store").is_dir(), "{done}");
            } else {
                host.run(verb).await.unwrap();
                assert!(host.lies(""), "{done}");
            }
        }
    }
}

#[tokio::test]
async fn a_way_back_that_was_begun_is_brought_to_its_end() {
    for done in 0..=4_usize {
        let host = Host::new();
        host.run(DataVerb::Quarantine).await.unwrap();
        for (index, folder) in ["srv/store", "srv/wal"].iter().enumerate() {
            if done > 2 * index {
                fs::rename(host.path(folder), host.path(&format!("{folder}{ASIDE}-later"))).unwrap();
            }
            if done > 2 * index + 1 {
                fs::rename(host.path(&format!("{folder}{ASIDE}")), host.path(folder)).unwrap();
            }
        }
        host.crashed_at(Phase::Returning);
        let spec = host.spec(&["srv/store", "srv/wal"], DataVerb::Revert);
        finish(&host.bench.context, &spec).await.unwrap();
        assert!(host.lies("") && host.phase() == Some(Phase::Returned), "{done}");
    }
}

#[tokio::test]
async fn what_was_never_begun_is_late_and_has_nothing_to_go_back_to() {
    let host = Host::new();
    for verb in [DataVerb::Quarantine, DataVerb::Revert] {
        let spec = host.spec(&["srv/store", "srv/wal"], verb);
        assert_eq!(finish(&host.bench.context, &spec).await.unwrap_err().state(), ExecutionState::TimedOut);
    }
    let outcome = host.run(DataVerb::Revert).await.unwrap();
    assert!(outcome.message.contains("nothing was put aside"), "{}", outcome.message);
    // A folder that is aside, and nobody remembers why, is not taken for one that was never moved.
    fs::create_dir(host.path("srv/store.quarantine-q-1")).unwrap();
    let error = host.run(DataVerb::Revert).await.unwrap_err();
    assert!(matches!(error, ActionError::NoWayBack { .. }), "{error}");
    assert!(host.path("srv/store/deep/file").exists());
}
