//! Each door with its refusals: single use, numbers never used twice, first result stands, nothing owed at the end.

use std::collections::BTreeMap;

use quorate_core::command::{
    ClusterCommand, Command, DeclaredCommand, Entry, ExecutionCommand, Join, NewCertificate, NodeCommand,
    ObligationCommand, OperationCommand, Report, TokenCommand,
};
use quorate_core::desired;
use quorate_core::plan::{Change, Goal, PlanRequest, plan};
use quorate_core::state::audit::{self, Anchor, AuditRecord};
use quorate_core::state::{Settings, TokenPurpose};
use quorate_core::{Answer, Hash, expand};
use quorate_model::alert::AlertMatcher;
use quorate_model::probe::AlertsProbe;
use quorate_model::{
    DurationMs, Epoch, ExecutionId, ExecutionState, GroupSpec, MemberName, NodeId, ObligationId,
    ObligationState, OperationId, OperationState, Principal, ProbeKind, ProbeSpec, QuorumPolicy, Reason,
    RequestId, Selector, Serial, TokenId,
};

use crate::agents::Fleet;
use crate::world::{World, admin, group, node, policy, quiet, service, spec};

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(quorate_model::Refusal::reason)
}

fn token(world: &mut World, id: &str, only: Option<&str>) -> TokenId {
    let id = TokenId::new(id).unwrap();
    let purpose = TokenPurpose::Agent { node: only.map(node), labels: BTreeMap::new() };
    let expires_at = world.now.plus(DurationMs::from_secs(60));
    let secret_sha256 = Hash::of(b"secret");
    world.must(Command::Token(TokenCommand::Create { id: id.clone(), secret_sha256, purpose, expires_at }));
    id
}

fn join(world: &mut World, id: &TokenId, name: &str, serial: &str) -> Answer {
    let principal = Principal::Agent { node: node(name) };
    let not_after = world.now.plus(DurationMs::from_secs(3_600));
    let certificate =
        Some(NewCertificate { serial: Serial::new(serial).unwrap(), principal, access: None, not_after });
    let join = Join::Node { name: node(name), address: "10.0.0.1".into() };
    world.system(Command::Token(TokenCommand::Consume { id: id.clone(), join, certificate }))
}

#[test]
fn a_token_admits_once_and_every_refusal_reads_the_same() {
    let mut world = World::new();
    let used = token(&mut world, "t-1", None);
    assert!(reason(&join(&mut world, &used, "node1", "b1")).is_none());
    let bound = token(&mut world, "t-2", Some("node2"));
    let revoked = token(&mut world, "t-3", None);
    world.must(Command::Token(TokenCommand::Revoke { id: revoked.clone() }));
    let late = token(&mut world, "t-4", None);
    let missing = TokenId::new("t-none").unwrap();
    let mut refusals = Vec::new();
    for (id, name) in [(&used, "node9"), (&bound, "node9"), (&revoked, "node9"), (&missing, "node9")] {
        refusals.push(join(&mut world, id, name, "b9"));
    }
    world.now = world.now.plus(DurationMs::from_secs(60));
    refusals.push(join(&mut world, &late, "node9", "b9"));
    for refusal in refusals {
        let refusal = refusal.into_result().unwrap_err();
        assert_eq!(
            (refusal.reason(), refusal.what().as_str()),
            (Reason::Unauthenticated, "the token is not accepted")
        );
    }
    let causes: Vec<String> = world.state.audit.records.iter().map(|r| r.what.details.clone()).collect();
    assert!(causes.iter().any(|c| c.contains("used before")) && causes.iter().any(|c| c.contains("expired")));
    assert!(!world.state.nodes.by_name.contains_key(&node("node9")));
}

#[test]
fn a_node_enrolled_again_under_an_old_name_is_another_node() {
    let mut world = World::new();
    world.fleet(2);
    assert_eq!(world.state.nodes.by_name[&node("node2")].id, NodeId(2));
    let again = token(&mut world, "t-again", None);
    assert_eq!(reason(&join(&mut world, &again, "node2", "b7")), Some(Reason::AlreadyExists));
    world.must(Command::Node(NodeCommand::Remove { node: node("node2") }));
    let agent = Principal::Agent { node: node("node2") };
    let valid = |world: &World| {
        world.state.identities.values().filter(|i| i.principal == agent && i.is_valid(world.now)).count()
    };
    assert_eq!(valid(&world), 0, "a removed node's certificate is refused");
    assert!(reason(&join(&mut world, &again, "node2", "b7")).is_none());
    assert_eq!((world.state.nodes.by_name[&node("node2")].id, valid(&world)), (NodeId(3), 1));
}

