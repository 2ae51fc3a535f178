//! The task that makes this member's disk what the catalogue says: what is missing is copied, what is damaged is given up
//! and copied anew, what nobody lists any more is removed.
//!
//! Level-triggered: each round compares the whole catalogue with the whole disk. Nothing is queued, so nothing is lost when
//! a proposal fails or this process dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, BoxError, Service, Shutdown};
use quorate_core::command::ArtifactCommand;
use quorate_core::{Command, Entry, State};
use quorate_model::{Digest, DurationMs, MemberId, Principal, Timestamp};

use super::{ArtifactError, Artifacts, Holder, holders};
use crate::api::backend::Backend;

/// Longest time between two rounds.
const TICK: Duration = Duration::from_secs(5);
/// Shortest time between two rounds: a burst of applied entries is looked at once.
const GAP: Duration = Duration::from_millis(200);
/// Longest wait for a proposal; the next round makes it again.
const PROPOSE: Duration = Duration::from_secs(10);
/// Between two tries of a copy that failed.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(500), max: Duration::from_secs(30), growth_percent: 200 };

/// The task.
pub struct Keeper {
    artifacts: Artifacts,
    backend: Arc<dyn Backend>,
    member: MemberId,
    failed: BTreeMap<Digest, Failed>,
}

/// A copy that failed, and when it is tried again.
struct Failed {
    backoff: Backoff,
    at: Timestamp,
}

/// What the catalogue says of one artifact.
struct Listed {
    digest: Digest,
    size: u64,
    held: bool,
}

impl Service for Keeper {
    const NAME: &'static str = "artifacts";

    async fn run(mut self, shutdown: Shutdown) -> Result<(), BoxError> {
        let mut revisions = self.backend.revisions();
        while !shutdown.is_triggered() {
            self.round(&shutdown).await;
            tokio::select! {
                () = shutdown.triggered() => break,
                changed = revisions.changed() => if changed.is_err() {
                    break;
                },
                () = self.artifacts.inner.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            shutdown.pause(GAP).await;
        }
        Ok(())
    }
}

impl Keeper {
    /// For this member.
    #[must_use]
    pub fn new(artifacts: Artifacts, backend: Arc<dyn Backend>) -> Self {
        let member = backend.health().id;
        Self { artifacts, backend, member, failed: BTreeMap::new() }
    }

    /// One comparison of catalogue and disk.
    pub(super) async fn round(&mut self, shutdown: &Shutdown) {
        for digest in self.artifacts.take_suspects() {
            let verified = self.artifacts.work(move |store| store.verify(&digest)).await;
            told(verified.map(|_| ()), "an artifact could not be read again");
        }
        let listed = self.listed();
        let mut missing = Vec::new();
        for artifact in &listed {
            if self.settle(artifact).await {
                missing.push(artifact);
            }
        }
        self.failed.retain(|digest, _| listed.iter().any(|artifact| artifact.digest == *digest));
        for artifact in missing {
            if shutdown.run_until(self.fetch(artifact)).await.is_none() {
                return;
            }
        }
        self.clean(&listed).await;
    }

    fn listed(&self) -> Vec<Listed> {
        let member = self.member;
        look(&*self.backend, |state| {
            let all = state.artifacts.values();
            all.map(|artifact| Listed {
                digest: artifact.spec.digest.clone(),
                size: artifact.spec.size,
                held: artifact.holders.contains(&member),
            })
            .collect()
        })
    }

    /// Says what is here and what is not; gives whether it is to be copied.
    async fn settle(&self, artifact: &Listed) -> bool {
        let Listed { digest, size, held } = artifact;
        let store = &self.artifacts.inner.store;
        store.listed(digest);
        let here = match store.blob(digest) {
            Some(found) if found == *size => true,
            Some(found) => {
                tracing::error!(%digest, found, size, "an artifact has another size on this disk; it is fetched anew");
                let damaged = digest.clone();
                let removed = self.artifacts.work(move |store| store.remove_blob(&damaged)).await;
                told(removed, "a damaged artifact could not be removed");
                false
            }
            None => false,
        };
        let (digest, member) = (digest.clone(), self.member);
        match (here, held) {
            (true, false) => self.propose(ArtifactCommand::Hold { digest, member }).await,
            (false, true) => self.propose(ArtifactCommand::Release { digest, member }).await,
            (true, true) | (false, false) => {}
        }
        !here
    }

    /// Copies one, if it is time to and somebody has it.
    async fn fetch(&mut self, artifact: &Listed) {
        let now = self.backend.now();
        let digest = &artifact.digest;
        if self.failed.get(digest).is_some_and(|failed| failed.at > now) {
            return;
        }
        let sources = look(&*self.backend, |state| holders(state, digest, self.member));
        if sources.is_empty() {
            return;
        }
        let running = Running::new(&self.artifacts);
        let copied = self.copy(artifact, &sources).await;
        drop(running);
        match copied {
            Ok(()) => {
                tracing::info!(%digest, size = artifact.size, "artifact copied");
                self.failed.remove(digest);
                self.artifacts.inner.store.listed(digest);
                let (digest, member) = (digest.clone(), self.member);
                self.propose(ArtifactCommand::Hold { digest, member }).await;
            }
            Err(error) => {
                self.artifacts.inner.copies_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%digest, %error, "artifact not copied; tried again");
                let first = || Failed { backoff: Backoff::new(RETRY), at: now };
                let failed = self.failed.entry(digest.clone()).or_insert_with(first);
                let wait = failed.backoff.next_delay(self.backend.mint());
                let wait = DurationMs(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                failed.at = self.backend.now().plus(wait);
            }
        }
    }

