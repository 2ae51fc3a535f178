//! Streams of changes.
//!
//! Level-triggered and without a queue: the next message is made when the caller has room for it, from the state as it is
//! then. A slow caller misses versions in between, never the last one. A stream resumes at any coordinator by revision or
//! sequence. It ends by itself when nothing more can come, and with an error when the caller's certificate is refused or
//! this coordinator stops.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use quorate_common::wire::status::INDEX_KEY;
use quorate_model::{OperationId, RequestId, Serial};
use quorate_proto::v1;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::caller::accepted;
use super::context::{Api, caller_of, set};
use super::operation::read_operation_name;
use super::status::{Failure, problem};
use super::view;

/// A sign of life when nothing changes (reliability.md 5.3): a caller gives up after three of them are missing.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Audit records taken at one look, so that a reader far behind does not hold the state's lock for long.
const RECORDS_AT_ONCE: usize = 256;

/// The stream of `WatchOperation`.
pub type OperationStream = Pin<Box<dyn Stream<Item = Result<v1::WatchOperationResponse, Status>> + Send>>;
/// The stream of `WatchAuditRecords`.
pub type AuditStream = Pin<Box<dyn Stream<Item = Result<v1::WatchAuditRecordsResponse, Status>> + Send>>;

struct Watch {
    api: Api,
    serial: Serial,
    id: RequestId,
    revisions: Receiver<u64>,
    quiet_until: Instant,
}

/// What woke a watch up.
enum Woken {
    Changed,
    Quiet,
}

impl Watch {
    fn new<M>(api: &Api, request: &Request<M>) -> Result<Self, Status> {
        let caller = caller_of(request)?;
        Ok(Self {
            api: api.clone(),
            serial: caller.serial,
            id: caller.request.get().clone(),
            revisions: api.backend().revisions(),
            quiet_until: Instant::now() + KEEPALIVE,
        })
    }

    /// Waits for the next applied entry, or long enough for a sign of life.
    async fn next(&mut self) -> Result<Woken, Status> {
        match tokio::time::timeout_at(self.quiet_until, self.revisions.changed()).await {
            Ok(Ok(())) => {
                self.check()?;
                Ok(Woken::Changed)
            }
            Ok(Err(_)) => Err(self.stopped()),
            Err(_) => {
                self.check()?;
                self.sent();
                Ok(Woken::Quiet)
            }
        }
    }

    fn sent(&mut self) {
        self.quiet_until = Instant::now() + KEEPALIVE;
    }

    /// Revoking a certificate is an applied entry: it wakes every watch, and ends those of its holder.
    fn check(&self) -> Result<(), Status> {
        let now = self.api.backend().now();
        self.api.look(|state| accepted(state, &self.serial, now).map(|_| ())).map_err(|_| {
            let reason = quorate_model::Reason::Unauthenticated;
            problem(reason, "the certificate is not accepted any more")
                .with_request_id(self.id.as_str())
                .to_status()
        })
    }

    fn stopped(&self) -> Status {
        let failure = Failure::from(super::backend::ReadError::Stopped("it is stopping".into()));
        self.api.refuse(&failure, &self.id)
    }
}

/// A stream's first metadata say from which index on it watches.
fn served_from<S>(index: u64, stream: S) -> Response<S> {
    let mut response = Response::new(stream);
    set(response.metadata_mut(), INDEX_KEY, &index.to_string());
    response
}

struct OperationWatch {
    watch: Watch,
    operation: OperationId,
    after: u64,
    over: bool,
}

pub(super) async fn operation(
    api: &Api,
    request: Request<v1::WatchOperationRequest>,
) -> Result<Response<OperationStream>, Status> {
    let watch = Watch::new(api, &request)?;
    let v1::WatchOperationRequest { name, after_revision } = request.into_inner();
    let start = async {
        let operation = read_operation_name(&name)?;
        api.backend().linearize().await?;
        let (_, index) = api.operation_view(&operation)?;
        Ok::<_, Failure>((operation, index))
    };
    let (operation, index) = start.await.map_err(|failure| api.refuse(&failure, &watch.id))?;
    let begin = OperationWatch { watch, operation, after: after_revision, over: false };
    Ok(served_from(index, Box::pin(unfold(begin, next_operation))))
}

