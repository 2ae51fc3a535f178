//! Invents steps: state and a request in, a plan out.
//!
//! Job: compute waves that can be carried out without losing quorum, and say what they do to it. Must never: be called by
//! `apply`. Heuristics here may differ between releases; what they propose is checked again where it is stored and started.

mod actions;
mod copies;
mod draft;
mod estimate;
mod failover;
mod handover;
mod maintenance;
mod membership;
mod migrate;
mod order;
mod preflight;
mod rebuild;
mod releases;
mod secrets;
mod stand;
mod targets;
mod touches;
mod traffic;
mod waves;
mod windows;
mod words;
mod zones;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{ActionSpec, OnFailure, PlanId, Reason, Refusal, RiskClass, Timestamp};

use crate::hash::Hash;
use crate::observations::Observations;
use crate::safety::approval;
use crate::state::State;
use crate::state::plan::STEPS_MAX;
pub use crate::state::plan::{
    Change, Estimate, GateBaseline, GateProbe, GateSpec, Goal, HostVerb, Plan, PlanRequest, PlanStep,
    PlanWave, QuorumLine, Resource, Touch, Verb,
};
use draft::Draft;
pub use failover::due as failovers_due;
use targets::{Job, Target};

/// Instances worked on at once by default, where nothing is disturbed.
const PARALLEL_DEFAULT: u32 = 10;
/// The most that may be asked for.
const PARALLEL_MAX: u32 = 500;

/// Computes a plan. `mint` gives 64 random bits per call.
///
/// # Errors
/// Why it cannot be carried out now: nothing selected, an action an agent does not have, no quorum to spend, …
pub fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    if request.max_unavailable > PARALLEL_MAX {
        return Err(Refusal::new(
            Reason::InvalidArgument,
            format!("max_unavailable: expected at most {PARALLEL_MAX}"),
        ));
    }
    check_advance(request)?;
    if let Goal::Membership { group, .. } = &request.goal {
        return membership::plan(state, obs, request, group, now, mint);
    }
    if let Goal::Failover { group, .. } = &request.goal {
        return failover::plan(state, obs, request, group, now, mint);
    }
    if let Goal::Rejoin { group, node } = &request.goal {
        return failover::rejoin::plan(state, obs, request, (group, node), now, mint);
    }
    if let Goal::Rebuild { group, node } = &request.goal {
        return rebuild::plan(state, obs, request, (group, node), now, mint);
    }
    secrets::check(request)?;
    copies::check(request)?;
    let mut job = targets::of(state, request, mint)?;
    copies::name_all(state, request, &mut job, mint)?;
    let mut draft = Draft::new(state, obs, request, now);
    draft.check_width(&job)?;
    draft.check_freezes(&job)?;
    draft.leave_out_done(&mut job)?;
    let members = job.targets.len();
    draft.leave_out_unheard(&mut job)?;
    secrets::check_whole(&job, members)?;
    // Again: those that are left may all be frozen.
    draft.check_freezes(&job)?;
    draft.check_capabilities(&job)?;
    traffic::check_capabilities(state, obs, &job)?;
    preflight::check_capabilities(state, obs, request, &job)?;
    copies::check_capabilities(obs, &job)?;
    maintenance::check_capabilities(state, obs, &job)?;
    handover::check_capabilities(state, obs, &job)?;
    order::sort(state, obs, &job.service, &mut job.targets);
    draft.build(&job)?;
    draft.check_former()?;
    draft.waves.extend(secrets::retiring(&draft.waves));
    let fit = windows::fit(state, &draft.waves, now)?;
    draft.warn(fit);
    draft.warn(copies::known(state, request, &job));
    finish(state, request, now, mint, job, draft)
}

/// How a rollout advances is asked of rollouts only, and only what can be taken back is rolled back.
fn check_advance(request: &PlanRequest) -> Result<(), Refusal> {
    let bad = |what: alloc::string::String| Err(Refusal::new(Reason::InvalidArgument, what));
    if let Some((field, text)) = request.waves.flaw() {
        return bad(format!("waves.{field}: {text}"));
    }
    match &request.goal {
        Goal::Rollout { change, .. } if request.on_failure == OnFailure::Rollback && !change.installs() => {
            bad("on_failure: only a release can be taken back; use PAUSE or ABORT".into())
        }
        Goal::Rollout { change: Change::Release(_), .. } => Ok(()),
        Goal::Rollout { .. } if !request.migration.is_default() => {
            bad("migration: only a release has a run-once hook".into())
        }
        Goal::Rollout { .. } => Ok(()),
        Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => {
            if request.waves.is_default() && request.on_failure.is_default() && request.migration.is_default()
            {
                Ok(())
            } else {
                bad("waves: only rolling changes have waves and a failure policy".into())
            }
        }
    }
}

fn finish(
    state: &State,
    request: &PlanRequest,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
    job: Job,
    draft: Draft<'_>,
) -> Result<Plan, Refusal> {
    let id = PlanId::new(quorate_model::minted("p", mint()))
        .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
    let steps: usize = draft.waves.iter().map(|wave| wave.steps.len()).sum();
    if steps > STEPS_MAX {
        return Err(Refusal::new(
            Reason::LimitReached,
            format!("the plan has {steps} steps, {STEPS_MAX} is the limit"),
        ));
    }
    let mut plan = Plan {
        id,
        hash: Hash::default(),
        kind: job.kind,
        request: request.clone(),
        created_at: now,
        base: state.revision,
        touches: touches::touches(state, &job),
        parallel: draft.parallel,
        title: words::title(&request.goal, job.release.as_ref()),
        summary: words::summary(job.targets.len(), draft.skipped),
        warnings: draft.all_warnings(),
        estimate: Some(estimate::of(state, &draft.waves, draft.parallel)),
        waves: draft.waves,
    };
    let asked = approval::covering(state, &plan).map(|policy| {
        let spec = &policy.spec;
        format!(
            "policy {}: begins once {} other(s) have approved ({}): {}",
            spec.name, spec.approvals, spec.approvers, spec.reason
        )
    });
    let asked: Vec<String> = asked.collect();
    plan.warnings.extend(asked);
    plan.hash = plan.computed_hash();
    Ok(plan)
}

/// Whether an action needs a disruption grant.
fn is_disruptive(action: &ActionSpec) -> bool {
    match action.risk() {
        RiskClass::Read | RiskClass::Safe => false,
        RiskClass::Disruptive | RiskClass::Destructive => true,
    }
}