#[test]
fn member_numbers_are_never_used_twice() {
    let mut world = World::new();
    let add = |world: &mut World| {
        let name = MemberName::new("coord2").unwrap();
        world.user(Command::Cluster(ClusterCommand::AddMember {
            name,
            grpc: "a:1".into(),
            http: "a:2".into(),
        }))
    };
    for expected in 2..5 {
        let Answer::Member { member, .. } = add(&mut world) else { panic!("not admitted") };
        assert_eq!(member.0, expected);
        assert_eq!(reason(&add(&mut world)), Some(Reason::AlreadyExists));
        world.must(Command::Cluster(ClusterCommand::RemoveMember { member }));
    }
    let last = quorate_model::MemberId(1);
    let answer = world.user(Command::Cluster(ClusterCommand::RemoveMember { member: last }));
    assert_eq!(reason(&answer), Some(Reason::Conflict));
}

#[test]
fn a_tampered_audit_is_found_at_the_first_bad_record() {
    let mut world = World::new();
    world.fleet(5);
    let records: Vec<AuditRecord> = world.state.audit.records.iter().cloned().collect();
    assert_eq!(audit::verify(&records, Anchor::default()), Ok(()));
    for at in 0..records.len() {
        let seq = u64::try_from(at).unwrap() + 1;
        let mut edits: Vec<Vec<AuditRecord>> = Vec::new();
        for edit in 0..8 {
            let mut copy = records.clone();
            let what = &mut copy[at].what;
            match edit {
                0 => what.details.push('x'),
                1 => what.at.0 += 1,
                2 => what.principal = Principal::System,
                3 => what.reason = "x".into(),
                4 => what.request_id = Some(RequestId::new("q").unwrap()),
                5 => what.client_ip = "1.1.1.1".into(),
                6 => copy[at].hash = Hash::of(b"x"),
                _ => copy[at].seq += 1,
            }
            if copy != records {
                edits.push(copy);
            }
        }
        let mut cut = records.clone();
        cut.remove(at);
        if at + 1 < records.len() {
            edits.push(cut);
        }
        for edited in edits {
            assert_eq!(audit::verify(&edited, Anchor::default()), Err(seq));
        }
    }
    let mut shortened = world.state.audit.clone();
    shortened.records.pop_back();
    assert!(audit::verify_kept(&shortened).is_err(), "a cut tail is found by the head");
}

#[test]
fn answers_are_forgotten_after_their_life() {
    let mut world = World::new();
    world.fleet(1);
    let request = Some(RequestId::new("q-1").unwrap());
    let cordon = |world: &World| {
        let reason = String::from("test");
        let command = Command::Node(NodeCommand::Cordon { node: node("node1"), reason });
        Entry::new(world.now, admin(), request.clone(), command)
    };
    let first = world.commit(&cordon(&world));
    let uncordon = Command::Node(NodeCommand::Uncordon { node: node("node1") });
    world.must(uncordon.clone());
    assert_eq!(world.commit(&cordon(&world)), first);
    assert!(world.state.nodes.by_name[&node("node1")].cordon.is_none(), "the second time nothing is done");
    let entry = Entry::new(world.now, admin(), request.clone(), uncordon);
    assert_eq!(reason(&world.commit(&entry)), Some(Reason::RequestIdConflict));
    // Another caller's request under the same id is another request.
    let name = quorate_model::UserName::new("bob").unwrap();
    let mut other = cordon(&world);
    other.principal = Principal::User { name };
    assert_ne!(world.commit(&other), first);
    world.now = world.now.plus(DurationMs::from_secs(24 * 3_600 + 1));
    world.must(Command::Node(NodeCommand::Uncordon { node: node("node1") }));
    assert!(world.state.dedupe.given.is_empty() && world.state.dedupe.order.is_empty());
    assert_ne!(world.commit(&cordon(&world)), first);
}

#[test]
fn time_does_not_go_back() {
    let mut world = World::new();
    world.fleet(1);
    let clock = world.state.clock;
    world.now = clock.minus(DurationMs::from_secs(3_600));
    world.must(Command::Node(NodeCommand::Cordon { node: node("node1"), reason: "test".into() }));
    assert_eq!(world.state.clock, clock);
    assert_eq!(world.state.nodes.by_name[&node("node1")].cordon.as_ref().unwrap().since, clock);
}

