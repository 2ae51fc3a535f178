//! What outlives a session: the helper's state, what waits for an acknowledgement, the work, the instances.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_model::session::{InstanceReport, NodeWork};
use quorate_model::{DurationMs, ServiceName};
use tokio::sync::{Notify, mpsc, watch};

use super::leases::Renewals;
use super::outbox::{Confirmed, Outbox, Report};
use crate::host::clock;
use crate::runner::{Incoming, Notice, Status};

/// Confirmations that wait for the helper. One that does not fit is not lost: the coordinators name it again.
const CONFIRMED_MAX: usize = 256;

/// How the way to the helper stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HelperState {
    /// It can not be asked; why.
    Away(String),
    /// It answered.
    There(Box<Status>),
}

impl HelperState {
    pub(super) const fn status(&self) -> Option<&Status> {
        match self {
            Self::There(status) => Some(status),
            Self::Away(_) => None,
        }
    }
}

/// The instances as they were seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// By service.
    pub(super) reports: BTreeMap<ServiceName, InstanceReport>,
    /// When they came in, time since boot.
    pub(super) at: DurationMs,
}

#[derive(Default)]
struct Inner {
    outbox: Outbox,
    renewals: Renewals,
    work: Option<Incoming>,
    desired: NodeWork,
    seen: Seen,
    offset_ms: Option<i64>,
}

/// Shared by the tasks of the network half.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    /// Reports wait.
    pub(super) reports: Notify,
    /// Work is there that the helper does not have yet.
    pub(super) work: Notify,
    /// Work may name artifacts that are not here.
    pub(super) artifacts: Notify,
    /// Work may ask what can be reached from here.
    pub(super) reach: Notify,
    /// The helper is to be told of a lease.
    pub(super) orders: Notify,
    /// A coordinator is to be told of a lease.
    pub(super) leases: Notify,
    /// Instances changed visibly.
    pub(super) instances: Notify,
    /// How the helper stands.
    pub(super) helper: watch::Sender<HelperState>,
    /// What the helper may forget.
    confirmations: mpsc::Sender<Confirmed>,
}

impl Hub {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Confirmed>) {
        let (confirmations, receiver) = mpsc::channel(CONFIRMED_MAX);
        let hub = Self {
            inner: Mutex::default(),
            reports: Notify::new(),
            work: Notify::new(),
            artifacts: Notify::new(),
            reach: Notify::new(),
            orders: Notify::new(),
            leases: Notify::new(),
            instances: Notify::new(),
            helper: watch::Sender::new(HelperState::Away("it was not asked yet".to_owned())),
            confirmations,
        };
        (Arc::new(hub), receiver)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change under this lock is whole, so a panic elsewhere leaves nothing half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened in the helper.
    pub(super) fn noticed(&self, notice: Notice) {
        match notice {
            Notice::Execution(report) => {
                self.inner().outbox.put(Report::Execution(report));
                self.reports.notify_one();
            }
            Notice::Obligation(report) => {
                self.inner().outbox.put(Report::Obligation(report));
                self.reports.notify_one();
            }
            Notice::Instances(reports) => {
                let new: BTreeMap<_, _> = reports.into_iter().map(|r| (r.service.clone(), r)).collect();
                let mut inner = self.inner();
                let changed = differs(&inner.seen.reports, &new);
                inner.seen = Seen { reports: new, at: DurationMs(clock::uptime_ms()) };
                drop(inner);
                if changed {
                    self.instances.notify_one();
                }
            }
        }
    }

    /// The instances as they were seen last.
    pub(super) fn seen(&self) -> Seen {
        self.inner().seen.clone()
    }

    /// Works on the outbox.
    pub(super) fn outbox<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        change(&mut self.inner().outbox)
    }

    /// A new session knows nothing of what an earlier one was sent.
    pub(super) fn session_began(&self) {
        let mut inner = self.inner();
        inner.outbox.session_began();
        inner.renewals.session_began(DurationMs(clock::uptime_ms()));
    }

    /// Works on the leases.
    pub(super) fn renewals<T>(&self, change: impl FnOnce(&mut Renewals) -> T) -> T {
        change(&mut self.inner().renewals)
    }

    /// Tells the helper that it may forget something.
    pub(super) fn confirm(&self, confirmed: Confirmed) {
        if self.confirmations.try_send(confirmed).is_err() {
            tracing::debug!("a confirmation is left to the coordinators' next word");
        }
    }

    /// New work from a coordinator. `transit` is how long it may have been on its way: a grant has lost that much.
    pub(super) fn desired(&self, work: NodeWork, transit: DurationMs) {
        let received = DurationMs(clock::uptime_ms());
        let incoming = incoming(&work, received, transit);
        let mut inner = self.inner();
        inner.work = Some(incoming);
        inner.renewals.take_work(&work, received);
        inner.desired = work;
        drop(inner);
        self.work.notify_one();
        self.orders.notify_one();
        self.artifacts.notify_one();
        self.reach.notify_one();
    }

    /// How far this clock is from the coordinators', as it was measured last.
    pub(super) fn offset_ms(&self) -> Option<i64> {
        self.inner().offset_ms
    }

    /// A coordinator has told the time.
    pub(super) fn clock_told(&self, offset_ms: i64) {
        self.inner().offset_ms = Some(offset_ms);
    }

    /// The work for the helper, if a coordinator ever sent some.
    pub(super) fn incoming(&self) -> Option<Incoming> {
        self.inner().work.clone()
    }

    /// The work as the coordinator sent it.
    pub(super) fn current(&self) -> NodeWork {
        self.inner().desired.clone()
    }
}

/// Times relative to the message become times since boot, which both halves share.
fn incoming(work: &NodeWork, received: DurationMs, transit: DurationMs) -> Incoming {
    let assignments = work.assignments.iter().map(|assignment| {
        let grant = received.plus(assignment.grant_remaining).minus(transit);
        let needs = assignment.disruptive || assignment.grant_remaining != DurationMs::ZERO;
        (assignment.clone(), needs.then_some(grant))
    });
    Incoming {
        generation: work.generation,
        assignments: assignments.collect(),
        instances: work.instances.clone(),
        cancels: work.cancels.clone(),
        discharges: work.discharges.clone(),
        left_out: work.left_out.clone(),
        extended: work
            .extended
            .iter()
            .map(|(id, left)| (id.clone(), received.plus(*left).minus(transit)))
            .collect(),
        confirmed: work.confirmed.clone(),
    }
}

/// Whether anybody would call it a change: ages grow all the time.
fn differs(old: &BTreeMap<ServiceName, InstanceReport>, new: &BTreeMap<ServiceName, InstanceReport>) -> bool {
    old.len() != new.len()
        || old.iter().zip(new).any(|((old_name, old), (new_name, new))| {
            old_name != new_name || old.unit != new.unit || old.error != new.error
        })
}
