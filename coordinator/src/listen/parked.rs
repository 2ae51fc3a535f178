//! How much one identity may park here: bytes of requests that are not answered yet, and of answers it does not read.
//!
//! Every stream may carry a whole message and every connection 64 streams, so that the limits of one message do not bound
//! a peer (I-33): 64 connections x 64 streams x 1 MiB would be 4 GiB. Bytes are counted per identity, over all of its
//! connections; who parks too much has that one request refused.
//!
//! Of a request every byte counts until its answer begins. Of an answer the last frame counts until the next one is asked
//! for, which HTTP/2 does once the peer has taken the one before.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// What one identity has parked, over all of its connections.
#[derive(Debug, Default)]
pub(super) struct Parked(AtomicUsize);

impl Parked {
    fn add(&self, bytes: usize, limit: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= limit
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One share of what an identity has parked; given back when dropped.
#[derive(Debug)]
struct Share {
    parked: Arc<Parked>,
    limit: usize,
    bytes: AtomicUsize,
    over: AtomicBool,
}

impl Share {
    fn new(parked: Arc<Parked>, limit: usize) -> Self {
        Self { parked, limit, bytes: AtomicUsize::new(0), over: AtomicBool::new(false) }
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.parked.add(bytes, self.limit) {
            return Ok(());
        }
        self.over.store(true, Ordering::Relaxed);
        Err(io::Error::other("too many unfinished bytes of one identity"))
    }

    fn release(&self) {
        self.parked.give_back(self.bytes.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

/// What a request has parked so far; ends the counting when dropped.
#[derive(Debug)]
pub(super) struct RequestShare(Arc<Share>, Arc<AtomicBool>);

impl RequestShare {
    /// Whether the identity had parked too much.
    pub(super) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }
}

impl Drop for RequestShare {
    fn drop(&mut self) {
        // A stream of requests goes on after its answer has begun; it is read message by message from here on.
        self.1.store(false, Ordering::Relaxed);
        self.0.release();
    }
}

/// A request's body, counted until the answer begins.
pub(super) struct CountedRequest<B> {
    inner: B,
    share: Arc<Share>,
    counting: Arc<AtomicBool>,
}

/// Begins to count a request's body.
pub(super) fn count_request<B>(
    inner: B,
    parked: &Arc<Parked>,
    limit: usize,
) -> (CountedRequest<B>, RequestShare) {
    let share = Arc::new(Share::new(parked.clone(), limit));
    let counting = Arc::new(AtomicBool::new(true));
    (
        CountedRequest { inner, share: share.clone(), counting: counting.clone() },
        RequestShare(share, counting),
    )
}

impl<B> Body for CountedRequest<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && self.counting.load(Ordering::Relaxed)
            && let Err(error) = self.share.take(data.len())
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        polled.map(|next| next.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The answers of one connection that wait for their reader, by number, since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<(AtomicU64, Mutex<BTreeMap<u64, Instant>>)>);

impl Waiting {
    fn enter(&self) -> u64 {
        let number = self.0.0.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Instant::now());
        number
    }

    fn leave(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Whether a frame waits longer than this for its reader.
    pub(super) fn longer_than(&self, limit: Duration) -> bool {
        self.lock().values().any(|since| since.elapsed() > limit)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer's body, whose last frame counts until the next is asked for.
pub(super) struct CountedAnswer<B> {
    inner: B,
    share: Share,
    waiting: Waiting,
    held: Option<u64>,
}

impl<B> CountedAnswer<B> {
    pub(super) fn new(inner: B, parked: Arc<Parked>, limit: usize, waiting: Waiting) -> Self {
        Self { inner, share: Share::new(parked, limit), waiting, held: None }
    }

    fn taken(&mut self) {
        self.share.release();
        if let Some(number) = self.held.take() {
            self.waiting.leave(number);
        }
    }
}

impl<B> Drop for CountedAnswer<B> {
    fn drop(&mut self) {
        self.taken();
    }
}

impl<B> Body for CountedAnswer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.taken();
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            if let Err(error) = self.share.take(data.len()) {
                return Poll::Ready(Some(Err(error.into())));
            }
            self.held = Some(self.waiting.enter());
        }
        polled.map(|next| next.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