#[test]
fn groups_that_contradict_themselves_are_refused() {
    let mut world = World::new();
    world.fleet(3);
    let mut declared = spec("ledger");
    declared.nodes = Selector { all: false, names: vec!["node1".into(), "node2".into()], labels: vec![] };
    world.declare(declared);
    let all = ["node1", "node2"];
    for (policy, voters, expected) in [
        (policy("majority"), vec![], Reason::InvalidArgument),
        (policy("majority"), vec!["node1", "node1"], Reason::InvalidArgument),
        (policy("majority"), vec!["node9"], Reason::NotFound),
        (policy("majority"), vec!["node3"], Reason::Conflict),
        (policy("3"), all.to_vec(), Reason::InvalidArgument),
        (policy("0"), all.to_vec(), Reason::InvalidArgument),
        (QuorumPolicy::MinAvailablePercent { percent: 101 }, all.to_vec(), Reason::InvalidArgument),
        (policy("pair"), vec!["node1"], Reason::InvalidArgument),
    ] {
        assert_eq!(
            reason(&world.group("ledger", "ledger", policy.clone(), &voters)),
            Some(expected),
            "{policy:?}"
        );
    }
    assert_eq!(reason(&world.group("ledger", "nothing", policy("majority"), &all)), Some(Reason::NotFound));
    assert!(world.state.groups.is_empty());
    assert!(reason(&world.group("ledger", "ledger", policy("majority"), &all)).is_none());
    let spare = GroupSpec { spare_wanted: 1, ..world.state.groups[&group("ledger")].spec.clone() };
    let command = DeclaredCommand::ApplyGroup { spec: spare, expect: None };
    assert_eq!(reason(&world.user(Command::Declared(Box::new(command)))), Some(Reason::InvalidArgument));
}

#[test]
fn settings_keep_their_order_and_the_level_only_grows() {
    let mut world = World::new();
    let mut set = |settings| reason(&world.user(Command::Cluster(ClusterCommand::SetSettings { settings })));
    assert_eq!(set(Settings { level: 0, ..Settings::default() }), Some(Reason::InvalidArgument));
    let swapped = Settings { down_after: DurationMs::from_secs(1), ..Settings::default() };
    assert_eq!(set(swapped), Some(Reason::InvalidArgument));
    assert_eq!(set(Settings { level: 2, ..Settings::default() }), None);
    assert_eq!(set(Settings { level: 1, ..Settings::default() }), Some(Reason::InvalidArgument));
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(4);
    fleet.world.declare(spec("ledger"));
    fleet.bring_up("ledger");
    fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    fleet
}

fn made(fleet: &Fleet) -> quorate_core::Plan {
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    let world = &fleet.world;
    let mut minted = 1_000;
    plan(&world.state, &world.obs, &PlanRequest::new(goal, admin()), world.now, &mut || {
        minted += 1;
        minted
    })
    .unwrap()
}

fn begin(fleet: &mut Fleet) -> OperationId {
    let id = OperationId::new("r-1").unwrap();
    let plan = made(fleet);
    fleet.world.must(Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan })));
    id
}

#[test]
fn a_plan_is_refused_when_what_it_touches_has_moved() {
    let mut fleet = fleet();
    let stale = made(&fleet);
    fleet.world.must(Command::Node(NodeCommand::Cordon { node: node("node2"), reason: "x".into() }));
    let id = OperationId::new("r-1").unwrap();
    let start = |plan| Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan }));
    assert_eq!(reason(&fleet.world.user(start(stale))), Some(Reason::StalePlan));
    let mut edited = made(&fleet);
    edited.waves.pop();
    assert_eq!(reason(&fleet.world.user(start(edited))), Some(Reason::InvalidArgument));
    let mut harmless = made(&fleet);
    harmless.waves[0].steps[0].disruptive = false;
    harmless.hash = harmless.computed_hash();
    assert_eq!(reason(&fleet.world.user(start(harmless))), Some(Reason::InvalidArgument));
    assert!(fleet.world.state.operations.is_empty() && fleet.world.state.plans.is_empty());
}

