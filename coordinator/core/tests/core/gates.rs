//! What a gate takes for evidence.

use quorate_core::command::{Command, OperationCommand};
use quorate_core::plan::{Change, GateProbe, GateSpec, Goal, PlanRequest, plan};
use quorate_core::safety::availability::{freshness_limit, member, probe_limit};
use quorate_core::safety::{Evidence, gate};
use quorate_model::{
    DurationMs, InstanceId, InstanceReading, InstanceRole, Millionths, OperationId, OutReason, ProbeName,
    ProbeReading, ProbeSpec, QuorumPolicy,
};

use crate::agents::Fleet;
use crate::world::{START, admin, group, measured, node, quiet, service, spec};

#[test]
fn a_gate_counts_only_passes_that_are_newer_than_its_step() {
    let instance = InstanceId { node: node("node1"), service: service("ledger") };
    let name = ProbeName::new("health").unwrap();
    let probe = GateProbe {
        name: name.clone(),
        passes: 3,
        interval: DurationMs(1_000),
        from_peer: true,
        baseline: None,
    };
    let spec = GateSpec {
        instance: instance.clone(),
        soak: DurationMs::ZERO,
        probes: vec![probe],
        caught_up: false,
        hold: DurationMs::ZERO,
        margin: false,
        membership: None,
        lease: None,
    };
    let since = START;
    // A reading of a probe after some passes, so many milliseconds after the step.
    let reading = |from: &str, passes, after: u64| ProbeReading {
        instance: instance.clone(),
        from: node(from),
        probe: name.clone(),
        ok: true,
        passes,
        failures: 0,
        detail: String::new(),
        role: InstanceRole::Unknown,
        lag: None,
        value: None,
        listed: Vec::new(),
        position: None,
        at: since.plus(DurationMs(after)),
    };
    let passes = |readings: &[ProbeReading]| gate::probes_missing(&spec, &[], readings, since).is_none();
    // The third of three passes, one second apart: the first of them must be later than the step.
    assert!(passes(&[reading("node1", 3, 2_001), reading("node2", 9, 2_001)]));
    assert!(!passes(&[reading("node1", 3, 2_000), reading("node2", 9, 2_001)]));
    assert!(!passes(&[reading("node1", 3, 2_001), reading("node2", 900, 1_500)]), "the peer's are older");
    assert!(!passes(&[reading("node1", 2, 9_000), reading("node2", 9, 9_000)]));
    assert!(!passes(&[reading("node1", 3, 9_000)]), "no peer has agreed");
    let failing = ProbeReading { ok: false, ..reading("node1", 3, 9_000) };
    assert!(!passes(&[failing, reading("node2", 9, 9_000)]));
}

#[test]
fn only_a_fresh_value_of_the_own_node_is_a_baseline() {
    let mut fleet = Fleet::new();
    fleet.world.fleet(3);
    let mut declared = spec("ledger");
    declared.probes.extend(measured());
    // It says how old its own readings may be, and nobody else's.
    declared.probes.push(ProbeSpec { interval: DurationMs::from_secs(600), from_peer: false, ..quiet() });
    fleet.world.declare(declared);
    fleet.bring_up("ledger");
    fleet.world.group("ledger", "ledger", QuorumPolicy::Majority, &["node1", "node2", "node3"]);
    fleet.tick();
    let request =
        PlanRequest::new(Goal::Rollout { group: group("ledger"), change: Change::Restart }, admin());
    let made = plan(&fleet.world.state, &fleet.world.obs, &request, fleet.world.now, &mut || 7).unwrap();
    let id = OperationId::new("r-1").unwrap();
    fleet.world.must(Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan: made })));
    let (state, now) = (&fleet.world.state, fleet.world.now);
    let operation = &state.operations[&id];
    let instance = InstanceId { node: operation.steps[0].node.clone(), service: service("ledger") };
    let good = ProbeReading {
        from: instance.node.clone(),
        probe: ProbeName::new("errors").unwrap(),
        value: Some(Millionths(100_000)),
        ..fleet.world.obs.instances[&instance].probes[0].clone()
    };
    let recorded = |reading: ProbeReading| {
        let mut seen = fleet.world.obs.instances[&instance].clone();
        seen.probes = vec![reading];
        let evidence = [seen];
        gate::recorded(state, operation, 0, &instance, &Evidence::from_readings(&evidence), now).len()
    };
    assert_eq!(recorded(good.clone()), 1);
    for bad in [
        ProbeReading { ok: false, ..good.clone() },
        ProbeReading { value: None, ..good.clone() },
        ProbeReading { from: node("node1"), ..good.clone() },
        ProbeReading { at: now.minus(DurationMs::from_secs(60)), ..good.clone() },
        ProbeReading { probe: ProbeName::new("health").unwrap(), ..good.clone() },
        ProbeReading { instance: InstanceId { node: node("node1"), ..instance.clone() }, ..good },
    ] {
        assert_eq!(recorded(bad.clone()), 0, "{bad:?}");
    }
}

#[test]
fn a_probe_that_tells_no_health_makes_no_old_verdict_fresh() {
    let mut fleet = Fleet::new();
    fleet.world.fleet(3);
    let mut declared = spec("ledger");
    declared.probes.push(ProbeSpec { interval: DurationMs::from_secs(600), from_peer: false, ..quiet() });
    fleet.world.declare(declared.clone());
    fleet.bring_up("ledger");
    fleet.tick();
    let (ledger, name) = (service("ledger"), |text: &str| ProbeName::new(text).unwrap());
    let slack = fleet.world.state.settings.freshness_slack;
    let state = &fleet.world.state;
    assert_eq!(freshness_limit(state, &ledger), DurationMs(1_000).plus(slack));
    let own = |probe: &ProbeSpec| probe_limit(state, &ledger, &probe.name, probe.interval);
    assert_eq!(own(&declared.probes[0]), DurationMs(1_000).plus(slack));
    assert_eq!(own(declared.probes.last().unwrap()), DurationMs::from_secs(1_200).plus(slack));

    let now = fleet.world.now;
    let instance = InstanceId { node: node("node1"), service: ledger.clone() };
    let judged = |age: DurationMs| {
        let seen = fleet.world.obs.instances[&instance].clone();
        let seen = [InstanceReading { at: now.minus(age), ..seen }];
        member(state, &instance, &Evidence::from_readings(&seen), now).out.map(|out| out.why)
    };
    assert_eq!(judged(DurationMs::ZERO), None);
    assert_eq!(judged(DurationMs::from_secs(60)), Some(OutReason::Stale));

    // An expression is as old as what it names, and no older.
    declared.probes.extend(measured());
    fleet.world.declare(declared.clone());
    let limit = |fleet: &Fleet| freshness_limit(&fleet.world.state, &ledger);
    assert_eq!(limit(&fleet), DurationMs(1_500).plus(slack));
    let expression = declared.probes.iter_mut().find(|probe| probe.name == name("sense")).unwrap();
    expression.kind = quorate_model::ProbeKind::Expression { expr: "probes.quiet.pass".into() };
    fleet.world.declare(declared);
    assert_eq!(limit(&fleet), DurationMs(601_000).plus(slack));
}
