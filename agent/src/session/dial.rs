//! Whom to call, and when to call again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, BoxError, Entropy, Shutdown};
use quorate_common::tls::Address;
use quorate_durable::files;

use super::stream::{self, Context, Ended};
use super::words::{Repeats, Tell};

/// How long the first session waits for the helper: without it, Hello can not tell what this node can do.
const HELPER_WAIT: Duration = Duration::from_secs(5);
/// Largest file of remembered addresses: some dozens of names.
const FILE_MAX_BYTES: u64 = 64 * 1024;
/// 100 ms to 10 s with jitter, so that a fleet that lost a coordinator does not come back as one (F-35).
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(10), growth_percent: 200 };

/// Longest wait while something leads here whose lease is not renewed: no storm, and half of the shortest lease's fifth.
const HURRIED: Duration = Duration::from_millis(300);

/// Addresses that were handed out, and those of the configuration behind them.
pub(super) struct Book {
    file: PathBuf,
    configured: Vec<Address>,
    handed_out: Vec<Address>,
}

impl Book {
    pub(super) fn open(data_dir: &Path, configured: Vec<Address>) -> Self {
        let file = data_dir.join("coordinators.json");
        let handed_out = match files::read_limited(&file, FILE_MAX_BYTES) {
            Ok(Some(bytes)) => serde_json::from_slice::<Vec<String>>(&bytes).unwrap_or_default(),
            // Only a memory of addresses: the configuration has some, too.
            Ok(None) | Err(_) => Vec::new(),
        };
        let handed_out = handed_out.iter().filter_map(|text| text.parse().ok()).collect();
        Self { file, configured, handed_out }
    }

    /// All of them, those that were handed out first.
    pub(super) fn all(&self) -> Vec<Address> {
        let mut all = self.handed_out.clone();
        all.extend(self.configured.iter().filter(|a| !self.handed_out.contains(a)).cloned());
        all
    }

    /// A coordinator said who there is.
    pub(super) fn learn(&mut self, texts: &[String]) {
        let new: Vec<Address> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        if new.is_empty() || new == self.handed_out {
            return;
        }
        self.handed_out = new;
        let texts: Vec<String> = self.handed_out.iter().map(ToString::to_string).collect();
        let stored = serde_json::to_vec(&texts)
            .map_err(std::io::Error::other)
            .and_then(|bytes| files::write_atomic(&self.file, &bytes));
        if let Err(error) = stored {
            tracing::warn!(%error, file = %self.file.display(), "the coordinators' addresses were not stored");
        }
    }
}

/// Keeps one session until it is told to stop.
pub(super) async fn run(context: Arc<Context>, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut entropy = Entropy::from_os();
    let mut backoff = Backoff::new(RETRY);
    let mut repeats = Repeats::default();
    wait_for_helper(&context, &shutdown).await;
    let mut turn = usize::try_from(entropy.next_u64() >> 33).unwrap_or(0);
    loop {
        let addresses = context.book().all();
        let wait = match addresses.get(turn % addresses.len().max(1)) {
            None => {
                tracing::error!("no coordinator's address is known: set coordinators in agent.toml");
                backoff.next_delay(entropy.next_u64())
            }
            Some(address) => {
                let ended = stream::session(&context, address, &shutdown).await;
                if shutdown.is_triggered() {
                    return Ok(());
                }
                if ended.welcomed {
                    repeats.clear();
                }
                if let Some(Tell(like_it)) = repeats.tell(&address.to_string(), &ended.reason, super::now()) {
                    tracing::info!(coordinator = %address, reason = %ended.reason, like_it, "session ended");
                }
                next(ended, &mut turn, &mut backoff, &mut entropy)
            }
        };
        if !shutdown.pause(wait).await {
            return Ok(());
        }
    }
}

/// How long to wait, and whether to go on to the next coordinator.
fn next(ended: Ended, turn: &mut usize, backoff: &mut Backoff, entropy: &mut Entropy) -> Duration {
    if ended.welcomed {
        backoff.reset();
    }
    if ended.same_again {
        return Duration::ZERO;
    }
    *turn = turn.wrapping_add(1);
    let jittered = backoff.next_delay(entropy.next_u64());
    if ended.another_at_once {
        return jittered.min(HURRIED);
    }
    match ended.retry_after {
        Some(after) if after.is_zero() => jittered.min(RETRY.initial),
        // Not all at the same moment: up to a quarter later.
        Some(after) => {
            let spread = u64::try_from(after.as_millis() / 4).unwrap_or(u64::MAX).max(1);
            after + Duration::from_millis(entropy.next_u64() % spread)
        }
        None => jittered,
    }
}

async fn wait_for_helper(context: &Context, shutdown: &Shutdown) {
    let mut helper = context.hub.helper.subscribe();
    let there = shutdown.run_until(helper.wait_for(|state| state.status().is_some()));
    // Without it the session says so.
    let _ = tokio::time::timeout(HELPER_WAIT, there).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handed_out_addresses_come_first_and_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let configured: Vec<Address> = vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()];
        let mut book = Book::open(dir.path(), configured.clone());
        assert_eq!(book.all(), configured);
        book.learn(&["b:2".into(), "c:3".into(), "nonsense".into()]);
        let shown: Vec<String> =
            Book::open(dir.path(), configured).all().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["b:2", "c:3", "a:1"]);
        book.learn(&[]);
        assert_eq!(book.all().len(), 3, "an empty list is no reason to forget everybody");
    }
}
