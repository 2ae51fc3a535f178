//! A member whose data is to be put aside, canceled before anything was done.

use quorate_core::command::{Command, DeclaredCommand, OperationCommand};
use quorate_core::state::plan::{Goal, PlanRequest};
use quorate_model::{DataSpec, OperationState};

use super::{Log, operation_id};
use crate::world::{admin, group, node, service};

pub(super) fn canceled(log: &mut Log) {
    let mut declared = log.state.services[&service("ledger")].spec.clone();
    declared.data = Some(DataSpec { paths: vec!["/srv/${node}/store".into()] });
    log.user(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec: declared, expect: None })));
    let goal = Goal::Rebuild { group: group("ledger"), node: node("node3") };
    let plan = log.plan_of(1600, &PlanRequest::new(goal, admin()));
    let id = operation_id("d-16");
    log.operation(OperationCommand::Start { id: id.clone(), plan });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}
