//! Policies, and operations that are approved, rejected, and not approved in time.

use quorate_core::command::PolicyCommand;
use quorate_model::approval::EXPIRES_DEFAULT;
use quorate_model::{Approvers, OperationKind, PolicyName, PolicySpec, RiskClass};

use super::*;

fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).unwrap() }
}

/// One with everything that a policy may say stays; a bare one holds three operations and is deleted.
pub(super) fn approvals(log: &mut Log) {
    let change = |command| Command::Policy(Box::new(command));
    let bare = PolicySpec {
        name: PolicyName::new("four-eyes").unwrap(),
        selector: None,
        services: vec![],
        kinds: vec![],
        risk: None,
        approvals: 1,
        approvers: Approvers::Operators,
        expires: EXPIRES_DEFAULT,
        reason: "nobody alone".into(),
    };
    let full = PolicySpec {
        name: PolicyName::new("audit").unwrap(),
        selector: Some(Selector::parse_labels("zone in (a,b),!spare").unwrap()),
        services: vec![WorkloadName::new("ledger").unwrap()],
        kinds: vec![OperationKind::Rotation],
        risk: Some(RiskClass::Destructive),
        approvals: 2,
        approvers: Approvers::Users(vec![UserName::new("bob").unwrap(), UserName::new("cid").unwrap()]),
        expires: DurationMs::from_secs(3_600),
        reason: "agreed with audit".into(),
    };
    let roles = PolicySpec {
        name: PolicyName::new("admins").unwrap(),
        approvers: Approvers::Role(AccessRole::Admin),
        ..full.clone()
    };
    for spec in [full, PolicySpec { approvals: 1, ..roles }] {
        log.user(change(PolicyCommand::Apply { spec, expect: Some(Revision(0)) }));
    }
    log.user(change(PolicyCommand::Apply { spec: bare.clone(), expect: None }));
    let start = |log: &mut Log, id: &str, seed: u64| {
        let (id, plan) = (operation_id(id), log.plan(seed));
        let hash = plan.hash;
        log.operation(OperationCommand::Start { id: id.clone(), plan });
        (id, hash)
    };
    let decide = |log: &mut Log, command| log.add(user("bob"), Command::Operation(Box::new(command)));
    let (id, plan) = start(log, "r-71", 7_100);
    let reason = String::from("seen");
    decide(log, OperationCommand::Approve { id: id.clone(), plan, reason: reason.clone() });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
    let (id, plan) = start(log, "r-72", 7_200);
    decide(log, OperationCommand::Reject { id, plan, reason });
    let (id, _) = start(log, "r-73", 7_300);
    let set = BTreeMap::from([("touched".to_owned(), "yes".to_owned())]);
    let update = NodeCommand::UpdateLabels { node: node("node1"), set, remove: vec![] };
    log.user(Command::Node(update));
    log.add(Principal::System, Command::Operation(Box::new(OperationCommand::Lapse { id })));
    log.user(change(PolicyCommand::Delete { name: bare.name, expect: None }));
}
