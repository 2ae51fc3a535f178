//! Does what `plan` allows, through the pool.

use std::sync::Arc;
use std::time::Duration;

use quorate_model::{
    ActionOutcome, DurationMs, InstanceId, ObligationId, OnTimeout, Reason, ServiceName, TrafficReceipt,
    TrafficSpec,
};

use super::plan::{self, Place, View};
use super::pool::Pool;
use super::undo;
use crate::actions::{ActionContext, ActionError, Kept, PortError, ServiceHandle, Undo};

/// Time between two looks at a pool: a look is two short questions.
const LOOK: Duration = Duration::from_millis(200);
/// Kept of an action's deadline for its own undo.
const UNDO_ROOM: DurationMs = DurationMs::from_secs(10);

fn instance(context: &ActionContext, service: &ServiceName) -> InstanceId {
    InstanceId { node: context.node.clone(), service: service.clone() }
}

fn open(context: &ActionContext, service: &ServiceName, traffic: &TrafficSpec) -> Result<Pool, ActionError> {
    let hooks = Arc::clone(&context.hooks);
    let pool = context.balancers.pool(traffic, &instance(context, service), hooks);
    pool.map_err(|e| ActionError::Refused { reason: e.reason, why: e.message })
}

fn refused((reason, why): (Reason, String)) -> ActionError {
    ActionError::Refused { reason, why }
}

fn told(doing: &str, error: PortError) -> ActionError {
    ActionError::port(doing, error)
}

/// What a drain has seen so far.
struct Drained {
    before: View,
    after: View,
    waited: DurationMs,
}

fn receipt(pool: &Pool, seen: &Drained) -> TrafficReceipt {
    TrafficReceipt {
        backend: pool.traffic().backend.clone(),
        server: pool.traffic().server.clone(),
        balancers: pool.balancers(),
        others_up: seen.after.others_up,
        connections_before: seen.before.connections,
        connections_after: seen.after.connections,
        waited: seen.waited,
    }
}

fn count(connections: Option<u64>) -> String {
    connections.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string())
}

/// `traffic.drain`.
pub(in crate::actions) async fn drain(
    context: &ActionContext,
    service: &ServiceName,
    traffic: &TrafficSpec,
    restore_within: DurationMs,
) -> Result<ActionOutcome, ActionError> {
    let handle = context.service(service)?;
    let pool = open(context, service, traffic)?;
    let before = pool.look().await.map_err(|e| refused((e.reason, e.message)))?;
    let waits = traffic.on_timeout == OnTimeout::Fail;
    plan::may_drain(&before, traffic, pool.has_health_hook(), waits).map_err(refused)?;
    context.check("waiting to drain")?;
    let id = ObligationId::new(format!("{}:restore", context.execution))
        .map_err(|e| ActionError::invalid("execution", e.to_string()))?;
    let undo = Undo::Traffic {
        instance: instance(context, service),
        driver: handle.spec.driver.clone(),
        traffic: traffic.clone(),
    };
    let opened = context.obligations.open(&id, undo, restore_within).await;
    opened.map_err(|e| told("taking on the obligation to put it back", e))?;
    match wait(context, &pool, before).await {
        Ok(seen) => {
            let held = context.obligations.hold(&id).await;
            held.map_err(|e| told("keeping the obligation to put it back", e))?;
            let TrafficSpec { backend, server, .. } = traffic;
            let message = format!(
                "{server} is out of the pool {backend}: {} connections at first, {} after {}; {} others serve",
                count(seen.before.connections),
                count(seen.after.connections),
                seen.waited,
                seen.after.others_up
            );
            let traffic = Some(receipt(&pool, &seen));
            Ok(ActionOutcome { message, traffic, ..ActionOutcome::default() })
        }
        Err(error) => Err(back(context, &pool, &handle, &id, error).await),
    }
}

