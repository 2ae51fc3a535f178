//! The lease of a primary: adopted, given back for a switchover that is given up, and one that runs out.

use quorate_core::command::LeaseCommand;
use quorate_core::state::plan::LeaseWants;
use quorate_model::{FailoverSpec, GroupName};

use super::*;

pub(super) fn leased(log: &mut Log) {
    let name = group("pair");
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyGroup {
        spec: declared(&name),
        expect: None,
    })));
    lease(log, LeaseCommand::Lead { lead: 7 });
    lease(log, LeaseCommand::Adopt { group: name.clone(), node: node("node1") });
    let epoch = log.state.groups[&name].primary.as_ref().unwrap().epoch;
    lease(log, LeaseCommand::Confirm { group: name.clone(), epoch });
    let id = moved(log, &name);
    let message = "what led is stopped".into();
    lease(log, LeaseCommand::Release { group: name.clone(), epoch, message });
    let evidence = pair(log);
    log.step(StepCommand::PassGate { operation: id.clone(), step: 0, readings: vec![], evidence });
    let evidence = pair(log);
    let execution = ExecutionId::new("x-promote").unwrap();
    log.step(StepCommand::Start { operation: id.clone(), step: 1, execution, evidence });
    let epoch = log.state.groups[&name].primary.as_ref().unwrap().epoch;
    log.report("x-promote", epoch.0, ExecutionState::Failed);
    log.operation(OperationCommand::Settle { id, state: OperationState::Failed });
    log.user(Command::Lease(LeaseCommand::Acknowledge { group: name.clone() }));
    let (silent_for, leads_for) = (DurationMs::from_secs(19), DurationMs::from_secs(20));
    lease(log, LeaseCommand::Expire { group: name, epoch, lead: 7, silent_for, leads_for });
}

fn lease(log: &mut Log, command: LeaseCommand) {
    log.add(Principal::System, Command::Lease(command));
}

fn declared(name: &GroupName) -> GroupSpec {
    let hook = |name: &str| HookName::new(name).unwrap();
    GroupSpec {
        name: name.clone(),
        service: service("ledger"),
        voters: vec![node("node1"), node("node2")],
        learners: vec![],
        policy: QuorumPolicy::PrimaryStandby,
        spare_wanted: 0,
        labels: BTreeMap::new(),
        membership: None,
        failover: Some(FailoverSpec {
            ttl: DurationMs::from_secs(15),
            promote: hook("promote"),
            switch: Some(hook("switch")),
            rejoin: Some(hook("rejoin")),
            timeout: DurationMs::from_secs(60),
            automatic: true,
            max_lag: 16,
            hold_down: DurationMs::from_secs(600),
        }),
    }
}

/// A primary and its standby, as their own probes see them.
fn pair(log: &Log) -> Vec<InstanceReading> {
    let roles = [(InstanceRole::Primary, 100), (InstanceRole::Standby, 90)];
    log.readings()
        .into_iter()
        .zip(roles)
        .map(|(reading, (role, position))| {
            let probes = vec![ProbeReading {
                instance: reading.instance.clone(),
                from: reading.instance.node.clone(),
                probe: ProbeName::new("member").unwrap(),
                ok: true,
                passes: 2,
                failures: 0,
                detail: String::new(),
                role,
                lag: Some(0),
                value: None,
                listed: Vec::new(),
                position: Some(position),
                at: reading.at,
            }];
            InstanceReading { role, probes, ..reading }
        })
        .collect()
}

/// Planned, begun, and the lease wanted back.
fn moved(log: &mut Log, name: &GroupName) -> OperationId {
    let goal = Goal::Failover { group: name.clone(), to: None, planned: false };
    let instances = pair(log).into_iter().map(|r| (r.instance.clone(), r)).collect();
    let obs = Observations { leading_since: START, instances, ..Observations::default() };
    let mut seed = 1_700;
    let request = PlanRequest::new(goal, admin());
    let plan = plan(&log.state, &obs, &request, log.now(), &mut || {
        seed += 1;
        seed
    });
    let plan = plan.unwrap();
    let wants = plan.waves[0].steps[0].gate.as_ref().unwrap().lease.as_ref().map(|gate| gate.wants.clone());
    assert_eq!(wants, Some(LeaseWants::Over { holder: node("node1"), position: Some(100) }));
    let id = operation_id("r-17");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let evidence = pair(log);
    log.step(StepCommand::OpenGate { operation: id.clone(), step: 0, evidence });
    id
}
