//! Freezes: what each covers, what it holds and what it does not, and its door.

use std::collections::BTreeMap;

use quorate_core::command::{
    CalendarCommand, Command, DeclaredCommand, NodeCommand, OperationCommand, StepCommand,
};
use quorate_core::plan::{Change, Goal, PlanRequest, Verb, plan};
use quorate_core::safety::freeze::{begins, covering, unfrozen};
use quorate_core::safety::{Ask, Evidence, disturb_all};
use quorate_core::state::calendar::FREEZES_MAX;
use quorate_core::{Answer, Plan};
use quorate_model::backup::BackupPolicy;
use quorate_model::{
    DurationMs, ExecutionId, FreezeName, FreezeSpec, HookName, InstanceId, OperationId, Reason, Refusal,
    Revision, Selector, StepKind, WorkloadName,
};

use crate::agents::Fleet;
use crate::world::{admin, group, node, policy, service, spec};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(4);
    for name in ["ledger", "web"] {
        fleet.world.declare(spec(name));
        fleet.bring_up(name);
    }
    fleet.world.group("voters", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    fleet.world.must(Command::Node(NodeCommand::SetLabels { node: node("node1"), labels }));
    fleet.tick();
    fleet
}

fn freeze(name: &str) -> FreezeSpec {
    FreezeSpec {
        name: FreezeName::new(name).unwrap(),
        selector: None,
        services: vec![],
        reason: "the books are closed".into(),
        starts: None,
        ends: None,
    }
}

fn of(name: &str) -> FreezeSpec {
    FreezeSpec { services: vec![WorkloadName::new(name).unwrap()], ..freeze("f") }
}

fn on(selector: Selector) -> FreezeSpec {
    FreezeSpec { selector: Some(selector), ..freeze("f") }
}

fn put(fleet: &mut Fleet, spec: FreezeSpec, expect: Option<u64>) -> Answer {
    let command = CalendarCommand::ApplyFreeze { spec, expect: expect.map(Revision) };
    fleet.world.user(Command::Calendar(Box::new(command)))
}

fn delete(fleet: &mut Fleet, name: &str, expect: Option<u64>) -> Answer {
    let name = FreezeName::new(name).unwrap();
    let command = CalendarCommand::DeleteFreeze { name, expect: expect.map(Revision) };
    fleet.world.user(Command::Calendar(Box::new(command)))
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(Refusal::reason)
}

fn planned(fleet: &Fleet, goal: Goal) -> Result<Plan, Refusal> {
    let world = &fleet.world;
    let mut minted = 1_000;
    plan(&world.state, &world.obs, &PlanRequest::new(goal, admin()), world.now, &mut || {
        minted += 1;
        minted
    })
}

fn all() -> Selector {
    Selector { all: true, ..Selector::default() }
}

#[test]
fn a_freeze_covers_what_it_names_and_nothing_else() {
    // Columns: ledger on node1, ledger on node4 (in no group), web on node1, node1 as a whole, node4 as a whole.
    let cases = [
        (freeze("f"), [true, true, true, true, true]),
        (on(Selector::node("node1")), [true, false, true, true, false]),
        (on(Selector::node("node[4]")), [false; 5]),
        (on(Selector::parse_labels("zone=a").unwrap()), [true, false, true, true, false]),
        (on(Selector::parse_labels("!zone").unwrap()), [false, true, false, false, true]),
        (of("ledger"), [true, true, false, true, true]),
        (of("voters"), [true, false, false, true, false]),
        (of("web"), [false, false, true, true, true]),
        (FreezeSpec { selector: Some(Selector::node("node4")), ..of("voters") }, [false; 5]),
    ];
    for (spec, wanted) in cases {
        let mut fleet = fleet();
        let text = format!("{spec:?}");
        assert_eq!(reason(&put(&mut fleet, spec, None)), None, "{text}");
        let (state, now) = (&fleet.world.state, fleet.world.now);
        let covers = |name: &str, of: Option<&str>| {
            covering(state, &node(name), of.map(service).as_ref(), now).is_some()
        };
        let found = [
            covers("node1", Some("ledger")),
            covers("node4", Some("ledger")),
            covers("node1", Some("web")),
            covers("node1", None),
            covers("node4", None),
        ];
        assert_eq!(found, wanted, "{text}");
        for (name, drained) in [("node1", !wanted[3]), ("node4", !wanted[4])] {
            let evidence = fleet.world.obs.instances.values().cloned().collect();
            let command = NodeCommand::Drain { node: node(name), reason: String::new(), evidence };
            let answer = fleet.world.user(Command::Node(command));
            assert_eq!(reason(&answer), (!drained).then_some(Reason::Freeze), "{text}: {name}");
        }
    }
}