/// Takes it out and waits until nothing of it is left.
async fn wait(context: &ActionContext, pool: &Pool, before: View) -> Result<Drained, ActionError> {
    let begun = context.clock.monotonic();
    let mut after = before.clone();
    let timeout = pool.traffic().drain_timeout.min(context.remaining().minus(UNDO_ROOM));
    pool.take_out().await.map_err(|e| told("draining", e))?;
    let mut quiet_since = None;
    loop {
        let seen = pool.look().await;
        let waited = context.clock.monotonic().minus(begun);
        match seen {
            Ok(seen) => {
                // Another host may have taken its own out at the same moment: then both see it, and both give way.
                if before.place == Place::In && before.serves {
                    plan::enough(&seen, pool.traffic())
                        .map_err(|(reason, why)| told("draining", PortError::new(reason, why)))?;
                }
                after = seen;
                let since = *quiet_since.get_or_insert(waited);
                if after.connections != Some(0) {
                    quiet_since = None;
                } else if u128::from(waited.minus(since).0) >= pool.quiet().as_millis() {
                    return Ok(Drained { before, after, waited });
                }
            }
            // One that does not answer now tells nothing; it may answer before the time is over.
            Err(error) if waited >= timeout => return Err(told("watching the drain", error)),
            Err(_) => quiet_since = None,
        }
        if waited >= timeout {
            let left = count(after.connections);
            return match pool.traffic().on_timeout {
                OnTimeout::Proceed => Ok(Drained { before, after, waited }),
                OnTimeout::Fail => {
                    let text = format!("{left} connections were left after {waited}");
                    Err(told("draining", PortError::new(Reason::NotDrained, text)))
                }
            };
        }
        if context.cancel.is_cancelled() {
            return Err(ActionError::Canceled("waiting for connections to end"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A drain that came to nothing is undone, if the instance is fit to serve; what it owes stays open else, and its keeper goes on.
async fn back(
    context: &ActionContext,
    pool: &Pool,
    handle: &ServiceHandle,
    id: &ObligationId,
    error: ActionError,
) -> ActionError {
    let undone = match pool.look().await {
        // It never left: an order that was refused, a file that did not pass its proof.
        Ok(view) if view.serves && pool.tells_place() => Ok(()),
        Ok(_) | Err(_) => match undo::fit(pool, handle.driver.as_ref()).await {
            Ok(_) => pool.put_back().await.map_err(|e| e.message),
            Err(why) => Err(why),
        },
    };
    let undone = match undone {
        Ok(()) => context.obligations.discharge(id).await.map_err(|e| e.message),
        Err(why) => Err(why),
    };
    match undone {
        Ok(()) => error,
        Err(why) => {
            let message = format!("{}; it is kept out of the pool: {why}", error.message());
            ActionError::port(message, PortError::new(error.reason(), "the obligation stays open"))
        }
    }
}

/// `traffic.restore`.
pub(in crate::actions) async fn restore(
    context: &ActionContext,
    service: &ServiceName,
    traffic: &TrafficSpec,
) -> Result<ActionOutcome, ActionError> {
    let handle = context.service(service)?;
    let pool = open(context, service, traffic)?;
    let begun = context.clock.monotonic();
    let before = loop {
        context.check("waiting for its health")?;
        match undo::fit(&pool, handle.driver.as_ref()).await {
            Ok((view, _)) => break view,
            Err(why) if context.remaining() <= UNDO_ROOM.plus(UNDO_ROOM) => {
                let text = format!("{} stays out of the pool {}: {why}", traffic.server, traffic.backend);
                return Err(told("putting it back", PortError::new(Reason::NotFit, text)));
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    let within = Duration::from_millis(context.remaining().minus(UNDO_ROOM).0);
    let after = undo::put_back(&pool, within).await.map_err(|e| told("putting it back", e))?;
    let settled = context.obligations.settle(&instance(context, service), Kept::Traffic).await;
    settled.map_err(|e| told("discharging the obligation to put it back", e))?;
    let waited = context.clock.monotonic().minus(begun);
    let message = format!("{} serves in the pool {} after {waited}", traffic.server, traffic.backend);
    let traffic = Some(receipt(&pool, &Drained { before, after, waited }));
    Ok(ActionOutcome { message, traffic, ..ActionOutcome::default() })
}
