//! The leases of this node's instances: handed to the helper, renewed in time, and given back once the helper says so.
//!
//! Must never: ask for the renewal of a lease that the helper has not written down, or count a renewal from any later than just
//! before it was queued. `Renewals` decides (pure); [`run`] is the way to the helper. What the helper keeps to is renewed also
//! while it is away or stops what leads: nothing here can make that stop, so the lease must not be taken for over meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown};
use quorate_model::session::NodeWork;
use quorate_model::{
    Driver, DurationMs, GroupName, HeldLease, LeaseAnswer, LeaseHold, LeaseRenewal, LeaseTimes,
};

use super::hub::Hub;
use crate::helper::protocol::{Answer, FrameError, Request};
use crate::helper::{Client, Way};
use crate::runner::leases::{LeaseKnown, LeaseOrder, LeaseStanding, LeaseWord};

/// Renewals of one lease whose answer is awaited; four are under way when the first is overdue.
const AWAITED_MAX: usize = 16;
/// Longest time between two questions to the helper how a lease stands.
const LOOK: Duration = Duration::from_millis(500);
/// How long the helper may take: one barrier of its journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// One lease as the network half has it.
#[derive(Debug)]
struct Renewing {
    lease: HeldLease,
    driver: Driver,
    /// The newest work holds it.
    wanted: bool,
    /// As the helper said; none until it has written it down.
    standing: Option<LeaseStanding>,
    /// Renewals that were sent in this session: number, and time since boot.
    awaited: VecDeque<(u64, DurationMs)>,
    /// When the last one was queued in this session.
    sent: Option<DurationMs>,
    /// When this session was last known to answer.
    heard: DurationMs,
    /// The newest word that the helper does not have yet.
    word: Option<LeaseWord>,
    /// The helper has written down that a renewal was answered.
    answered: bool,
}

/// What is renewed, and when. Pure: time and random numbers come in.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    leases: BTreeMap<GroupName, Renewing>,
}

impl Renewals {
    /// The newest work of this node. A lease that it does not hold is let go only once the helper has given it back: work may
    /// come from a coordinator that lags behind, and one that is over is told so in the answer to its next renewal.
    pub(super) fn take_work(&mut self, work: &NodeWork, now: DurationMs) {
        for renewing in self.leases.values_mut() {
            renewing.wanted = false;
        }
        for lease in &work.leases {
            // Without its instance nobody knows what is to be stopped: it is not taken up.
            let instance = work.instances.iter().find(|instance| instance.service == lease.service);
            let Some(driver) = instance.map(|instance| instance.driver.clone()) else { continue };
            let known = self.leases.get_mut(&lease.group).filter(|known| known.lease.epoch >= lease.epoch);
            match known {
                Some(known) if known.lease.epoch == lease.epoch => {
                    known.wanted = true;
                    known.lease.recalled |= lease.recalled;
                }
                // An older one is work that lags behind.
                Some(known) => known.wanted = true,
                None => {
                    self.leases.insert(lease.group.clone(), Renewing::new(lease.clone(), driver, now));
                }
            }
        }
        self.leases.retain(|_, renewing| renewing.wanted || renewing.is_kept());
    }

    /// What the helper knows and has not given back. Whatever the newest work holds, it is renewed: the answer tells what became of it
    /// while this process was not there.
    fn found(&mut self, known: Vec<LeaseKnown>, now: DurationMs) {
        for LeaseKnown { lease, driver, standing } in known {
            if self.leases.get(&lease.group).is_some_and(|known| known.lease.epoch >= lease.epoch) {
                continue;
            }
            let group = lease.group.clone();
            let mut renewing = Renewing::new(lease, driver, now);
            (renewing.wanted, renewing.standing) = (false, Some(standing));
            self.leases.insert(group, renewing);
        }
    }

    /// A new session: it is asked at once, and has its own time to answer.
    pub(super) fn session_began(&mut self, now: DurationMs) {
        for renewing in self.leases.values_mut() {
            renewing.awaited.clear();
            (renewing.sent, renewing.heard) = (None, now);
        }
    }

    /// What is to be said now; it counts as sent now.
    pub(super) fn due(&mut self, now: DurationMs, mut nonce: impl FnMut() -> u64) -> Vec<LeaseRenewal> {
        let mut due = Vec::new();
        for renewing in
            self.leases.values_mut().filter(|renewing| renewing.due_at().is_some_and(|at| at <= now))
        {
            let (hold, message) = match &renewing.standing {
                Some(LeaseStanding::Released(message)) => (LeaseHold::Released, message.clone()),
                Some(LeaseStanding::Kept | LeaseStanding::Stopping) => (LeaseHold::Held, String::new()),
                None => continue,
            };
            let nonce = nonce();
            if renewing.awaited.len() >= AWAITED_MAX {
                renewing.awaited.pop_front();
            }
            renewing.awaited.push_back((nonce, now));
            renewing.sent = Some(now);
            let HeldLease { group, epoch, .. } = renewing.lease.clone();
            let answered = renewing.answered;
            due.push(LeaseRenewal { group, epoch, nonce, hold, answered, message });
        }
        due
    }

