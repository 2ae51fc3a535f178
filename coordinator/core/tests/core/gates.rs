//! What a gate takes for evidence.

use quorate_core::command::{Command, OperationCommand};
use quorate_core::plan::{Change, GateProbe, GateSpec, Goal, PlanRequest, plan};
use quorate_core::safety::{Evidence, gate};
use quorate_model::{
    DurationMs, InstanceId, InstanceRole, Millionths, OperationId, ProbeName, ProbeReading, QuorumPolicy,
};

use crate::agents::Fleet;
use crate::world::{START, admin, group, measured, node, service, spec};

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
