//! What a session sends: the node's work as the state has it, in the words of the session.

use quorate_core::State;
use quorate_core::desired::{Desired, DesiredExecution, desired};
use quorate_model::service::DesiredState;
use quorate_model::session::{Assignment, NodeInstance, NodeProbe, NodeWork};
use quorate_model::{DurationMs, ExecutionId, NodeName, Timestamp};

/// The whole work of a node. `unconfirmed` are executions whose end the agent has not seen confirmed.
#[must_use]
pub(super) fn work(state: &State, node: &NodeName, unconfirmed: &[ExecutionId], now: Timestamp) -> NodeWork {
    let Desired { generation, executions, services, probes, discharge, left_out, extended, leases, .. } =
        desired(state, node);
    let cancels = executions.iter().filter(|e| e.cancel).map(|e| e.id.clone()).collect();
    let instances = services.into_iter().map(|service| NodeInstance {
        running: service.desired == DesiredState::Running,
        service: service.spec.name,
        driver: service.spec.driver,
        stop_timeout: service.spec.stop_timeout,
        start_timeout: service.spec.start_timeout,
    });
    let probes = probes.into_iter().map(|p| NodeProbe { instance: p.instance, probe: p.probe });
    // Only what this member's state knows to be final; what it does not know, it may not have applied yet.
    let confirmed =
        unconfirmed.iter().filter(|id| state.executions.get(*id).is_some_and(|e| e.state.is_final()));
    NodeWork {
        generation,
        assignments: executions.into_iter().map(|e| assignment(e, now)).collect(),
        instances: instances.collect(),
        probes: probes.collect(),
        cancels,
        discharges: discharge,
        left_out,
        extended: extended.into_iter().map(|(id, until)| (id, until.since(now))).collect(),
        confirmed: confirmed.cloned().collect(),
        leases,
    }
}

fn assignment(execution: DesiredExecution, now: Timestamp) -> Assignment {
    let DesiredExecution { id, operation, epoch, action, begin_before, granted, deadline, .. } = execution;
    // Zero means "needs none" on the wire: a grant whose time is over is told as its last millisecond.
    let left = begin_before.since(now).max(DurationMs(1));
    Assignment {
        execution: id,
        operation,
        epoch,
        grant_remaining: if granted { left } else { DurationMs::ZERO },
        deadline,
        action,
        disruptive: granted,
    }
}
