//! Operations that advance by waves, and one that is taken back.

use quorate_core::state::plan::Verb;
use quorate_model::alert::AlertMatcher;
use quorate_model::{HandoverSpec, MaintenanceSpec, MigrateSpec, MigrateWhen, MigrationChoice, SilenceSpec};

use super::*;

/// A canary that is looked at and promoted, and a wave after it that turns bad.
pub(super) fn promoted(log: &mut Log) {
    // Nothing measured from here on: a value from before would have to travel with every step.
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.probes.retain(|probe| measured().iter().all(|other| other.name != probe.name));
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    let waves = WavePolicy {
        canary: 1,
        ramp: vec![Share::Count(1), Share::Percent(50)],
        hold: DurationMs::from_secs(1),
        promotion: Promotion::Every,
        zone_label: Some("zone".into()),
    };
    let request = PlanRequest { waves, on_failure: OnFailure::Pause, ..PlanRequest::new(goal, admin()) };
    let plan = log.plan_of(400, &request);
    let id = operation_id("r-4");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-4");
    log.pass(&id, 1);
    log.pass(&id, 2);
    log.operation(OperationCommand::Promote { id: id.clone(), all: false });
    log.act(&id, 3, "x-5");
    log.pass(&id, 4);
    log.step(StepCommand::OpenGate { operation: id.clone(), step: 5, evidence: vec![] });
    let gate = log.state.operations[&id].steps[5].gate.clone().unwrap();
    let reading = InstanceReading {
        instance: gate.instance,
        observed: InstanceState::Failed,
        role: InstanceRole::Voter,
        sync: Sync::Unknown,
        up_since: Timestamp::ZERO,
        at: log.now().plus(DurationMs::from_secs(1)),
        probes: vec![],
        failing: false,
    };
    log.step(StepCommand::FailGate { operation: id.clone(), step: 5, reading });
    log.operation(OperationCommand::Settle { id: id.clone(), state: OperationState::Paused });
    log.operation(OperationCommand::Resume { id: id.clone() });
    log.operation(OperationCommand::Promote { id: id.clone(), all: true });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

/// A release that its first host does not survive.
pub(super) fn taken_back(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.install = Some(Install::Archive { dir: "/opt/ledger".into() });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let change = Change::Release(Box::new(release("1.1.0")));
    let goal = Goal::Rollout { group: group("ledger"), change };
    let request = PlanRequest { on_failure: OnFailure::Rollback, ..PlanRequest::new(goal, admin()) };
    let plan = log.plan_of(500, &request);
    let id = operation_id("r-5");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let staged = log.state.operations[&id].steps.iter().filter(|s| s.wave == 0).count();
    for step in 0..u32::try_from(staged).unwrap() {
        log.act(&id, step, &format!("x-s{step}"));
    }
    let first = u32::try_from(staged).unwrap();
    log.act(&id, first, "x-a");
    let gate = first + 1;
    log.step(StepCommand::OpenGate { operation: id.clone(), step: gate, evidence: vec![] });
    let readings = log.probed(&id, staged + 1, false);
    let message = String::from("health fails");
    log.step(StepCommand::DeadlinePassed { operation: id.clone(), step: gate, readings, message });
    log.operation(OperationCommand::Settle { id: id.clone(), state: OperationState::RollingBack });
    let back = u32::try_from(log.state.operations[&id].steps.len()).unwrap() - 2;
    log.act(&id, back, "x-b");
    log.pass(&id, back + 1);
    log.operation(OperationCommand::Settle { id, state: OperationState::RolledBack });
}

/// A configuration file that is put to use and confirmed on its first host; then the rollout is given up.
pub(super) fn configured(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    let config = ConfigName::new("settings").unwrap();
    declared.configs.push(ConfigSpec {
        name: config.clone(),
        path: "/etc/${service}/settings.toml".into(),
        mode: 0o640,
        check: Some(HookName::new("check").unwrap()),
        apply: ConfigApply::Reload,
        confirm: DurationMs::from_secs(300),
        sensitive: true,
    });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let change = Change::Config { config, release: Box::new(release("7")) };
    let request = PlanRequest::new(Goal::Rollout { group: group("ledger"), change }, admin());
    let plan = log.plan_of(600, &request);
    let id = operation_id("r-6");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let staged = log.state.operations[&id].steps.iter().filter(|s| s.wave == 0).count();
    let first = u32::try_from(staged).unwrap();
    for step in 0..first {
        log.act(&id, step, &format!("x-c{step}"));
    }
    log.act(&id, first, "x-d");
    log.pass(&id, first + 1);
    log.act(&id, first + 2, "x-e");
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

/// An execution whose outcome nobody knows, and an operation whose time is over.
pub(super) fn unknown(log: &mut Log) {
    let plan = log.plan(200);
    let id = operation_id("r-2");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let evidence = log.readings();
    let execution = ExecutionId::new("x-2").unwrap();
    log.step(StepCommand::Start { operation: id.clone(), step: 0, execution: execution.clone(), evidence });
    log.execution(ExecutionCommand::MarkUnknown {
        execution: execution.clone(),
        reason: Reason::AgentDisconnected,
    });
    log.execution(ExecutionCommand::Cancel { execution: execution.clone() });
    log.step(StepCommand::DeadlinePassed {
        operation: id.clone(),
        step: 0,
        readings: vec![],
        message: "late".into(),
    });
    log.operation(OperationCommand::Settle { id, state: OperationState::Failed });
    log.execution(ExecutionCommand::Resolve { execution, note: "it runs".into() });
    let plan = log.plan(300);
    let id = operation_id("r-3");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.operation(OperationCommand::DeadlinePassed { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Failed });
}

/// A release whose hook is run once, and upkeep after it.
pub(super) fn migrated(log: &mut Log) {
    let hook = |name: &str| HookName::new(name).unwrap();
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.migrate = Some(MigrateSpec {
        hook: hook("migrate"),
        timeout: DurationMs::from_secs(30),
        when: MigrateWhen::Before,
        undo: Some(hook("migrate-back")),
    });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let change = Change::Release(Box::new(release("1.3.0")));
    let goal = Goal::Rollout { group: group("ledger"), change };
    let request = PlanRequest { migration: MigrationChoice::Again, ..PlanRequest::new(goal, admin()) };
    let plan = log.plan_of(800, &request);
    let id = operation_id("r-8");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let staged = log.state.operations[&id].steps.iter().filter(|s| s.wave == 0).count();
    for step in 0..u32::try_from(staged).unwrap() {
        log.act(&id, step, &format!("x-t{step}"));
    }
    let once = u32::try_from(staged).unwrap();
    log.act(&id, once, "x-m");
    log.pass(&id, once + 1);
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
    let change = Change::Run { hook: hook("compact") };
    let goal = Goal::Rollout { group: group("ledger"), change };
    let plan = log.plan_of(700, &PlanRequest::new(goal, admin()));
    let id = operation_id("r-7");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-u");
    log.pass(&id, 1);
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

/// Hosts that are looked at, and copies that are stored, before anything is disturbed; canceled after the first look.
pub(super) fn prepared(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.preflight = Some(PreflightSpec {
        requires: vec![
            Required::Unit { unit: "db.service".into() },
            Required::Address { address: "${node}:5432".into() },
        ],
        min_memory_bytes: 1 << 20,
        ..PreflightSpec::default()
    });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    let request = PlanRequest { backup_first: true, ..PlanRequest::new(goal, admin()) };
    let plan = log.plan_of(1000, &request);
    let id = operation_id("r-10");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-look");
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

/// An instance that is told that it is worked on; canceled once it is.
pub(super) fn told(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    let file = "/run/${service}/maintenance".into();
    let silence = SilenceSpec {
        url: "http://10.0.0.9:9093".into(),
        matchers: Vec::from([AlertMatcher::parse("instance=~\"${node}:.*\"").unwrap()]),
        required: true,
    };
    let lease = Some(DurationMs::from_secs(600));
    declared.maintenance = Some(MaintenanceSpec { file, silence: Some(silence), lease });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    let plan = log.plan_of(1100, &PlanRequest::new(goal, admin()));
    let id = operation_id("r-11");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-look-2");
    log.act(&id, 1, "x-told");
    let owed = ObligationId::new("x-told:maintenance").unwrap();
    let execution = ExecutionId::new("x-told").unwrap();
    let node = log.state.executions[&execution].node.clone();
    let (what, due_at) = ("end the maintenance".into(), log.state.executions[&execution].begin_before);
    log.user(Command::Obligation(ObligationCommand::Open {
        id: owed.clone(),
        node: node.clone(),
        execution,
        what,
        due_at,
    }));
    log.user(Command::Obligation(ObligationCommand::Extend { id: owed.clone() }));
    let state = ObligationState::Discharged;
    log.user(Command::Obligation(ObligationCommand::Close { id: owed, node, state }));
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

/// A member that leads: it hands over and is seen to have, then the rest is canceled.
pub(super) fn handed_over(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.preflight = None;
    let hook = HookName::new("step-down").unwrap();
    declared.handover = Some(HandoverSpec { hook, timeout: DurationMs::from_secs(30) });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let (service, nodes) = (service("ledger"), Selector::node("node1"));
    let goal = Goal::Run { service, nodes, verb: Verb::Restart };
    let plan = log.plan_of(1200, &PlanRequest::new(goal, admin()));
    let id = operation_id("r-12");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.act(&id, 0, "x-down");
    let mut evidence = log.readings();
    evidence[0].role = InstanceRole::Voter;
    evidence[1].role = InstanceRole::Leader;
    log.step(StepCommand::PassGate { operation: id.clone(), step: 0, readings: vec![], evidence });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}
