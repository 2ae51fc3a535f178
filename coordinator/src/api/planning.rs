//! Plans are computed on the leader, where the readings are, and stored through the log, where they are checked again.

use quorate_common::wire::Invalid;
use quorate_common::wire::text::read_name;
use quorate_core::command::OperationCommand;
use quorate_core::hash::Hash;
use quorate_core::plan::plan;
use quorate_core::{Answer, Command, Plan, PlanRequest};
use quorate_model::{
    OperationId, OperationKind, PlanId, Principal, Reason, Refusal, Revision, Timestamp, minted,
};
use quorate_proto::v1;

use super::backend::ReadError;
use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::named_artifact::artifact;
use super::policy::read_hash;
use super::status::Failure;
use super::view::plan::plan as show_plan;
use super::work::read_work;

/// Computes a plan from what the leader knows now.
///
/// # Errors
/// Unavailable when this member does not lead; a refusal when it cannot be carried out.
pub(super) async fn compute(api: &Api, request: &PlanRequest) -> Result<Plan, Failure> {
    if !api.health().leads() {
        return Err(ReadError::NoLeader.into());
    }
    // Everything that was acknowledged before this call must be in the state that is planned from.
    api.backend().linearize().await?;
    let mut mint = || api.backend().mint();
    api.look_around(|state, obs, now| {
        plan(state, obs, request, now, &mut mint)
            .map_err(|refusal| Failure::RefusedAt { refusal, index: state.revision.0 })
    })
}

/// The command that a repeated request is known by: its intent is what was asked, whatever is computed from it.
fn shape(request: &PlanRequest) -> Plan {
    Plan {
        // Any id will do: the intent leaves it out.
        id: PlanId::new("p-0").expect("a literal that is an id"),
        hash: Hash::default(),
        kind: OperationKind::Run,
        request: request.clone(),
        created_at: Timestamp::ZERO,
        base: Revision(0),
        touches: Vec::new(),
        waves: Vec::new(),
        parallel: 0,
        title: String::new(),
        warnings: Vec::new(),
        summary: String::new(),
        estimate: None,
    }
}

pub(super) fn new_operation(api: &Api) -> Result<OperationId, Failure> {
    OperationId::new(minted("r", api.backend().mint()))
        .map_err(|_| Failure::Internal("a minted operation id is no id"))
}

fn wrap(command: OperationCommand) -> Command {
    Command::Operation(Box::new(command))
}

/// What a schedule does, asked in its own name, with the artifact that it names.
pub(super) fn scheduled(
    api: &Api,
    work: v1::WorkSpec,
    principal: &Principal,
    reason: &str,
) -> Result<PlanRequest, Invalid> {
    let artifacts = |text: &str| api.look(|state| artifact(state, text));
    read_work(Some(work), principal, reason, &artifacts)
}

/// What a caller asks for, with the artifact that it names.
fn read(
    api: &Api,
    caller: &Caller,
    change: &Change,
    work: Option<v1::WorkSpec>,
) -> Result<PlanRequest, Invalid> {
    let artifacts = |text: &str| api.look(|state| artifact(state, text));
    read_work(work, &caller.principal, &change.reason, &artifacts)
}

pub(super) async fn create_plan(
    api: &Api,
    caller: &Caller,
    request: v1::CreatePlanRequest,
) -> Result<Served<v1::CreatePlanResponse>, Failure> {
    let v1::CreatePlanRequest { work, options } = request;
    let change = api.change(caller, options)?;
    let request = read(api, caller, &change, work)?;
    let store = |plan| wrap(OperationCommand::StorePlan { plan });
    if let Some(Answer::Plan { plan, revision }) = api.given(caller, &change, &store(shape(&request)))? {
        let (plan, _) = api.plan_view(&plan)?;
        return Ok(Served { message: v1::CreatePlanResponse { plan: Some(plan) }, index: revision.0 });
    }
    let computed = compute(api, &request).await?;
    let shown = show_plan(&computed);
    let (index, answer) = api.propose(caller, &change, store(computed)).await?;
    let plan = match answer {
        // A copy of this request was faster.
        Answer::Plan { plan, .. } if plan.as_str() != shown.plan_id => api.plan_view(&plan)?.0,
        _ => shown,
    };
    Ok(Served { message: v1::CreatePlanResponse { plan: Some(plan) }, index })
}

pub(super) async fn create_operation(
    api: &Api,
    caller: &Caller,
    request: v1::CreateOperationRequest,
) -> Result<Served<v1::CreateOperationResponse>, Failure> {
    use v1::create_operation_request::Source;
    let v1::CreateOperationRequest { source, options, plan_hash } = request;
    let change = api.change(caller, options)?;
    match source.ok_or_else(|| Invalid::missing("source"))? {
        Source::PlanId(id) => {
            let id: PlanId = read_name("plan_id", id)?;
            api.backend().linearize().await?;
            let (plan, _) = api.plan_view(&id)?;
            let hash = if plan_hash.is_empty() { None } else { Some(read_hash("plan_hash", &plan_hash)?) };
            let command = OperationCommand::Create { id: new_operation(api)?, plan: id, hash };
            started(api, caller, &change, command, plan).await
        }
        Source::Work(work) => {
            if !plan_hash.is_empty() {
                return Err(
                    Invalid::new("plan_hash", "only a stored plan has a hash to be compared with").into()
                );
            }
            let request = read(api, caller, &change, Some(work))?;
            start(api, caller, &change, request).await
        }
    }
}

/// Plans and starts in one entry.
pub(super) async fn start(
    api: &Api,
    caller: &Caller,
    change: &Change,
    request: PlanRequest,
) -> Result<Served<v1::CreateOperationResponse>, Failure> {
    let id = new_operation(api)?;
    let again = wrap(OperationCommand::Start { id: id.clone(), plan: shape(&request) });
    if let Some(Answer::Operation { operation, revision }) = api.given(caller, change, &again)? {
        return shown(api, &operation, revision.0);
    }
    let plan = compute(api, &request).await?;
    let view = show_plan(&plan);
    started(api, caller, change, OperationCommand::Start { id, plan }, view).await
}

async fn started(
    api: &Api,
    caller: &Caller,
    change: &Change,
    command: OperationCommand,
    plan: v1::Plan,
) -> Result<Served<v1::CreateOperationResponse>, Failure> {
    let (index, answer) = api.propose(caller, change, wrap(command)).await?;
    if change.validate_only {
        let message = v1::CreateOperationResponse { operation: None, plan: Some(plan) };
        return Ok(Served { message, index });
    }
    match answer {
        Answer::Operation { operation, .. } => shown(api, &operation, index),
        _ => Err(Failure::Internal("starting an operation gave another answer")),
    }
}

fn shown(api: &Api, id: &OperationId, index: u64) -> Result<Served<v1::CreateOperationResponse>, Failure> {
    let (operation, _) = api.operation_view(id)?;
    // The plan may be gone when a repeated request comes a day later; the operation holds all its steps.
    let plan = PlanId::new(operation.plan_id.clone()).ok().and_then(|id| api.plan_view(&id).ok());
    let plan = plan.map(|(plan, _)| plan);
    Ok(Served { message: v1::CreateOperationResponse { operation: Some(operation), plan }, index })
}

/// Refuses with a hint.
pub(super) fn refuse(reason: Reason, what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Refusal::new(reason, what).with_hint(hint).into()
}
