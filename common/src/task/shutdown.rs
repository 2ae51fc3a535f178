//! A tree of stop requests: triggering a parent triggers its children, never the other way round.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A stop request that many tasks can wait for. Cloning gives the same token; [`Shutdown::child`] a dependent one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A new root, not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is triggered with this one, and can be triggered alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Asks everything that holds this token, or a child of it, to stop. Idempotent.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the stop is asked for. Cancel-safe.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Runs a future until it ends (`Some`) or the stop is asked for (`None`; the future is dropped).
    pub async fn run_until<F: Future>(&self, work: F) -> Option<F::Output> {
        self.0.run_until_cancelled(work).await
    }

    /// Waits for `span`; false when the stop came first.
    pub async fn pause(&self, span: Duration) -> bool {
        self.run_until(tokio::time::sleep(span)).await.is_some()
    }

    /// A guard that triggers this token when it is dropped.
    #[must_use]
    pub fn trigger_on_drop(self) -> impl Drop + Send {
        self.0.drop_guard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_goes_down_the_tree_and_not_up() {
        let root = Shutdown::new();
        let child = root.child();
        let sibling = root.child();
        child.trigger();
        assert!(child.is_triggered() && !root.is_triggered() && !sibling.is_triggered());
        root.trigger();
        sibling.triggered().await;
        assert_eq!(sibling.run_until(std::future::pending::<()>()).await, None);
        assert!(!root.pause(Duration::from_secs(3_600)).await);
    }
}
