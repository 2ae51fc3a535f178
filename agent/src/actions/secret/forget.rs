//! What was staged is not kept: who owes that it is forgotten, and the hand that does it.
//!
//! Must never: touch the secret in use, the one beside it or the record of how far a rotation has come.

use std::path::Path;

use quorate_model::ObligationId;
use quorate_model::secret::STAGED_MAX;

use super::record::Store;
use crate::actions::config::turn;
use crate::actions::{ActionContext, ActionError, Kept, PortError, Undo};
use crate::runner::failpoint;
use quorate_model::{InstanceId, Reason};

fn owed(context: &ActionContext) -> Result<ObligationId, ActionError> {
    ObligationId::new(format!("{}:secret", context.execution)).map_err(|e| {
        ActionError::port("naming what is owed", PortError::new(Reason::Internal, e.to_string()))
    })
}

/// Owed before anything is staged. What an earlier rotation owed of the same secret is this one's now.
pub(super) async fn owe(
    context: &ActionContext,
    instance: InstanceId,
    file: &Path,
) -> Result<(), ActionError> {
    let undo = Undo::Secret { instance, file: file.display().to_string() };
    let opened = context.obligations.open(&owed(context)?, undo, STAGED_MAX).await;
    failpoint::hit("secret-owed");
    opened.map_err(|e| ActionError::port("owing that it is forgotten", e))
}

/// It is staged, and stays beyond its execution.
pub(super) async fn hold(context: &ActionContext) -> Result<(), ActionError> {
    let held = context.obligations.hold(&owed(context)?).await;
    held.map_err(|e| ActionError::port("holding what is staged", e))
}

/// Nothing was staged, or nothing of it is left.
pub(super) async fn settle(
    context: &ActionContext,
    instance: &InstanceId,
    file: &Path,
) -> Result<(), ActionError> {
    let file = file.display().to_string();
    let settled = context.obligations.settle(instance, Kept::Secret(&file)).await;
    settled.map_err(|e| ActionError::port("settling what was staged", e))
}

/// By this host alone, or because the coordinators say that nobody needs it.
///
/// # Errors
/// Why it is still there, one line.
pub(crate) async fn forget(releases_dir: &Path, file: &str) -> Result<String, String> {
    let _turn = turn().await;
    Store::new(releases_dir, Path::new(file)).forget().map_err(|e| e.to_string())?;
    Ok(format!("nothing that was staged for {file} is kept"))
}
