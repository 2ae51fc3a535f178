//! Following an operation: one stream after another, resumed by revision after a leader change, until it is terminal.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use tokio::time::Instant;
use tonic::Status;

use crate::client::{Client, is_transient};
use crate::failure::Failure;
use crate::render::operation as view;
use crate::render::style;

/// How long the coordinators may be gone before a watch gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// A stream that is silent for longer is asked again: keepalives come every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// How a watch ended.
pub enum End {
    /// The operation is terminal.
    Terminal(Box<v1::Operation>),
    /// The caller's time is over.
    TimedOut(Box<v1::Operation>),
    /// Ctrl-C.
    Detached(String),
}

/// Whether nothing happens any more.
#[must_use]
pub fn is_terminal(state: v1::OperationState) -> bool {
    use v1::OperationState as S;
    matches!(state, S::Succeeded | S::Failed | S::Canceled | S::RolledBack)
}

/// Follows to the end, with a display on stderr.
///
/// # Errors
/// When the operation does not exist or nobody answers for a minute.
pub async fn to_the_end(
    client: &Client,
    name: &str,
    timeout: Option<Duration>,
    show: bool,
) -> Result<End, Failure> {
    let mut display = Display::new(show);
    let end = timeout.map(|t| Instant::now() + t);
    let mut last = Box::new(v1::Operation { name: name.to_owned(), ..v1::Operation::default() });
    let follow = follow(client, name, |operation| {
        display.update(operation);
        *last = operation.clone();
        is_terminal(operation.state())
    });
    tokio::select! {
        result = follow => {
            result?;
            Ok(End::Terminal(last))
        }
        () = sleep_until(end) => Ok(End::TimedOut(last)),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached(view::id(&last).to_owned())),
    }
}

/// Follows until the operation is in one of the wanted states, or terminal.
///
/// # Errors
/// When it cannot be followed, or ended otherwise, or the time is over.
pub async fn until(
    client: &Client,
    name: &str,
    timeout: Option<Duration>,
    wanted: &[v1::OperationState],
) -> Result<v1::Operation, Failure> {
    let end = timeout.map(|t| Instant::now() + t);
    let mut last = v1::Operation::default();
    let follow = follow(client, name, |operation| {
        last = operation.clone();
        wanted.contains(&operation.state()) || is_terminal(operation.state())
    });
    let result = tokio::select! {
        result = follow => result,
        () = sleep_until(end) => Err(Failure::failed("it has not got there yet; it goes on").with_code(crate::failure::exit::TIMED_OUT)),
    };
    result.map(|()| last)
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Calls `each` with every change until it says enough.
async fn follow(
    client: &Client,
    name: &str,
    mut each: impl FnMut(&v1::Operation) -> bool,
) -> Result<(), Failure> {
    let mut after_revision = 0;
    let mut silent_since = Instant::now();
    loop {
        let request = v1::WatchOperationRequest { name: name.to_owned(), after_revision };
        match OperationServiceClient::new(client.channel()).watch_operation(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                while let Ok(Ok(Some(change))) = tokio::time::timeout(SILENCE, stream.message()).await {
                    silent_since = Instant::now();
                    let Some(operation) = change.operation else { continue };
                    after_revision = after_revision.max(operation.revision);
                    if each(&operation) {
                        return Ok(());
                    }
                }
            }
            Err(status) if !is_transient(&status) => return Err(status.into()),
            Err(_) => {}
        }
        if silent_since.elapsed() > PATIENCE {
            return Err(client.unreachable(&Status::unavailable("the watch was not answered for a minute")));
        }
        client.advance();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Redrawn in place at a terminal, otherwise one timestamped line per change.
struct Display {
    show: bool,
    live: bool,
    drawn: usize,
    seen: BTreeMap<u32, String>,
    headline: String,
}

impl Display {
    fn new(show: bool) -> Self {
        Self { show, live: style::is_live(), drawn: 0, seen: BTreeMap::new(), headline: String::new() }
    }

    fn update(&mut self, operation: &v1::Operation) {
        if !self.show {
            return;
        }
        if self.live { self.redraw(operation) } else { self.log(operation) }
    }

    fn redraw(&mut self, operation: &v1::Operation) {
        let text = view::detail(operation, false);
        let mut err = anstream::stderr().lock();
        if self.drawn > 0 {
            let _ = write!(err, "\x1b[{}A\x1b[J", self.drawn);
        }
        let _ = writeln!(err, "{text}");
        let _ = err.flush();
        self.drawn = text.lines().count();
    }

    fn log(&mut self, operation: &v1::Operation) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let mut err = anstream::stderr().lock();
        let headline = view::headline(operation);
        if headline != self.headline {
            let _ = writeln!(err, "{now} {headline}");
            self.headline = headline;
        }
        for step in &operation.steps {
            let line = view::step_line(step);
            if step.state() != v1::StepState::Pending && self.seen.get(&step.index) != Some(&line) {
                let _ = writeln!(err, "{now} {line}");
                self.seen.insert(step.index, line);
            }
        }
    }
}
