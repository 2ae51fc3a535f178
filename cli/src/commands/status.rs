//! `quorate status [ID]`: the whole in one screen, or whatever an id is.

use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::backup_service_client::BackupServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::policy_service_client::PolicyServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;

use super::{Ctx, Outcome, backup, freeze, group, node, operation, policy, schedule, service, window};
use crate::call;
use crate::failure::{Failure, exit};
use crate::render;
use crate::render::style::{Tone, bold, mark, safe, state};

/// Runs it.
///
/// # Errors
/// What the API gives.
pub async fn run(ctx: &Ctx, id: Option<String>) -> Outcome {
    match id {
        None => whole(ctx).await,
        Some(id) => any(ctx, id).await,
    }
}

async fn whole(ctx: &Ctx) -> Outcome {
    let client = ctx.client()?;
    let request = v1::GetStatusRequest { consistency: ctx.global.consistency() };
    let answer = call!(client, AdminServiceClient, get_status, request)?;
    // Which they are is worth a second question only to a person, and only when there are any.
    let asks = ctx.global.output.is_table() && answer.freezes_active > 0;
    let frozen = if asks { freeze::active(ctx, &client).await? } else { Vec::new() };
    render::answer(ctx.global.output, &answer, "quorate.v1.GetStatusResponse", None, |_| {
        let counts = |map: &std::collections::BTreeMap<String, u32>| {
            let parts: Vec<String> = map.iter().map(|(word, n)| format!("{n} {}", state(word))).collect();
            if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
        };
        let leader = if answer.leader.is_empty() { "none".to_owned() } else { safe(&answer.leader) };
        let mut text = format!(
            "{}  {}\nCoordinators   {} of {} up, leader {leader}\nNodes          {}\nGroups         {}\nAlarms         {}\nOperations     {} active\nObligations    {} open\nFreezes        {} active",
            bold(&safe(&answer.cluster_name)),
            safe(&answer.cluster_id),
            answer.members_up,
            answer.members,
            counts(&answer.nodes),
            counts(&answer.groups),
            counts(&answer.alarms),
            answer.operations_active,
            answer.obligations_open,
            answer.freezes_active,
        );
        for line in &frozen {
            text += &format!("\n  {}", mark(Tone::Warning, line));
        }
        text
    })?;
    Ok(exit::DONE)
}

/// Whether nothing has this name, or nothing of this kind could.
fn absent(failure: &Failure) -> bool {
    matches!(failure.code, exit::NOT_FOUND | exit::USAGE)
}

/// Looks where the id is known; a pending operation answers with exit code 8.
async fn any(ctx: &Ctx, id: String) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let request = v1::GetOperationRequest { name: id.clone(), consistency };
    match call!(client, OperationServiceClient, get_operation, request) {
        Ok(answer) => {
            operation::show(ctx, id).await?;
            let state = answer.operation.unwrap_or_default().state();
            return Ok(match state {
                v1::OperationState::Succeeded => exit::DONE,
                ended if crate::watch::is_terminal(ended) => exit::FAILED,
                _ => exit::PENDING,
            });
        }
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetNodeRequest { name: id.clone(), consistency };
    match call!(client, FleetServiceClient, get_node, request) {
        Ok(_) => return node::run(ctx, node::NodeCommand::Show { node: id }).await,
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetGroupRequest { name: id.clone(), consistency };
    match call!(client, GroupServiceClient, get_group, request) {
        Ok(_) => return group::run(ctx, group::GroupCommand::Show { group: id }).await,
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetServiceRequest { name: id.clone(), consistency };
    match call!(client, GroupServiceClient, get_service, request) {
        Ok(_) => return service::run(ctx, service::ServiceCommand::Show { service: id }).await,
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    if let Some(shown) = held(ctx, &id).await? {
        return Ok(shown);
    }
    let request = v1::GetBackupRequest { backup_id: id.clone(), consistency };
    match call!(client, BackupServiceClient, get_backup, request) {
        Ok(_) => backup::run(ctx, backup::BackupCommand::Show { backup: id }).await,
        Err(failure) if absent(&failure) => {
            Err(Failure::failed(format!("nothing is known by the name {}", shortened(&id)))
                .with_code(exit::NOT_FOUND)
                .with_hint("quorate operation list, quorate node list, quorate group list"))
        }
        Err(failure) => Err(failure),
    }
}

/// The same for what says when work may begin, and who lets it.
async fn held(ctx: &Ctx, id: &str) -> Result<Option<u8>, Failure> {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let request = v1::GetFreezeRequest { name: id.to_owned(), consistency };
    match call!(client, ScheduleServiceClient, get_freeze, request) {
        Ok(_) => {
            return freeze::run(ctx, freeze::FreezeCommand::Show { freeze: id.to_owned() }).await.map(Some);
        }
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetWindowRequest { name: id.to_owned(), consistency };
    match call!(client, ScheduleServiceClient, get_window, request) {
        Ok(_) => {
            return window::run(ctx, window::WindowCommand::Show { window: id.to_owned() }).await.map(Some);
        }
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetPolicyRequest { name: id.to_owned(), consistency };
    match call!(client, PolicyServiceClient, get_policy, request) {
        Ok(_) => {
            return policy::run(ctx, policy::PolicyCommand::Show { policy: id.to_owned() }).await.map(Some);
        }
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    let request = v1::GetScheduleRequest { name: id.to_owned(), consistency };
    match call!(client, ScheduleServiceClient, get_schedule, request) {
        Ok(_) => {
            return schedule::run(ctx, schedule::ScheduleCommand::Show { schedule: id.to_owned() })
                .await
                .map(Some);
        }
        Err(failure) if !absent(&failure) => return Err(failure),
        Err(_) => {}
    }
    Ok(None)
}

/// What was typed, cut: it may be anything.
fn shortened(id: &str) -> String {
    /// Longest part of an unknown name that an error repeats; no name of ours is longer.
    const SHOWN_CHARS: usize = 64;
    let cut: String = id.chars().take(SHOWN_CHARS).collect();
    if cut.len() < id.len() { format!("\"{cut}…\"") } else { format!("\"{cut}\"") }
}
