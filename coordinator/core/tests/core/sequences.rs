//! Random sequences: of commands, and of mischief in a simulated fleet. Whatever happens, the invariants hold.

mod moves;

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_core::Answer;
use quorate_core::State;
use quorate_core::command::{
    CalendarCommand, Command, Entry, ExecutionCommand, InstanceCommand, NodeCommand, ObligationCommand,
    OperationCommand, Report, StepCommand,
};
use quorate_core::plan::plan;
use quorate_core::safety::quorum::required;
use quorate_core::state::audit;
use quorate_core::state::plan::{Change, Goal, PlanRequest};
use quorate_model::service::DesiredState;
use quorate_model::{
    DurationMs, Epoch, ExecutionId, ExecutionState, FreezeName, FreezeSpec, InstanceId, InstanceState,
    NodeId, NodeName, NodeStatus, ObligationId, ObligationState, Occurrence, OnFailure, OperationId,
    OperationState, Promotion, Reason, Recurrence, RequestId, Revision, Selector, Share, StepKind, StepState,
    WindowName, WindowSpec, WorkloadName, ZoneName,
};

use moves::{calendar, reading_of, steer, window};

use crate::agents::Fleet;
use crate::world::{START, admin, group, node, policy, release, service, spec};

/// What must hold of any state (I-5, I-7, I-13, I-15, I-18, I-32 as far as the core carries them).
pub(crate) fn check(state: &State) {
    for operation in state.operations.values().filter(|o| o.state.is_terminal()) {
        let id = &operation.id;
        assert!(!operation.has_running_step(), "{id} is terminal and has a running step");
        assert!(state.grants.values().all(|g| g.operation != *id), "{id} is terminal and holds a grant");
        let owes = state.obligations.values().any(|o| {
            o.operation.as_ref() == Some(id)
                && o.state == ObligationState::Open
                && state.nodes.present(&o.node).is_some()
        });
        assert!(!owes, "{id} is terminal and owes an undo");
        assert!(operation.ended_at.is_some() && operation.conditions.is_empty());
    }
    // What was rolled back is nowhere in use by its hand.
    for operation in state.operations.values().filter(|o| o.state == OperationState::RolledBack) {
        let back = |node: &NodeName| {
            let from = operation.rollback_from.unwrap_or(u32::MAX);
            operation.steps.iter().filter(|s| s.state == StepState::Succeeded && s.wave >= from).any(|s| {
                matches!(s.kind, StepKind::Join | StepKind::Leave | StepKind::Stop)
                    || (s.kind == StepKind::Revert && s.node == *node)
            })
        };
        for step in operation.steps.iter().filter(|s| s.undo.is_some() && s.state == StepState::Succeeded) {
            let gone = state.nodes.present(&step.node).is_none();
            assert!(gone || back(&step.node), "{} left {} behind", operation.id, step.node);
        }
    }
    for pending in state.groups.values().filter_map(|group| group.pending.as_ref()) {
        assert!(state.operations.get(&pending.operation).is_some_and(|o| !o.state.is_terminal()));
    }
    let open: BTreeSet<&ExecutionId> =
        state.executions.values().filter(|e| !e.state.is_final()).map(|e| &e.id).collect();
    assert!(open.iter().copied().eq(&state.open), "the index of open executions is wrong");
    for (epoch, grant) in &state.grants {
        assert!(*epoch <= state.epoch && grant.epoch == *epoch);
        assert!(state.operations.contains_key(&grant.operation));
    }
    let mut epochs = BTreeSet::new();
    for execution in state.executions.values() {
        assert!(execution.epoch <= state.epoch && epochs.insert(execution.epoch), "an epoch was used twice");
    }
    // Mutating work on one node is serialised, but for what nobody knows the outcome of.
    for node in state.nodes.by_name.keys() {
        let at_work = state
            .open_executions(node)
            .filter(|e| e.is_mutating() && e.state != ExecutionState::Unknown)
            .filter(|e| state.operations.get(&e.operation).is_some_and(|o| !o.state.is_terminal()));
        assert!(at_work.count() <= 1, "two mutating executions on {node}");
    }
    audit::verify_kept(&state.audit).unwrap();
}

