//! The coordinators as the state has them: a cluster that begins again, a standby.

use quorate_core::Answer;
use quorate_core::command::{ClusterCommand, Command, IdentityCommand, NewCertificate};
use quorate_model::{MemberName, Principal, Reason, Serial};

use crate::world::World;

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(quorate_model::Refusal::reason)
}

#[test]
fn a_cluster_that_begins_again_fences_whoever_was_lost() {
    let mut world = World::new();
    let name = |n: u64| MemberName::new(format!("coord{n}")).unwrap();
    for n in 2..=3 {
        world.must(Command::Cluster(ClusterCommand::AddMember {
            name: name(n),
            grpc: "a:1".into(),
            http: "a:2".into(),
        }));
        let certificate = NewCertificate {
            serial: Serial::new(format!("c{n}")).unwrap(),
            principal: Principal::Coordinator { member: quorate_model::MemberId(n) },
            access: None,
            not_after: world.now.plus(quorate_model::DurationMs::from_secs(86_400)),
        };
        world.must(Command::Identity(IdentityCommand::Register { certificate }));
    }
    let before = world.state.clone();
    let refound = |member: u64, n: u64, grpc: &str| {
        Command::Cluster(ClusterCommand::Refound {
            member: quorate_model::MemberId(member),
            name: name(n),
            grpc: grpc.into(),
            http: "b:2".into(),
            certificates: Vec::new(),
        })
    };
    // A number that was never handed out is not made up, and nothing of a refused one stays.
    let refused = world.user(refound(9, 9, "b:1"));
    assert_eq!(reason(&refused), Some(Reason::Conflict));
    assert!(world.user(refound(3, 3, "two\nlines")).refusal().is_some());
    assert_eq!((&world.state.members, world.state.epoch), (&before.members, before.epoch));

    world.must(refound(3, 3, "b:1"));
    let present: Vec<u64> = world.state.members.present().map(|m| m.id.0).collect();
    assert_eq!(present, [3]);
    assert_eq!(world.state.members.named(&name(3)).unwrap().grpc, "b:1");
    let valid = |serial: &str| world.state.identities[&Serial::new(serial).unwrap()].is_valid(world.now);
    assert!(valid("c3") && !valid("c2"), "the certificate of a lost member is refused");
    assert!(world.state.epoch.0 >= before.epoch.0 + (1 << 32), "older grants lose");
    // Restored from a copy: the next number, under the name of one that is lost.
    world.must(refound(4, 1, "d:1"));
    let present: Vec<u64> = world.state.members.present().map(|m| m.id.0).collect();
    assert_eq!(present, [4]);
}

#[test]
fn a_standby_has_no_vote_until_it_is_promoted() {
    let mut world = World::new();
    world.must(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord2").unwrap(),
        grpc: "a:1".into(),
        http: "a:2".into(),
    }));
    let two = quorate_model::MemberId(2);
    world.state.members.by_id.get_mut(&two).unwrap().standby = true;
    world.must(Command::Cluster(ClusterCommand::PromoteMember { member: two }));
    assert!(!world.state.members.by_id[&two].standby);
    // Asked twice is no failure.
    world.must(Command::Cluster(ClusterCommand::PromoteMember { member: two }));
    let nobody =
        world.user(Command::Cluster(ClusterCommand::PromoteMember { member: quorate_model::MemberId(9) }));
    assert_eq!(reason(&nobody), Some(Reason::NotFound));
}