    /// When there is something to say, or it is to be looked whether this session still answers.
    pub(super) fn next(&self) -> Option<DurationMs> {
        let at = self.leases.values().filter_map(|renewing| {
            let overdue = renewing.is_held().then(|| renewing.overdue_at());
            [renewing.due_at(), overdue].into_iter().flatten().min()
        });
        at.min()
    }

    /// A coordinator answered. Whether there is something new for the helper.
    pub(super) fn answered(&mut self, answer: &LeaseAnswer, now: DurationMs) -> bool {
        let LeaseAnswer { group, epoch, nonce, granted } = answer;
        let Some(renewing) = self.leases.get_mut(group).filter(|r| r.lease.epoch == *epoch) else {
            return false;
        };
        let Some(place) = renewing.awaited.iter().position(|(asked, _)| asked == nonce) else { return false };
        let Some((_, sent)) = renewing.awaited.remove(place) else { return false };
        renewing.heard = now;
        let word = if *granted { LeaseWord::Granted { sent } } else { LeaseWord::Lost };
        renewing.word = Some(match (renewing.word, word) {
            (Some(LeaseWord::Lost), _) | (_, LeaseWord::Lost) => LeaseWord::Lost,
            (Some(LeaseWord::Granted { sent: before }), LeaseWord::Granted { sent }) => {
                LeaseWord::Granted { sent: before.max(sent) }
            }
            (None, word) => word,
        });
        true
    }

    /// Whether a lease is held and this session has not answered for it in two fifths of its time: another may.
    pub(super) fn overdue(&self, now: DurationMs) -> Option<&GroupName> {
        self.leases
            .iter()
            .find(|(_, renewing)| renewing.is_held() && renewing.overdue_at() <= now)
            .map(|(group, _)| group)
    }

    /// How long one attempt to reach a coordinator may take while something leads here: a fifth of the shortest lease.
    pub(super) fn hurry(&self) -> Option<Duration> {
        let held = self.leases.values().filter(|renewing| renewing.is_held());
        let shortest = held.map(|renewing| LeaseTimes::of(renewing.lease.ttl).renew_every).min()?;
        Some(Duration::from_millis(shortest.0).max(Duration::from_secs(1)))
    }

    /// What the helper is to be told, each with what it is answered by: [`Renewals::stands`].
    fn orders(&self) -> Vec<LeaseOrder> {
        let orders = self.leases.values().map(|renewing| LeaseOrder {
            lease: renewing.lease.clone(),
            driver: renewing.driver.clone(),
            answer: renewing.word,
        });
        orders.collect()
    }

    /// The helper has taken an order; none: it has not.
    fn stands(&mut self, order: &LeaseOrder, standing: Option<LeaseStanding>, now: DurationMs) -> bool {
        let known = self.leases.get_mut(&order.lease.group);
        let Some(renewing) = known.filter(|known| known.lease.epoch == order.lease.epoch) else {
            return false;
        };
        if standing.is_some() && renewing.word == order.answer {
            renewing.word = None;
        }
        // Only now does the host stop by itself what leads: what was adopted is not held for certain before.
        renewing.answered |= standing.is_some() && matches!(order.answer, Some(LeaseWord::Granted { .. }));
        let changed = renewing.standing != standing;
        if changed {
            // What is new is said at once, and from then on an answer is waited for.
            (renewing.standing, renewing.sent, renewing.heard) = (standing, None, now);
        }
        self.leases.retain(|_, renewing| renewing.wanted || renewing.is_kept());
        changed
    }
}

impl Renewing {
    fn new(lease: HeldLease, driver: Driver, now: DurationMs) -> Self {
        let (standing, sent, word) = (None, None, None);
        let awaited = VecDeque::new();
        Self { lease, driver, wanted: true, standing, awaited, sent, heard: now, word, answered: false }
    }

    fn every(&self) -> DurationMs {
        LeaseTimes::of(self.lease.ttl).renew_every
    }

    fn due_at(&self) -> Option<DurationMs> {
        self.standing.as_ref()?;
        Some(self.sent.map_or(DurationMs::ZERO, |sent| sent.plus(self.every())))
    }

    fn overdue_at(&self) -> DurationMs {
        self.heard.plus(self.every()).plus(self.every())
    }

    /// Something may lead under it.
    fn is_kept(&self) -> bool {
        matches!(self.standing, Some(LeaseStanding::Kept | LeaseStanding::Stopping))
    }