/// One thing that happens to the fleet.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wait(u8),
    Rollout(u8),
    /// A release, by its number; even ones are rolled back when they fail, odd ones pause.
    Release(u8),
    Undo,
    Promote(bool),
    Full(u8),
    Strict(u8),
    Lenient,
    Restart(u8),
    Stop(u8),
    Pause,
    Resume,
    Cancel,
    LeaderChange,
    Deaf(u8),
    Hears(u8),
    Sick(u8),
    Well(u8),
    Hang(u8),
    Unhang,
    Amnesia(u8),
    Cordon(u8),
    Uncordon(u8),
    Drain(u8),
    Undrain(u8),
    Slow(u8),
    Quick(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let n = 1_u8..=7;
    let one = prop_oneof![
        6 => (1_u8..30).prop_map(Event::Wait),
        4 => (1_u8..4).prop_map(Event::Rollout),
        4 => (0_u8..8).prop_map(Event::Release),
        1 => Just(Event::Undo),
        2 => any::<bool>().prop_map(Event::Promote),
        1 => n.clone().prop_map(Event::Full),
        1 => n.clone().prop_map(Event::Strict),
        1 => Just(Event::Lenient),
        3 => n.clone().prop_map(Event::Restart),
        1 => n.clone().prop_map(Event::Stop),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Cancel),
        2 => Just(Event::LeaderChange),
        2 => n.clone().prop_map(Event::Deaf),
        2 => n.clone().prop_map(Event::Hears),
        1 => n.clone().prop_map(Event::Sick),
        1 => n.clone().prop_map(Event::Well),
        1 => n.clone().prop_map(Event::Hang),
        1 => Just(Event::Unhang),
        1 => n.clone().prop_map(Event::Amnesia),
        1 => n.clone().prop_map(Event::Cordon),
        1 => n.clone().prop_map(Event::Uncordon),
        1 => n.clone().prop_map(Event::Drain),
        1 => n.clone().prop_map(Event::Undrain),
        1 => n.clone().prop_map(Event::Slow),
        1 => n.prop_map(Event::Quick),
    ];
    proptest::collection::vec(one, 5..25)
}

fn start(fleet: &mut Fleet, goal: Goal, max: u32) {
    advance(fleet, PlanRequest::new(goal, admin()), max);
}

/// A release, or the way back, with waves of every sort.
fn install(fleet: &mut Fleet, change: Change, number: u8) {
    let mut request = PlanRequest::new(Goal::Rollout { group: group("ledger"), change }, admin());
    request.on_failure = if number.is_multiple_of(2) { OnFailure::Rollback } else { OnFailure::Pause };
    request.waves.canary = u32::from(number % 3);
    request.waves.hold = quorate_model::DurationMs::from_secs(u64::from(number % 4));
    request.waves.ramp = vec![Share::Count(1), Share::Percent(60)];
    let person = if number.is_multiple_of(3) { Promotion::Automatic } else { Promotion::Canary };
    request.waves.promotion = person;
    advance(fleet, request, 0);
}

fn advance(fleet: &mut Fleet, mut request: PlanRequest, max: u32) {
    request.max_unavailable = max;
    request.gate_deadline = Some(quorate_model::DurationMs::from_secs(20));
    let world = &mut fleet.world;
    let mut minted = world.minted;
    let made = plan(&world.state, &world.obs, &request, world.now, &mut || {
        minted += 1;
        minted
    });
    world.minted = minted;
    if let Ok(plan) = made {
        let id = OperationId::new(format!("r-{}", world.minted)).unwrap();
        world.must(Command::Operation(Box::new(OperationCommand::Start { id, plan })));
    }
}

