//! What every service shares: how a call is read, served, proposed and answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::wire::Invalid;
use quorate_common::wire::limits::REASON_MAX_BYTES;
use quorate_common::wire::status::{INDEX_KEY, REQUEST_ID_KEY};
use quorate_common::wire::text::{read_request_id, read_text};
use quorate_core::{Answer, Command, Entry, Observations, Origin, State};
use quorate_model::{Reason, Refusal, RequestId, Timestamp};
use quorate_proto::v1;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::backend::{Backend, Health, Signer};
use super::caller::Caller;
use super::dryrun;
use super::ledger::Ledger;
use super::rate::FailureLimit;
use super::status::Failure;
use crate::artifacts::Artifacts;
use crate::metrics::Metrics;

/// How long an answer waits until this member has applied what was just written.
const APPLY_WAIT: Duration = Duration::from_secs(5);

/// The API: everything its services need. Clones are the same API.
#[derive(Clone)]
pub struct Api {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) artifacts: Option<Artifacts>,
    pub(crate) ledger: Ledger,
    pub(crate) enrol_failures: FailureLimit,
    pub(crate) metrics: Metrics,
}

/// Numbers and texts that configuration gives.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Failed enrolments per minute and address.
    pub enrol_failures_per_minute: u32,
    /// Whether that limit holds for loopback addresses, too; off for `quorate dev`, where everybody is loopback.
    pub limit_loopback: bool,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            // reliability.md B-12.
            enrol_failures_per_minute: 5,
            limit_loopback: true,
        }
    }
}

/// An answer, with the log index it was served at.
pub(crate) struct Served<T> {
    pub(crate) message: T,
    pub(crate) index: u64,
}

/// The frame of a change, checked.
pub(crate) struct Change {
    pub(crate) request_id: RequestId,
    pub(crate) reason: String,
    pub(crate) validate_only: bool,
}

impl Api {
    /// Puts the API together. Without `artifacts` this member keeps none.
    #[must_use]
    pub fn new(
        backend: Arc<dyn Backend>,
        signer: Arc<dyn Signer>,
        artifacts: Option<Artifacts>,
        options: &ApiOptions,
    ) -> Self {
        let enrol_failures = FailureLimit::new(options.enrol_failures_per_minute, options.limit_loopback);
        let (ledger, metrics) = (Ledger::default(), Metrics::default());
        Self { inner: Arc::new(Inner { backend, signer, artifacts, ledger, enrol_failures, metrics }) }
    }

    /// Counts of reads and denials; to be drained every [`super::ledger::DRAIN_INTERVAL`].
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// This coordinator's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The bytes of artifacts that this member keeps.
    #[must_use]
    pub fn artifacts(&self) -> Option<&Artifacts> {
        self.inner.artifacts.as_ref()
    }

    /// The coordinator behind it.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    /// Runs one unary method: takes the call apart, answers with `quorate-index`, turns a failure into a status.
    pub(crate) async fn serve<M, T, F, R>(&self, request: Request<M>, work: F) -> Result<Response<T>, Status>
    where
        F: FnOnce(Self, Caller, M) -> R,
        R: Future<Output = Result<Served<T>, Failure>>,
    {
        let caller = caller_of(&request)?;
        let id = caller.request.clone();
        match work(self.clone(), caller, request.into_inner()).await {
            Ok(served) => {
                let mut response = Response::new(served.message);
                set(response.metadata_mut(), INDEX_KEY, &served.index.to_string());
                set(response.metadata_mut(), REQUEST_ID_KEY, id.get().as_str());
                Ok(response)
            }
            Err(failure) => Err(self.refuse(&failure, id.get())),
        }
    }

    /// A failure as a status, counted.
    pub(crate) fn refuse(&self, failure: &Failure, id: &RequestId) -> Status {
        self.inner.metrics.refused(failure.reason());
        if failure.reason() == Reason::Internal {
            tracing::error!(error = %failure, request_id = %id, "a call met a defect");
        }
        let mut status = failure.problem().with_request_id(id.as_str()).to_status();
        if let Some(index) = failure.index() {
            set(status.metadata_mut(), INDEX_KEY, &index.to_string());
        }
        status
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let mut look = Some(look);
        let mut seen = None;
        self.inner.backend.read(&mut |state| {
            if let Some(look) = look.take() {
                seen = Some(look(state));
            }
        });
        // Backend::read promises to call back once; an implementation that does not has no state to serve.
        seen.expect("Backend::read runs its argument")
    }

    /// Looks at the state, at what is observed, and at the clock.
    pub(crate) fn look_around<T>(&self, look: impl FnOnce(&State, &Observations, Timestamp) -> T) -> T {
        let now = self.inner.backend.now();
        let mut look = Some(look);
        let mut seen = None;
        self.inner.backend.observe(&mut |observations| {
            if let Some(look) = look.take() {
                seen = Some(self.look(|state| look(state, observations, now)));
            }
        });
        // As above, for Backend::observe.
        seen.expect("Backend::observe runs its argument")
    }

