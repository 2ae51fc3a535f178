//! The one door in front of every gRPC service: who is it, may it, where is it served; then count what came out.
//!
//! Order matters: nothing of a request but its path and metadata is looked at before the caller is known and allowed, and the
//! same checks run for every request, not once per connection: a revoked certificate is refused on an open connection (I-26).
//!
//! A follower passes calls that need the leader's memory on, as they are, with two pieces of metadata: the serial number of
//! the original caller's certificate and its address. The leader takes them from a coordinator's certificate only, looks the
//! serial up in its own state and authorises it again. A call is passed on once, never twice.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use quorate_common::wire::Invalid;
use quorate_common::wire::status::REQUEST_ID_KEY;
use quorate_common::wire::text::read_request_id;
use quorate_model::{Principal, Reason, RequestId, Serial};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use super::authz::{self, Allow, Effect, Place, Rule};
use super::backend::LeaderForward;
use super::caller::{CallId, Caller, Connected, NotAccepted, accepted};
use super::context::{Api, mint_request_id};
use super::ledger::Event;
use super::status::{Failure, problem};
use crate::listen::HttpPeer;

/// Metadata of a call that a follower passes on: serial number of the original caller's certificate.
pub const ON_BEHALF_OF_KEY: &str = "quorate-on-behalf-of";
/// Metadata of a call that a follower passes on: where it came from first.
pub const CLIENT_IP_KEY: &str = "quorate-client-ip";
/// Longest unary call (reliability.md 5.3). Streams have their own heartbeats.
const UNARY_LIMIT: Duration = Duration::from_secs(30);

/// Which port the gate stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 7443: mutual TLS, everything but enrolment.
    Grpc,
    /// 7480: no client certificate, enrolment only.
    Https,
}

/// A caller without a certificate, as the gate of the HTTPS port hands it to the enrolment service.
#[derive(Clone, Debug)]
pub struct Anonymous {
    /// Where the call comes from.
    pub client_ip: std::net::IpAddr,
    /// Its request id.
    pub request: CallId,
}

/// What the gate needs to know of a connection.
pub type Identify = Arc<dyn Fn(&http::Extensions) -> Option<Connected> + Send + Sync>;

/// The door. Clones are the same door.
#[derive(Clone)]
pub struct Gate {
    api: Api,
    routes: Routes,
    forward: Option<Arc<dyn LeaderForward>>,
    identify: Identify,
    port: Port,
}

impl Gate {
    /// In front of the services of the gRPC port. `identify` finds what the listener knows of the connection.
    #[must_use]
    pub fn new(api: Api, routes: Routes, forward: Arc<dyn LeaderForward>, identify: Identify) -> Self {
        Self { api, routes, forward: Some(forward), identify, port: Port::Grpc }
    }

    /// In front of the enrolment service of the HTTPS port, which takes callers without a certificate.
    #[must_use]
    pub fn enrolment(api: Api, routes: Routes) -> Self {
        Self { api, routes, forward: None, identify: Arc::new(|_| None), port: Port::Https }
    }

    async fn call_in(self, mut request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let rule = authz::rule(&path);
        let (id, own) = call_id(&self.api, request.headers());
        let admitted = match self.port {
            Port::Grpc => self.admit(rule, &path, &request, &id),
            Port::Https => self.admit_anonymous(rule, &path, &request, &id),
        };
        // Known and allowed first: a stranger is told nothing about its metadata.
        let admitted = admitted.and_then(|admitted| match own {
            Ok(()) => Ok(admitted),
            Err(invalid) => Err(self.api.refuse(&invalid.into(), id.get())),
        });
        let word = rule.map_or("unknown", Rule::short);
        let response = match admitted {
            Err(status) => status.into_http(),
            Ok(admitted) => {
                self.api.inner.metrics.call_began();
                let response = self.serve(admitted, &mut request).await;
                self.api.inner.metrics.call_ended();
                response
            }
        };
        let response = finish(response, rule, id.get());
        let code = code_of(&response);
        self.api.inner.metrics.called(word, code, started.elapsed());
        response
    }