fn report(fleet: &mut Fleet, name: &str, epoch: u64, state: ExecutionState) -> Answer {
    let execution: ExecutionId = fleet.world.state.executions.keys().next().unwrap().clone();
    let report =
        Report { execution, node: node(name), epoch: Epoch(epoch), state, reason: None, outcome: None };
    fleet.world.system(Command::Execution(Box::new(ExecutionCommand::Report(report))))
}

#[test]
fn the_first_result_stands_and_only_the_nodes_own_word_counts() {
    let mut fleet = fleet();
    begin(&mut fleet);
    fleet.tick();
    let name = fleet.world.state.executions.values().next().unwrap().node.to_string();
    assert_eq!(reason(&report(&mut fleet, "node4", 1, ExecutionState::Failed)), Some(Reason::NotAllowed));
    assert_eq!(reason(&report(&mut fleet, &name, 7, ExecutionState::Failed)), Some(Reason::EpochStale));
    assert_eq!(reason(&report(&mut fleet, &name, 1, ExecutionState::Succeeded)), None);
    assert_eq!(reason(&report(&mut fleet, &name, 1, ExecutionState::Failed)), None);
    let kept = fleet.world.state.executions.values().next().unwrap();
    assert_eq!(kept.state, ExecutionState::Succeeded);
    let told = fleet.world.state.audit.records.back().unwrap().what.details.clone();
    assert_eq!(told, "said FAILED after SUCCEEDED; the first stands");
}

#[test]
fn an_operation_does_not_end_while_an_undo_is_owed() {
    let mut fleet = fleet();
    let id = begin(&mut fleet);
    fleet.tick();
    let execution = fleet.world.state.executions.values().next().unwrap().clone();
    let owed = ObligationId::new("o-1").unwrap();
    let due_at = fleet.world.now;
    fleet.world.must(Command::Obligation(ObligationCommand::Open {
        id: owed.clone(),
        node: execution.node.clone(),
        execution: execution.id.clone(),
        what: "resume writes".into(),
        due_at,
    }));
    fleet.world.must(Command::Operation(Box::new(OperationCommand::Cancel { id: id.clone() })));
    for _ in 0..20 {
        fleet.tick();
    }
    assert_eq!(fleet.world.state.operations[&id].state, OperationState::Canceling);
    assert_eq!(desired(&fleet.world.state, &execution.node).discharge, std::slice::from_ref(&owed));
    let state = OperationState::Canceled;
    let settle = Command::Operation(Box::new(OperationCommand::Settle { id: id.clone(), state }));
    assert_eq!(reason(&fleet.world.user(settle)), Some(Reason::WrongState));
    let (node, state) = (execution.node, ObligationState::ExpiredDischarged);
    fleet.world.must(Command::Obligation(ObligationCommand::Close { id: owed, node, state }));
    fleet.tick();
    assert_eq!(fleet.world.state.operations[&id].state, OperationState::Canceled);
}

#[test]
fn the_undos_of_one_node_leave_room_for_those_of_others() {
    let mut fleet = fleet();
    let open = |fleet: &mut Fleet, name: &str, n: usize| {
        let command = ObligationCommand::Open {
            id: ObligationId::new(format!("o-{name}-{n}")).unwrap(),
            node: quorate_model::NodeName::new(name).unwrap(),
            execution: quorate_model::ExecutionId::new("x-none").unwrap(),
            what: "hostile".into(),
            due_at: fleet.world.now,
        };
        fleet.world.user(Command::Obligation(command))
    };
    let refused =
        (0..200).filter(|n| reason(&open(&mut fleet, "node1", *n)) == Some(Reason::LimitReached)).count();
    assert_eq!(refused, 200 - quorate_core::state::execution::OBLIGATIONS_PER_NODE_MAX);
    assert_eq!(reason(&open(&mut fleet, "node2", 0)), None);
}

#[test]
fn a_removed_node_loses_its_executions_and_its_operation_ends() {
    let mut fleet = fleet();
    let id = begin(&mut fleet);
    fleet.tick();
    let name = fleet.world.state.executions.values().next().unwrap().node.clone();
    fleet.world.must(Command::Node(NodeCommand::Remove { node: name.clone() }));
    fleet.tick();
    assert!(fleet.world.state.executions.values().all(|e| e.state == ExecutionState::Lost));
    assert_eq!(fleet.world.state.operations[&id].state, OperationState::Failed);
    assert!(fleet.world.state.grants.is_empty());
    assert!(desired(&fleet.world.state, &name).executions.is_empty());
    crate::sequences::check(&fleet.world.state);
}