    /// Goes on where an earlier try stopped, with one member after the other.
    async fn copy(&self, artifact: &Listed, sources: &[Holder]) -> Result<(), ArtifactError> {
        let Listed { digest, size, .. } = artifact;
        let (own, whole, now) = (digest.clone(), *size, self.backend.now());
        let begun = self.artifacts.work(move |store| store.begin_copy(&own, whole, now)).await?;
        let (mut offset, mut why) = (begun.received, String::new());
        let mut asked = Vec::new();
        for source in sources {
            asked.push(source);
            match self.copy_from(source, artifact, &mut offset).await? {
                None => return self.complete(digest, &asked).await,
                Some(error) => why = format!("member {}: {error}", source.member),
            }
        }
        Err(ArtifactError::NoSource(why))
    }

    /// Brings bytes from one member until all are here (`None`) or it gives no more (why).
    async fn copy_from(
        &self,
        source: &Holder,
        artifact: &Listed,
        offset: &mut u64,
    ) -> Result<Option<String>, ArtifactError> {
        let Listed { digest, size, .. } = artifact;
        while *offset < *size {
            if !look(&*self.backend, |state| state.artifacts.contains_key(digest)) {
                self.give_up(digest).await;
                return Ok(Some("it was deleted meanwhile".to_owned()));
            }
            let limit = self.artifacts.chunk_bytes();
            let chunk = match self.artifacts.inner.peers.read(source, digest, *offset, limit).await {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Some(error)),
            };
            if chunk.size != *size || chunk.data.is_empty() {
                self.suspect(source, digest).await;
                return Ok(Some(format!("it has {} bytes there, {size} by the catalogue", chunk.size)));
            }
            let now = self.backend.now();
            match self.artifacts.write(digest, *offset, chunk.data, false, now).await {
                Ok(received) => *offset = received,
                // Somebody uploads the same here: it goes on after those bytes.
                Err(ArtifactError::Offset { expected, .. }) => *offset = expected,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes what was copied of it, unless a caller's upload goes on with that.
    async fn give_up(&self, digest: &Digest) {
        if self.artifacts.upload(digest).is_none() {
            let digest = digest.clone();
            let removed = self.artifacts.work(move |store| store.discard(&digest)).await;
            told(removed, "half a copy could not be removed");
        }
    }

    async fn complete(&self, digest: &Digest, asked: &[&Holder]) -> Result<(), ArtifactError> {
        let (own, now) = (digest.clone(), self.backend.now());
        let finished = self.artifacts.work(move |store| store.finish(&own, now)).await;
        if matches!(finished, Err(ArtifactError::Digest { .. })) {
            for source in asked {
                self.suspect(source, digest).await;
            }
        }
        finished
    }

    async fn suspect(&self, source: &Holder, digest: &Digest) {
        if let Err(error) = self.artifacts.inner.peers.suspect(source, digest).await {
            tracing::warn!(%digest, member = %source.member, error, "a member was not told that its artifact may be damaged");
        }
    }

    /// Removes what the catalogue does not know, and uploads that nobody goes on with.
    async fn clean(&self, listed: &[Listed]) {
        let now = self.backend.now();
        let known: BTreeSet<&Digest> = listed.iter().map(|artifact| &artifact.digest).collect();
        let stray = self.artifacts.inner.store.stray(|digest| known.contains(digest), now);
        // A member that is behind does not know yet what it must keep.
        if !stray.is_empty() && self.backend.linearize().await.is_ok() {
            for digest in stray {
                let backend = self.backend.clone();
                let swept = self.artifacts.work(move |store| {
                    let known =
                        |digest: &Digest| look(&*backend, |state| state.artifacts.contains_key(digest));
                    if store.sweep(&digest, known, now)? {
                        tracing::info!(%digest, "artifact removed from this disk: it is not listed any more");
                    }
                    Ok(())
                });
                told(swept.await, "an artifact could not be removed");
            }
        }
        let expired = self.artifacts.work(move |store| store.expire(now)).await;
        told(expired, "an old upload could not be removed");
    }

    /// In this member's own name. The next round looks at what came of it.
    async fn propose(&self, command: ArtifactCommand) {
        let principal = Principal::Coordinator { member: self.member };
        let entry = Entry::new(self.backend.now(), principal, None, Command::Artifact(command));
        match tokio::time::timeout(PROPOSE, self.backend.propose(entry)).await {
            Ok(Ok((_, answer))) => {
                if let Some(refusal) = answer.refusal() {
                    tracing::debug!(%refusal, "what this member holds was not noted");
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "what this member holds was not noted yet"),
            Err(_) => tracing::debug!("what this member holds may not have been noted yet"),
        }
    }
}

/// Counts a copy while it runs, also when it is dropped in the middle.
struct Running<'a>(&'a Artifacts);

impl<'a> Running<'a> {
    fn new(artifacts: &'a Artifacts) -> Self {
        artifacts.inner.copying.fetch_add(1, Ordering::Relaxed);
        Self(artifacts)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.inner.copying.fetch_sub(1, Ordering::Relaxed);
    }
}

fn told(done: Result<(), ArtifactError>, what: &str) {
    if let Err(error) = done {
        tracing::error!(error = quorate_common::with_causes(&error).to_string(), "{what}");
    }
}

/// Reads the state once.
fn look<T: Default>(backend: &dyn Backend, look: impl FnOnce(&State) -> T) -> T {
    let mut look = Some(look);
    let mut seen = T::default();
    backend.read(&mut |state| {
        if let Some(look) = look.take() {
            seen = look(state);
        }
    });
    seen
}
