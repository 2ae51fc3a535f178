//! Tells systemd how a daemon does, when it runs under systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// Ready to serve.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Stopping on purpose.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Waits until the watchdog wants to be told, tells it, and returns; never returns without a watchdog.
pub(crate) async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Half of the period, as sd_watchdog_enabled(3) advises.
    tokio::time::sleep(period.max(Duration::from_millis(2)) / 2).await;
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