fn happen(fleet: &mut Fleet, event: Event, count: u8) {
    let name = |n: u8| format!("node{}", (n - 1) % count + 1);
    let one = |n: u8, verb| Goal::Run {
        service: service("ledger"),
        nodes: quorate_model::Selector::node(&name(n)),
        verb,
    };
    let mischief = &mut fleet.mischief;
    let reason = String::from("test");
    match event {
        Event::Wait(ticks) => (0..ticks).for_each(|_| fleet.tick()),
        Event::Rollout(max) => {
            start(fleet, Goal::Rollout { group: group("ledger"), change: Change::Restart }, max.into());
        }
        Event::Release(number) => {
            let wanted = release(&format!("1.{number}.0"));
            install(fleet, Change::Release(Box::new(wanted)), number);
        }
        Event::Undo => install(fleet, Change::Undo, 1),
        Event::Promote(all) => {
            let open = fleet.world.state.operations.values().find(|o| !o.state.is_terminal());
            let Some(id) = open.map(|o| o.id.clone()) else { return };
            fleet.world.user(Command::Operation(Box::new(OperationCommand::Promote { id, all })));
        }
        Event::Full(n) => drop(mischief.full.insert(node(&name(n)))),
        Event::Strict(n) => drop(mischief.strict.insert(node(&name(n)))),
        Event::Lenient => mischief.strict.clear(),
        Event::Restart(n) => start(fleet, one(n, quorate_core::plan::Verb::Restart), 1),
        Event::Stop(n) => start(fleet, one(n, quorate_core::plan::Verb::Stop), 1),
        Event::Pause | Event::Resume | Event::Cancel => {
            let open = fleet.world.state.operations.values().find(|o| !o.state.is_terminal());
            let Some(id) = open.map(|o| o.id.clone()) else { return };
            let command = match event {
                Event::Pause => OperationCommand::Pause { id },
                Event::Resume => OperationCommand::Resume { id },
                _ => OperationCommand::Cancel { id },
            };
            fleet.world.user(Command::Operation(Box::new(command)));
        }
        Event::LeaderChange => fleet.change_leader(),
        Event::Deaf(n) => drop(mischief.deaf.insert(node(&name(n)))),
        Event::Hears(n) => drop(mischief.deaf.remove(&node(&name(n)))),
        Event::Sick(n) => drop(mischief.sick.insert(node(&name(n)))),
        Event::Well(n) => drop(mischief.sick.remove(&node(&name(n)))),
        Event::Hang(n) => drop(mischief.hang.insert(node(&name(n)))),
        Event::Unhang => mischief.hang.clear(),
        Event::Amnesia(n) => drop(mischief.amnesia.insert(node(&name(n)))),
        Event::Slow(n) => drop(mischief.slow.insert(node(&name(n)))),
        Event::Quick(n) => drop(mischief.slow.remove(&node(&name(n)))),
        Event::Cordon(n) => {
            fleet.world.user(Command::Node(NodeCommand::Cordon { node: node(&name(n)), reason }));
        }
        Event::Uncordon(n) => {
            fleet.world.user(Command::Node(NodeCommand::Uncordon { node: node(&name(n)) }));
        }
        Event::Drain(n) => {
            let evidence = fleet.world.obs.instances.values().cloned().collect();
            fleet.world.user(Command::Node(NodeCommand::Drain { node: node(&name(n)), reason, evidence }));
        }
        Event::Undrain(n) => {
            fleet.world.user(Command::Node(NodeCommand::Undrain { node: node(&name(n)) }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Promise 1, against the truth and not against our own view: nothing but our own hand takes members down here, and it
    /// never takes more of them than the quorum allows.
    #[test]
    fn our_own_hand_never_takes_a_group_below_its_quorum(
        count in 3_u8..=7, word in prop_oneof![Just("majority"), Just("bft"), Just("bft1"), Just("2")],
        events in events(),
    ) {
        let mut fleet = Fleet::new();
        fleet.world.fleet(count.into());
        let mut declared = spec("ledger");
        declared.install = Some(quorate_model::Install::Archive { dir: "/opt/ledger".into() });
        crate::hooks::declare(&mut declared, if count % 2 == 0 { &["migrating"] } else { &[] });
        fleet.world.declare(declared);
        fleet.bring_up("ledger");
        let names: Vec<String> = (1..=count).map(|n| format!("node{n}")).collect();
        let voters: Vec<&str> = names.iter().map(String::as_str).collect();
        let answer = fleet.world.group("ledger", "ledger", policy(word), &voters);
        prop_assert!(answer.refusal().is_none());
        fleet.tick();
        fleet.least.clear();
        let needed = usize::try_from(required(&policy(word), count.into())).unwrap();
        for event in events {
            happen(&mut fleet, event, count);
            fleet.tick();
            check(&fleet.world.state);
            let least = fleet.least["ledger"];
            let mut once = std::collections::BTreeSet::new();
            prop_assert!(fleet.ran.iter().all(|run| once.insert(run.2.clone())), "twice: {:?}", fleet.ran);
            prop_assert!(least >= needed, "{least} of {count} served, {needed} are needed, after {event:?}");
        }
        // All is well again, and nobody holds anything up on purpose: everything ends (I-19).
        fleet.mischief = Default::default();
        for n in 1..=count {
            happen(&mut fleet, Event::Undrain(n), count);
            happen(&mut fleet, Event::Uncordon(n), count);
        }
        let paused: Vec<OperationId> =
            fleet.world.state.operations.values().filter(|o| !o.state.is_terminal()).map(|o| o.id.clone()).collect();
        for id in paused {
            // One that rolls back is not canceled in passing.
            fleet.world.user(Command::Operation(Box::new(OperationCommand::Resume { id: id.clone() })));
            fleet.world.user(Command::Operation(Box::new(OperationCommand::Cancel { id })));
        }
        for _ in 0..400 {
            fleet.tick();
            if fleet.world.state.operations.values().all(|o| o.state.is_terminal()) {
                break;
            }
        }
        let open: Vec<_> = fleet.world.state.operations.values().filter(|o| !o.state.is_terminal()).collect();
        prop_assert!(open.is_empty(), "not ended: {open:?}");
        check(&fleet.world.state);
        fleet.world.replicas_agree();
    }

    /// Commands in any order, with any arguments from small pools, most of them nonsense: no panic, no disagreement.
    #[test]
    fn any_sequence_of_commands_keeps_the_invariants(
        codes in proptest::collection::vec((0_u8..31, 0_u8..4, 0_u8..12, any::<u8>()), 1..120),
    ) {
        let mut fleet = Fleet::new();
        fleet.world.fleet(3);
        fleet.world.declare(spec("ledger"));
        fleet.bring_up("ledger");
        fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3"]);
        fleet.tick();
        let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
        let mut request = PlanRequest::new(goal, admin());
        request.on_failure = OnFailure::Pause;
        request.waves.promotion = Promotion::Every;
        advance(&mut fleet, request, 1);
        let mut epoch = Epoch(0);
        let mut last = NodeId(0);
        for (kind, a, b, c) in codes {
            let command = match kind {
                26 | 27 => calendar(kind == 26, node(&format!("node{}", a % 4 + 1)), b),
                28..31 => window(&fleet, kind, a, b),
                _ => decode(&fleet, kind, a, b, c),
            };
            let request = (c & 1 == 1).then(|| RequestId::new(format!("q-{}", c % 8)).unwrap());
            let entry = Entry::new(fleet.world.now, admin(), request.clone(), command);
            let known = request.as_ref().and_then(|r| fleet.world.state.dedupe.lookup(&admin(), r)).cloned();
            let before = fleet.world.state.clone();
            let answer = fleet.world.commit(&entry);
            if let Some(known) = known {
                // The same request again gets the same answer, another one under the same id gets none.
                if known.intent == entry.command.intent() {
                    prop_assert_eq!(&answer, &known.answer);
                } else {
                    let reason = answer.refusal().map(quorate_model::Refusal::reason);
                    prop_assert_eq!(reason, Some(Reason::RequestIdConflict));
                }
            }
            if matches!(answer, Answer::Refused(_)) {
                prop_assert!(untouched(&before, &fleet.world.state), "a refusal changed something: {entry:?}");
            }
            if let (Answer::Execution { execution, .. }, true) = (&answer, before.epoch < fleet.world.state.epoch) {
                let node = &fleet.world.state.executions[execution].node;
                prop_assert!(affordable(&before, &fleet, node), "{node} was disturbed below the quorum");
                prop_assert!(!held(&before, node), "{node} was disturbed in a freeze");
            }
            prop_assert!(fleet.world.state.epoch >= epoch && fleet.world.state.nodes.last >= last);
            epoch = fleet.world.state.epoch;
            last = fleet.world.state.nodes.last;
            check(&fleet.world.state);
        }
        fleet.world.replicas_agree();
    }
}

/// Whether the group of `before` could spare this node: counted anew, from the truth that the readings rest on.
fn affordable(before: &State, fleet: &Fleet, node: &NodeName) -> bool {
    let counts = |node: &NodeName| {
        let id = InstanceId { node: node.clone(), service: service("ledger") };
        let host = &before.nodes.by_name[node];
        let ours = before.grants.values().any(|g| g.instance == id)
            || before.executions.values().any(|e| e.instance.as_ref() == Some(&id) && !e.state.is_final());
        let seen =
            fleet.world.obs.instances[&id].at > before.instances.get(&id).map_or(START, |i| i.disturbed_at);
        host.status == NodeStatus::Ready && host.drain == quorate_model::Drain::None && !ours && seen
    };
    let voters = &before.groups[&group("ledger")].spec.voters;
    let left = voters.iter().filter(|voter| *voter != node && counts(voter)).count();
    // All readings show healthy instances here: only what is granted already costs nothing.
    before.grants.values().any(|g| g.instance.node == *node) || left >= 2
}

/// Whether a freeze of `before` holds this node and nothing had begun there: counted anew, by the few shapes made below.
fn held(before: &State, node: &NodeName) -> bool {
    let covers = |spec: &FreezeSpec| {
        let named = |selector: &Selector| selector.names.iter().any(|name| name == node.as_str());
        spec.selector.as_ref().is_none_or(named) && spec.ends.is_none()
    };
    let begun = before.grants.values().any(|g| g.instance.node == *node);
    !begun && before.freezes.values().any(|freeze| covers(&freeze.spec))
}

/// Equal but for clock, revision, kept answers and the audit.
fn untouched(before: &State, after: &State) -> bool {
    let mut bare = after.clone();
    bare.clock = before.clock;
    bare.revision = before.revision;
    bare.dedupe = before.dedupe.clone();
    bare.audit = before.audit.clone();
    bare == *before
}

fn decode(fleet: &Fleet, kind: u8, a: u8, b: u8, c: u8) -> Command {
    let state = &fleet.world.state;
    let name = node(&format!("node{}", a % 4 + 1));
    let operation = state
        .operations
        .keys()
        .nth(usize::from(c % 3))
        .cloned()
        .unwrap_or(OperationId::new("r-none").unwrap());
    let execution = state
        .executions
        .keys()
        .nth(usize::from(c % 5))
        .cloned()
        .unwrap_or_else(|| ExecutionId::new("x-none").unwrap());
    let step = u32::from(b % 8);
    let evidence = || fleet.world.obs.instances.values().cloned().collect();
    let reason = String::from("test");
    let states = [ExecutionState::Accepted, ExecutionState::Running, ExecutionState::Unknown]
        .into_iter()
        .chain([ExecutionState::Succeeded, ExecutionState::Failed, ExecutionState::Rejected])
        .chain([ExecutionState::TimedOut, ExecutionState::Canceled]);
    let said = states.clone().nth(usize::from(b) % states.count()).unwrap();
    match kind {
        0 => Command::Node(NodeCommand::SetStatus { node: name, status: NodeStatus::Ready }),
        1 => Command::Node(NodeCommand::SetStatus { node: name, status: NodeStatus::Down }),
        2 => Command::Node(NodeCommand::Cordon { node: name, reason }),
        3 => Command::Node(NodeCommand::Uncordon { node: name }),
        4 => Command::Node(NodeCommand::Drain { node: name, reason, evidence: evidence() }),
        5 => Command::Node(NodeCommand::Undrain { node: name }),
        6 if b == 0 => Command::Node(NodeCommand::Remove { node: name }),
        6..=10 => {
            let execution = ExecutionId::new(format!("x-r{c}")).unwrap();
            Command::Step(StepCommand::Start { operation, step, execution, evidence: evidence() })
        }
        11 => Command::Step(StepCommand::OpenGate { operation, step, evidence: vec![] }),
        12 => Command::Step(StepCommand::PassGate { operation, step, readings: vec![], evidence: vec![] }),
        13 => {
            Command::Step(StepCommand::DeadlinePassed { operation, step, readings: vec![], message: reason })
        }
        14..=18 | 25 => Command::Operation(Box::new(steer(kind, operation, b))),
        19..=21 => {
            let epoch = state.executions.get(&execution).map_or(Epoch(b.into()), |e| e.epoch);
            let node = state.executions.get(&execution).map_or(name, |e| e.node.clone());
            let report = Report { execution, node, epoch, state: said, reason: None, outcome: None };
            Command::Execution(Box::new(ExecutionCommand::Report(report)))
        }
        22 => Command::Execution(Box::new(ExecutionCommand::Resolve { execution, note: reason })),
        23 => Command::Obligation(ObligationCommand::Open {
            id: ObligationId::new(format!("o-{b}")).unwrap(),
            node: name,
            execution,
            what: reason,
            due_at: fleet.world.now,
        }),
        24 => Command::Obligation(ObligationCommand::Close {
            id: ObligationId::new(format!("o-{b}")).unwrap(),
            node: name,
            state: ObligationState::Discharged,
        }),
        26 => {
            let reading = reading_of(fleet, &name);
            Command::Step(StepCommand::FailGate { operation, step, reading })
        }
        _ => Command::Instance(InstanceCommand::SetDesired {
            instance: InstanceId { node: name, service: service("ledger") },
            desired: if b & 1 == 0 { DesiredState::Stopped } else { DesiredState::Running },
        }),
    }
}

#[test]
fn a_repeated_start_gives_one_operation_and_the_same_answer() {
    let mut fleet = Fleet::new();
    fleet.world.fleet(3);
    fleet.world.declare(spec("ledger"));
    fleet.bring_up("ledger");
    fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    let request =
        PlanRequest::new(Goal::Rollout { group: group("ledger"), change: Change::Restart }, admin());
    let mut answers = Vec::new();
    for attempt in 0..2_u64 {
        // The proposer plans and mints anew; the caller's request is the same.
        let mut minted = attempt * 1_000;
        let made = plan(&fleet.world.state, &fleet.world.obs, &request, fleet.world.now, &mut || {
            minted += 1;
            minted
        });
        let id = OperationId::new(format!("r-{attempt}")).unwrap();
        let command = Command::Operation(Box::new(OperationCommand::Start { id, plan: made.unwrap() }));
        let id = Some(RequestId::new("q-1").unwrap());
        answers.push(fleet.world.commit(&Entry::new(fleet.world.now, admin(), id, command)));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(fleet.world.state.operations.len(), 1);
    assert!(
        fleet.world.state.operations.values().all(|o| o.steps.iter().all(|s| s.state == StepState::Pending))
    );
    let known: Vec<InstanceState> =
        fleet.world.state.instances.0.values().flat_map(|s| s.values()).map(|i| i.observed).collect();
    assert_eq!(known, [InstanceState::Healthy; 3]);
}