#[test]
fn a_node_that_is_not_known_counts_as_covered() {
    let mut fleet = fleet();
    put(&mut fleet, on(Selector::node("node1")), None);
    let (state, now) = (&fleet.world.state, fleet.world.now);
    assert!(covering(state, &node("nobody"), None, now).is_some());
    assert!(covering(state, &node("node2"), None, now).is_none());
}

#[test]
fn time_decides_when_it_holds() {
    let mut fleet = fleet();
    let now = fleet.world.now;
    let later = |seconds| now.plus(DurationMs::from_secs(seconds));
    let spec = FreezeSpec { starts: Some(later(10)), ends: Some(later(20)), ..freeze("tonight") };
    put(&mut fleet, spec, None);
    let state = &fleet.world.state;
    let held = |seconds| unfrozen(state, &node("node1"), None, later(seconds));
    assert_eq!([0, 9, 10, 19, 20].map(|at| held(at).is_some()), [false, false, true, true, false]);
    let refusal = held(12).unwrap();
    // The text is the same a second later: a condition that changes every second is proposed every second.
    assert_eq!(refusal, held(13).unwrap());
    assert!(refusal.what().starts_with("freeze tonight: the books are closed (until 20"), "{refusal}");
    assert!(refusal.why().iter().any(|(_, text)| text.starts_with("user:ann since 20")), "{refusal:?}");
    assert_eq!(refusal.hint(), "quorate freeze show tonight");
}

#[test]
fn what_disturbs_is_held_and_what_does_not_goes_on() {
    let mut fleet = fleet();
    let mut declared = spec("ledger");
    declared.backup = Some(BackupPolicy {
        paths: vec!["/var/lib/ledger".into()],
        exclude: vec![],
        pause: None,
        resume: None,
        pause_limit: DurationMs::from_secs(60),
        level: 3,
    });
    let mut pausing = declared.clone();
    if let Some(policy) = &mut pausing.backup {
        policy.pause = Some(HookName::new("pause").unwrap());
        policy.resume = Some(HookName::new("resume").unwrap());
    }
    put(&mut fleet, freeze("f"), None);
    fleet.world.declare(declared);
    let ledger = || service("ledger");
    let run = |verb| Goal::Run { service: ledger(), nodes: Selector::node("node1"), verb };
    let backup = || Goal::Backup { service: ledger(), nodes: all() };
    for verb in [Verb::Status, Verb::Start] {
        planned(&fleet, run(verb)).unwrap();
    }
    planned(&fleet, backup()).unwrap();
    fleet.world.declare(pausing);
    let rollout = Goal::Rollout { group: group("voters"), change: Change::Restart };
    for goal in [run(Verb::Stop), run(Verb::Restart), run(Verb::Reload), backup(), rollout] {
        let refusal = planned(&fleet, goal.clone()).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Freeze, "{goal:?}");
    }
}

#[test]
fn a_plan_is_refused_only_when_nothing_of_it_could_begin() {
    let mut fleet = fleet();
    let rollout = || Goal::Rollout { group: group("voters"), change: Change::Restart };
    put(
        &mut fleet,
        on(Selector { names: vec!["node[12]".into(), "node2".into()], ..Selector::default() }),
        None,
    );
    let warnings = planned(&fleet, rollout()).unwrap().warnings;
    assert!(
        warnings.contains(&"node2 is frozen: its step waits until f is deleted".to_owned()),
        "{warnings:?}"
    );
    // node1 is out of the freeze, and nobody hears it: what is left is frozen.
    put(
        &mut fleet,
        on(Selector { names: vec!["node2".into(), "node3".into()], ..Selector::default() }),
        None,
    );
    planned(&fleet, rollout()).unwrap();
    fleet.mischief.deaf.insert(node("node1"));
    for _ in 0..30 {
        fleet.tick();
    }
    let stop = Goal::Run { service: service("web"), nodes: all(), verb: Verb::Restart };
    planned(&fleet, stop.clone()).unwrap();
    fleet.mischief.deaf.insert(node("node4"));
    for _ in 0..30 {
        fleet.tick();
    }
    assert_eq!(planned(&fleet, stop).unwrap_err().reason(), Reason::Freeze);
}

