//! Runs the hook through the host's own runner of hooks.

use std::time::Duration;

use quorate_model::{ActionOutcome, HookName, InstanceId, Reason, ServiceName};

use super::plan;
use crate::actions::{ActionContext, ActionError, PortError, Told};

/// `exec.run`. The runner ends the hook, with all that it started, when the execution is canceled or its time is over.
pub(in crate::actions) async fn run(
    context: &ActionContext,
    service: &ServiceName,
    hook: &HookName,
    told: Told<'_>,
) -> Result<ActionOutcome, ActionError> {
    context.service(service)?;
    context.check("waiting to run a hook")?;
    let instance = InstanceId { node: context.node.clone(), service: service.clone() };
    let limit = Duration::from_millis(context.remaining().0);
    let report = context.hooks.run_for(hook, &instance, told, limit).await;
    plan::judge(hook, report.map_err(|error| refused(hook, error))?, context.cancel.is_cancelled())
}

/// What it means that a hook did not run at all.
pub(in crate::actions) fn refused(hook: &HookName, error: PortError) -> ActionError {
    match error.reason {
        // It is not declared, or not allowed: nothing was done.
        Reason::PolicyDenied | Reason::NotFound => {
            ActionError::Refused { reason: error.reason, why: error.message }
        }
        _ => ActionError::port(format!("running the hook {hook}"), error),
    }
}
