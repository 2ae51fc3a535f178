//! Puts an instance back into its pool when nobody else does: only while it is seen to be healthy.

use std::time::Duration;

use quorate_model::service::UnitStatus;

use super::plan::{self, Place, View};
use super::pool::Pool;
use crate::actions::{PortError, ServiceDriver};

/// Looks within the time that health must hold.
const LOOKS: u32 = 5;
/// How long the balancer may take to say that it sends connections again: it sees a check pass already.
const SERVES_WITHIN: Duration = Duration::from_secs(5);
/// Time between two looks for that.
const LOOK: Duration = Duration::from_millis(200);

/// The pool, if the instance may be in it: its unit runs, and its health is shown.
pub(super) async fn fit(pool: &Pool, driver: &dyn ServiceDriver) -> Result<(View, UnitStatus), String> {
    let unit = driver.status().await.map_err(|e| e.message)?;
    if unit.active != "active" {
        return Err(format!("its unit is {}", unit.active));
    }
    let view = pool.look().await.map_err(|e| e.message)?;
    if view.place == Place::Maintenance {
        return Err("somebody put it into maintenance".to_owned());
    }
    plan::fit(&view.check, pool.health().await)?;
    Ok((view, unit))
}

/// Tells the balancers, and waits until they send connections; takes it out again when they do not.
pub(super) async fn put_back(pool: &Pool, within: Duration) -> Result<View, PortError> {
    pool.put_back().await?;
    let until = tokio::time::Instant::now() + within;
    loop {
        let seen = pool.look().await;
        match seen {
            Ok(view) if view.serves => return Ok(view),
            seen if tokio::time::Instant::now() >= until => {
                let why = match seen {
                    Ok(view) => format!("the balancer does not send it connections ({:?})", view.check),
                    Err(error) => error.message,
                };
                pool.take_out().await?;
                let text = format!("{why}; it was taken out again");
                return Err(PortError::new(quorate_model::Reason::NotFit, text));
            }
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The undo of a drain by this host alone.
///
/// # Errors
/// Why the instance is kept out, one line; nothing was changed then.
pub(crate) async fn undo(pool: &Pool, driver: &dyn ServiceDriver) -> Result<String, String> {
    let (_, first) = fit(pool, driver).await?;
    // One look proves little: a check can be older than the crash. The same run must look healthy for a while.
    for _ in 0..LOOKS {
        tokio::time::sleep(pool.settle() / LOOKS).await;
        let (_, unit) = fit(pool, driver).await?;
        if unit.invocation_id != first.invocation_id || unit.restarts != first.restarts {
            return Err("it was started again meanwhile".to_owned());
        }
    }
    put_back(pool, SERVES_WITHIN).await.map_err(|e| e.message)?;
    let traffic = pool.traffic();
    Ok(format!("{} was put back into the pool {} by the helper alone", traffic.server, traffic.backend))
}
