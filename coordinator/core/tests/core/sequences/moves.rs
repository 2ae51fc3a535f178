//! What somebody may do, made of random numbers.

use super::*;

/// Freezes of two names, of one node or of the whole fleet, some of them over already; or deletes one.
pub(super) fn calendar(freezes: bool, node: NodeName, b: u8) -> Command {
    let name = FreezeName::new(format!("f{}", b % 2)).unwrap();
    let command = if freezes {
        let spec = FreezeSpec {
            name,
            selector: (b & 2 == 0).then(|| Selector::node(node.as_str())),
            services: vec![],
            reason: "test".into(),
            starts: None,
            ends: (b >= 8).then_some(START),
        };
        CalendarCommand::ApplyFreeze { spec, expect: None }
    } else {
        CalendarCommand::DeleteFreeze { name, expect: None }
    };
    Command::Calendar(Box::new(command))
}

/// What somebody, or the ticker, does with an operation.
pub(super) fn steer(kind: u8, id: OperationId, b: u8) -> OperationCommand {
    let ended = [
        OperationState::Paused,
        OperationState::Succeeded,
        OperationState::Failed,
        OperationState::Canceled,
        OperationState::RollingBack,
        OperationState::RolledBack,
    ];
    match kind {
        14 => OperationCommand::Pause { id },
        15 => OperationCommand::Resume { id },
        16 => OperationCommand::Cancel { id },
        25 => OperationCommand::Promote { id, all: b & 1 == 0 },
        _ => OperationCommand::Settle { id, state: ended[usize::from(b % 6)] },
    }
}

/// What is seen of the ledger on a node, or of any instance where there is none.
pub(super) fn reading_of(fleet: &Fleet, name: &NodeName) -> quorate_model::InstanceReading {
    let instance = InstanceId { node: name.clone(), service: service("ledger") };
    let seen = &fleet.world.obs.instances;
    seen.get(&instance).or_else(|| seen.values().next()).cloned().unwrap()
}