    /// Makes a read as fresh as it asks for; gives the index it may be served at.
    pub(crate) async fn fresh(&self, consistency: i32) -> Result<u64, Failure> {
        match v1::Consistency::try_from(consistency) {
            Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => {
                Ok(self.inner.backend.linearize().await?)
            }
            Ok(v1::Consistency::Stale) => Ok(self.look(|state| state.revision.0)),
            Err(_) => Err(Invalid::new("consistency", "it is not one of its values").into()),
        }
    }

    /// Checks the frame of a change.
    pub(crate) fn change(
        &self,
        caller: &Caller,
        options: Option<v1::ChangeOptions>,
    ) -> Result<Change, Failure> {
        let v1::ChangeOptions { request_id, reason, validate_only } = options.unwrap_or_default();
        if !request_id.is_empty() {
            caller.request.choose(read_request_id("options.request_id", request_id)?);
        }
        let reason = read_text("options.reason", reason, REASON_MAX_BYTES)?;
        Ok(Change { request_id: caller.request.get().clone(), reason, validate_only })
    }

    /// The answer given to this request before, if any: a repeated request must not be planned or judged anew.
    pub(crate) fn given(
        &self,
        caller: &Caller,
        change: &Change,
        command: &Command,
    ) -> Result<Option<Answer>, Failure> {
        let (index, given) = self.look(|state| {
            let given = state.dedupe.lookup(&caller.principal, &change.request_id);
            (state.revision.0, given.map(|g| (g.intent, g.answer.clone())))
        });
        let refused = |refusal| Failure::RefusedAt { refusal, index };
        match given {
            None => Ok(None),
            Some((intent, answer)) if intent == command.intent() => {
                Ok(Some(answer.into_result().map_err(refused)?))
            }
            Some(_) => Err(refused(Refusal::new(
                Reason::RequestIdConflict,
                format!("request id {} was used before for something else", change.request_id),
            ))),
        }
    }

    /// Proposes a change in the caller's name and waits until this member has applied it; gives the index of the entry that
    /// did it. With `validate_only` it is only tried.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        change: &Change,
        command: Command,
    ) -> Result<(u64, Answer), Failure> {
        if change.validate_only {
            return self.try_out(caller, change, [command]).await;
        }
        let entry = self.entry(caller, change, command);
        let (index, answer) = self.inner.backend.propose(entry).await?;
        self.inner.metrics.proposed();
        let answer = answer.into_result().map_err(|refusal| Failure::RefusedAt { refusal, index })?;
        self.applied(index).await?;
        // A repeated request was done at an earlier index: its second answer equals its first (I-5).
        Ok((answer.revision().map_or(index, |done| done.0), answer))
    }

    fn entry(&self, caller: &Caller, change: &Change, command: Command) -> Entry {
        let origin = Origin { client_ip: caller.client_ip.clone(), reason: change.reason.clone() };
        let id = Some(change.request_id.clone());
        Entry::new(self.inner.backend.now(), caller.principal.clone(), id, command).with_origin(origin)
    }

    /// Tries changes one after another on a copy of the state: the answer of the last, or the first refusal.
    pub(crate) async fn try_out(
        &self,
        caller: &Caller,
        change: &Change,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<(u64, Answer), Failure> {
        let entries: Vec<Entry> = commands.into_iter().map(|c| self.entry(caller, change, c)).collect();
        self.inner.backend.linearize().await?;
        let (index, answer) = self.look(|state| (state.revision.0, dryrun::try_out(state, &entries)));
        let answer = answer.into_result().map_err(|refusal| Failure::RefusedAt { refusal, index })?;
        Ok((index, answer))
    }

    /// Waits until this member has applied an index.
    pub(crate) async fn applied(&self, index: u64) -> Result<(), Failure> {
        let mut revisions = self.inner.backend.revisions();
        let wait = revisions.wait_for(|revision| *revision >= index);
        match tokio::time::timeout(APPLY_WAIT, wait).await {
            Ok(Ok(_)) => Ok(()),
            // It is written; only this member cannot show it. The same request id gives the answer elsewhere.
            Ok(Err(_)) | Err(_) => {
                Err(super::backend::ProposeError::Unknown("written, not applied here in time".into()).into())
            }
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.inner.backend.health()
    }
}

/// The caller that the gate put in. Without one nothing is served: a service that is mounted without its gate denies.
pub(crate) fn caller_of<M>(request: &Request<M>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| {
        super::status::problem(Reason::Unauthenticated, "the call did not come through the gate").to_status()
    })
}

/// Sets a header; a text that cannot stand in one is left out.
pub(crate) fn set(metadata: &mut MetadataMap, key: &'static str, text: &str) {
    if let Ok(value) = MetadataValue::<Ascii>::try_from(text) {
        metadata.insert(key, value);
    }
}

/// A UUIDv7 from the coordinator's clock and generator.
pub(crate) fn mint_request_id(backend: &dyn Backend) -> RequestId {
    let millis = u64::try_from(backend.now().0).unwrap_or(0);
    let mut bits = [0_u8; 10];
    bits[..8].copy_from_slice(&backend.mint().to_be_bytes());
    bits[8..].copy_from_slice(&backend.mint().to_be_bytes()[..2]);
    let text = uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid().to_string();
    // 36 hex digits and dashes that begin with a hex digit are always an id.
    RequestId::new(text).expect("a UUID is a valid request id")
}
