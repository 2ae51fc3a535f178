//! The way to the helper: hands work over, listens, and comes back when the helper was away.

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, BoxError, Entropy, Shutdown};
use tokio::sync::mpsc;

use super::hub::{HelperState, Hub};
use super::outbox::Confirmed;
use crate::helper::protocol::{Answer, FrameError, Request};
use crate::helper::{Client, Way};

/// The helper is on the same machine and its supervisor starts it again at once.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(50), max: Duration::from_secs(2), growth_percent: 200 };
/// How often the helper is asked how it stands while nothing else happens.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps the way open until it is told to stop.
pub(super) async fn run(
    hub: Arc<Hub>,
    way: Way,
    mut confirmations: mpsc::Receiver<Confirmed>,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    let mut entropy = Entropy::from_os();
    let mut backoff = Backoff::new(RETRY);
    loop {
        let ended = tokio::select! {
            biased;
            () = shutdown.triggered() => return Ok(()),
            ended = connected(&hub, &way, &mut confirmations, &mut backoff) => ended,
        };
        let text = crate::helper::error_text(&ended);
        if hub.helper.borrow().status().is_some() {
            tracing::warn!(error = text, "lost the helper");
        }
        hub.helper.send_replace(HelperState::Away(text));
        if !shutdown.pause(backoff.next_delay(entropy.next_u64())).await {
            return Ok(());
        }
    }
}

/// One connection's life. Always ends with a reason.
async fn connected(
    hub: &Arc<Hub>,
    way: &Way,
    confirmations: &mut mpsc::Receiver<Confirmed>,
    backoff: &mut Backoff,
) -> FrameError {
    match serve(hub, way, confirmations, backoff).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn serve(
    hub: &Arc<Hub>,
    way: &Way,
    confirmations: &mut mpsc::Receiver<Confirmed>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, FrameError> {
    let mut client = way.connect().await?;
    look(hub, &mut client).await?;
    // A task of its own: reading a frame must not be cut off by what happens here.
    let mut listener = way.connect().await?.listen().await?;
    let listening_hub = Arc::clone(hub);
    let mut listening = Reaped(tokio::spawn(async move {
        loop {
            match listener.next().await {
                Ok(Some(notice)) => listening_hub.noticed(notice),
                Ok(None) => {}
                Err(error) => return error,
            }
        }
    }));
    backoff.reset();
    tracing::info!("connected to the helper");
    if let Some(work) = hub.incoming() {
        done(client.ask(&Request::Work(Box::new(work))).await?)?;
    }
    loop {
        tokio::select! {
            ended = &mut listening.0 => return Err(ended.unwrap_or(FrameError::Ended)),
            () = hub.work.notified() => {
                if let Some(work) = hub.incoming() {
                    done(client.ask(&Request::Work(Box::new(work))).await?)?;
                    look(hub, &mut client).await?;
                }
            }
            Some(confirmed) = confirmations.recv() => {
                let request = match confirmed {
                    Confirmed::Execution(id) => Request::Confirm(id),
                    Confirmed::Obligation(id, state) => Request::ConfirmObligation(id, state),
                };
                done(client.ask(&request).await?)?;
            }
            () = tokio::time::sleep(LOOK) => look(hub, &mut client).await?,
        }
    }
}

/// Asks how the helper stands.
async fn look(hub: &Hub, client: &mut Client) -> Result<(), FrameError> {
    match client.ask(&Request::Status).await? {
        Answer::Status(status) => {
            hub.helper.send_if_modified(|state| {
                let new = HelperState::There(status);
                let changed = *state != new;
                *state = new;
                changed
            });
            Ok(())
        }
        other => done(other),
    }
}

fn done(answer: Answer) -> Result<(), FrameError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused { message, .. } => Err(FrameError::Malformed(message)),
        other @ (Answer::Status(_)
        | Answer::Probe(_)
        | Answer::Notice(_)
        | Answer::CaughtUp
        | Answer::Lease(_)
        | Answer::Leases(_)) => Err(FrameError::Malformed(format!("{other:?} is no answer to this"))),
    }
}

/// A task that ends with its owner.
struct Reaped<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Reaped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
