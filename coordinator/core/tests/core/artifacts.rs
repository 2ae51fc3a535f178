//! The catalogue of artifacts: what is refused leaves no trace, and what is there is not exchanged.

use quorate_core::Answer;
use quorate_core::command::{ArtifactCommand, ClusterCommand, Command};
use quorate_core::state::artifact::ARTIFACTS_MAX;
use quorate_model::{ArtifactSpec, Digest, MemberId, MemberName, Reason};

use crate::world::World;

fn digest(number: usize) -> Digest {
    Digest::new(format!("{number:064x}")).unwrap()
}

fn spec(number: usize) -> ArtifactSpec {
    let file_name = format!("file-{number}");
    ArtifactSpec { digest: digest(number), size: 7, file_name, signature: None }
}

/// `register 1 SIZE [signed]`, `hold 1 MEMBER`, `release 1 MEMBER`, `delete 1`, for scripts.
pub(crate) fn command(verb: &str, rest: &[&str]) -> ArtifactCommand {
    let number = |at: usize| rest[at].parse::<u64>().unwrap();
    let digest = digest(usize::try_from(number(0)).unwrap());
    match verb {
        "register" => {
            let signature = rest.get(2).map(|word| format!("untrusted comment: {word}\nRUQ=\n"));
            let file_name = format!("ledger-{}.tar.zst", rest[0]);
            ArtifactCommand::Register { spec: ArtifactSpec { digest, size: number(1), file_name, signature } }
        }
        "hold" => ArtifactCommand::Hold { digest, member: MemberId(number(1)) },
        "release" => ArtifactCommand::Release { digest, member: MemberId(number(1)) },
        "delete" => ArtifactCommand::Delete { digest },
        _ => panic!("unknown verb: {verb}"),
    }
}

fn ask(world: &mut World, command: ArtifactCommand) -> Option<Reason> {
    world.user(Command::Artifact(command)).refusal().map(quorate_model::Refusal::reason)
}

fn register(world: &mut World, spec: ArtifactSpec) -> Option<Reason> {
    ask(world, ArtifactCommand::Register { spec })
}

#[test]
fn the_same_again_changes_nothing_and_nothing_is_exchanged() {
    let mut world = World::new();
    assert_eq!(register(&mut world, spec(1)), None);
    let before = world.state.artifacts.clone();
    assert_eq!(register(&mut world, ArtifactSpec { file_name: "other".into(), ..spec(1) }), None);
    assert_eq!(world.state.artifacts, before, "the first name stands");
    assert_eq!(register(&mut world, ArtifactSpec { size: 8, ..spec(1) }), Some(Reason::Conflict));
    let signed = |text: &str| ArtifactSpec { signature: Some(text.into()), ..spec(1) };
    assert_eq!(register(&mut world, signed("one")), None);
    assert_eq!(register(&mut world, spec(1)), None);
    assert_eq!(register(&mut world, signed("other")), Some(Reason::Conflict));
    assert_eq!(world.state.artifacts[&digest(1)].spec.signature.as_deref(), Some("one"));
    world.replicas_agree();
}

#[test]
fn what_is_no_artifact_is_refused_without_a_trace() {
    let mut world = World::new();
    let before = world.state.artifacts.clone();
    for bad in [
        ArtifactSpec { size: 0, ..spec(1) },
        ArtifactSpec { size: u64::MAX, ..spec(1) },
        ArtifactSpec { file_name: "../etc/passwd".into(), ..spec(1) },
        ArtifactSpec { signature: Some("\u{1b}[2J".into()), ..spec(1) },
    ] {
        assert_eq!(register(&mut world, bad), Some(Reason::InvalidArgument));
    }
    let (digest, member) = (digest(1), MemberId(1));
    for command in [
        ArtifactCommand::Hold { digest: digest.clone(), member },
        ArtifactCommand::Release { digest: digest.clone(), member },
        ArtifactCommand::Delete { digest: digest.clone() },
    ] {
        assert_eq!(ask(&mut world, command), Some(Reason::NotFound));
    }
    assert_eq!(register(&mut world, spec(1)), None);
    let hold = ArtifactCommand::Hold { digest: digest.clone(), member: MemberId(9) };
    assert_eq!(ask(&mut world, hold), Some(Reason::NotFound), "nobody holds it who is no member");
    assert!(before.is_empty() && world.state.artifacts[&digest].holders.is_empty());
}

#[test]
fn there_is_a_limit_and_the_known_ones_stay_known_at_it() {
    let mut world = World::new();
    for number in 0..ARTIFACTS_MAX {
        assert_eq!(register(&mut world, spec(number)), None);
    }
    assert_eq!(register(&mut world, spec(ARTIFACTS_MAX)), Some(Reason::LimitReached));
    assert_eq!(register(&mut world, spec(0)), None);
    assert_eq!(ask(&mut world, ArtifactCommand::Delete { digest: digest(0) }), None);
    assert_eq!(register(&mut world, spec(ARTIFACTS_MAX)), None);
}

#[test]
fn a_removed_member_holds_nothing() {
    let mut world = World::new();
    let answer = world.must(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord2").unwrap(),
        grpc: "127.0.0.1:1".into(),
        http: "127.0.0.1:2".into(),
    }));
    let Answer::Member { member, .. } = answer else { panic!("{answer:?}") };
    register(&mut world, spec(1));
    assert_eq!(ask(&mut world, ArtifactCommand::Hold { digest: digest(1), member }), None);
    world.must(Command::Cluster(ClusterCommand::RemoveMember { member }));
    assert!(world.state.artifacts[&digest(1)].holders.is_empty());
    assert_eq!(ask(&mut world, ArtifactCommand::Hold { digest: digest(1), member }), Some(Reason::NotFound));
    world.replicas_agree();
}
