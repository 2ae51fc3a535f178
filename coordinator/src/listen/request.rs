//! One request of a verified peer: everything that must hold before the router sees it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use quorate_common::task::Shutdown;
use quorate_common::tls::{AllowList, Denied};
use quorate_model::{Reason, Timestamp};
use tokio::sync::Semaphore;
use tonic::Code;
use tower::ServiceExt;

use super::malformed::{name_malformed, refusal};
use super::parked::{CountedAnswer, Parked, Waiting, count_request};
use super::peer::PeerIdentity;
use super::stats::ListenStats;

/// What all connections of a listener share.
pub(super) struct Dispatch {
    pub(super) router: Router,
    pub(super) allow: Arc<dyn AllowList>,
    pub(super) streaming: BTreeSet<String>,
    pub(super) request_timeout: Duration,
    pub(super) stats: Arc<ListenStats>,
}

/// The service of one connection.
#[derive(Clone)]
pub(super) struct ConnectionService {
    dispatch: Arc<Dispatch>,
    identity: Arc<PeerIdentity>,
    in_work: Arc<Semaphore>,
    close: Shutdown,
    parking: Parking,
}

/// What the identity may park, what it has parked, and what this connection does not read.
#[derive(Clone)]
pub(super) struct Parking {
    pub(super) parked: Arc<Parked>,
    pub(super) limit: usize,
    pub(super) waiting: Waiting,
}

impl ConnectionService {
    pub(super) fn new(
        dispatch: Arc<Dispatch>,
        identity: Arc<PeerIdentity>,
        max_concurrent_requests: usize,
        close: Shutdown,
        parking: Parking,
    ) -> Self {
        let in_work = Arc::new(Semaphore::new(max_concurrent_requests));
        Self { dispatch, identity, in_work, close, parking }
    }

    async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let Ok(_permit) = self.in_work.clone().try_acquire_owned() else {
            self.dispatch.stats.request_refused("overload");
            return refusal(
                Code::ResourceExhausted,
                Reason::LimitReached,
                "too many requests at once on this connection",
            );
        };
        let peer = match self.check() {
            Ok(peer) => peer,
            Err(response) => return *response,
        };
        let method = request.uri().path().to_owned();
        let Parking { parked, limit, waiting } = self.parking.clone();
        let (head, body) = request.into_parts();
        let (body, share) = count_request(body, &parked, limit);
        let mut request = Request::from_parts(head, Body::new(body));
        request.extensions_mut().insert(peer);
        let work = self.dispatch.router.clone().oneshot(request);
        let answer = if self.dispatch.streaming.contains(&method) {
            work.await
        } else {
            match tokio::time::timeout(self.dispatch.request_timeout, work).await {
                Ok(answer) => answer,
                Err(_) => return self.too_late(&method),
            }
        };
        if share.is_over() {
            return self.parks_too_much(limit);
        }
        let response = answer.unwrap_or_else(|impossible: Infallible| match impossible {});
        let response = name_malformed(response, &method);
        response.map(|body| Body::new(CountedAnswer::new(body, parked, limit, waiting)))
    }

    fn parks_too_much(&self, limit: usize) -> Response<Body> {
        self.dispatch.stats.request_refused("parked");
        refusal(
            Code::ResourceExhausted,
            Reason::LimitReached,
            &format!("more than {limit} bytes of unfinished requests and unread answers of one identity"),
        )
    }

    /// The certificate's life and the allow-list, now. A refusal also ends the connection: nothing further can come of it.
    fn check(&self) -> Result<PeerIdentity, Box<Response<Body>>> {
        let refuse = |code, reason: Reason, word, message: &str| {
            self.dispatch.stats.request_refused(word);
            let PeerIdentity { principal, serial, remote, .. } = self.identity.as_ref();
            tracing::warn!(reason = word, peer = %remote, %principal, %serial, "request refused");
            Box::new(refusal(code, reason, message))
        };
        if now() > self.identity.not_after {
            return Err(refuse(
                Code::Unauthenticated,
                Reason::Unauthenticated,
                "expired",
                "the certificate has expired",
            ));
        }
        let PeerIdentity { principal, serial, .. } = self.identity.as_ref();
        match self.dispatch.allow.check(serial, principal) {
            Ok(access) => Ok(PeerIdentity { access, ..self.identity.as_ref().clone() }),
            Err(Denied::Unavailable) => {
                let word = Denied::Unavailable.word();
                Err(refuse(Code::Unavailable, Reason::NoLeader, word, &Denied::Unavailable.to_string()))
            }
            Err(denied @ (Denied::Revoked | Denied::Removed | Denied::UnknownSerial)) => {
                self.close.trigger();
                // One text for all causes: the log has the cause.
                Err(refuse(
                    Code::Unauthenticated,
                    Reason::IdentityRevoked,
                    denied.word(),
                    "the certificate is not accepted",
                ))
            }
        }
    }

    fn too_late(&self, method: &str) -> Response<Body> {
        self.dispatch.stats.request_refused("deadline");
        let limit = self.dispatch.request_timeout;
        refusal(
            Code::DeadlineExceeded,
            Reason::DeadlineExceeded,
            &format!("{method} took longer than {limit:?}"),
        )
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

/// The wall clock: certificates are dated by it, and the listener is the shell's edge where it may be read.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
