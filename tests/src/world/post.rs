//! What happens to single messages on their way (F-24, F-25, F-27, F-28): between members, and between agents and members.
//!
//! It stands in front of a member's router, behind the connection: messages are whole here, whatever carries them. Calls of
//! peers are doubled, held back so that later ones overtake them, cut in half, or sent once more after one of the two has
//! been restarted. Messages of an agent's session likewise; towards the agent only what a real coordinator could do: say
//! something twice, break off in the middle, or begin with work that is out of date, as one that lags does. Inside one
//! session the connection keeps the order, and nothing here pretends otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use hyper::body::Frame;
use prost::Message as _;
use quorate_common::task::Entropy;
use quorate_coordinator::listen::PeerIdentity;
use quorate_model::Principal;
use quorate_proto::agent::v1::{SessionResponse, session_response};

use super::trace::Trace;

/// What can be done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trick {
    /// It comes twice (F-24).
    Duplicate,
    /// A later one overtakes it (F-25).
    Reorder,
    /// It comes once more after sender or receiver were restarted (F-27).
    Replay,
    /// Half of it comes; a snapshot breaks off between its chunks (F-28).
    Truncate,
}

impl Trick {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Duplicate, Self::Reorder, Self::Replay, Self::Truncate];

    /// The name it is counted under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Replay => "replay",
            Self::Truncate => "truncate",
        }
    }
}

/// Of so many messages one is struck while a trick is on.
const ONE_OF: u64 = 6;
/// Old messages kept for each receiver.
const KEPT_MAX: usize = 24;
/// Longest time that a message is held back, in milliseconds.
const HOLD_MS: u64 = 400;
/// Largest call of a peer; the listener takes 4 MiB.
const CALL_MAX_BYTES: usize = 8 << 20;
/// Bytes in front of each message of a stream: a flag and its length.
const FRAME_HEAD: usize = 5;
/// Calls of peers.
const PEERS: &str = "/quorate.peer.v1.PeerService/";
/// The stream of agents.
const SESSION: &str = "/quorate.agent.v1.AgentService/Session";
/// A chunk of a snapshot.
const CHUNK: &str = "InstallSnapshot";

/// A call of a peer that was delivered once.
#[derive(Clone)]
struct Kept {
    parts: Parts,
    body: Bytes,
    sender: String,
    lives: (u64, u64),
}

#[derive(Default)]
struct Inner {
    dice: Option<Entropy>,
    on: Vec<Trick>,
    /// Streams of snapshots break off.
    chunks: bool,
    struck: BTreeMap<String, u64>,
    /// How often each host was started.
    lives: BTreeMap<String, u64>,
    /// Delivered calls by receiver.
    kept: BTreeMap<String, VecDeque<Kept>>,
    /// Work that agents were sent, with the number of the session.
    work: BTreeMap<String, VecDeque<(u64, Bytes)>>,
    /// Messages that agents sent, with the number of the session.
    said: BTreeMap<String, VecDeque<(u64, Bytes)>>,
    sessions: BTreeMap<String, u64>,
    /// Messages that came by, of peers and of sessions.
    passed: u64,
}

/// The post office. Clones are the same one.
#[derive(Clone)]
pub struct Post(Arc<Mutex<Inner>>, Trace);

impl Post {
    /// One that does its work.
    #[must_use]
    pub fn new(seed: u64, trace: Trace) -> Self {
        let dice = Some(Entropy::seeded(seed ^ 0x0b05_7a1e));
        Self(Arc::new(Mutex::new(Inner { dice, ..Inner::default() })), trace)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on.
    pub fn begin(&self, trick: Trick) {
        self.inner().on.push(trick);
    }

    /// No longer.
    pub fn end(&self, trick: Trick) {
        self.inner().on.retain(|other| *other != trick);
    }

    /// A host starts, or starts again.
    pub fn born(&self, host: &str) {
        *self.inner().lives.entry(host.to_owned()).or_default() += 1;
    }

    /// What was done to messages, by name.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.inner().struck.clone()
    }

    /// Messages that came by so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.inner().passed
    }

    fn strikes(&self, trick: Trick) -> bool {
        let mut inner = self.inner();
        inner.on.contains(&trick) && inner.below(ONE_OF) == 0
    }

    /// Whether streams of snapshots break off from now on. They are rare, so they do as long as there are faults at all.
    pub fn break_streams(&self, on: bool) {
        self.inner().chunks = on;
    }

    fn breaks_off(&self) -> bool {
        let mut inner = self.inner();
        inner.chunks && inner.below(2) == 0
    }

    fn note(&self, trick: Trick, what: &str) {
        let name = trick.name();
        self.1.say("post", format!("{name}: {what}"));
        let kind = if what.starts_with("session") { "session" } else { "peers" };
        let mut inner = self.inner();
        *inner.struck.entry(format!("{name}-{kind}")).or_default() += 1;
        if trick == Trick::Truncate && what.contains(CHUNK) {
            *inner.struck.entry(format!("{name}-snapshot")).or_default() += 1;
        }
    }

    fn hold(&self) -> Duration {
        Duration::from_millis(20 + self.inner().below(HOLD_MS))
    }

    /// Stands in front of a member's router.
    pub fn in_front(&self, receiver: String, router: axum::Router) -> axum::Router {
        router.layer(from_fn_with_state(Desk { post: self.clone(), receiver }, take))
    }
}