#[test]
fn a_group_does_not_change_while_it_is_worked_on() {
    let mut fleet = fleet();
    begin(&mut fleet);
    fleet.tick();
    let answer =
        fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3", "node4"]);
    assert_eq!(reason(&answer), Some(Reason::Conflict));
    let command = DeclaredCommand::DeleteGroup { name: group("ledger") };
    assert_eq!(reason(&fleet.world.user(Command::Declared(Box::new(command)))), Some(Reason::Conflict));
}

#[test]
fn desired_names_every_probe_once_and_changes_its_generation_with_its_content() {
    let mut fleet = fleet();
    let own = |name: &str, fleet: &Fleet| {
        let wanted = desired(&fleet.world.state, &node(name));
        let of = |n: &str| wanted.probes.iter().filter(|p| p.instance.node == node(n)).count();
        (of("node1"), of("node2"), of("node3"), of("node4"), wanted.services.len())
    };
    // Two of its own; the one that a peer runs too, for the node before it.
    assert_eq!(own("node1", &fleet), (2, 0, 0, 1, 1));
    assert_eq!(own("node2", &fleet), (1, 2, 0, 0, 1));
    fleet.world.system(Command::Node(NodeCommand::SetStatus {
        node: node("node2"),
        status: quorate_model::NodeStatus::Down,
    }));
    assert_eq!(own("node3", &fleet), (1, 1, 2, 0, 1), "the next READY node takes over");
    let before = desired(&fleet.world.state, &node("node4")).generation;
    assert_eq!(desired(&fleet.world.state.clone(), &node("node4")).generation, before);
    let mut declared = spec("ledger");
    declared.vars = BTreeMap::from([(node("node4"), BTreeMap::from([("port".into(), "9004".into())]))]);
    fleet.world.declare(declared);
    let after = desired(&fleet.world.state, &node("node4"));
    assert_ne!(after.generation, before);
    let text = format!("{:?}", after.probes.iter().find(|p| p.instance.node == node("node4")));
    assert!(text.contains("http://node4:9004/health"), "{text}");
}

#[test]
fn variables_are_filled_in_once_and_unknown_ones_stay() {
    let mut declared = spec("ledger");
    let vars = BTreeMap::from([("a".to_string(), "${b}".to_string()), ("b".to_string(), "no".to_string())]);
    declared.vars = BTreeMap::from([(node("node1"), vars)]);
    for (template, filled) in [
        ("${a} ${service}@${node}", "${b} ledger@node1"),
        ("${nothing} ${", "${nothing} ${"),
        ("$node {node} ${node", "$node {node} ${node"),
        ("", ""),
    ] {
        assert_eq!(expand::text(template, &declared, &node("node1")), filled);
    }
    assert_eq!(service("ledger"), declared.name);
}

#[test]
fn alerts_are_chosen_by_matchers_whose_values_are_filled_in() {
    let mut world = World::new();
    let kind_of = |matchers: &[&str], url: &str| {
        let matchers = matchers.iter().map(|text| AlertMatcher::parse(text).unwrap()).collect();
        ProbeKind::Alerts(AlertsProbe { url: url.into(), matchers })
    };
    let mut declare = |kind| {
        let mut declared = spec("ledger");
        declared.probes.push(ProbeSpec { kind, ..quiet() });
        let command = DeclaredCommand::ApplyService { spec: declared, expect: None };
        reason(&world.user(Command::Declared(Box::new(command))))
    };
    let url = "http://alerts:9093";
    let many = vec!["a=b"; 17];
    assert_eq!(declare(kind_of(&["a=b"], url)), None);
    let mut odd = kind_of(&["a=b"], url);
    if let ProbeKind::Alerts(AlertsProbe { matchers, .. }) = &mut odd {
        matchers[0].label = "a\"} or {b".into();
    }
    for wrong in [kind_of(&[], url), kind_of(&many, url), kind_of(&["a=b"], "https://alerts"), odd] {
        assert_eq!(declare(wrong), Some(Reason::InvalidArgument));
    }
    let filled = expand::probe(&quiet(), &spec("ledger"), &node("node1"));
    let ProbeKind::Alerts(AlertsProbe { matchers, .. }) = filled.kind else { panic!("{filled:?}") };
    assert_eq!(matchers[0].to_string(), "service=\"ledger\"");
}