#[test]
fn a_step_that_is_due_is_refused_where_it_is_committed() {
    let mut fleet = fleet();
    let id = OperationId::new("r-1").unwrap();
    let plan = planned(&fleet, Goal::Rollout { group: group("voters"), change: Change::Restart }).unwrap();
    fleet.world.must(Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan })));
    put(&mut fleet, freeze("f"), None);
    let start = |fleet: &mut Fleet| {
        let evidence = fleet.world.obs.instances.values().cloned().collect();
        let execution = ExecutionId::new("x-1").unwrap();
        fleet.world.system(Command::Step(StepCommand::Start {
            operation: id.clone(),
            step: 0,
            execution,
            evidence,
        }))
    };
    assert_eq!(reason(&start(&mut fleet)), Some(Reason::Freeze));
    assert!(fleet.world.state.grants.is_empty() && fleet.world.state.executions.is_empty());
    assert_eq!(reason(&delete(&mut fleet, "f", None)), None);
    assert_eq!(reason(&start(&mut fleet)), None);

    // Where it has begun it may come to its end, and nobody else may begin there.
    put(&mut fleet, freeze("f"), None);
    let first = fleet.world.state.operations[&id].steps[0].clone();
    assert_eq!(first.kind, StepKind::Restart);
    let instance = InstanceId { node: first.node, service: service("ledger") };
    let (state, now) = (&fleet.world.state, fleet.world.now);
    let other = OperationId::new("r-2").unwrap();
    assert_eq!(begins(state, &instance, Some(&id), now), None);
    for asks in [Some(&other), None] {
        assert_eq!(begins(state, &instance, asks, now).unwrap().reason(), Reason::Freeze);
    }
    let next = InstanceId { node: node("node4"), service: service("ledger") };
    let ask = Ask { doing: "restarting", operation: Some(&id), max_unavailable: None, needs: None };
    let evidence = Evidence::from_observations(&fleet.world.obs);
    let refusal = disturb_all(state, &[next], &ask, &evidence, now).unwrap();
    assert_eq!(refusal.reason(), Reason::Freeze);
}

#[test]
fn the_door_checks_first() {
    let mut fleet = fleet();
    let before = fleet.world.state.freezes.clone();
    for (spec, expect, wanted) in [
        (of("lodger"), None, Reason::NotFound),
        (on(Selector::default()), None, Reason::EmptySelector),
        (FreezeSpec { reason: String::new(), ..freeze("f") }, None, Reason::InvalidArgument),
        (freeze("f"), Some(7), Reason::StalePlan),
    ] {
        assert_eq!(reason(&put(&mut fleet, spec, expect)), Some(wanted));
        assert_eq!(fleet.world.state.freezes, before, "a refusal leaves no trace");
    }
    assert_eq!(reason(&delete(&mut fleet, "f", None)), Some(Reason::NotFound));
    assert_eq!(reason(&put(&mut fleet, freeze("f"), Some(0))), None);
    assert_eq!(reason(&put(&mut fleet, of("voters"), Some(0))), Some(Reason::StalePlan), "it exists");
    let first = fleet.world.state.freezes.values().next().unwrap().clone();
    // The same again is no change.
    assert_eq!(reason(&put(&mut fleet, freeze("f"), None)), None);
    assert_eq!(fleet.world.state.freezes.values().next(), Some(&first));
    fleet.tick();
    assert_eq!(reason(&put(&mut fleet, of("voters"), Some(first.revision.0))), None);
    let second = fleet.world.state.freezes.values().next().unwrap().clone();
    assert!(second.revision > first.revision && second.created_at == first.created_at);
    assert_eq!(reason(&delete(&mut fleet, "f", Some(first.revision.0))), Some(Reason::StalePlan));
    assert_eq!(reason(&delete(&mut fleet, "f", Some(second.revision.0))), None);
    assert!(fleet.world.state.freezes.is_empty());
}

#[test]
fn what_a_freeze_names_is_not_deleted_under_it() {
    let mut fleet = fleet();
    let end = fleet.world.now.plus(DurationMs::from_secs(10));
    put(&mut fleet, FreezeSpec { ends: Some(end), ..of("voters") }, None);
    put(&mut fleet, FreezeSpec { name: FreezeName::new("g").unwrap(), ..of("web") }, None);
    let forget = |fleet: &mut Fleet, command| reason(&fleet.world.user(Command::Declared(Box::new(command))));
    let voters = || DeclaredCommand::DeleteGroup { name: group("voters") };
    let web = || DeclaredCommand::DeleteService { name: service("web") };
    assert_eq!(forget(&mut fleet, voters()), Some(Reason::Conflict));
    assert_eq!(forget(&mut fleet, web()), Some(Reason::Conflict));
    fleet.world.now = end;
    assert_eq!(forget(&mut fleet, voters()), None, "its freeze is over");
    assert_eq!(forget(&mut fleet, web()), Some(Reason::Conflict));
    delete(&mut fleet, "g", None);
    assert_eq!(forget(&mut fleet, web()), None);
}

#[test]
fn there_is_a_limit_and_a_way_out_of_it() {
    let mut fleet = fleet();
    for number in 0..FREEZES_MAX {
        assert_eq!(reason(&put(&mut fleet, freeze(&format!("f{number}")), None)), None);
    }
    let refused = put(&mut fleet, freeze("one-more"), None);
    assert_eq!(reason(&refused), Some(Reason::LimitReached));
    // Those that are there can be changed, and deleted.
    assert_eq!(reason(&put(&mut fleet, FreezeSpec { reason: "x".into(), ..freeze("f7") }, None)), None);
    assert_eq!(reason(&delete(&mut fleet, "f7", None)), None);
    assert_eq!(reason(&put(&mut fleet, freeze("one-more"), None)), None);
}