impl Inner {
    fn below(&mut self, limit: u64) -> u64 {
        self.dice.as_mut().map_or(0, |dice| dice.next_u64() % limit.max(1))
    }

    fn life(&self, host: &str) -> u64 {
        self.lives.get(host).copied().unwrap_or(0)
    }

    /// A call from before the last start of its sender or of its receiver.
    fn old_call(&mut self, receiver: &str) -> Option<Kept> {
        let lives = |sender: &str| (self.life(sender), self.life(receiver));
        let old = |kept: &&Kept| kept.lives != lives(&kept.sender);
        let old: Vec<Kept> = self.kept.get(receiver)?.iter().filter(old).cloned().collect();
        let n = self.below(u64::try_from(old.len()).unwrap_or(1));
        old.get(usize::try_from(n).unwrap_or(0)).cloned()
    }
}

#[derive(Clone)]
struct Desk {
    post: Post,
    receiver: String,
}

async fn take(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match path.strip_prefix(PEERS) {
        Some(method) => desk.call(method, request, next).await,
        None if path == SESSION => desk.session(request, next).await,
        None => next.run(request).await,
    }
}

fn principal(parts: &Parts) -> Option<&Principal> {
    parts.extensions.get::<PeerIdentity>().map(|peer| &peer.principal)
}

impl Desk {
    async fn call(&self, method: &str, request: Request, next: Next) -> Response {
        self.post.inner().passed += 1;
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, CALL_MAX_BYTES).await else {
            // The caller went away in the middle of it.
            return next.run(Request::from_parts(parts, Body::empty())).await;
        };
        let sender = match principal(&parts) {
            Some(Principal::Coordinator { member }) => super::member::host(member.0),
            Some(_) | None => "nobody".to_owned(),
        };
        let route = format!("{method} of {sender} at {}", self.receiver);
        if self.post.strikes(Trick::Reorder) {
            let hold = self.post.hold();
            self.post.note(Trick::Reorder, &format!("{route} waits {} ms", hold.as_millis()));
            tokio::time::sleep(hold).await;
        }
        if self.post.strikes(Trick::Replay) {
            self.replay(&next);
        }
        if self.post.strikes(Trick::Truncate) || (method == CHUNK && self.post.breaks_off()) {
            self.post.note(Trick::Truncate, &route);
            let half = body.slice(..body.len() / 2);
            return next.run(Request::from_parts(parts, Body::from(half))).await;
        }
        if self.post.strikes(Trick::Duplicate) {
            self.post.note(Trick::Duplicate, &route);
            self.later(&next, parts.clone(), body.clone());
        }
        self.keep(Kept { parts: parts.clone(), body: body.clone(), sender, lives: (0, 0) });
        next.run(Request::from_parts(parts, Body::from(body))).await
    }

    fn keep(&self, kept: Kept) {
        let mut inner = self.post.inner();
        let lives = (inner.life(&kept.sender), inner.life(&self.receiver));
        let all = inner.kept.entry(self.receiver.clone()).or_default();
        // The newest of this life, and the last ones of the lives before it.
        let full = all.iter().filter(|old| old.lives == lives).count() >= KEPT_MAX / 2;
        if let Some(place) = all.iter().position(|old| old.lives == lives).filter(|_| full) {
            drop(all.remove(place));
        } else if all.len() >= KEPT_MAX {
            drop(all.pop_front());
        }
        all.push_back(Kept { lives, ..kept });
    }

    fn replay(&self, next: &Next) {
        let old = self.post.inner().old_call(&self.receiver);
        if let Some(old) = old {
            let method = old.parts.uri.path().strip_prefix(PEERS).unwrap_or_default();
            self.post.note(Trick::Replay, &format!("{method} of {} at {}", old.sender, self.receiver));
            self.later(next, old.parts, old.body);
        }
    }

    /// Delivers a call whose answer nobody waits for.
    fn later(&self, next: &Next, parts: Parts, body: Bytes) {
        let (next, hold) = (next.clone(), self.post.hold());
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
            // Read to its end, as its caller would have.
            let _ = axum::body::to_bytes(answer.into_body(), CALL_MAX_BYTES).await;
        });
    }

    async fn session(&self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let Some(Principal::Agent { node }) = principal(&parts).cloned() else {
            return next.run(Request::from_parts(parts, body)).await;
        };
        let node = node.to_string();
        let number = {
            let mut inner = self.post.inner();
            let number = inner.sessions.entry(node.clone()).or_default();
            *number += 1;
            *number
        };
        let stream = |inner: Body, up: bool| {
            let post = self.post.clone();
            let node = node.clone();
            Body::new(Tampered {
                inner,
                post,
                node,
                number,
                up,
                count: 0,
                buffer: BytesMut::new(),
                ready: VecDeque::new(),
                held: None,
                over: false,
            })
        };
        let answer = next.run(Request::from_parts(parts, stream(body, true))).await;
        answer.map(|body| stream(body, false))
    }
}

