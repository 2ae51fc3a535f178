//! The leases of what leads on this host, and the hand that stops what leads when one is over.
//!
//! Job: take a lease up durably before anybody asks for its renewal, know until when it is good, and stop what leads at that
//! time, whoever is alive or not. Must never: wait for an execution, the network half or the disk before it stops something; say
//! that a lease is released before it has seen that nothing runs; or let anything lead where it does not know.
//!
//! `machine.rs` decides (pure); here is what it needs: the journal, the host, and the time since boot, which goes on while the
//! host sleeps and which nobody sets.

mod keeper;
mod machine;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_common::task::Shutdown;
use quorate_common::wire::agent::LEASES_MAX;
use quorate_common::with_causes;
use quorate_model::{Driver, DurationMs, Epoch, GroupName, HeldLease, InstanceId, Reason, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::machine::{Machine, Phase, Why};

use self::machine::{Do, Taking};
use super::failpoint;
use super::journal::{Journal, JournalError, Leased};
use super::settings::Settings;
use crate::host::{Host, HostError, KILL_GRACE, UnitReading, clock};

/// Longest time between two looks at the clock while a lease lives: a host that slept wakes up later than its timers.
const LOOK: Duration = Duration::from_millis(250);
/// Longest time between two looks while none does.
const IDLE: Duration = Duration::from_secs(60);
/// What runs without a lease is looked for this often, and what could not be stopped is stopped again.
const AGAIN: Duration = Duration::from_millis(500);
/// A host that does not answer within this time is asked again.
const HOST_LIMIT: Duration = Duration::from_secs(15);

/// A lease as the network half hands it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOrder {
    /// As the coordinators have it.
    pub lease: HeldLease,
    /// What runs the service.
    pub driver: Driver,
    /// What they answered last, if that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<LeaseWord>,
}

/// What was answered to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseWord {
    /// It is good.
    Granted {
        /// When the renewal was sent, time since boot.
        sent: DurationMs,
    },
    /// It is another's, or nobody's.
    Lost,
}

/// How a lease stands on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseStanding {
    /// It is kept to, durably.
    Kept,
    /// What leads is being stopped.
    Stopping,
    /// Nothing leads under it any more: it was stopped, and had its time to end well.
    Released(String),
    /// Nothing leads under it any more: it was killed, or had ended by itself.
    Killed(String),
}

/// A lease that is known here, for a network half that has forgotten it, or never knew: its host may have been booted since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseKnown {
    /// Which.
    pub lease: HeldLease,
    /// What runs the service.
    pub driver: Driver,
    /// How it stands.
    pub standing: LeaseStanding,
}

/// Tells the time since boot.
pub(super) type BootClock = Arc<dyn Fn() -> DurationMs + Send + Sync>;

/// The clock of this host.
pub(super) fn boot_clock() -> BootClock {
    Arc::new(|| DurationMs(clock::uptime_ms()))
}

struct Known {
    leased: Leased,
    /// The journal has it, in whatever phase.
    durable: bool,
}