    async fn serve(&self, admitted: Admitted, request: &mut Request<Body>) -> Response<Body> {
        let Admitted { rule, caller, forwarded, anonymous } = admitted;
        let mut request = std::mem::replace(request, Request::new(Body::empty()));
        let Some(caller) = caller else {
            if let Some(anonymous) = anonymous {
                request.extensions_mut().insert(anonymous);
            }
            return self.bounded(rule, self.dispatch(request)).await;
        };
        let health = self.api.health();
        let elsewhere = rule.place == Place::Leader && !health.leads() && health.leader.is_some();
        let response = if elsewhere && forwarded {
            problem(Reason::NoLeader, "the leader has just changed").to_status().into_http()
        } else if let (true, Some(forward)) = (elsewhere, &self.forward) {
            pass_on_headers(request.headers_mut(), &caller);
            let send = forward.forward(request);
            let sent =
                async { send.await.unwrap_or_else(|error| refused(&self.api, &error.into(), &caller)) };
            self.bounded(rule, sent).await
        } else {
            request.extensions_mut().insert(caller.clone());
            self.bounded(rule, self.dispatch(request)).await
        };
        // The member that answers a passed-on call counts it as the caller's; the one in between does not count it twice.
        if rule.effect != Effect::Change
            && !elsewhere
            && caller.principal.role() == Some(quorate_model::Role::User)
        {
            let code = code_of(&response);
            self.api.inner.ledger.count(&Event {
                event_type: "read",
                principal: &caller.principal,
                client_ip: &caller.client_ip,
                action: rule.short(),
                reason: if code == Code::Ok { "" } else { code_word(code) },
                details: "",
            });
        }
        response
    }

