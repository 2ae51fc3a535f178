//! The full work set of one node: what a session compares with what its agent says it has.

use alloc::vec::Vec;

use quorate_model::service::DesiredState;
use quorate_model::{
    ActionSpec, DurationMs, Epoch, ExecutionId, InstanceId, NodeName, ObligationId, OperationId, ProbeSpec,
    ServiceSpec, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::state::State;

/// Everything one node should do and know. Level-triggered: sending it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which node.
    pub node: NodeName,
    /// Digest of all other fields: differs exactly when something differs. It does not grow; compare for equality only.
    pub generation: u64,
    /// The highest fencing number handed out to this node among the executions that are kept.
    pub epoch: Epoch,
    /// Executions that are not final.
    pub executions: Vec<DesiredExecution>,
    /// Services on it.
    pub services: Vec<DesiredService>,
    /// Probes it runs, for itself and as the peer of another node.
    pub probes: Vec<DesiredProbe>,
    /// Undos to do now: what they belong to has ended.
    pub discharge: Vec<ObligationId>,
}

/// One execution to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Whose.
    pub operation: OperationId,
    /// Fencing number; an older one than the agent has seen is refused.
    pub epoch: Epoch,
    /// What, with `${…}` filled in.
    pub action: ActionSpec,
    /// The service it works on, with `${…}` filled in.
    pub service: Option<ServiceSpec>,
    /// It disturbs, and its grant lets it begin before this; for others it is the time to begin, too.
    pub begin_before: Timestamp,
    /// Whether a disruption grant stands behind it.
    pub granted: bool,
    /// Longest time once begun, measured by the agent.
    pub deadline: DurationMs,
    /// Stop it, or do not begin it.
    pub cancel: bool,
}

/// One service on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredService {
    /// Its declaration, with `${…}` filled in for this node.
    pub spec: ServiceSpec,
    /// What its owner wants.
    pub desired: DesiredState,
}

/// One probe to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredProbe {
    /// Which instance is looked at: the node's own, or another's.
    pub instance: InstanceId,
    /// What to run, with `${…}` filled in for that instance's node.
    pub probe: ProbeSpec,
}

/// The full work set of a node.
#[must_use]
pub fn desired(state: &State, node: &NodeName) -> Desired {
    let _ = state;
    Desired {
        node: node.clone(),
        generation: 0,
        epoch: Epoch(0),
        executions: Vec::new(),
        services: Vec::new(),
        probes: Vec::new(),
        discharge: Vec::new(),
    }
}
