//! The catalogue of backups.

use alloc::format;
use alloc::string::String;

use quorate_model::backup::{BackupReceipt, BackupState};
use quorate_model::{ActionOutcome, ActionSpec, BackupId, ExecutionState, Reason, Refusal};

use super::{Context, Effect, validate};
use crate::command::BackupCommand;
use crate::state::{Backup, Execution, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &BackupCommand,
) -> Result<Effect, Refusal> {
    match command {
        BackupCommand::Record { id, instance, receipt } => {
            check_receipt(receipt)?;
            if let Some(known) = state.backups.get(id) {
                return if known.instance == *instance && known.receipt.as_ref() == Some(receipt) {
                    Ok(Effect::unchanged(context.done()))
                } else {
                    Err(Refusal::new(Reason::AlreadyExists, format!("there is a backup {id} already")))
                };
            }
            let backup = Backup {
                id: id.clone(),
                instance: instance.clone(),
                operation: None,
                execution: None,
                state: BackupState::Written,
                created_at: context.now,
                written_at: Some(context.now),
                verified_at: None,
                receipt: Some(receipt.clone()),
                message: String::new(),
            };
            state.backups.insert(id.clone(), backup);
            Ok(Effect::changed(context.done(), format!("backups/{id}"), format!("{instance}")))
        }
        BackupCommand::SetState { id, state: reached, message } => set(state, context, id, *reached, message),
    }
}

fn check_receipt(receipt: &BackupReceipt) -> Result<(), Refusal> {
    for text in [&receipt.path, &receipt.sha256, &receipt.manifest_sha256] {
        validate::text("receipt", text)?;
    }
    Ok(())
}

fn set(
    state: &mut State,
    context: &Context<'_>,
    id: &BackupId,
    reached: BackupState,
    message: &str,
) -> Result<Effect, Refusal> {
    validate::text("message", message)?;
    let found = state
        .backups
        .get_mut(id)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no backup {id}")))?;
    match reached {
        BackupState::Verified => found.verified_at = Some(context.now),
        BackupState::Failed | BackupState::Expired | BackupState::Deleted => {}
        BackupState::Pending
        | BackupState::Running
        | BackupState::Written
        | BackupState::Drilled
        | BackupState::PartiallyFailed => {
            return Err(validate::bad("state: only VERIFIED, FAILED, EXPIRED and DELETED are set"));
        }
    }
    found.state = reached;
    found.message = message.into();
    Ok(Effect::changed(context.done(), format!("backups/{id}"), reached.as_str()))
}

/// A step that stores a copy has begun.
pub(super) fn begun(state: &mut State, context: &Context<'_>, execution: &Execution) {
    let (ActionSpec::BackupCreate { backup, .. }, Some(instance)) = (&execution.action, &execution.instance)
    else {
        return;
    };
    let entry = Backup {
        id: backup.clone(),
        instance: instance.clone(),
        operation: Some(execution.operation.clone()),
        execution: Some(execution.id.clone()),
        state: BackupState::Running,
        created_at: context.now,
        written_at: None,
        verified_at: None,
        receipt: None,
        message: String::new(),
    };
    // A second attempt after a rejection goes under the same id; a copy that lies there already is never overwritten.
    let known = state.backups.get(backup).is_some_and(|b| b.receipt.is_some());
    if !known {
        state.backups.insert(backup.clone(), entry);
    }
}

/// An execution has ended: what it stored or read again enters the catalogue.
pub(super) fn ended(
    state: &mut State,
    context: &Context<'_>,
    action: &ActionSpec,
    reached: ExecutionState,
    outcome: Option<&ActionOutcome>,
) {
    let receipt = outcome.and_then(|o| o.backup.clone());
    let message = outcome.map(|o| o.message.clone()).unwrap_or_default();
    if let ActionSpec::BackupCreate { backup, .. } = action
        && let Some(found) = state.backups.get_mut(backup)
        && found.state == BackupState::Running
    {
        if reached == ExecutionState::Succeeded && receipt.is_some() {
            found.state = BackupState::Written;
            found.written_at = Some(context.now);
            found.receipt = receipt;
        } else {
            found.state = BackupState::Failed;
            found.message = if message.is_empty() { reached.as_str().into() } else { message };
        }
    } else if let ActionSpec::BackupVerify { backup, .. } = action
        && let Some(found) = state.backups.get_mut(backup)
    {
        // Only a reading that ended tells something about the copy.
        if reached == ExecutionState::Succeeded {
            found.state = BackupState::Verified;
            found.verified_at = Some(context.now);
            found.message = String::new();
        } else if reached == ExecutionState::Failed {
            found.state = BackupState::Failed;
            found.message = message;
        }
    }
}
