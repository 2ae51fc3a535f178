//! The only door to the machine: services, programs, files, clocks.
//!
//! Job: carry out exactly one typed request on this host and say truthfully what happened, with evidence that survives
//! a crash. Must never: decide whether something may be done (that is the runner's and the policy's work), build a
//! shell line, follow a link out of a root, wait without a deadline, or start anything on its own account. Reason: what
//! is decided here cannot be tested without a machine, and what is hidden here cannot be proved afterwards.
//!
//! **Architecture Invariant:** every other room reaches processes, units and paths through this one; `plan.rs` and
//! `machine.rs` files never import it.

pub mod admin;
pub mod clock;
pub mod dir;
pub mod error;
pub mod evidence;
pub mod exec;
pub mod fetch;

pub mod fake;
pub mod fs;
mod held;
pub mod locks;
pub mod proc;
pub mod process;
pub mod real;
pub mod systemd;
pub mod writers;

use std::time::Duration;

pub use error::HostError;
pub use evidence::{Recovered, RunEvidence, Verb, judge};
pub use exec::{ExecOutcome, ExecSpec};
use quorate_model::Timestamp;
use quorate_model::service::{Driver, UnitStatus};
pub use real::RealHost;

/// A future behind a trait object; `Send`, and content with a single-threaded runtime.
pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

/// What is seen of a unit or supervised process, with the evidence that identifies this run of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitReading {
    /// The state in the fleet's own words.
    pub status: UnitStatus,
    /// What tells this run from any other.
    pub evidence: RunEvidence,
}

impl UnitReading {
    /// Whether it runs: active, reloading, or on its way in either direction with a live main process.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status.active.as_str(), "active" | "reloading")
    }

    /// Whether it is between two states and a later look will tell more.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        matches!(self.status.active.as_str(), "activating" | "deactivating" | "reloading")
    }
}

/// What one verb did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The state afterwards.
    pub unit: UnitReading,
    /// It was in the wanted state before; nothing was touched.
    pub already: bool,
    /// The graceful deadline passed and SIGKILL was needed.
    pub escalated: bool,
    /// Processes that outlived the main one and were killed, as `pid name`; at most 64.
    pub leftovers: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What keeps services running on this host. Object safe, so that tests and the simulator bring their own.
///
/// Every call ends within its deadline plus [`KILL_GRACE`]; a call whose future is dropped still runs to its end, so a
/// verb is never cut in half.
pub trait ServiceDriver: Send + Sync {
    /// Starts the unit and waits until it is up and stayed up for its settle time. Starting what runs is no change.
    ///
    /// # Errors
    /// Any [`HostError`]; `NotStarted` when it ended again at once.
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>>;

    /// Asks the unit to stop, waits `graceful`, then kills it; nothing of it is left afterwards.
    ///
    /// # Errors
    /// Any [`HostError`]; `Timeout` when even SIGKILL did not end it.
    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>>;

    /// Kills whatever is left of the unit, at once, also while another verb is at work on it: nothing of it runs afterwards.
    ///
    /// # Errors
    /// Any [`HostError`]; `Timeout` when even SIGKILL did not end it.
    fn kill<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<Effect, HostError>> {
        self.stop(unit, Duration::ZERO)
    }

    /// Stops and starts. When the stop fails nothing is started.
    ///
    /// # Errors
    /// Any [`HostError`].
    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>>;

    /// Makes the unit read its configuration again, without a new main process.
    ///
    /// # Errors
    /// Any [`HostError`]; `NotReloadable` when it can not.
    fn reload<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>>;

    /// Looks, and changes nothing. An unknown unit is a reading with `load` = `not-found`, not an error.
    ///
    /// # Errors
    /// Any [`HostError`] that keeps it from looking.
    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>>;
}

/// Time given to SIGKILL to take effect: only a process stuck in the kernel needs more, and that is worth an error.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// The whole door, as rooms above this one hold it.
pub trait Host: Send + Sync {
    /// The driver of a service and the unit name it knows it by.
    ///
    /// # Errors
    /// `Unavailable` when this host was not given such a driver.
    fn service<'a>(&'a self, driver: &'a Driver) -> Result<(&'a dyn ServiceDriver, &'a str), HostError>;

    /// Runs one program to its end or its deadline. See [`exec::run`].
    fn exec<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, HostError>>;

    /// As [`Host::exec`]; canceled, the program is ended early where the host can. See [`exec::run_until`].
    fn exec_until<'a>(
        &'a self,
        spec: &'a ExecSpec,
        cancel: tokio_util::sync::CancellationToken,
    ) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        drop(cancel);
        self.exec(spec)
    }

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// The clock of [`RunEvidence::active_enter_us`], in microseconds.
    fn monotonic_us(&self) -> u64;

    /// The kernel's boot id.
    fn boot_id(&self) -> &str;
}
