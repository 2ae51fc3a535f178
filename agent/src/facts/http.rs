//! `/metrics` and `/healthz` on loopback.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::collector::Collector;
use super::sample::{Sample, render};
use super::units::WatchedUnit;

/// Port by contract.md.
pub const DEFAULT_PORT: u16 = 7481;
/// Scrapers at once; one Prometheus uses one.
const CONNECTIONS_MAX: usize = 16;
/// Whole life of one connection: a scrape takes milliseconds.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// Scrapes within this time get the same page, so that many scrapers cost no more than one.
const PAGE_AGE_MAX: Duration = Duration::from_secs(1);
/// Read buffer of a connection: the least hyper takes, and more than any scraper's request.
const BUFFER_BYTES: usize = 8 * 1024;

/// What the page shows: the host's metrics, the watched units, and samples of other rooms.
pub struct MetricsPage {
    state: Mutex<State>,
}

struct State {
    collector: Collector,
    units: Vec<WatchedUnit>,
    page: Bytes,
    made: Option<Instant>,
}

impl MetricsPage {
    /// An empty page around a collector.
    #[must_use]
    pub fn new(collector: Collector) -> Self {
        Self { state: Mutex::new(State { collector, units: Vec::new(), page: Bytes::new(), made: None }) }
    }

    /// Replaces the units to report on.
    pub fn watch(&self, units: Vec<WatchedUnit>) {
        self.locked().units = units;
    }

    /// The samples now, for the push to the coordinator.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut state = self.locked();
        let State { collector, units, .. } = &mut *state;
        collector.collect(units).samples
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self) -> Bytes {
        let mut state = self.locked();
        if state.made.is_none_or(|at| at.elapsed() >= PAGE_AGE_MAX) {
            let State { collector, units, .. } = &mut *state;
            let mut text = String::with_capacity(16 * 1024);
            render(&collector.collect(units).samples, &mut text);
            state.page = Bytes::from(text);
            state.made = Some(Instant::now());
        }
        state.page.clone()
    }
}

fn answer(page: &MetricsPage, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.page())
        }
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n")),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"not found\n")),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", Bytes::from_static(b"only GET\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Serves the page on loopback until `stop`. Port 0 picks a free one; `bound` is told which. A refused connection or a
/// bad request costs that connection alone.
///
/// # Errors
/// When the port can not be bound.
pub async fn serve(
    page: Arc<MetricsPage>,
    port: u16,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    bound(listener.local_addr()?);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Waiting connections stay in the kernel's queue while all places are taken.
        let place = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            place = Arc::clone(&free).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: pause, or the loop spins (reliability.md C11).
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let response = answer(&page, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CONNECTION_LIMIT)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // Whatever goes wrong here concerns the scraper alone.
            let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
        });
    }
}