/// All leases of this node.
pub(super) struct Leases {
    journal: Journal,
    host: Arc<dyn Host>,
    settings: Settings,
    now: BootClock,
    known: Mutex<BTreeMap<GroupName, Known>>,
    /// One write at a time, so that the newest is the last.
    writing: tokio::sync::Mutex<()>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    /// Held by a promotion from before its first act to after its last one.
    promotions: Mutex<BTreeMap<GroupName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Leases {
    /// Takes over what the journal holds.
    pub(super) fn new(
        journal: Journal,
        host: Arc<dyn Host>,
        settings: Settings,
        now: BootClock,
        found: Vec<(GroupName, Leased)>,
    ) -> Arc<Self> {
        let known = found.into_iter().map(|(group, mut leased)| {
            leased.lease = leased.lease.found(leased.boot_id == host.boot_id());
            tracing::info!(%group, service = %leased.service, lease = ?leased.lease, "found a lease");
            (group, Known { leased, durable: true })
        });
        let known = Mutex::new(known.collect());
        let (writing, changes) = (tokio::sync::Mutex::new(()), watch::Sender::new(0));
        let promotions = Mutex::default();
        Arc::new(Self { journal, host, settings, now, known, writing, changes, promotions })
    }

    fn promotion(&self, group: &GroupName) -> Arc<tokio::sync::Mutex<()>> {
        let mut promotions = self.promotions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(promotions.entry(group.clone()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<GroupName, Known>> {
        // Every change under this lock is whole, so a panic elsewhere leaves nothing half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, group: &GroupName) -> Option<Leased> {
        self.known().get(group).map(|known| known.leased.clone())
    }

    /// Works on one lease; whoever waits for a change is told.
    fn change<T>(&self, group: &GroupName, change: impl FnOnce(&mut Machine, DurationMs) -> T) -> Option<T> {
        let now = (self.now)();
        let mut known = self.known();
        let lease = &mut known.get_mut(group)?.leased.lease;
        let before = *lease;
        let given = change(lease, now);
        let changed = *lease != before;
        drop(known);
        if changed {
            self.changes.send_modify(|n| *n = n.wrapping_add(1));
        }
        Some(given)
    }

    /// Takes a lease up, or learns what became of it, and says how it stands. Told a second time, nothing changes.
    ///
    /// # Errors
    /// Why it is not taken up: nobody may ask for its renewal then.
    pub(super) async fn order(&self, order: LeaseOrder) -> Result<LeaseStanding, (Reason, String)> {
        let LeaseOrder { lease, driver, answer } = order;
        let group = lease.group.clone();
        let taking = self.of(&group).map_or(Taking::New, |known| known.lease.taking(lease.epoch));
        let durable = self.known().get(&group).is_some_and(|known| known.durable);
        // Nobody has asked for the renewal of what is not written down yet.
        let answer = answer.filter(|_| taking == Taking::Same && durable);
        match taking {
            Taking::Same => {}
            Taking::New => self.take_up(&lease, driver)?,
            Taking::Stale => {
                return Err((Reason::EpochStale, format!("a newer lease of {group} is known here")));
            }
            Taking::OlderFirst => {
                self.change(&group, |older, now| older.stop(now, Why::Lost));
                let text = format!("what leads under an older lease of {group} is stopped first");
                return Err((Reason::PrimaryLease, text));
            }
        }
        let before = self.of(&group).map(|known| known.lease);
        self.change(&group, |known, now| {
            match answer {
                Some(LeaseWord::Granted { sent }) => drop(known.extend(now, sent)),
                Some(LeaseWord::Lost) => known.stop(now, Why::Lost),
                None => {}
            }
            if lease.recalled {
                known.stop(now, Why::Recalled);
            }
        });
        let after = self.of(&group).map(|known| known.lease);
        if before != after || !durable || taking == Taking::New {
            self.save(&group).await.map_err(|error| (Reason::JournalLost, with_causes(&error)))?;
        }
        Ok(after.map_or(LeaseStanding::Stopping, |lease| standing(&lease)))
    }

    fn take_up(&self, lease: &HeldLease, driver: Driver) -> Result<(), (Reason, String)> {
        let HeldLease { group, service, epoch, ttl, recalled: _ } = lease;
        let policy = &self.settings.current().policy;
        policy.allows_driver(service, &driver).map_err(|text| (Reason::PolicyDenied, text))?;
        // Also where the journal is lost and this one ends with the process: what leads here may lead already, and kept to for as
        // long as this helper lives is better than not at all.
        let mut known = self.known();
        if known.len() >= LEASES_MAX && !known.contains_key(group) {
            return Err((Reason::LimitReached, format!("leases of {LEASES_MAX} groups are known here")));
        }
        let leased = Leased {
            service: service.clone(),
            driver,
            boot_id: self.host.boot_id().to_owned(),
            lease: Machine::taken_up(*epoch, *ttl),
            at: clock::now(),
        };
        known.insert(group.clone(), Known { leased, durable: false });
        drop(known);
        tracing::info!(%group, %service, %epoch, %ttl, "took a lease up");
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        Ok(())
    }

    /// Writes a lease down as it is at that moment.
    async fn save(&self, group: &GroupName) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        let Some(mut leased) = self.of(group) else { return Ok(()) };
        self.host.boot_id().clone_into(&mut leased.boot_id);
        leased.at = clock::now();
        self.journal.lease(group, &leased).await?;
        if let Some(known) = self.known().get_mut(group) {
            known.durable |= known.leased.lease.epoch == leased.lease.epoch;
        }
        Ok(())
    }

    /// All that are not released.
    pub(super) fn all(&self) -> Vec<LeaseKnown> {
        let known = self.known();
        let all = known.iter().map(|(group, Known { leased, .. })| {
            let Leased { service, driver, lease: Machine { epoch, ttl, .. }, .. } = leased.clone();
            let lease = HeldLease { group: group.clone(), service, epoch, ttl, recalled: false };
            LeaseKnown { lease, driver, standing: standing(&leased.lease) }
        });
        all.filter(|known| !matches!(known.standing, LeaseStanding::Released(_) | LeaseStanding::Killed(_)))
            .collect()
    }

    /// Whether the instance of this service may lead now.
    ///
    /// # Errors
    /// Why not, one sentence.
    pub(super) fn may_lead(&self, service: &ServiceName) -> Result<(), String> {
        let now = (self.now)();
        let known = self.known();
        let mut why = format!("no lease of {service} was taken up here");
        for (group, Known { leased, .. }) in
            known.iter().filter(|(_, known)| known.leased.service == *service)
        {
            if leased.lease.left(now) != DurationMs::ZERO {
                return Ok(());
            }
            why = not_live(group, &leased.lease);
        }
        Err(why)
    }

    /// The group and the epoch under which an instance of this service leads, or is about to.
    pub(super) fn held_by(&self, instance: &InstanceId) -> Option<(GroupName, Epoch)> {
        let known = self.known();
        let held = known.iter().filter(|(_, Known { leased, .. })| {
            let kept = matches!(leased.lease.phase, Phase::Live { .. } | Phase::TakenUp { void: false });
            kept && leased.service == instance.service
        });
        held.map(|(group, known)| (group.clone(), known.leased.lease.epoch)).next()
    }

    /// Keeps to the leases until it is told to stop.
    ///
    /// # Errors
    /// [`JournalError`]: what was done can not be written down, so the helper can not go on.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<(), JournalError> {
        let mut changes = self.changes.subscribe();
        let mut working = FuturesUnordered::new();
        let mut at_work = BTreeSet::new();
        loop {
            changes.mark_unchanged();
            let (due, wait) = self.due();
            for (group, what) in due {
                if at_work.insert(group.clone()) {
                    working.push(self.work(group, what).boxed());
                }
            }
            tokio::select! {
                biased;
                () = shutdown.triggered() => return Ok(()),
                Some((group, ended)) = working.next(), if !working.is_empty() => {
                    at_work.remove(&group);
                    ended?;
                }
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What is to be done now, and how long there is nothing else to do.
    fn due(&self) -> (Vec<(GroupName, Do)>, Duration) {
        let now = (self.now)();
        let mut wait = IDLE;
        let mut due = Vec::new();
        let groups: Vec<GroupName> = self.known().keys().cloned().collect();
        for group in groups {
            let next = self.change(&group, |lease, now| {
                lease.tick(now);
                lease.next()
            });
            match next {
                Some(Do::Wait(Some(at))) => {
                    wait = wait.min(LOOK).min(Duration::from_millis(at.minus(now).0));
                }
                Some(what @ (Do::Guard | Do::Stop(_))) => due.push((group, what)),
                Some(Do::Wait(None)) | None => {}
            }
        }
        (due, wait)
    }

    async fn work(&self, group: GroupName, what: Do) -> (GroupName, Result<(), JournalError>) {
        let done = match what {
            Do::Wait(_) => Ok(()),
            Do::Guard => {
                self.guard(&group).await;
                Ok(())
            }
            Do::Stop(kill_at) => self.release(&group, kill_at).await,
        };
        (group, done)
    }

    /// Stops what leads, and writes it down once it is proved that nothing runs.
    async fn release(&self, group: &GroupName, kill_at: DurationMs) -> Result<(), JournalError> {
        let Some(leased) = self.of(group) else { return Ok(()) };
        let Leased { service, driver, lease, .. } = &leased;
        tracing::error!(%group, %service, epoch = %lease.epoch, "stopping what leads: {}", not_live(group, lease));
        failpoint::hit("lease-before-stop");
        // A disk that hangs must not keep it up: both at once.
        let (saved, killed) = tokio::join!(self.save(group), self.bring_down(group, driver, kill_at));
        saved?;
        // What a promotion has begun might start it again: that ends with its lease, and then nothing does.
        let _ended = self.promotion(group).lock_owned().await;
        self.bring_down(group, driver, kill_at).await;
        failpoint::hit("lease-before-released");
        self.change(group, |lease, _| lease.down(killed));
        tracing::warn!(%group, %service, epoch = %lease.epoch, "nothing leads under this lease any more");
        self.save(group).await
    }

    /// Until nothing runs, however long that takes: nobody else may lead before. Whether it did not end well.
    async fn bring_down(&self, group: &GroupName, driver: &Driver, kill_at: DurationMs) -> bool {
        let mut failed = false;
        loop {
            match self.stop(driver, kill_at).await {
                Ok(killed) => return killed || failed,
                Err(error) => {
                    let error = error.full_text();
                    tracing::error!(%group, error, "WHAT LEADS WITHOUT A LEASE CAN NOT BE STOPPED: it is tried again");
                }
            }
            failed = true;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Stops a unit, kills what is left of it at `kill_at`, and looks whether anything runs. Whether it was killed, or had ended
    /// before.
    async fn stop(&self, driver: &Driver, kill_at: DurationMs) -> Result<bool, HostError> {
        let (driver, unit) = self.host.service(driver)?;
        let graceful = Duration::from_millis(kill_at.minus((self.now)()).0);
        let mut killed = true;
        if !graceful.is_zero() {
            // It may wait for somebody else's verb, or for a supervisor that hangs; killing does not.
            match tokio::time::timeout(graceful, driver.stop(unit, graceful)).await {
                Ok(Ok(effect)) => killed = effect.escalated || effect.already,
                Ok(Err(error)) => tracing::warn!(unit, error = error.full_text(), "it is killed instead"),
                Err(_) => tracing::warn!(unit, ?graceful, "not stopped in time: it is killed"),
            }
        }
        limited("killing what is left", driver.kill(unit)).await?;
        let reading = limited("looking at what is left", driver.status(unit)).await?;
        if is_down(&reading) {
            return Ok(killed);
        }
        let status = &reading.status;
        let what = format!("stop of {unit}: it is {} ({})", status.active, status.sub);
        Err(HostError::Timeout { what, after_ms: u64::try_from(KILL_GRACE.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Looks whether something runs under a lease that is void, and kills it.
    async fn guard(&self, group: &GroupName) {
        let Some(leased) = self.of(group) else { return };
        let looked = match self.host.service(&leased.driver) {
            Ok((driver, unit)) => limited("looking at a unit", driver.status(unit)).await,
            Err(error) => Err(error),
        };
        let void = || self.of(group).is_some_and(|known| known.lease.next() == Do::Guard);
        let stopped = match looked {
            Ok(reading) if is_down(&reading) => Ok(()),
            Ok(_) | Err(_) if !void() => Ok(()),
            Ok(_) => {
                let service = &leased.service;
                tracing::error!(%group, %service, "it runs since before its lease was renewed in this boot: killed");
                self.stop(&leased.driver, DurationMs::ZERO).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = stopped {
            tracing::error!(%group, error = error.full_text(), "what may run without a lease can not be stopped");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn limited<T>(what: &str, work: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
    let late = || HostError::Timeout {
        what: what.to_owned(),
        after_ms: u64::try_from(HOST_LIMIT.as_millis()).unwrap_or(u64::MAX),
    };
    tokio::time::timeout(HOST_LIMIT, work).await.unwrap_or_else(|_| Err(late()))
}

/// Whether nothing of it runs. What is not known to be down is not.
fn is_down(reading: &UnitReading) -> bool {
    matches!(reading.status.active.as_str(), "inactive" | "failed") && reading.status.main_pid == 0
}

fn standing(lease: &Machine) -> LeaseStanding {
    match lease.phase {
        Phase::TakenUp { .. } | Phase::Live { .. } => LeaseStanding::Kept,
        Phase::Stopping { .. } => LeaseStanding::Stopping,
        Phase::Released { why, killed: false } => LeaseStanding::Released(format!("stopped: {}", why.text())),
        Phase::Released { why, killed: true } => {
            LeaseStanding::Killed(format!("killed, or ended by itself: {}", why.text()))
        }
    }
}

/// Why nothing may lead under it, one sentence.
fn not_live(group: &GroupName, lease: &Machine) -> String {
    let epoch = lease.epoch;
    match lease.phase {
        Phase::TakenUp { .. } => format!("the lease of {group}, epoch {epoch}, was not renewed in this boot"),
        Phase::Live { .. } => format!("the lease of {group}, epoch {epoch}, is over"),
        Phase::Stopping { why, .. } | Phase::Released { why, .. } => {
            format!("the lease of {group}, epoch {epoch}, is given up: {}", why.text())
        }
    }
}