    fn is_held(&self) -> bool {
        self.standing == Some(LeaseStanding::Kept)
    }
}

/// Keeps the helper and the sessions in step until it is told to stop. A connection of its own: other requests take their time.
pub(super) async fn run(hub: Arc<Hub>, way: Way, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut client = None;
    let mut told = String::new();
    let mut asked = false;
    loop {
        let orders = hub.renewals(|renewals| renewals.orders());
        let idle = asked && orders.is_empty();
        if !idle {
            let some = !orders.is_empty();
            match tell(&hub, &way, &mut client, orders).await {
                Ok(()) => {
                    asked = true;
                    told.clear();
                }
                Err(error) => {
                    client = None;
                    let error = crate::helper::error_text(&error);
                    if some && error != told {
                        tracing::error!(error, "the helper is not told of the leases of this node");
                    }
                    told = error;
                }
            }
        }
        let woken = async {
            tokio::select! {
                () = hub.orders.notified() => {}
                () = tokio::time::sleep(LOOK), if !idle => {}
            }
        };
        if shutdown.run_until(woken).await.is_none() {
            return Ok(());
        }
    }
}

async fn tell(
    hub: &Hub,
    way: &Way,
    client: &mut Option<Client>,
    orders: Vec<LeaseOrder>,
) -> Result<(), FrameError> {
    let mut news = false;
    let mut open = match client.take() {
        Some(open) => open,
        None => {
            let mut open = way.connect().await?;
            let Answer::Leases(known) = open.ask_within(&Request::Leases, PATIENCE).await? else {
                return Err(FrameError::Malformed("it does not say which leases it knows".to_owned()));
            };
            news |= !known.is_empty();
            hub.renewals(|renewals| renewals.found(known, super::now()));
            open
        }
    };
    for order in orders {
        let answer = open.ask_within(&Request::Lease(Box::new(order.clone())), PATIENCE).await?;
        let standing = match answer {
            Answer::Lease(standing) => Some(standing),
            Answer::Refused { message, .. } => {
                tracing::warn!(group = %order.lease.group, message, "a lease is not taken up");
                None
            }
            other @ (Answer::Status(_)
            | Answer::Done
            | Answer::Probe(_)
            | Answer::Notice(_)
            | Answer::Leases(_)
            | Answer::CaughtUp) => {
                return Err(FrameError::Malformed(format!("{other:?} is no answer to this")));
            }
        };
        news |= hub.renewals(|renewals| renewals.stands(&order, standing, super::now()));
    }
    *client = Some(open);
    if news {
        hub.leases.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_model::session::NodeInstance;
    use quorate_model::{Epoch, ServiceName};

    use super::*;

    const TTL: DurationMs = DurationMs(15_000);

    fn at(ms: u64) -> DurationMs {
        DurationMs(ms)
    }

    fn group() -> GroupName {
        GroupName::new("db").unwrap()
    }

    fn work(epoch: u64, recalled: bool) -> NodeWork {
        let service = ServiceName::new("pg").unwrap();
        let lease =
            HeldLease { group: group(), service: service.clone(), epoch: Epoch(epoch), ttl: TTL, recalled };
        let instance = NodeInstance {
            service,
            driver: Driver::Systemd { unit: "pg.service".to_owned() },
            running: true,
            stop_timeout: at(1_000),
            start_timeout: at(1_000),
        };
        NodeWork { leases: vec![lease], instances: vec![instance], ..NodeWork::default() }
    }

    /// A node that the helper keeps one lease for, asked for at 1,000 under the number 1.
    fn held() -> Renewals {
        let mut renewals = Renewals::default();
        renewals.take_work(&work(7, false), at(0));
        renewals.session_began(at(0));
        assert!(renewals.due(at(1_000), || 9).is_empty(), "the helper has not written it down");
        assert!(renewals.stands(&renewals.orders()[0].clone(), Some(LeaseStanding::Kept), at(0)));
        assert_eq!(renewals.due(at(1_000), || 1).len(), 1);
        renewals
    }

    fn answer(nonce: u64, granted: bool) -> LeaseAnswer {
        LeaseAnswer { group: group(), epoch: Epoch(7), nonce, granted }
    }

    #[test]
    fn it_is_renewed_in_fifths_and_an_answer_counts_from_when_it_was_asked_for() {
        let mut renewals = held();
        assert!(renewals.due(at(3_999), || 2).is_empty());
        assert_eq!(renewals.next(), Some(at(4_000)));
        let said = renewals.due(at(4_000), || 2);
        assert_eq!((said[0].nonce, said[0].hold, said[0].epoch), (2, LeaseHold::Held, Epoch(7)));
        assert!(!renewals.answered(&answer(3, true), at(4_100)), "nobody asked this");
        assert!(renewals.answered(&answer(2, true), at(4_100)));
        assert!(renewals.answered(&answer(1, true), at(4_200)), "late, and out of turn");
        assert!(!renewals.answered(&answer(1, false), at(4_300)), "once");
        let order = renewals.orders()[0].clone();
        assert_eq!(order.answer, Some(LeaseWord::Granted { sent: at(4_000) }));
        renewals.stands(&order, Some(LeaseStanding::Kept), at(4_300));
        assert_eq!(renewals.orders()[0].answer, None, "told once");
        renewals.due(at(7_000), || 4);
        assert!(renewals.answered(&answer(4, false), at(7_100)));
        assert_eq!(renewals.orders()[0].answer, Some(LeaseWord::Lost));
    }

    #[test]
    fn a_session_that_does_not_answer_is_left_after_two_fifths() {
        let mut renewals = held();
        assert_eq!(renewals.overdue(at(5_999)), None);
        assert_eq!(renewals.overdue(at(6_000)), Some(&group()));
        renewals.session_began(at(6_000));
        assert_eq!(renewals.overdue(at(11_999)), None, "the next one has its own time");
        assert_eq!(renewals.due(at(6_000), || 5).len(), 1, "and is asked at once");
        assert!(!renewals.answered(&answer(1, true), at(6_100)), "an answer of another session");
        assert_eq!(renewals.hurry(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn what_the_helper_stops_is_renewed_until_it_is_released_and_that_is_said_until_it_is_dropped() {
        let mut renewals = held();
        renewals.take_work(&work(7, true), at(2_000));
        let order = renewals.orders()[0].clone();
        assert!(order.lease.recalled);
        assert!(renewals.stands(&order, Some(LeaseStanding::Stopping), at(2_000)));
        assert_eq!(renewals.due(at(2_000), || 2)[0].hold, LeaseHold::Held);
        assert_eq!((renewals.overdue(at(60_000)), renewals.hurry()), (None, None));
        // Work that lags behind does not make it forgotten.
        renewals.take_work(&NodeWork::default(), at(2_100));
        assert!(renewals.stands(&order, Some(LeaseStanding::Released("stopped".to_owned())), at(2_100)));
        assert_eq!(renewals.orders(), [], "nobody wants to know any more");
        renewals.take_work(&work(7, true), at(2_200));
        renewals.stands(&order, Some(LeaseStanding::Released("stopped".to_owned())), at(2_200));
        let said = renewals.due(at(2_200), || 3);
        assert_eq!((said[0].hold, said[0].message.as_str()), (LeaseHold::Released, "stopped"));
        assert_eq!(renewals.due(at(5_200), || 4).len(), 1, "again");
        renewals.take_work(&work(8, false), at(5_300));
        assert_eq!(renewals.orders()[0].lease.epoch, Epoch(8), "the next one takes its place");
        assert!(renewals.due(at(9_000), || 5).is_empty(), "and has to be written down first");
    }

    #[test]
    fn what_only_the_helper_knows_is_renewed_too_so_that_somebody_says_what_became_of_it() {
        let mut renewals = Renewals::default();
        let HeldLease { group: of, .. } = work(7, false).leases[0].clone();
        let known = |epoch| LeaseKnown {
            lease: work(epoch, false).leases[0].clone(),
            driver: Driver::Systemd { unit: "pg.service".to_owned() },
            standing: LeaseStanding::Kept,
        };
        renewals.found(vec![known(7)], at(0));
        renewals.take_work(&NodeWork::default(), at(1));
        assert_eq!(renewals.due(at(2), || 1)[0].group, of);
        assert!(renewals.answered(&answer(1, false), at(3)));
        let order = renewals.orders()[0].clone();
        assert_eq!(order.answer, Some(LeaseWord::Lost));
        renewals.stands(&order, Some(LeaseStanding::Released("stopped".to_owned())), at(4));
        assert_eq!(renewals.orders(), []);
        renewals.take_work(&work(8, false), at(5));
        renewals.found(vec![known(7)], at(6));
        assert_eq!(renewals.orders()[0].lease.epoch, Epoch(8), "the newer one stays");
    }

    #[test]
    fn what_the_helper_does_not_take_up_is_not_renewed() {
        let mut renewals = held();
        let order = renewals.orders()[0].clone();
        assert!(renewals.stands(&order, None, at(1_000)));
        assert!(renewals.due(at(60_000), || 2).is_empty());
        assert_eq!((renewals.next(), renewals.overdue(at(60_000))), (None, None));
        let mut other = work(8, false);
        other.instances.clear();
        renewals.take_work(&other, at(3));
        assert_eq!(renewals.orders(), [], "nobody knows what is to be stopped");
    }
}
