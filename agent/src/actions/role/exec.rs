//! Waits for the lease, and runs the hook while it lives.

use std::time::Duration;

use quorate_model::{ActionOutcome, GroupName, HookName, InstanceId, Reason, ServiceName};
use tokio_util::sync::CancellationToken;

use super::plan::{self, Next};
use crate::actions::{ActionContext, ActionError, PortError, Told, hook};

/// How long its lease may take to live: it is renewed as soon as it is taken up.
const WAIT: Duration = Duration::from_secs(30);
/// Longest time between two looks at it.
const LOOK: Duration = Duration::from_millis(100);

/// `role.promote`. The hook is ended, with all that it started, when the lease is: what leads is stopped then by its keeper.
pub(in crate::actions) async fn promote(
    context: &ActionContext,
    service: &ServiceName,
    group: &GroupName,
    name: &HookName,
) -> Result<ActionOutcome, ActionError> {
    context.service(service)?;
    wait(context, group).await?;
    context.check("waiting to promote")?;
    let instance = InstanceId { node: context.node.clone(), service: service.clone() };
    let limit = Duration::from_millis(context.remaining().0);
    let until = CancellationToken::new();
    let told = Told { until: Some(&until), ..Told::default() };
    let mut running = context.hooks.run_for(name, &instance, told, limit);
    let (report, over) = tokio::select! {
        biased;
        report = &mut running => (report, None),
        why = over(context, group) => {
            until.cancel();
            (running.await, Some(why))
        }
    };
    let report = report.map_err(|error| hook::exec::refused(name, error))?;
    // It may have ended in the very moment at which the lease did.
    let over = over.or_else(|| plan::is_over(&standing(context, group), group, context.epoch));
    if let Some(why) = over {
        let message = format!("{why}; the hook {name} was begun: {}", report.ended);
        let doing = format!("promoting {service}");
        return Err(ActionError::port(doing, PortError::new(Reason::PrimaryLease, message)));
    }
    hook::judge(name, report, context.cancel.is_cancelled())
}

fn standing(context: &ActionContext, group: &GroupName) -> crate::actions::LeaseNow {
    context.leases.standing(group, context.epoch)
}

/// Until it is good for long enough.
async fn wait(context: &ActionContext, group: &GroupName) -> Result<(), ActionError> {
    let refused = |why| ActionError::Refused { reason: Reason::PrimaryLease, why };
    let until = tokio::time::Instant::now() + WAIT;
    loop {
        context.check("waiting for the lease")?;
        let now = standing(context, group);
        match plan::begin(&now) {
            Next::Begin => return Ok(()),
            Next::Refuse(why) => return Err(refused(why)),
            Next::Wait if tokio::time::Instant::now() >= until => {
                return Err(refused(plan::in_vain(&now, group, context.epoch)));
            }
            Next::Wait => context.leases.changed(LOOK).await,
        }
    }
}

/// Until it is over; why.
async fn over(context: &ActionContext, group: &GroupName) -> String {
    loop {
        if let Some(why) = plan::is_over(&standing(context, group), group, context.epoch) {
            return why;
        }
        context.leases.changed(LOOK).await;
    }
}
