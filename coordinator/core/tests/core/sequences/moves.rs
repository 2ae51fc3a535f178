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

/// Windows of two names, of one service or all; or tells openings, good and bad ones; or deletes one.
pub(super) fn window(fleet: &Fleet, kind: u8, a: u8, b: u8) -> Command {
    let name = WindowName::new(format!("w{}", b % 2)).unwrap();
    let (state, now) = (&fleet.world.state, fleet.world.now);
    let revision = state.windows.get(&name).map_or(Revision(7), |window| window.revision);
    let command = match kind {
        28 => CalendarCommand::ApplyWindow {
            spec: WindowSpec {
                name,
                selector: None,
                services: (a & 1 == 0).then(|| WorkloadName::new("ledger").unwrap()).into_iter().collect(),
                zone: ZoneName::new("UTC").unwrap(),
                when: Recurrence::Cron { expr: "0 * * * *".into() },
                duration: DurationMs::from_secs(600),
                owner: String::new(),
                announce: vec![DurationMs::from_secs(60 * u64::from(b))],
                reason: "test".into(),
            },
            expect: None,
        },
        29 => CalendarCommand::SetOpenings {
            name,
            revision,
            until: now.plus(DurationMs::from_secs(1_000)),
            openings: (0..u64::from(a))
                .map(|n| Occurrence {
                    start: now.plus(DurationMs::from_secs(n * 100)),
                    end: now.plus(DurationMs::from_secs(n * 100 + 10 * u64::from(b))),
                })
                .collect(),
        },
        _ => CalendarCommand::DeleteWindow { name, expect: None },
    };
    Command::Calendar(Box::new(command))
}
