//! A secret that is rotated: declared, staged, put in place and confirmed on the first member, then canceled.

use quorate_core::command::{Command, DeclaredCommand, OperationCommand};
use quorate_core::state::plan::{Change, Goal, PlanRequest};
use quorate_model::{
    ConfigApply, DurationMs, HookName, OnFailure, OperationState, SecretName, SecretSource, SecretSpec,
};

use super::{Log, operation_id};
use crate::world::{admin, group, service};

pub(super) fn rotated(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    let secret = |name: &str, source| SecretSpec {
        name: SecretName::new(name).unwrap(),
        file: format!("/etc/ledger/{name}"),
        previous: format!("/etc/ledger/{name}.previous"),
        source,
        confirm: HookName::new("works").unwrap(),
        apply: ConfigApply::Reload,
        grace: DurationMs::from_secs(3_600),
    };
    declared.secrets = vec![
        secret("token", SecretSource::Candidate("/run/secrets/${node}/token".into())),
        secret("salt", SecretSource::Generate(HookName::new("make-salt").unwrap())),
    ];
    declared.preflight = None;
    declared.maintenance = None;
    declared.handover = None;
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let change = Change::Secret { secret: SecretName::new("token").unwrap() };
    let goal = Goal::Rollout { group: group("ledger"), change };
    let request = PlanRequest { on_failure: OnFailure::Rollback, ..PlanRequest::new(goal, admin()) };
    let plan = log.plan_of(1_300, &request);
    let id = operation_id("r-13");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    let staged = log.state.operations[&id].steps.iter().filter(|s| s.wave == 0).count();
    let staged = u32::try_from(staged).unwrap();
    for step in 0..staged {
        log.act(&id, step, &format!("x-k{step}"));
    }
    log.act(&id, staged, "x-k-install");
    log.pass(&id, staged + 1);
    log.act(&id, staged + 2, "x-k-confirm");
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}