    async fn dispatch(&self, request: Request<Body>) -> Response<Body> {
        match self.routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn bounded(&self, rule: &Rule, call: impl Future<Output = Response<Body>>) -> Response<Body> {
        if rule.effect == Effect::Stream {
            return call.await;
        }
        match tokio::time::timeout(UNARY_LIMIT, call).await {
            Ok(response) => response,
            Err(_) if rule.effect == Effect::Change => {
                problem(Reason::OutcomeUnknown, "the call took longer than 30 s").to_status().into_http()
            }
            Err(_) => {
                problem(Reason::DeadlineExceeded, "the call took longer than 30 s").to_status().into_http()
            }
        }
    }

    fn admit(
        &self,
        rule: Option<&'static Rule>,
        path: &str,
        request: &Request<Body>,
        id: &CallId,
    ) -> Result<Admitted, Status> {
        let denied = Denial { api: &self.api, rule, path, id };
        let Some(connected) = (self.identify)(request.extensions()) else {
            return Err(denied.not_accepted(&Principal::System, "", NotAccepted::NoCertificate));
        };
        let principal = connected.principal.clone();
        let mut caller =
            self.caller(connected, id).map_err(|cause| denied.not_accepted(&principal, "", cause))?;
        let forwarded = request.headers().get(ON_BEHALF_OF_KEY);
        if let Some(original) = forwarded {
            if !matches!(caller.principal, Principal::Coordinator { .. }) {
                return Err(denied.not_allowed(&caller, "it claims to speak for somebody else"));
            }
            let serial = original.to_str().ok().and_then(|text| Serial::new(text).ok());
            let ip = request.headers().get(CLIENT_IP_KEY).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let found =
                serial.ok_or(NotAccepted::UnknownSerial).and_then(|s| self.lookup(&s, id, ip.to_owned()));
            caller = found.map_err(|cause| denied.not_accepted(&caller.principal, ip, cause))?;
            // A member may pass on what users ask for, and nothing else.
            if !matches!(caller.principal, Principal::User { .. }) {
                return Err(denied.not_allowed(&caller, "only calls of users are passed on"));
            }
        }
        match rule {
            Some(rule) if rule.permits(&caller.principal, caller.access) => {
                Ok(Admitted { rule, caller: Some(caller), forwarded: forwarded.is_some(), anonymous: None })
            }
            Some(_) => Err(denied.not_allowed(&caller, "its role does not include it")),
            None => Err(denied.not_allowed(&caller, "there is no such method")),
        }
    }

    fn admit_anonymous(
        &self,
        rule: Option<&'static Rule>,
        path: &str,
        request: &Request<Body>,
        id: &CallId,
    ) -> Result<Admitted, Status> {
        let denied = Denial { api: &self.api, rule, path, id };
        let peer = request.extensions().get::<HttpPeer>().copied();
        let ip = peer.map(|p| p.remote.ip().to_canonical());
        let shown = ip.map(|ip| ip.to_string()).unwrap_or_default();
        match (rule, ip) {
            // A token and, for members, the CA's key cross this call: never in the clear.
            (Some(rule), Some(client_ip))
                if rule.allow == Allow::Enrolment && peer.is_some_and(|p| p.tls) =>
            {
                let anonymous = Some(Anonymous { client_ip, request: id.clone() });
                Ok(Admitted { rule, caller: None, forwarded: false, anonymous })
            }
            (Some(_) | None, _) => {
                Err(denied.not_accepted(&Principal::System, &shown, NotAccepted::NoCertificate))
            }
        }
    }

    /// Who calls. A fellow member is whom the listener's allow-list let in for this very request: a member that has just
    /// joined, or whose log is behind, learns the list of certificates only through calls like this one.
    fn caller(&self, connected: Connected, id: &CallId) -> Result<Caller, NotAccepted> {
        let Connected { serial, principal, client_ip, not_after } = connected;
        if matches!(principal, Principal::Coordinator { .. }) {
            return Ok(Caller { principal, access: None, serial, not_after, client_ip, request: id.clone() });
        }
        let caller = self.lookup(&serial, id, client_ip)?;
        if caller.principal == principal { Ok(caller) } else { Err(NotAccepted::OtherPrincipal) }
    }

    fn lookup(&self, serial: &Serial, id: &CallId, client_ip: String) -> Result<Caller, NotAccepted> {
        let now = self.api.backend().now();
        let (principal, access, not_after) = self.api.look(|state| accepted(state, serial, now))?;
        let serial = serial.clone();
        Ok(Caller { principal, access, serial, not_after, client_ip, request: id.clone() })
    }
}

struct Admitted {
    rule: &'static Rule,
    caller: Option<Caller>,
    forwarded: bool,
    anonymous: Option<Anonymous>,
}

/// Answers and counts a denial. Callers see one text for all causes of one kind; the audit has the cause.
struct Denial<'a> {
    api: &'a Api,
    rule: Option<&'static Rule>,
    path: &'a str,
    id: &'a CallId,
}

impl Denial<'_> {
    fn count(&self, event_type: &'static str, principal: &Principal, ip: &str, reason: Reason, cause: &str) {
        let action = self.rule.map_or("unknown method", Rule::short);
        let details = if self.rule.is_some() { cause.to_owned() } else { format!("{cause}: {}", self.path) };
        let reason = reason.as_str();
        let client_ip = ip;
        self.api.inner.ledger.count(&Event {
            event_type,
            principal,
            client_ip,
            action,
            reason,
            details: &details,
        });
    }

    fn not_accepted(&self, claimed: &Principal, ip: &str, cause: NotAccepted) -> Status {
        let reason =
            if cause == NotAccepted::Revoked { Reason::IdentityRevoked } else { Reason::Unauthenticated };
        self.count("auth", claimed, ip, reason, cause.as_str());
        self.api.inner.metrics.refused(Reason::Unauthenticated);
        problem(Reason::Unauthenticated, "the certificate is not accepted")
            .with_request_id(self.id.get().as_str())
            .to_status()
    }

    fn not_allowed(&self, caller: &Caller, cause: &str) -> Status {
        self.count("authz", &caller.principal, &caller.client_ip, Reason::NotAllowed, cause);
        self.api.inner.metrics.refused(Reason::NotAllowed);
        let what = match self.rule {
            Some(rule) => format!("{} may not call {}", caller.principal, rule.short()),
            None => format!("{} called a method that does not exist", caller.principal),
        };
        problem(Reason::NotAllowed, what).with_request_id(self.id.get().as_str()).to_status()
    }
}

