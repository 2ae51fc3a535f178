//! Approvals: what a policy covers, who counts, what never begins without them, and the door of policies.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_core::command::{
    Command, Entry, IdentityCommand, NewCertificate, OperationCommand, PolicyCommand, StepCommand,
};
use quorate_core::plan::{Change, Goal, PlanRequest, Verb, plan};
use quorate_core::safety::approval::covering;
use quorate_core::state::approval::POLICIES_MAX;
use quorate_core::{Answer, Hash, Plan};
use quorate_model::approval::EXPIRES_DEFAULT;
use quorate_model::{
    AccessRole, ApprovalState, Approvers, DurationMs, ExecutionId, OperationId, OperationKind,
    OperationState, PolicyName, PolicySpec, Principal, Reason, Refusal, RequestId, Revision, RiskClass,
    Selector, Serial, UserName, WorkloadName,
};

use crate::agents::Fleet;
use crate::world::{admin, group, policy, service, spec};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(4);
    for name in ["ledger", "web"] {
        fleet.world.declare(spec(name));
        fleet.bring_up(name);
    }
    fleet.world.group("voters", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    fleet
}

fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).unwrap() }
}

fn id(text: &str) -> OperationId {
    OperationId::new(text).unwrap()
}

fn four_eyes() -> PolicySpec {
    PolicySpec {
        name: PolicyName::new("four-eyes").unwrap(),
        selector: None,
        services: vec![],
        kinds: vec![],
        risk: None,
        approvals: 1,
        approvers: Approvers::Operators,
        expires: EXPIRES_DEFAULT,
        reason: "nobody alone".into(),
    }
}

fn put(fleet: &mut Fleet, spec: PolicySpec, expect: Option<u64>) -> Option<Reason> {
    let command = PolicyCommand::Apply { spec, expect: expect.map(Revision) };
    reason(&fleet.world.user(Command::Policy(Box::new(command))))
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(Refusal::reason)
}

fn planned(fleet: &Fleet, goal: Goal, by: Principal) -> Plan {
    let world = &fleet.world;
    let mut minted = 5_000 + u64::try_from(world.state.plans.len()).unwrap() * 100;
    let request = PlanRequest::new(goal, by);
    plan(&world.state, &world.obs, &request, world.now, &mut || {
        minted += 1;
        minted
    })
    .unwrap()
}

fn restart() -> Goal {
    Goal::Rollout { group: group("voters"), change: Change::Restart }
}

fn run(of: &str, verb: Verb) -> Goal {
    Goal::Run { service: service(of), nodes: Selector::node("node4"), verb }
}

fn start(fleet: &mut Fleet, name: &str, plan: Plan, by: Principal) {
    let command = Command::Operation(Box::new(OperationCommand::Start { id: id(name), plan }));
    let answer = fleet.world.commit(&Entry::new(fleet.world.now, by, None, command));
    assert_eq!(reason(&answer), None);
}

fn approve(fleet: &mut Fleet, name: &str, by: &Principal) -> Option<Reason> {
    let plan = fleet.world.state.operations[&id(name)].plan_hash;
    decide(fleet, OperationCommand::Approve { id: id(name), plan, reason: "seen".into() }, by)
}

fn decide(fleet: &mut Fleet, command: OperationCommand, by: &Principal) -> Option<Reason> {
    let command = Command::Operation(Box::new(command));
    reason(&fleet.world.commit(&Entry::new(fleet.world.now, by.clone(), None, command)))
}

