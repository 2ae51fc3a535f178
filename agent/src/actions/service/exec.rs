//! Does what `plan` decides, through the service's driver.

use std::time::Duration;

use quorate_model::service::UnitStatus;
use quorate_model::{ActionOutcome, DurationMs, Reason, ServiceName};

use super::plan::{self, Decision};
use crate::actions::{ActionContext, ActionError, PortError, ServiceHandle};

pub(in crate::actions) fn span(ms: DurationMs) -> Duration {
    Duration::from_millis(ms.0)
}

pub(in crate::actions) async fn look(service: &ServiceHandle) -> Result<UnitStatus, ActionError> {
    let name = &service.spec.name;
    service.driver.status().await.map_err(|e| ActionError::port(format!("reading the state of {name}"), e))
}

pub(in crate::actions) fn impossible(verb: &str, name: &ServiceName, why: &str) -> ActionError {
    let reason = if why == "there is no such unit" { Reason::NotFound } else { Reason::ActionFailed };
    ActionError::port(format!("{verb} of {name}"), PortError::new(reason, why))
}

fn done(message: String, unit: UnitStatus) -> ActionOutcome {
    ActionOutcome { message, unit: Some(unit), ..ActionOutcome::default() }
}

/// A verb that ran and did not reach its end. The unit's state goes with it when it can still be read.
async fn failed(service: &ServiceHandle, escalated: bool, message: String) -> ActionError {
    let unit = service.driver.status().await.ok();
    let outcome = ActionOutcome { message: message.clone(), escalated, unit, ..ActionOutcome::default() };
    ActionError::Failed { message, outcome: Box::new(outcome) }
}

/// Refuses while the host stops what leads there: its lease is over.
fn check_lease(context: &ActionContext, name: &ServiceName) -> Result<(), ActionError> {
    match context.leases.stopping(name) {
        Some(why) => Err(ActionError::Refused { reason: Reason::PrimaryLease, why }),
        None => Ok(()),
    }
}

/// `service.status`.
pub(in crate::actions) async fn status(
    context: &ActionContext,
    name: &ServiceName,
) -> Result<ActionOutcome, ActionError> {
    let unit = look(&context.service(name)?).await?;
    Ok(done(format!("{name} is {}", plan::describe(&unit)), unit))
}

/// `service.start`.
pub(in crate::actions) async fn start(
    context: &ActionContext,
    name: &ServiceName,
) -> Result<ActionOutcome, ActionError> {
    let service = context.service(name)?;
    check_lease(context, name)?;
    let before = look(&service).await?;
    match plan::start(&before) {
        Decision::Already(why) => return Ok(done(format!("{name}: {why}"), before)),
        Decision::Impossible(why) => return Err(impossible("start", name, why)),
        Decision::Act => {}
    }
    context.check("waiting to start")?;
    if let Err(error) = service.driver.start(span(service.spec.start_timeout)).await {
        return Err(failed(&service, false, format!("start of {name} failed: {error}")).await);
    }
    let after = look(&service).await?;
    match plan::started(&after) {
        Ok(()) => Ok(done(format!("{name} started: {}", plan::describe(&after)), after)),
        Err(why) => Err(failed(&service, false, format!("start of {name} failed: {why}")).await),
    }
}

/// `service.stop`.
pub(in crate::actions) async fn stop(
    context: &ActionContext,
    name: &ServiceName,
) -> Result<ActionOutcome, ActionError> {
    let service = context.service(name)?;
    let before = look(&service).await?;
    match plan::stop(&before) {
        Decision::Already(why) => return Ok(done(format!("{name}: {why}"), before)),
        Decision::Impossible(why) => return Err(impossible("stop", name, why)),
        Decision::Act => {}
    }
    context.check("waiting to stop")?;
    let stopped = match service.driver.stop(span(service.spec.stop_timeout)).await {
        Ok(stopped) => stopped,
        Err(error) => return Err(failed(&service, false, format!("stop of {name} failed: {error}")).await),
    };
    let after = look(&service).await?;
    if !plan::is_down(&after) {
        let message = format!("stop of {name} failed: it is {}", plan::describe(&after));
        return Err(failed(&service, stopped.escalated, message).await);
    }
    let how = if stopped.escalated { "killed after its graceful time" } else { "stopped gracefully" };
    Ok(ActionOutcome { escalated: stopped.escalated, ..done(format!("{name} {how}"), after) })
}

/// `service.restart`. Once it has stopped the unit it starts it again, canceled or late as it may be: a unit left down is
/// worse than a late one.
pub(in crate::actions) async fn restart(
    context: &ActionContext,
    name: &ServiceName,
) -> Result<ActionOutcome, ActionError> {
    let service = context.service(name)?;
    check_lease(context, name)?;
    let before = look(&service).await?;
    let mut escalated = false;
    match plan::restart(&before) {
        Decision::Impossible(why) => return Err(impossible("restart", name, why)),
        Decision::Already(_) => context.check("waiting to start")?,
        Decision::Act => {
            context.check("waiting to stop")?;
            match service.driver.stop(span(service.spec.stop_timeout)).await {
                Ok(stopped) => escalated = stopped.escalated,
                Err(error) => {
                    let message = format!("restart of {name} failed in its stop: {error}");
                    return Err(failed(&service, false, message).await);
                }
            }
        }
    }
    if let Err(error) = service.driver.start(span(service.spec.start_timeout)).await {
        let message = format!("restart of {name} failed in its start: {error}");
        return Err(failed(&service, escalated, message).await);
    }
    let after = look(&service).await?;
    if let Err(why) = plan::new_run(&before, &after) {
        return Err(failed(&service, escalated, format!("restart of {name} failed: {why}")).await);
    }
    let message = format!("{name} restarted: {}", plan::describe(&after));
    Ok(ActionOutcome { escalated, ..done(message, after) })
}

/// `service.reload`. What can be proved from outside: the driver's reload ended well and the same run goes on. It may take as
/// long as a start: that is how systemd bounds it, too (`TimeoutStartSec=`), and how long a coordinator waits for it.
pub(in crate::actions) async fn reload(
    context: &ActionContext,
    name: &ServiceName,
) -> Result<ActionOutcome, ActionError> {
    let service = context.service(name)?;
    let before = look(&service).await?;
    if let Decision::Impossible(why) | Decision::Already(why) = plan::reload(&before) {
        return Err(impossible("reload", name, why));
    }
    context.check("waiting to reload")?;
    if let Err(error) = service.driver.reload(span(service.spec.start_timeout)).await {
        return Err(failed(&service, false, format!("reload of {name} failed: {error}")).await);
    }
    let after = look(&service).await?;
    match plan::same_run(&before, &after) {
        Ok(()) => Ok(done(format!("{name} reloaded: {}", plan::describe(&after)), after)),
        Err(why) => Err(failed(&service, false, format!("reload of {name}: {why}")).await),
    }
}
