//! A voter that leaves its group: told, seen to be gone, and the rest of it canceled.

use quorate_core::command::{Command, DeclaredCommand, OperationCommand, StepCommand};
use quorate_core::state::plan::{Goal, PlanRequest};
use quorate_model::{
    DurationMs, HookName, InstanceRole, Listed, MembershipSpec, MembershipVerb, OperationState, ProbeName,
    ProbeReading,
};

use super::{Log, operation_id};
use crate::world::{admin, group, node, service};

pub(super) fn left(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.handover = None;
    declared.traffic = None;
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let hook = |name| HookName::new(name).unwrap();
    let mut spec = log.state.groups[&group("ledger")].spec.clone();
    let timeout = DurationMs::from_secs(60);
    let before = spec.clone();
    spec.membership = Some(MembershipSpec { add: hook("join"), remove: hook("leave"), timeout });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None })));
    let goal = Goal::Membership {
        group: group("ledger"),
        node: node("node3"),
        change: MembershipVerb::Remove,
        spare: Some(0),
    };
    let plan = log.plan_of(1500, &PlanRequest::new(goal, admin()));
    let id = operation_id("r-15");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-leave");
    log.step(StepCommand::OpenGate { operation: id.clone(), step: 1, evidence: vec![] });
    let at = log.now().plus(DurationMs::from_secs(60));
    let mut evidence = log.readings();
    for reading in &mut evidence {
        reading.at = at;
        reading.probes.push(ProbeReading {
            instance: reading.instance.clone(),
            from: reading.instance.node.clone(),
            probe: ProbeName::new("member").unwrap(),
            ok: true,
            passes: 2,
            failures: 0,
            detail: String::new(),
            role: InstanceRole::Voter,
            lag: Some(0),
            value: None,
            position: None,
            listed: ["node1", "node2"]
                .map(|key| Listed { key: key.into(), role: InstanceRole::Voter })
                .into(),
            at,
        });
    }
    log.step(StepCommand::PassGate { operation: id.clone(), step: 1, readings: vec![], evidence });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
    let spec = before;
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None })));
}