async fn next_operation(
    mut it: OperationWatch,
) -> Option<(Result<v1::WatchOperationResponse, Status>, OperationWatch)> {
    if it.over {
        return None;
    }
    loop {
        it.watch.revisions.borrow_and_update();
        let (changed, terminal) = match look_at(&it) {
            Ok(seen) => seen,
            Err(failure) => {
                it.over = true;
                let status = it.watch.api.refuse(&failure, &it.watch.id);
                return Some((Err(status), it));
            }
        };
        if let Some(operation) = changed {
            it.after = operation.revision;
            it.over = terminal;
            it.watch.sent();
            return Some((Ok(v1::WatchOperationResponse { operation: Some(operation) }), it));
        }
        if terminal {
            return None;
        }
        match it.watch.next().await {
            Ok(Woken::Changed) => {}
            Ok(Woken::Quiet) => return Some((Ok(v1::WatchOperationResponse { operation: None }), it)),
            Err(status) => {
                it.over = true;
                return Some((Err(status), it));
            }
        }
    }
}

/// The operation, if it is newer than what was sent, and whether it is terminal.
fn look_at(it: &OperationWatch) -> Result<(Option<v1::Operation>, bool), Failure> {
    it.watch.api.look(|state| {
        let found = state
            .operations
            .get(&it.operation)
            .ok_or_else(|| Failure::not_found("operation", it.operation.as_str(), state.revision.0))?;
        let newer = found.revision.0 > it.after;
        let shown = newer.then(|| view::operation::operation(state, found, true));
        Ok((shown, found.state.is_terminal()))
    })
}

struct AuditWatch {
    watch: Watch,
    after: u64,
    ready: std::vec::IntoIter<v1::AuditRecord>,
    over: bool,
}

pub(super) async fn audit(
    api: &Api,
    request: Request<v1::WatchAuditRecordsRequest>,
) -> Result<Response<AuditStream>, Status> {
    let watch = Watch::new(api, &request)?;
    let v1::WatchAuditRecordsRequest { after_sequence } = request.into_inner();
    api.backend().linearize().await.map_err(|e| api.refuse(&e.into(), &watch.id))?;
    let (head, index) = api.look(|state| (state.audit.head.seq, state.revision.0));
    let after = if after_sequence == 0 { head } else { after_sequence };
    let begin = AuditWatch { watch, after, ready: Vec::new().into_iter(), over: false };
    Ok(served_from(index, Box::pin(unfold(begin, next_record))))
}

async fn next_record(
    mut it: AuditWatch,
) -> Option<(Result<v1::WatchAuditRecordsResponse, Status>, AuditWatch)> {
    if it.over {
        return None;
    }
    loop {
        if let Some(record) = it.ready.next() {
            it.after = record.sequence;
            it.watch.sent();
            return Some((Ok(v1::WatchAuditRecordsResponse { record: Some(record) }), it));
        }
        it.watch.revisions.borrow_and_update();
        let after = it.after;
        let newer: Vec<v1::AuditRecord> = it.watch.api.look(|state| {
            // Sequences have no gaps: the place in the deque follows from the first one.
            let first = state.audit.records.front().map_or(0, |r| r.seq);
            let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
            state.audit.records.iter().skip(skip).take(RECORDS_AT_ONCE).map(view::audit::record).collect()
        });
        if !newer.is_empty() {
            it.ready = newer.into_iter();
            continue;
        }
        match it.watch.next().await {
            Ok(Woken::Changed) => {}
            Ok(Woken::Quiet) => return Some((Ok(v1::WatchAuditRecordsResponse { record: None }), it)),
            Err(status) => {
                it.over = true;
                return Some((Err(status), it));
            }
        }
    }
}
