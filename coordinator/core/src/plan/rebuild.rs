//! A member's data is put aside and copied anew from the others: one lane on its node.
//!
//! Nothing is removed. What fails from the stop on is taken back by one way: stopped, its own data in place again, started.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    ActionKind, ActionSpec, DataVerb, DurationMs, GroupName, NodeName, OnFailure, OperationKind,
    QuarantineId, Reason, Refusal, StepKind, Timestamp,
};

use super::draft::Draft;
use super::targets::{Job, Target, lacks};
use super::{actions, finish, handover, preflight, traffic, windows};
use crate::expand;
use crate::observations::Observations;
use crate::safety::rebuild::{self, Numbers};
use crate::safety::{Ask, Evidence, budget, fence, freeze};
use crate::state::plan::{Plan, PlanRequest, PlanStep, PlanWave, QuorumLine};
use crate::state::{Group, Service, State};

pub(super) fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    (name, node): (&GroupName, &NodeName),
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    // A member never stays half rebuilt for a person to look at.
    let request = PlanRequest { on_failure: OnFailure::Rollback, max_failures: 0, ..request.clone() };
    let (group, service) = declared(state, name)?;
    let seen = guarded(state, obs, (group, service), node, now)?;
    let data = service.spec.data.as_ref().ok_or_else(|| lacks(&service.spec.name, "data"))?;
    let quarantine = QuarantineId::new(quorate_model::minted("q", mint()))
        .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
    let on = |kind, action| Target { node: node.clone(), kind, action };
    let moved = |verb| ActionSpec::Data {
        service: service.spec.name.clone(),
        paths: data.paths.clone(),
        quarantine: quarantine.clone(),
        verb,
    };
    let job = Job {
        kind: OperationKind::Rebuild,
        service: Some(service.spec.name.clone()),
        group: Some(name.clone()),
        targets: Vec::from([on(StepKind::Quarantine, moved(DataVerb::Quarantine))]),
        release: None,
        copies: BTreeMap::new(),
    };
    let mut draft = Draft::new(state, obs, &request, now);
    draft.check_freezes(&job)?;
    check_capabilities(obs, node)?;
    draft.check_capabilities(&job)?;
    traffic::check_capabilities(state, obs, &job)?;
    preflight::check_capabilities(state, obs, &request, &job)?;
    handover::check_capabilities(state, obs, &job)?;
    let places: Vec<String> =
        data.paths.iter().map(|path| place(&expand::text(path, &service.spec, node), &quarantine)).collect();
    let steps = lane(state, &request, &job, (seen, group), (moved(DataVerb::Revert), &places))?;
    draft.waves = Vec::from([PlanWave {
        label: "rebuild".to_string(),
        steps,
        hold: DurationMs::ZERO,
        promote: false,
        parallel: None,
    }]);
    draft.warn(warnings(&seen, name, node, &places));
    draft.warn(windows::fit(state, &draft.waves, now)?);
    finish(state, &request, now, mint, job, draft)
}

/// What a folder is called while it is aside.
fn place(path: &str, quarantine: &QuarantineId) -> String {
    format!("{path}.quarantine-{quarantine}")
}

fn declared<'a>(state: &'a State, name: &GroupName) -> Result<(&'a Group, &'a Service), Refusal> {
    let none = |what: String| Refusal::new(Reason::NotFound, what);
    let group = state.groups.get(name).ok_or_else(|| none(format!("there is no group {name}")))?;
    let service = &group.spec.service;
    let found = state.services.get(service).ok_or_else(|| none(format!("there is no service {service}")))?;
    Ok((group, found))
}

/// Every guard that the first steps will ask, in the order of what is worth knowing.
fn guarded(
    state: &State,
    obs: &Observations,
    (group, service): (&Group, &Service),
    node: &NodeName,
    now: Timestamp,
) -> Result<Numbers, Refusal> {
    let evidence = Evidence::from_observations(obs);
    let refusal = rebuild::refuses(state, group, node, &evidence, now)
        .or_else(|| fence::reachable(state, node))
        .or_else(|| fence::eligible(state, node))
        .or_else(|| freeze::unfrozen(state, node, Some(&service.spec.name), now))
        .or_else(|| {
            let ask = Ask { doing: "rebuilding", operation: None, max_unavailable: None, needs: None };
            budget::disturb(state, group, core::slice::from_ref(node), &ask, &evidence, now)
        });
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(rebuild::numbers(state, group, node, &evidence, now)),
    }
}

/// An agent that could not put the data back is not asked to put it aside.
fn check_capabilities(obs: &Observations, node: &NodeName) -> Result<(), Refusal> {
    let told = obs.nodes.get(node).filter(|seen| !seen.capabilities.is_empty());
    match told {
        Some(seen) if !seen.capabilities.contains(&ActionKind::DataRevert) => {
            let what =
                format!("the agent {} on {node} has no {}", seen.agent_version, ActionKind::DataRevert);
            Err(Refusal::new(Reason::ActionUnsupported, what))
        }
        Some(_) | None => Ok(()),
    }
}

/// Looked at, handed over, drained; stopped, put aside, started; caught up; at last its traffic.
fn lane(
    state: &State,
    request: &PlanRequest,
    job: &Job,
    (seen, group): (Numbers, &Group),
    (undo, places): (ActionSpec, &[String]),
) -> Result<Vec<PlanStep>, Refusal> {
    let lost = || Refusal::new(Reason::Internal, "nobody is rebuilt");
    let (aside, service) = job.targets.first().zip(job.service.as_ref()).ok_or_else(lost)?;
    let on = |kind, action| Target { node: aside.node.clone(), kind, action };
    let stop = on(StepKind::Stop, ActionSpec::ServiceStop { service: service.clone() });
    let start = on(StepKind::Start, ActionSpec::ServiceStart { service: service.clone() });
    let line = QuorumLine {
        group: group.spec.name.clone(),
        voters: seen.voters,
        required: seen.needed,
        up_before: seen.up,
        up_during: seen.up,
        spare: seen.up.saturating_sub(seen.needed),
    };
    let told = |step: PlanStep| PlanStep { quorum: Vec::from([line.clone()]), ..step };
    let mut steps: Vec<PlanStep> = preflight::step(state, request, aside).into_iter().collect();
    steps.extend(handover::step(state, aside, &BTreeSet::new()));
    steps.extend(traffic::drain(state, request, aside));
    steps.push(told(actions::action(state, request, &stop)));
    let put =
        PlanStep { undo: Some(undo), note: places.join(", "), ..actions::action(state, request, aside) };
    steps.push(told(put));
    steps.push(actions::action(state, request, &start));
    steps.extend(actions::gate(state, request, &start));
    steps.extend(traffic::restore(state, request, &start));
    Ok(steps)
}

fn warnings(seen: &Numbers, name: &GroupName, node: &NodeName, places: &[String]) -> Vec<String> {
    let Numbers { voters, others, up, needed, spare } = *seen;
    Vec::from([
        format!(
            "{name}: {up} of the {others} other voters are up and caught up; {voters} voters need {needed}, \
             wanted spare {spare}"
        ),
        format!(
            "nothing is deleted: the data of {node} will lie in {} until somebody removes it",
            places.join(", ")
        ),
    ])
}
