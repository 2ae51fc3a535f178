//! The coordinators as the state has them: a cluster that begins again, a standby.

use quorate_core::Answer;
use quorate_core::command::{ClusterCommand, Command, IdentityCommand, NewCertificate, TokenCommand};
use quorate_core::hash::Hash;
use quorate_core::state::TokenPurpose;
use quorate_model::{MemberName, Principal, Reason, Serial, TokenId};

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
    world.must(Command::Token(TokenCommand::Create {
        id: TokenId::new("tok-1").unwrap(),
        secret_sha256: Hash::of(b"tok-1"),
        purpose: TokenPurpose::Coordinator,
        expires_at: world.now.plus(quorate_model::DurationMs::from_secs(3_600)),
    }));
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
    let seconds = u64::try_from(world.now.0 / 1_000).unwrap();
    assert!(
        world.state.members.last.0 >= seconds,
        "no number that a lost member may have handed out comes again"
    );
    assert!(world.state.tokens.values().all(|token| token.revoked_at.is_some()), "nor does a token");
    // Restored from a copy: a number of its own, under the name of one that is lost; and again from the same copy, later.
    let copy = world.state.clone();
    let mut numbers = Vec::new();
    for days in 1..=2 {
        world.state = copy.clone();
        world.now = world.now.plus(quorate_model::DurationMs::from_secs(days * 86_400));
        let member = world.state.members.refounded(world.now);
        world.must(refound(member.0, 1, "d:1"));
        let present: Vec<_> = world.state.members.present().map(|m| m.id).collect();
        assert_eq!(present, [member]);
        numbers.push((member, world.state.epoch));
    }
    assert!(numbers[0].0 < numbers[1].0 && numbers[0].1.0 + (1 << 32) < numbers[1].1.0, "{numbers:?}");
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
