//! A supervised set of named tasks: every end is reported, a panic too, and stopping has a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::Shutdown;

/// What a task may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A long-lived part of a process.
pub trait Service: Send + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// Runs until `shutdown` is triggered; returning earlier is reported as an early end.
    fn run(self, shutdown: Shutdown) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// How a task ended.
#[derive(Debug)]
pub enum Exit {
    /// It returned.
    Finished,
    /// It returned an error.
    Failed(BoxError),
    /// It panicked; the text is the panic's message.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

/// The end of one task.
#[derive(Debug)]
pub struct TaskEnd {
    /// The name it was spawned under.
    pub name: String,
    /// How.
    pub exit: Exit,
}

/// What [`TaskSet::stop`] saw.
#[derive(Debug, Default)]
pub struct StopReport {
    /// Tasks that ended by themselves within the grace time.
    pub ended: Vec<TaskEnd>,
    /// Names of the tasks that had to be aborted, sorted.
    pub aborted: Vec<String>,
}

/// Named tasks that live and stop together. Dropping it aborts what still runs.
#[derive(Debug)]
pub struct TaskSet {
    shutdown: Shutdown,
    tasks: JoinSet<Result<(), BoxError>>,
    names: BTreeMap<tokio::task::Id, String>,
}

impl TaskSet {
    /// An empty set whose tasks are asked to stop by `shutdown`.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tasks: JoinSet::new(), names: BTreeMap::new() }
    }

    /// The token that stops this set.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// How many tasks still run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts a task under a name.
    pub fn spawn<F>(&mut self, name: impl Into<String>, work: F) -> AbortHandle
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let handle = self.tasks.spawn(work);
        self.names.insert(handle.id(), name.into());
        handle
    }

    /// Starts a service with a child of this set's token.
    pub fn spawn_service<S: Service>(&mut self, service: S) -> AbortHandle {
        let shutdown = self.shutdown.child();
        self.spawn(S::NAME, service.run(shutdown))
    }

    /// Waits for the next end; `None` when no task is left. Cancel-safe.
    pub async fn next_end(&mut self) -> Option<TaskEnd> {
        let joined = self.tasks.join_next_with_id().await?;
        let (id, exit) = match joined {
            Ok((id, Ok(()))) => (id, Exit::Finished),
            Ok((id, Err(error))) => (id, Exit::Failed(error)),
            Err(error) => (error.id(), exit_of(error)),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Some(TaskEnd { name, exit })
    }

    /// Waits until the stop is asked for (`None`) or a task ends before that (`Some`): the caller decides whether the
    /// process can go on without it, usually not.
    pub async fn supervise(&mut self) -> Option<TaskEnd> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.triggered() => None,
            Some(end) = self.next_end() => {
                tracing::error!(task = %end.name, exit = ?end.exit, "a task ended before it was asked to");
                Some(end)
            }
        }
    }

    /// Triggers the stop, waits up to `grace`, aborts the rest and says which.
    pub async fn stop(mut self, grace: Duration) -> StopReport {
        self.shutdown.trigger();
        let mut report = StopReport::default();
        let deadline = tokio::time::Instant::now() + grace;
        while let Ok(Some(end)) = tokio::time::timeout_at(deadline, self.next_end()).await {
            report.ended.push(end);
        }
        report.aborted = self.names.values().cloned().collect();
        report.aborted.sort();
        if !report.aborted.is_empty() {
            tracing::warn!(tasks = ?report.aborted, grace_ms = grace.as_millis(), "aborted tasks that did not stop in time");
        }
        self.tasks.shutdown().await;
        report
    }
}

fn exit_of(error: JoinError) -> Exit {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic without a message".to_owned());
            Exit::Panicked(text)
        }
        Err(_) => Exit::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Waits;
    impl Service for Waits {
        const NAME: &'static str = "waits";
        async fn run(self, shutdown: Shutdown) -> Result<(), BoxError> {
            shutdown.triggered().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_and_an_early_end_are_reported_with_the_name() {
        let mut set = TaskSet::new(Shutdown::new());
        set.spawn_service(Waits);
        set.spawn("breaks", async { panic!("disk {} is gone", 3) });
        let end = set.supervise().await.unwrap();
        assert_eq!(end.name, "breaks");
        assert!(matches!(end.exit, Exit::Panicked(text) if text == "disk 3 is gone"));

        set.spawn("fails", async { Err("no route".into()) });
        let end = set.supervise().await.unwrap();
        assert!(
            end.name == "fails" && matches!(end.exit, Exit::Failed(error) if error.to_string() == "no route")
        );
        let report = set.stop(Duration::from_secs(5)).await;
        assert!(report.aborted.is_empty() && report.ended.len() == 1);
    }

    #[tokio::test]
    async fn what_does_not_stop_in_time_is_aborted_and_named() {
        let mut set = TaskSet::new(Shutdown::new());
        set.spawn("deaf", std::future::pending());
        set.spawn_service(Waits);
        let report = set.stop(Duration::from_millis(50)).await;
        assert_eq!(report.aborted, ["deaf"]);
        assert_eq!(report.ended.len(), 1);
    }

    #[tokio::test]
    async fn a_requested_stop_is_not_an_early_end() {
        let shutdown = Shutdown::new();
        let mut set = TaskSet::new(shutdown.clone());
        set.spawn_service(Waits);
        shutdown.trigger();
        assert!(set.supervise().await.is_none());
    }
}
