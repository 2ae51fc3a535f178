//! Following an operation: one stream after another, resumed by revision after a leader change, until it is terminal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
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

/// How often a live screen is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
/// Longest wait for the group that a live screen shows; the next tick asks again.
const ASK: Duration = Duration::from_secs(2);

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The operation is terminal.
    Terminal,
    /// The caller's time is over.
    TimedOut,
    /// Ctrl-C.
    Detached,
}

/// What a watch saw last.
#[derive(Debug)]
pub struct Seen {
    /// How it ended.
    pub end: End,
    /// The operation as it was told last.
    pub operation: Box<v1::Operation>,
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
) -> Result<Seen, Failure> {
    let display = RefCell::new(Display::new(show, name));
    let limit = timeout.map(|t| Instant::now() + t);
    let follow = follow(client, name, |operation| {
        display.borrow_mut().update(operation);
        is_terminal(operation.state())
    });
    let end = tokio::select! {
        result = follow => result.map(|()| End::Terminal),
        () = sleep_until(limit) => Ok(End::TimedOut),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached),
        never = refresh(client, &display) => match never {},
    };
    let mut display = display.into_inner();
    let end = end?;
    if end == End::Terminal {
        // The answer on stdout is the same screen once more, and for good.
        display.erase();
    }
    Ok(Seen { end, operation: Box::new(display.last) })
}

/// Once a second, at a terminal: how the group stands, and the times. A group that cannot be asked is left as it was.
async fn refresh(client: &Client, display: &RefCell<Display>) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(REDRAW);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let wanted = display.borrow().wanted_group();
        let Some(name) = wanted else { continue };
        let request = v1::GetGroupRequest { name, consistency: v1::Consistency::Linearizable.into() };
        let mut service = GroupServiceClient::new(client.channel());
        if let Ok(Ok(answer)) = tokio::time::timeout(ASK, service.get_group(request)).await {
            display.borrow_mut().group = answer.into_inner().group;
        }
        display.borrow_mut().redraw();
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

/// Lines of the terminal; 24 when it does not say.
fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(24)
}

/// What fits on a screen, with a line for what does not: what has scrolled away cannot be erased.
fn fit(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1).max(2);
    if lines.len() <= room {
        return text.to_owned();
    }
    let shown = room.saturating_sub(1);
    format!("{}\n({} more lines)", lines[..shown].join("\n"), lines.len().saturating_sub(shown))
}

/// Redrawn in place at a terminal, otherwise one timestamped line per change.
struct Display {
    show: bool,
    live: bool,
    drawn: usize,
    seen: BTreeMap<u32, String>,
    headline: String,
    last: v1::Operation,
    group: Option<v1::Group>,
}

impl Display {
    fn new(show: bool, name: &str) -> Self {
        let last = v1::Operation { name: name.to_owned(), ..v1::Operation::default() };
        let live = style::is_live();
        Self { show, live, drawn: 0, seen: BTreeMap::new(), headline: String::new(), last, group: None }
    }

    /// The group to be shown beside the operation: only where somebody looks at it.
    fn wanted_group(&self) -> Option<String> {
        (self.show && self.live && !self.last.group.is_empty()).then(|| self.last.group.clone())
    }

    fn update(&mut self, operation: &v1::Operation) {
        self.last = operation.clone();
        if self.show && !self.live {
            self.log(operation);
        }
        self.redraw();
    }

    fn redraw(&mut self) {
        if !self.show || !self.live || self.last.revision == 0 {
            return;
        }
        let text = view::detail(&self.last, self.group.as_ref(), false);
        let text = fit(&text, rows());
        self.erase();
        let mut err = anstream::stderr().lock();
        // Lines are cut, not wrapped, at the edge: a wrapped one would be counted as one and erased as one.
        let _ = writeln!(err, "\x1b[?7l{text}\x1b[?7h");
        let _ = err.flush();
        self.drawn = text.lines().count();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            let _ = write!(anstream::stderr().lock(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn log(&mut self, operation: &v1::Operation) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let mut err = anstream::stderr().lock();
        let headline = view::log_line(operation);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_that_is_too_small_says_what_is_missing() {
        assert_eq!(fit("a\nb\nc", 4), "a\nb\nc");
        assert_eq!(fit("a\nb\nc\nd\ne", 4), "a\nb\n(3 more lines)");
        assert_eq!(fit("a\nb\nc", 0), "a\n(2 more lines)");
    }
}
