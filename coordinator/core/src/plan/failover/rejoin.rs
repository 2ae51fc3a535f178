//! A former primary comes back: its host's hook makes it a standby of whoever leads now, then it is started and looked at.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use quorate_model::{ActionSpec, GroupName, NodeName, OperationKind, Reason, Refusal, StepKind, Timestamp};

use super::super::draft::Draft;
use super::super::finish;
use super::super::targets::{Job, Target};
use super::{Draw, wave};
use crate::observations::Observations;
use crate::safety::failover::{Move, moving, rejoin};
use crate::safety::{Evidence, lease};
use crate::state::State;
use crate::state::plan::{Plan, PlanRequest};

pub(in crate::plan) fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    (name, node): (&GroupName, &NodeName),
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    let (group, spec) = super::declared(state, name)?;
    let readings = obs.of_voters(group);
    let evidence = Evidence::from_readings(&readings);
    moving(state, name).map_or(Ok(()), Err)?;
    rejoin::refuses(state, group, node, &evidence, now).map_or(Ok(()), Err)?;
    let Some(last) = lease::live(group) else {
        return Err(Refusal::new(Reason::Internal, "nobody leads, and somebody may come back"));
    };
    let Some(hook) = &spec.rejoin else {
        return Err(Refusal::new(Reason::InvalidArgument, format!("group {name} declares no rejoin hook"))
            .with_hint("make a standby of it by hand and start its unit there: it is taken for one when it is seen to be"));
    };
    let asked = Move { to: None, planned: true };
    let draw = Draw { state, obs, request, group, spec, asked, last, position: None };
    let action = ActionSpec::ServiceStart { service: group.spec.service.clone() };
    let job = Job {
        kind: OperationKind::Failover,
        service: Some(group.spec.service.clone()),
        group: Some(name.clone()),
        targets: Vec::from([Target { node: node.clone(), kind: StepKind::Start, action }]),
        release: None,
        copies: BTreeMap::new(),
    };
    let mut draft = Draft::new(state, obs, request, now);
    draft.check_freezes(&job)?;
    draft.check_capabilities(&job)?;
    draw.can_run(node)?;
    draft.waves = Vec::from([wave("rejoin", draw.comeback(node, &last.node, hook)?)]);
    draft.warn(Vec::from([format!(
        "what {node} had that {} never got is gone once the hook has run",
        last.node
    )]));
    finish(state, request, now, mint, job, draft)
}
