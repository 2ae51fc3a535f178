//! The file is owed before it is there, is ours or is left alone, and goes by the operation's word or by the host's.

use quorate_model::{
    ActionSpec, DurationMs, ExecutionState, InstanceId, MaintenanceSpec, OperationId, Reason,
};

use super::{Announced, undo};
use crate::actions::execute;
use crate::actions::testing::{Bench, bench, locked, service_name};
use crate::config::Config;

fn spec(b: &Bench, name: &str) -> MaintenanceSpec {
    MaintenanceSpec {
        file: b.context.allowed_roots[0].join(name).display().to_string(),
        silence: None,
        lease: None,
    }
}

/// The host alone, for this operation.
async fn alone(b: &Bench, file: &str, operation: &str) -> String {
    tried(b, file, operation).await.unwrap()
}

async fn tried(b: &Bench, file: &str, operation: &str) -> Result<String, String> {
    let root = b.context.allowed_roots[0].display();
    let text = format!("node = 'n'\ndata_dir = '/d'\nhelper_socket = '/d/s'\n[policy]\npaths = ['{root}']");
    let policy = Config::parse(&text).unwrap().policy;
    let instance = InstanceId { node: b.context.node.clone(), service: service_name() };
    let operation = OperationId::new(operation).unwrap();
    let announced = Announced { instance: &instance, file, operation: &operation, silence: None };
    undo(&policy, announced, b.context.clock.wall()).await
}

fn enter(b: &Bench, name: &str) -> ActionSpec {
    ActionSpec::MaintenanceEnter {
        service: service_name(),
        maintenance: spec(b, name),
        exit_within: DurationMs(9_000),
        reason: "new \"disk\"".into(),
    }
}

fn exit(b: &Bench, name: &str) -> ActionSpec {
    ActionSpec::MaintenanceExit { service: service_name(), maintenance: spec(b, name) }
}

#[tokio::test]
async fn it_is_owed_written_and_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    let outcome = execute(&b.context, &enter(&b, "flag")).await.expect("written");
    assert!(outcome.message.contains("2023-11-14T22:13:29Z"), "{outcome:?}");
    let text = std::fs::read_to_string(root.path().join("flag")).unwrap();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let wanted = serde_json::json!({
        "since": "2023-11-14T22:13:20Z",
        "until": "2023-11-14T22:13:29Z",
        "operation": "r-1",
        "reason": "new \"disk\"",
    });
    assert_eq!(read, wanted);
    let file = root.path().join("flag").display().to_string();
    assert_eq!(b.recorder.lines(), [format!("open {file} 9000"), "hold".to_owned()]);
    execute(&b.context, &enter(&b, "flag")).await.expect("the same operation may say it again");
    execute(&b.context, &exit(&b, "flag")).await.expect("taken away");
    assert!(!root.path().join("flag").exists());
    assert_eq!(b.recorder.lines().last().unwrap(), "settle the maintenance of ledger@node1");
    let again = execute(&b.context, &exit(&b, "flag")).await.expect("nothing to do");
    assert!(again.message.ends_with("was gone already"), "{again:?}");
    assert!(locked(&b.unit.calls).is_empty(), "the unit is not touched");
}

#[tokio::test]
async fn somebody_elses_file_stays() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    let flag = root.path().join("flag");
    std::fs::write(&flag, "true\n").unwrap();
    let error = execute(&b.context, &enter(&b, "flag")).await.expect_err("in the way");
    assert_eq!((error.reason(), error.state()), (Reason::WrongState, ExecutionState::Rejected));
    assert!(b.recorder.lines().is_empty(), "nothing is owed");
    let left = execute(&b.context, &exit(&b, "flag")).await.expect("left alone");
    assert!(left.message.contains("somebody else"), "{left:?}");
    let file = flag.display().to_string();
    let said = alone(&b, &file, "r-1").await;
    assert!(said.contains("stays") && flag.exists(), "{said}");
}

#[tokio::test]
async fn a_host_alone_takes_away_what_its_operation_wrote_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    execute(&b.context, &enter(&b, "flag")).await.expect("written");
    let flag = root.path().join("flag");
    let file = flag.display().to_string();
    assert!(alone(&b, &file, "r-2").await.contains("stays") && flag.exists());
    assert!(alone(&b, &file, "r-1").await.contains("by the helper alone") && !flag.exists());
    assert!(alone(&b, &file, "r-1").await.contains("gone already"));
}

#[tokio::test]
async fn a_file_whose_folder_is_gone_is_gone_with_it() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    let folder = root.path().join("run");
    std::fs::create_dir(&folder).unwrap();
    execute(&b.context, &enter(&b, "run/flag")).await.expect("written");
    // As a unit's own folder of /run, when the unit has failed.
    std::fs::remove_dir_all(&folder).unwrap();
    let file = folder.join("flag").display().to_string();
    assert!(alone(&b, &file, "r-1").await.contains("gone already"));
    execute(&b.context, &exit(&b, "run/flag")).await.expect("nothing to do");
}

#[tokio::test]
async fn what_is_said_too_late_is_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    *locked(&b.recorder.refuse_hold) = true;
    execute(&b.context, &enter(&b, "flag")).await.expect_err("nobody owes its end any more");
    assert!(!root.path().join("flag").exists());
}

#[tokio::test]
async fn nothing_is_written_that_is_not_owed() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    *locked(&b.recorder.refuse_open) = true;
    execute(&b.context, &enter(&b, "flag")).await.expect_err("the journal takes nothing");
    assert!(!root.path().join("flag").exists());
}

#[tokio::test]
async fn a_link_or_a_path_outside_is_refused_and_owes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    std::os::unix::fs::symlink(elsewhere.path().join("x"), root.path().join("flag")).unwrap();
    execute(&b.context, &enter(&b, "flag")).await.expect_err("a link");
    let outside = ActionSpec::MaintenanceExit {
        service: service_name(),
        maintenance: MaintenanceSpec {
            file: elsewhere.path().join("x").display().to_string(),
            silence: None,
            lease: None,
        },
    };
    execute(&b.context, &outside).await.expect_err("outside");
    assert!(b.recorder.lines().is_empty() && !elsewhere.path().join("x").exists());
}

#[tokio::test]
async fn without_its_folder_it_fails_and_owes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    execute(&b.context, &enter(&b, "gone/flag")).await.expect_err("no such folder");
    assert!(b.recorder.lines().is_empty(), "{:?}", b.recorder.lines());
}