#[test]
fn a_policy_covers_by_kind_risk_node_and_service() {
    let on = |text: &str| Some(Selector::node(text));
    let of = |text: &str| vec![WorkloadName::new(text).unwrap()];
    // Columns: a rollout of the group, a restart of web on node4, a look at it.
    let cases = [
        (four_eyes(), [true, true, false]),
        (PolicySpec { kinds: vec![OperationKind::Run], ..four_eyes() }, [false, true, true]),
        (PolicySpec { kinds: vec![OperationKind::Rollout], ..four_eyes() }, [true, false, false]),
        (
            PolicySpec { kinds: vec![OperationKind::Run], risk: Some(RiskClass::Disruptive), ..four_eyes() },
            [false, true, false],
        ),
        (PolicySpec { risk: Some(RiskClass::Destructive), ..four_eyes() }, [false, false, false]),
        (PolicySpec { selector: on("node3"), ..four_eyes() }, [true, false, false]),
        (PolicySpec { selector: on("node4"), ..four_eyes() }, [false, true, false]),
        (PolicySpec { services: of("voters"), ..four_eyes() }, [true, false, false]),
        (PolicySpec { services: of("web"), ..four_eyes() }, [false, true, false]),
    ];
    for (spec, wanted) in cases {
        let mut fleet = fleet();
        let text = format!("{spec:?}");
        assert_eq!(put(&mut fleet, spec, None), None, "{text}");
        let covered = |goal| {
            let made = planned(&fleet, goal, admin());
            let told = made.warnings.iter().any(|warning| warning.starts_with("policy four-eyes: "));
            let found = covering(&fleet.world.state, &made).count() == 1;
            assert_eq!(told, found, "the plan says so");
            found
        };
        let found =
            [covered(restart()), covered(run("web", Verb::Restart)), covered(run("web", Verb::Status))];
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn a_role_counts_by_the_certificates_that_are_listed_when_it_decides() {
    let mut fleet = fleet();
    let admins = PolicySpec { approvers: Approvers::Role(AccessRole::Admin), ..four_eyes() };
    assert_eq!(put(&mut fleet, admins, None), None);
    let made = planned(&fleet, restart(), admin());
    start(&mut fleet, "r-1", made, admin());
    let bob = user("bob");
    assert_eq!(approve(&mut fleet, "r-1", &bob), Some(Reason::ApproverRefused), "nobody knows bob");
    for (serial, access, wanted) in
        [("0b", AccessRole::Operator, Some(Reason::ApproverRefused)), ("0c", AccessRole::Admin, None)]
    {
        let name = UserName::new("bob").unwrap();
        fleet.world.must(Command::Identity(IdentityCommand::PutUser { name, access }));
        let certificate = NewCertificate {
            serial: Serial::new(serial).unwrap(),
            principal: bob.clone(),
            access: Some(access),
            not_after: fleet.world.now.plus(EXPIRES_DEFAULT),
        };
        fleet.world.must(Command::Identity(IdentityCommand::Register { certificate }));
        assert_eq!(approve(&mut fleet, "r-1", &bob), wanted, "{access}");
    }
    let operation = &fleet.world.state.operations[&id("r-1")];
    assert_eq!(operation.state, OperationState::Queued);
    assert_eq!(operation.approval.as_ref().unwrap().state, ApprovalState::Approved);
}

#[test]
fn whoever_planned_or_started_it_does_not_approve_it() {
    let mut fleet = fleet();
    assert_eq!(put(&mut fleet, four_eyes(), None), None);
    let (bob, cid) = (user("bob"), user("cid"));
    let made = planned(&fleet, restart(), bob.clone());
    start(&mut fleet, "r-1", made, admin());
    for own in [&bob, &admin()] {
        assert_eq!(approve(&mut fleet, "r-1", own), Some(Reason::ApproverRefused));
    }
    for other in [Principal::System, Principal::Agent { node: crate::world::node("node1") }] {
        assert_eq!(approve(&mut fleet, "r-1", &other), Some(Reason::ApproverRefused));
    }
    let silent = OperationCommand::Approve {
        id: id("r-1"),
        plan: fleet.world.state.operations[&id("r-1")].plan_hash,
        reason: " ".into(),
    };
    assert_eq!(decide(&mut fleet, silent, &cid), Some(Reason::InvalidArgument));
    assert_eq!(approve(&mut fleet, "r-1", &cid), None);
}

#[test]
fn policies_add_up_and_one_declared_later_holds_only_what_comes_later() {
    let mut fleet = fleet();
    assert_eq!(put(&mut fleet, four_eyes(), None), None);
    let named = PolicySpec {
        name: PolicyName::new("named").unwrap(),
        approvers: Approvers::Users(vec![UserName::new("cid").unwrap()]),
        ..four_eyes()
    };
    assert_eq!(put(&mut fleet, named, None), None);
    let made = planned(&fleet, restart(), admin());
    start(&mut fleet, "r-1", made, admin());
    assert_eq!(approve(&mut fleet, "r-1", &user("bob")), None);
    assert_eq!(approve(&mut fleet, "r-1", &user("dan")), Some(Reason::WrongState), "bob's was enough");
    assert_eq!(fleet.world.state.operations[&id("r-1")].state, OperationState::AwaitingApproval);
    let more = PolicySpec { approvals: 5, ..four_eyes() };
    assert_eq!(put(&mut fleet, more, None), None);
    assert_eq!(approve(&mut fleet, "r-1", &user("cid")), None);
    assert_eq!(fleet.world.state.operations[&id("r-1")].state, OperationState::Queued);
}

#[test]
fn a_repeated_approval_gets_the_same_answer() {
    let mut fleet = fleet();
    assert_eq!(put(&mut fleet, four_eyes(), None), None);
    let made = planned(&fleet, restart(), admin());
    start(&mut fleet, "r-1", made, admin());
    let plan = fleet.world.state.operations[&id("r-1")].plan_hash;
    let command = OperationCommand::Approve { id: id("r-1"), plan, reason: "seen".into() };
    let request = Some(RequestId::new("q-1").unwrap());
    let entry = Entry::new(fleet.world.now, user("bob"), request, Command::Operation(Box::new(command)));
    let first = fleet.world.commit(&entry);
    for _ in 0..10 {
        fleet.tick();
    }
    assert_eq!(fleet.world.commit(&entry), first);
    assert_eq!(fleet.world.state.operations[&id("r-1")].approval.as_ref().unwrap().decisions.len(), 1);
}

#[test]
fn the_plan_of_what_waits_is_kept() {
    let mut fleet = fleet();
    assert_eq!(put(&mut fleet, four_eyes(), None), None);
    let made = planned(&fleet, restart(), admin());
    let first = made.id.clone();
    start(&mut fleet, "r-1", made, admin());
    for _ in 0..200 {
        fleet.world.now = fleet.world.now.plus(DurationMs(1));
        let plan = planned(&fleet, run("web", Verb::Status), admin());
        let plan = Plan {
            id: quorate_model::PlanId::new(format!("p-{}", fleet.world.state.revision.0)).unwrap(),
            ..plan
        };
        let plan = Plan { hash: plan.computed_hash(), ..plan };
        fleet.world.must(Command::Operation(Box::new(OperationCommand::StorePlan { plan })));
    }
    let state = &fleet.world.state;
    assert!(state.plans.len() < 200 && state.plans.contains_key(&first), "{}", state.plans.len());
    assert_eq!(approve(&mut fleet, "r-1", &user("bob")), None);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut fleet = fleet();
    for (spec, expect, wanted) in [
        (PolicySpec { approvals: 6, ..four_eyes() }, None, Reason::InvalidArgument),
        (
            PolicySpec { services: vec![WorkloadName::new("lodger").unwrap()], ..four_eyes() },
            None,
            Reason::NotFound,
        ),
        (four_eyes(), Some(7), Reason::StalePlan),
    ] {
        assert_eq!(put(&mut fleet, spec, expect), Some(wanted));
    }
    assert!(fleet.world.state.policies.is_empty());
    let gone = PolicyCommand::Delete { name: four_eyes().name, expect: None };
    assert_eq!(reason(&fleet.world.user(Command::Policy(Box::new(gone)))), Some(Reason::NotFound));
    for n in 0..POLICIES_MAX {
        let name = PolicyName::new(format!("p{n}")).unwrap();
        assert_eq!(put(&mut fleet, PolicySpec { name, ..four_eyes() }, Some(0)), None);
    }
    assert_eq!(put(&mut fleet, four_eyes(), None), Some(Reason::LimitReached));
    let made = planned(&fleet, run("web", Verb::Status), admin());
    start(&mut fleet, "r-1", made, admin());
    assert_eq!(approve(&mut fleet, "r-1", &user("bob")), Some(Reason::WrongState), "it needs none");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is tried, by whom and in which order: no step has begun before as many others as are needed have said yes to
    /// this plan, counted here from the answers alone.
    #[test]
    fn nothing_begins_without_enough_approvals(
        needed in 1_u32..4,
        named in any::<bool>(),
        moves in proptest::collection::vec((0_u8..12, 0_u8..5, any::<bool>()), 1..60),
    ) {
        let mut fleet = fleet();
        let people = ["ann", "bob", "cid", "dan", "eve"];
        let list = people.iter().skip(1).take(3).map(|name| UserName::new(*name).unwrap()).collect();
        let approvers = if named { Approvers::Users(list) } else { Approvers::Operators };
        let expires = DurationMs::from_secs(60);
        let spec = PolicySpec { approvals: needed, approvers, expires, ..four_eyes() };
        prop_assert_eq!(put(&mut fleet, spec, None), None);
        let made = planned(&fleet, restart(), admin());
        start(&mut fleet, "r-1", made, admin());
        let mut yes: BTreeSet<&str> = BTreeSet::new();
        for (what, who, right) in moves {
            let name = people[usize::from(who)];
            let by = user(name);
            let own = fleet.world.state.operations[&id("r-1")].plan_hash;
            let plan = if right { own } else { Hash::of(b"another") };
            let reason = String::from("seen");
            let entry = |by, command| Entry::new(fleet.world.now, by, None, command);
            let operation = |command| Command::Operation(Box::new(command));
            match what {
                0..=4 => {
                    let command = OperationCommand::Approve { id: id("r-1"), plan, reason };
                    let answer = fleet.world.commit(&entry(by, operation(command)));
                    if answer.refusal().is_none() {
                        prop_assert!(right && who != 0 && (!named || who < 4), "{name} may not");
                        yes.insert(name);
                    }
                }
                5 if who == 4 && right => {
                    let command = OperationCommand::Reject { id: id("r-1"), plan, reason };
                    fleet.world.commit(&entry(by, operation(command)));
                }
                6 => {
                    let evidence = fleet.world.obs.instances.values().cloned().collect();
                    let execution = ExecutionId::new(format!("x-try{who}")).unwrap();
                    let command = StepCommand::Start { operation: id("r-1"), step: u32::from(who), execution, evidence };
                    fleet.world.system(Command::Step(command));
                }
                7 => {
                    fleet.world.system(Command::Step(StepCommand::OpenGate { operation: id("r-1"), step: u32::from(who), evidence: vec![] }));
                }
                8 => {
                    let command = if right { OperationCommand::Pause { id: id("r-1") } } else { OperationCommand::Resume { id: id("r-1") } };
                    fleet.world.user(operation(command));
                }
                9 => {
                    let ended = [OperationState::Paused, OperationState::RollingBack, OperationState::Succeeded];
                    let state = ended[usize::from(who) % ended.len()];
                    fleet.world.system(operation(OperationCommand::Settle { id: id("r-1"), state }));
                }
                10 if right => {
                    let gone = PolicyCommand::Delete { name: four_eyes().name, expect: None };
                    fleet.world.user(Command::Policy(Box::new(gone)));
                }
                10 => fleet.change_leader(),
                _ => fleet.tick(),
            }
            let begun = fleet.world.state.operations[&id("r-1")].steps.iter().any(|s| s.started_at.is_some());
            let enough = u32::try_from(yes.len()).unwrap() >= needed;
            prop_assert!(!begun || enough, "begun with {yes:?}, {needed} are needed");
            crate::sequences::check(&fleet.world.state);
        }
        fleet.world.replicas_agree();
    }
}
