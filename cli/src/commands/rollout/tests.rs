//! The flags of rolling changes, as words of the protocol.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: RolloutCommand,
}

fn parse(line: &str) -> Result<RolloutCommand, clap::Error> {
    Ok(Line::try_parse_from(std::iter::once("rollout").chain(line.split(' ')))?.command)
}

fn rolling(line: &str) -> v1::RollingSpec {
    let spec = match parse(line).unwrap() {
        RolloutCommand::Plan { what, .. } => what.spec().unwrap().0,
        RolloutCommand::Undo { group, config, advance, .. } => undo_spec(&group, config, &advance).unwrap(),
        other => panic!("neither plan nor undo: {other:?}"),
    };
    let Some(Kind::Rolling(rolling)) = spec.kind else { panic!("not rolling: {spec:?}") };
    rolling
}

#[test]
fn flags_become_waves_and_a_policy() {
    let flags = "--canary 1 --ramp 1,5,20% --hold 10m --promotion canary --on-failure rollback";
    let read = rolling(&format!("plan ledger --release 1.9.2 --artifact 5f3a {flags}"));
    assert_eq!((read.kind(), read.group.as_str()), (v1::RollingKind::Release, "ledger"));
    assert_eq!((read.version.as_str(), read.artifact.as_str()), ("1.9.2", "5f3a"));
    assert_eq!(read.on_failure(), v1::OnFailure::Rollback);
    let waves = read.waves.unwrap();
    assert_eq!((waves.canary, waves.promotion()), (1, v1::Promotion::Canary));
    assert_eq!(waves.ramp, ["1", "5", "20%"]);
    assert_eq!(waves.hold.map(|hold| hold.seconds), Some(600));
    assert!(!read.backup_first && rolling("plan --restart ledger --backup-first").backup_first);
    let zoned = rolling("plan --restart ledger --order zone --zone-label rack").waves.unwrap();
    assert_eq!((zoned.order(), zoned.zone_label.as_str()), (v1::RolloutOrder::Zone, "rack"));
    let undo = rolling("undo ledger --canary 2");
    assert_eq!((undo.kind(), undo.waves.map(|w| w.canary)), (v1::RollingKind::Undo, Some(2)));
}

#[test]
fn without_flags_nothing_is_said_of_waves() {
    let read = rolling("plan --restart ledger");
    assert_eq!((read.waves, read.on_failure), (None, 0));
}

#[test]
fn a_hook_is_run_on_a_group_and_a_migration_is_chosen_for_a_release() {
    let read = rolling("plan ledger --run compact --hold 5s");
    assert_eq!((read.kind(), read.group.as_str()), (v1::RollingKind::Run, "ledger"));
    assert_eq!((read.hook.as_str(), read.waves.is_some()), ("compact", true));
    let read = rolling("plan ledger --release 1.9.2 --artifact 5f3a --migrate again");
    assert_eq!(read.migration(), v1::MigrationChoice::Again);
    assert_eq!(rolling("plan ledger --release 1.9.2 --artifact 5f3a").migration, 0);
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    for line in [
        "plan ledger",
        "plan ledger --release 1",
        "plan --release 1 --artifact 5f3a",
        "plan ledger --restart ledger",
        "plan ledger --release 1 --artifact a --restart ledger",
        "plan --run compact",
        "plan ledger --run compact --release 1 --artifact a",
        "plan ledger --run compact --migrate again",
        "start --plan p-1 --canary 1",
        "plan --restart ledger --promotion sometimes",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let Ok(RolloutCommand::Plan { what, .. }) = parse("plan --backup ledger --all --canary 1") else {
        panic!("it parses")
    };
    assert!(what.spec().is_err(), "a backup has no canary");
}