/// One direction of a session.
struct Tampered {
    inner: Body,
    post: Post,
    node: String,
    number: u64,
    up: bool,
    count: u64,
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
    held: Option<Bytes>,
    over: bool,
}

impl Tampered {
    /// Whole messages out of what came.
    fn split(&mut self) {
        while let Some(head) = self.buffer.get(1..FRAME_HEAD) {
            let Ok(head) = <[u8; 4]>::try_from(head) else { return };
            let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
            let whole = length.saturating_add(FRAME_HEAD);
            if self.buffer.len() < whole {
                return;
            }
            let message = self.buffer.split_to(whole).freeze();
            self.count += 1;
            self.post.inner().passed += 1;
            if self.up {
                self.sent(message)
            } else {
                self.told(message)
            }
            if self.over {
                return;
            }
        }
    }

    fn note(&self, trick: Trick) {
        let way = if self.up { "from" } else { "to" };
        self.post.note(trick, &format!("session {} {way} {}", self.number, self.node));
    }

    fn cut(&mut self, message: &Bytes) {
        self.note(Trick::Truncate);
        self.ready.push_back(message.slice(..message.len() / 2));
        self.over = true;
    }

    /// An agent's message. The first one, Hello, makes the session and is left alone.
    fn sent(&mut self, message: Bytes) {
        if self.count > 1 {
            if self.post.strikes(Trick::Truncate) {
                return self.cut(&message);
            }
            if self.post.strikes(Trick::Replay)
                && let Some(old) = self.old(|inner| &mut inner.said)
            {
                self.note(Trick::Replay);
                self.ready.push_back(old);
            }
            if self.held.is_none() && self.post.strikes(Trick::Reorder) {
                self.note(Trick::Reorder);
                self.held = Some(message);
                return;
            }
            if self.post.strikes(Trick::Duplicate) {
                self.note(Trick::Duplicate);
                self.ready.push_back(message.clone());
            }
        }
        self.remember(message.clone(), |inner| &mut inner.said);
        self.ready.push_back(message);
        self.ready.extend(self.held.take());
    }

    /// A coordinator's message.
    fn told(&mut self, message: Bytes) {
        let mut content = message.clone();
        content.advance(FRAME_HEAD);
        let body = SessionResponse::decode(content).ok().and_then(|response| response.body);
        let is_work = matches!(body, Some(session_response::Body::Desired(_)));
        if self.count > 1 && self.post.strikes(Trick::Truncate) {
            return self.cut(&message);
        }
        if is_work {
            // A coordinator that lags begins with work that is out of date, and goes on with what it learns.
            if self.post.strikes(Trick::Replay)
                && let Some(old) = self.old(|inner| &mut inner.work)
            {
                self.note(Trick::Replay);
                self.ready.push_back(old);
            }
            if self.post.strikes(Trick::Duplicate) {
                self.note(Trick::Duplicate);
                self.ready.push_back(message.clone());
            }
            self.remember(message.clone(), |inner| &mut inner.work);
        }
        self.ready.push_back(message);
    }

    /// A message of an earlier session.
    fn old(
        &self,
        of: impl FnOnce(&mut Inner) -> &mut BTreeMap<String, VecDeque<(u64, Bytes)>>,
    ) -> Option<Bytes> {
        let mut inner = self.post.inner();
        let draw = inner.below(u64::MAX);
        let all = of(&mut inner).get(&self.node)?;
        let old: Vec<&Bytes> = all.iter().filter(|(n, _)| *n < self.number).map(|(_, bytes)| bytes).collect();
        let count = u64::try_from(old.len()).unwrap_or(1).max(1);
        old.get(usize::try_from(draw % count).unwrap_or(0)).map(|bytes| (*bytes).clone())
    }

    fn remember(
        &self,
        message: Bytes,
        of: impl FnOnce(&mut Inner) -> &mut BTreeMap<String, VecDeque<(u64, Bytes)>>,
    ) {
        let mut inner = self.post.inner();
        let all = of(&mut inner).entry(self.node.clone()).or_default();
        if all.len() >= KEPT_MAX {
            drop(all.pop_front());
        }
        all.push_back((self.number, message));
    }
}

impl hyper::body::Body for Tampered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    self.buffer.extend_from_slice(&data);
                    self.split();
                }
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.over = true,
            }
        }
    }
}