fn refused(api: &Api, failure: &Failure, caller: &Caller) -> Response<Body> {
    api.refuse(failure, caller.request.get()).into_http()
}

/// The caller's own id from metadata, or a new one. One that is no id must be refused and not replaced: its sender relies on
/// it when it asks again.
fn call_id(api: &Api, headers: &HeaderMap) -> (CallId, Result<(), Invalid>) {
    let own = headers.get(REQUEST_ID_KEY).map(|value| {
        // What is not text cannot be shown; the reason is the same as for any other character that is not allowed.
        let text = value.to_str().unwrap_or("\u{fffd}").to_owned();
        read_request_id(REQUEST_ID_KEY, text)
    });
    match own {
        Some(Ok(id)) => (CallId::new(id), Ok(())),
        Some(Err(invalid)) => (CallId::new(mint_request_id(api.backend())), Err(invalid)),
        None => (CallId::new(mint_request_id(api.backend())), Ok(())),
    }
}

fn pass_on_headers(headers: &mut HeaderMap, caller: &Caller) {
    let pairs = [
        (ON_BEHALF_OF_KEY, caller.serial.as_str()),
        (CLIENT_IP_KEY, caller.client_ip.as_str()),
        (REQUEST_ID_KEY, caller.request.get().as_str()),
    ];
    for (key, text) in pairs {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(key), value);
        }
    }
}

fn code_of(response: &Response<Body>) -> Code {
    // Only a call that failed before its first message has its status in the headers.
    response.headers().get(Status::GRPC_STATUS).map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

const fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Gives tonic's own errors our codes (B-1, B-2), and every answer its request id.
fn finish(mut response: Response<Body>, rule: Option<&Rule>, id: &RequestId) -> Response<Body> {
    let remapped = response.extensions().get::<Status>().and_then(|status| remap(status, rule));
    if let Some(problem) = remapped {
        response = problem.with_request_id(id.as_str()).to_status().into_http();
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().entry(HeaderName::from_static(REQUEST_ID_KEY)).or_insert(value);
    }
    response
}

fn remap(status: &Status, rule: Option<&Rule>) -> Option<quorate_common::wire::Problem> {
    // Ours carry details; tonic's do not.
    if !status.details().is_empty() {
        return None;
    }
    let method = rule.map_or("this method", Rule::short);
    let text = status.message();
    match status.code() {
        Code::Internal if text.contains("decode") || text.contains("Missing request message") => {
            Some(problem(Reason::MalformedMessage, format!("malformed_message: not a request of {method}")))
        }
        // An unknown compression flag or a frame that is cut off.
        Code::Internal if text.contains("protocol error") || text.contains("compression flag") => Some(
            problem(Reason::MalformedMessage, format!("malformed_message: not a gRPC message for {method}")),
        ),
        Code::OutOfRange | Code::ResourceExhausted if text.contains("length too large") => {
            Some(problem(Reason::MessageTooLarge, format!("message_too_large: {text}")))
        }
        _ => None,
    }
}

impl<B> Service<Request<B>> for Gate
where
    B: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gate = self.clone();
        let future = gate.call_in(request.map(Body::new));
        Box::pin(async move { Ok(Pin::from(Box::new(future)).await) })
    }
}
