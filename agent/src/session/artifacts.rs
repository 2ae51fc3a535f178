//! Brings the artifacts that this node's work needs into the spool, from any coordinator, again and again until they are there
//! or nobody asks for them any more: the helper has no network.
//!
//! Must never: decide what is installed, or hand over half a file. Only what an assignment names is asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, BoxError, Entropy, Shutdown};
use quorate_common::tls::{Address, ChannelLimits};
use quorate_model::release::ARTIFACT_MAX_BYTES;
use quorate_model::session::NodeWork;
use quorate_model::{ActionSpec, Digest};
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::agent::v1::{FetchArtifactRequest, FetchArtifactResponse};

use super::spool::{Part, Room, Spool};
use super::stream::Context;
use super::words::call_error_text;

/// Bytes asked for at once.
const CHUNK_BYTES: u32 = 128 * 1024;
/// Largest answer: a chunk, and what is around it.
const MESSAGE_MAX_BYTES: usize = 320 * 1024;
/// One chunk.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Between rounds over all coordinators: one that was just given an artifact may not hold it yet.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(200), max: Duration::from_secs(10), growth_percent: 200 };
/// Time between looks at what is old.
const SWEEP: Duration = Duration::from_secs(600);

/// An artifact that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    digest: Digest,
    size: u64,
}

/// What the work needs. An assignment goes with its end, so nothing is asked for longer than its deadline.
fn wanted(work: &NodeWork) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for assignment in &work.assignments {
        let ActionSpec::ArtifactStage { release, .. } = &assignment.action else { continue };
        let one = Wanted { digest: release.artifact.clone(), size: release.size };
        if (1..=ARTIFACT_MAX_BYTES).contains(&one.size) && !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

/// Fetches until it is told to stop.
pub(super) async fn run(context: Arc<Context>, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut entropy = Entropy::from_os();
    let mut backoff = Backoff::new(RETRY);
    let mut turn = usize::try_from(entropy.next_u64() >> 33).unwrap_or(0);
    let mut told: Vec<Digest> = Vec::new();
    loop {
        let all = wanted(&context.hub.current());
        let Some(failed) = shutdown.run_until(round(&context, &all, turn, &mut told)).await else {
            return Ok(());
        };
        turn = turn.wrapping_add(1);
        let wait = if failed {
            backoff.next_delay(entropy.next_u64())
        } else {
            backoff.reset();
            SWEEP
        };
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            // New work is looked at without waiting, as often as it comes.
            () = context.hub.artifacts.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Tries every missing artifact once with each coordinator. Whether one is still missing.
async fn round(context: &Context, all: &[Wanted], turn: usize, told: &mut Vec<Digest>) -> bool {
    let config = context.settings.current();
    let spool = Spool::new(&config.spool_dir());
    let room = Room { total: config.limits.spool_bytes, reserve: config.limits.reserve_bytes };
    let digests: Vec<Digest> = all.iter().map(|wanted| wanted.digest.clone()).collect();
    let mut failed = false;
    for wanted in all {
        let error = bring(context, &spool, wanted, &digests, room, turn).await.err();
        failed |= error.is_some();
        let news = error.is_some() || told.contains(&wanted.digest);
        if let Some(error) = &error
            && !told.contains(&wanted.digest)
        {
            tracing::warn!(artifact = %wanted.digest, error, "an artifact did not come yet");
            told.push(wanted.digest.clone());
        }
        if news && let Err(error) = spool.tell(&wanted.digest, error.as_deref()) {
            tracing::warn!(artifact = %wanted.digest, %error, "the spool can not be written");
        }
        if error.is_none() {
            told.retain(|digest| *digest != wanted.digest);
        }
    }
    told.retain(|digest| digests.contains(digest));
    if let Err(error) = spool.sweep(&digests) {
        tracing::warn!(%error, "the spool can not be swept");
    }
    failed
}

async fn bring(
    context: &Context,
    spool: &Spool,
    wanted: &Wanted,
    digests: &[Digest],
    room: Room,
    turn: usize,
) -> Result<(), String> {
    if spool.has(&wanted.digest, wanted.size).map_err(|e| e.to_string())? {
        return Ok(());
    }
    let mut addresses = context.book().all();
    if addresses.is_empty() {
        return Err("no coordinator's address is known".to_owned());
    }
    let first = turn % addresses.len();
    addresses.rotate_left(first);
    let mut last = String::new();
    for address in addresses {
        let (place, one, others) = (spool.clone(), wanted.clone(), digests.to_vec());
        // Off the one thread that keeps the session: gigabytes are hashed again here.
        let begun = blocking(move || place.begin(&one.digest, one.size, &others, room)).await?;
        match from(context, &address, begun).await {
            Ok(part) => {
                blocking(move || part.finish()).await?;
                tracing::info!(artifact = %wanted.digest, size = wanted.size, coordinator = %address, "artifact fetched");
                return Ok(());
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// Every byte that is missing, from one coordinator.
async fn from(context: &Context, address: &Address, mut part: Part) -> Result<Part, String> {
    let limits = ChannelLimits { request_timeout: Some(CALL_TIMEOUT), ..ChannelLimits::default() };
    let channel = (context.calling)(address, &limits)?;
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
    while !part.is_whole() {
        let request = part.request();
        let answer = client.fetch_artifact(request).await.map_err(|status| call_error_text(&status))?;
        let FetchArtifactResponse { data, size } = answer.into_inner();
        check(&part, data.len(), size)?;
        part = blocking(move || part.put(&data)).await?;
    }
    Ok(part)
}

/// Whether an answer can be a part of what was asked for.
fn check(part: &Part, got: usize, size: u64) -> Result<(), String> {
    let got = u64::try_from(got).unwrap_or(u64::MAX);
    if size != part.size {
        return Err(format!("it has {size} bytes there, {} were declared", part.size));
    }
    if got == 0 || got > u64::from(CHUNK_BYTES) || part.have.saturating_add(got) > part.size {
        return Err(format!("{got} bytes at {} are no part of it", part.have));
    }
    Ok(())
}

impl Part {
    fn request(&self) -> FetchArtifactRequest {
        FetchArtifactRequest { digest: self.digest().to_string(), offset: self.have, limit: CHUNK_BYTES }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(e) => Err(format!("it ended early: {e}")),
    }
}
