//! A new certificate, with a new key, before the old one ends. The session goes on: only its next connection is new.

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, BoxError, Entropy, Shutdown};
use quorate_common::tls::{ChannelLimits, KeyRequest, Store};
use quorate_model::DurationMs;
use quorate_proto::agent::v1::RenewCertificateRequest;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;

use super::stream::{Context, MESSAGE_MAX_BYTES};
use super::words::{Repeats, Tell, call_error_text};
use crate::host::clock;

/// One call; it waits for a commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A third of the life is left for it: from seconds to some minutes between attempts.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(300), growth_percent: 200 };
/// The wall clock is looked at at least this often: it can be set.
const LOOK: Duration = Duration::from_secs(30);

/// Renews at two thirds of the life, again and again.
pub(super) async fn run(context: Arc<Context>, store: Store, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut entropy = Entropy::from_os();
    let mut backoff = Backoff::new(RETRY);
    let mut turn = usize::try_from(entropy.next_u64() >> 33).unwrap_or(0);
    let mut repeats = Repeats::default();
    loop {
        let wait = context.live.current().identity().renew_at().since(clock::now());
        if wait != DurationMs::ZERO {
            // One millisecond more than the rest, so that a wake-up a moment early does not spin.
            let nap = Duration::from_millis(wait.0.saturating_add(1)).min(LOOK);
            if !shutdown.pause(nap).await {
                return Ok(());
            }
            continue;
        }
        let asked = shutdown.run_until(renew(&context, &store, turn)).await;
        match asked {
            None => return Ok(()),
            Some(Ok(())) => {
                backoff.reset();
                repeats.clear();
            }
            Some(Err(error)) => {
                let error = call_error_text(&*error);
                let ended = context.live.current().identity().not_after <= clock::now();
                // Whether it has ended is news whatever the error is.
                if let Some(Tell(like_it)) = repeats.tell(&ended.to_string(), &error, super::now()) {
                    tell(&context, &error, like_it, ended);
                }
                turn = turn.wrapping_add(1);
                let left = context.live.current().identity().not_after.since(clock::now());
                if !shutdown.pause(until_next(backoff.next_delay(entropy.next_u64()), left)).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Time to the next attempt. One falls on the certificate's end, however long the others wait: that it has ended is said then.
fn until_next(delay: Duration, left: DurationMs) -> Duration {
    if left == DurationMs::ZERO { delay } else { delay.min(Duration::from_millis(left.0.saturating_add(1))) }
}

/// Says that it could not be renewed, and what to do when that is too late.
fn tell(context: &Context, error: &str, like_it: Option<u32>, ended: bool) {
    if ended {
        tracing::error!(
            error,
            like_it,
            principal = %context.live.current().identity().principal,
            "the certificate has ended, and nobody takes it any more; if this host's clock is right: quorate node remove, a \
             new token where the first one was, and a restart of the agent"
        );
    } else {
        tracing::warn!(error, like_it, "the certificate was not renewed yet");
    }
}

async fn renew(context: &Context, store: &Store, turn: usize) -> Result<(), BoxError> {
    let addresses = context.book().all();
    let address = addresses.get(turn % addresses.len().max(1)).ok_or("no coordinator's address is known")?;
    let old = context.live.current();
    let request = KeyRequest::create(&old.identity().cluster, &old.identity().principal)?;
    let limits = ChannelLimits { request_timeout: Some(CALL_TIMEOUT), ..ChannelLimits::default() };
    let channel = (context.calling)(address, &limits)?;
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let call = RenewCertificateRequest { csr_der: request.csr_der().to_vec() };
    let answer = client.renew_certificate(call).await?.into_inner();
    let ca_pem = if answer.ca_pem.is_empty() { store.ca_pem()? } else { answer.ca_pem };
    let material = store.save(&ca_pem, &answer.certificate_pem, request.key_pem())?;
    let expires = material.identity().not_after;
    context.live.replace(material)?;
    tracing::info!(expires_ms = expires.0, "certificate renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_falls_on_the_end_of_the_certificate() {
        let minutes = Duration::from_secs(300);
        assert_eq!(until_next(minutes, DurationMs::from_secs(20)), Duration::from_millis(20_001));
        assert_eq!(until_next(minutes, DurationMs::from_secs(900)), minutes);
        assert_eq!(until_next(minutes, DurationMs::ZERO), minutes, "it has ended: no more hurry");
    }
}
