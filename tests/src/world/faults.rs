//! What is done to the world, and undone: a schedule drawn from the seed.
//!
//! Faults follow each other with gaps and sometimes overlap; now and then comes a calm of more than ten seconds, in which
//! I-9 can be judged. Every fault that really began is counted under its name.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_common::task::Entropy;

use super::agents::Site;
use super::board::Board;
use super::evidence::Calm;
use super::member::{Seat, host};
use super::trace::Trace;

/// What a barrier takes on a healthy disk.
pub const HEALTHY_DISK_US: u64 = 4_000;
/// What it may take on a slow one (F-10).
const SLOW_DISK_US: u64 = 600_000;
/// Latency of a healthy link, at most.
pub const HEALTHY_LINK: Duration = Duration::from_millis(12);
/// Chance of a healthy link to break at a message: none.
const NO_LOSS: f64 = 0.0;
/// Chance of a lossy link to break at a message; it mends by itself soon (F-14).
const LOSS: f64 = 0.01;

/// How a fault ends.
enum Undo {
    Bounce(Vec<u64>),
    BounceAgent(String),
    Repair(Vec<(String, String)>),
    RepairOneWay(Vec<(String, String)>),
    Release(Vec<(String, String)>),
    FastDisk(u64),
    FastLinks,
    NoLoss,
}

struct Active {
    name: &'static str,
    ends: u64,
    undo: Undo,
}

/// The schedule and what of it is under way.
pub struct Faults {
    entropy: Entropy,
    seats: BTreeMap<u64, Seat>,
    sites: BTreeMap<String, Site>,
    clients: Vec<String>,
    board: Board,
    trace: Trace,
    active: Vec<Active>,
    next: u64,
    calm_since: Option<u64>,
    /// Faults that happened, by name.
    pub happened: BTreeMap<String, u64>,
    /// Times without a fault.
    pub calms: Vec<Calm>,
    /// Times in which no coordinator ran.
    pub dark: Vec<Calm>,
}

/// The faults to choose from, with their weights.
const KINDS: [(&str, u64); 15] = [
    ("crash-leader", 14),
    ("crash-follower", 10),
    ("crash-all", 3),
    ("cut-leader", 12),
    ("cut-member", 8),
    ("cut-half", 6),
    ("one-way", 10),
    ("leader-with-clients", 8),
    ("clients-only", 5),
    ("hold", 10),
    ("slow-links", 6),
    ("loss", 4),
    ("slow-disk", 8),
    ("crash-agent", 14),
    ("cut-agent", 8),
];

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Faults {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(
        seed: u64,
        seats: BTreeMap<u64, Seat>,
        sites: BTreeMap<String, Site>,
        clients: Vec<String>,
        board: Board,
        trace: Trace,
    ) -> Self {
        Self {
            entropy: Entropy::seeded(seed ^ 0x00fa_0175),
            seats,
            sites,
            clients,
            board,
            trace,
            active: Vec::new(),
            next: 0,
            calm_since: None,
            happened: BTreeMap::new(),
            calms: Vec::new(),
            dark: Vec::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.entropy.next_u64() % limit.max(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let n = self.below(u64::try_from(from.len()).unwrap_or(1));
        from.get(usize::try_from(n).unwrap_or(0)).cloned()
    }

    /// Time without any fault begins or ends.
    fn calm(&mut self, now: u64) {
        match (self.active.is_empty(), self.calm_since) {
            (true, None) => self.calm_since = Some(now),
            (false, Some(from)) => {
                self.calms.push(Calm { from: from * 1_000, to: now * 1_000 });
                self.calm_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Ends what is due, begins what is due. Between two steps of the simulation.
    pub fn step(&mut self, now: Duration, sim: &mut turmoil::Sim<'_>) {
        let now = ms(now);
        self.end(now, sim, false);
        if now >= self.next {
            if self.next > 0 && self.active.len() < 2 {
                self.begin(now, sim);
            }
            self.next = now
                + if self.happened.len() > 4 && self.below(12) == 0 {
                    12_500
                } else {
                    150 + self.below(1_000)
                };
        }
        self.calm(now);
    }

    /// Undoes everything.
    pub fn heal(&mut self, now: Duration, sim: &mut turmoil::Sim<'_>) {
        self.end(ms(now), sim, true);
        self.calm(ms(now));
    }

    /// The last calm ends with the run.
    pub fn close(&mut self, now: Duration) {
        if let Some(from) = self.calm_since.take() {
            self.calms.push(Calm { from: from * 1_000, to: ms(now) * 1_000 });
        }
    }

    fn end(&mut self, now: u64, sim: &mut turmoil::Sim<'_>, all: bool) {
        let (due, rest) = std::mem::take(&mut self.active).into_iter().partition(|a| all || a.ends <= now);
        self.active = rest;
        let due: Vec<Active> = due;
        for Active { name, undo, .. } in due {
            self.trace.say("fault", format!("end of {name}"));
            // The end of the safety phase brings the power back early.
            if name == "crash-all"
                && let Some(dark) = self.dark.last_mut()
            {
                dark.to = dark.to.min(now * 1_000);
            }
            self.undo(sim, undo);
        }
    }

    fn undo(&mut self, sim: &mut turmoil::Sim<'_>, undo: Undo) {
        match undo {
            Undo::Bounce(members) => {
                for id in members {
                    self.trace.say(&host(id), "power is back");
                    sim.bounce(host(id));
                }
            }
            Undo::BounceAgent(name) => sim.bounce(name),
            Undo::Repair(pairs) => pairs.into_iter().for_each(|(a, b)| sim.repair(a, b)),
            Undo::RepairOneWay(pairs) => pairs.into_iter().for_each(|(a, b)| sim.repair_oneway(a, b)),
            Undo::Release(pairs) => pairs.into_iter().for_each(|(a, b)| sim.release(a, b)),
            Undo::FastDisk(id) => {
                if let Some(seat) = self.seats.get(&id) {
                    seat.slowness.store(HEALTHY_DISK_US, Ordering::Relaxed);
                }
            }
            Undo::FastLinks => sim.set_max_message_latency(HEALTHY_LINK),
            Undo::NoLoss => sim.set_fail_rate(NO_LOSS),
        }
    }

    fn begin(&mut self, now: u64, sim: &mut turmoil::Sim<'_>) {
        let total = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.below(total);
        let mut name = KINDS[0].0;
        for (kind, weight) in KINDS {
            name = kind;
            if draw < weight {
                break;
            }
            draw -= weight;
        }
        // The first fault always takes the leader away, for longer than an election.
        let forced = self.happened.is_empty();
        if forced {
            name = if self.below(2) == 0 { "crash-leader" } else { "cut-leader" };
        }
        // One of each kind at a time: undoing the first must not undo the second.
        let crash = |name: &str| name.starts_with("crash") && name != "crash-agent";
        let cuts = |name: &str| {
            [
                "cut-leader",
                "cut-member",
                "cut-half",
                "one-way",
                "hold",
                "leader-with-clients",
                "clients-only",
                "cut-agent",
            ]
            .contains(&name)
        };
        if self
            .active
            .iter()
            .any(|a| a.name == name || crash(a.name) && crash(name) || cuts(a.name) && cuts(name))
        {
            return;
        }
        let length = if forced { 3_500 } else { 500 + self.below(4_000) };
        if let Some(undo) = self.start(name, sim) {
            if name == "crash-all" {
                // Verbs that begin in the moment of the crash were handed out before it.
                self.dark.push(Calm { from: now * 1_000, to: (now + length) * 1_000 });
            }
            *self.happened.entry(name.to_owned()).or_default() += 1;
            self.active.push(Active { name, ends: now + length, undo });
        }
    }

    fn start(&mut self, name: &'static str, sim: &mut turmoil::Sim<'_>) -> Option<Undo> {
        let all: Vec<u64> = self.seats.keys().copied().collect();
        let leader = self.board.leader();
        let followers: Vec<u64> = all.iter().copied().filter(|id| Some(*id) != leader).collect();
        match name {
            "crash-leader" => Some(self.crash(sim, vec![leader?])),
            "crash-follower" => {
                let id = self.pick(&followers)?;
                Some(self.crash(sim, vec![id]))
            }
            "crash-all" => Some(self.crash(sim, all)),
            "cut-leader" => Some(self.cut(name, sim, &[host(leader?)], &hosts(&followers))),
            "cut-member" => {
                let id = self.pick(&all)?;
                let rest: Vec<u64> = all.into_iter().filter(|other| *other != id).collect();
                let mut rest = hosts(&rest);
                rest.extend(self.clients.clone());
                Some(self.cut(name, sim, &[host(id)], &rest))
            }
            "cut-half" => {
                let turn = usize::try_from(self.below(u64::try_from(all.len()).unwrap_or(1))).unwrap_or(0);
                let mut turned = all;
                turned.rotate_left(turn);
                let (few, many) = turned.split_at(turned.len() / 2);
                Some(self.cut(name, sim, &hosts(few), &hosts(many)))
            }
            "one-way" => {
                let from = leader.filter(|_| self.below(2) == 0).or_else(|| self.pick(&all))?;
                let to = hosts(&all.into_iter().filter(|id| *id != from).collect::<Vec<_>>());
                Some(self.one_way(sim, &host(from), &to))
            }
            "leader-with-clients" => {
                let with = self.pick(&self.clients.clone())?;
                let mut rest = hosts(&followers);
                rest.extend(self.clients.iter().filter(|client| **client != with).cloned());
                Some(self.cut(name, sim, &[host(leader?), with], &rest))
            }
            "clients-only" => Some(self.cut(name, sim, &[host(leader?)], &self.clients.clone())),
            "hold" => {
                let id = self.pick(&all)?;
                let pairs: Vec<_> =
                    all.iter().filter(|other| **other != id).map(|other| (host(id), host(*other))).collect();
                self.trace.say("fault", format!("hold what passes between {} and its peers", host(id)));
                pairs.iter().for_each(|(a, b)| sim.hold(a.clone(), b.clone()));
                Some(Undo::Release(pairs))
            }
            "slow-links" | "loss" | "slow-disk" => self.slow(name, sim, leader, &all),
            "crash-agent" => {
                let names: Vec<String> = self.sites.keys().cloned().collect();
                let name = self.pick(&names)?;
                Some(self.crash_agent(sim, name))
            }
            "cut-agent" => {
                let names: Vec<String> = self.sites.keys().cloned().collect();
                let one = self.pick(&names)?;
                Some(self.cut(name, sim, &[one], &hosts(&all)))
            }
            _ => None,
        }
    }

    /// What is slow or lossy rather than cut off.
    fn slow(
        &mut self,
        name: &str,
        sim: &mut turmoil::Sim<'_>,
        leader: Option<u64>,
        all: &[u64],
    ) -> Option<Undo> {
        match name {
            "slow-links" => {
                let most = 50 + self.below(400);
                self.trace.say("fault", format!("links take up to {most} ms"));
                sim.set_max_message_latency(Duration::from_millis(most));
                Some(Undo::FastLinks)
            }
            "loss" => {
                self.trace.say("fault", "links break at one message of a hundred");
                sim.set_fail_rate(LOSS);
                Some(Undo::NoLoss)
            }
            "slow-disk" => {
                let id = leader.filter(|_| self.below(2) == 0).or_else(|| self.pick(all))?;
                let most = 20_000 + self.below(SLOW_DISK_US);
                self.trace.say("fault", format!("barriers of {} take up to {most} us", host(id)));
                self.seats.get(&id)?.slowness.store(most, Ordering::Relaxed);
                Some(Undo::FastDisk(id))
            }
            _ => None,
        }
    }

    /// A host's agent loses its power; the machine's units go on.
    fn crash_agent(&mut self, sim: &mut turmoil::Sim<'_>, name: String) -> Undo {
        if let Some(site) = self.sites.get(&name).cloned() {
            let unsynced = site.disk.unsynced();
            let kept = self.below(u64::try_from(unsynced).unwrap_or(0) + 1);
            self.trace.say(&name, format!("the agent is killed, {kept} of {unsynced} unsynced batches kept"));
            site.disk.crash_keeping(usize::try_from(kept).unwrap_or(0));
            sim.crash(name.as_str());
        }
        Undo::BounceAgent(name)
    }

    /// Power cuts: of what had no barrier a part that the dice choose has reached the disk.
    fn crash(&mut self, sim: &mut turmoil::Sim<'_>, members: Vec<u64>) -> Undo {
        for id in &members {
            let Some(seat) = self.seats.get(id).cloned() else { continue };
            let unsynced = seat.disk.unsynced();
            let kept = self.below(u64::try_from(unsynced).unwrap_or(0) + 1);
            self.trace.say(&host(*id), format!("power cut, {kept} of {unsynced} unsynced batches kept"));
            if unsynced > 0 {
                *self.happened.entry("unsynced-lost".to_owned()).or_default() += 1;
            }
            seat.disk.crash_keeping(usize::try_from(kept).unwrap_or(0));
            self.board.gone(*id);
            sim.crash(host(*id));
        }
        Undo::Bounce(members)
    }

    fn cut(&mut self, name: &str, sim: &mut turmoil::Sim<'_>, a: &[String], b: &[String]) -> Undo {
        self.trace.say("fault", format!("{name}: {} | {}", a.join(" "), b.join(" ")));
        let mut pairs = Vec::new();
        for one in a {
            for other in b {
                sim.partition(one.clone(), other.clone());
                pairs.push((one.clone(), other.clone()));
            }
        }
        Undo::Repair(pairs)
    }

    fn one_way(&mut self, sim: &mut turmoil::Sim<'_>, from: &str, to: &[String]) -> Undo {
        self.trace.say("fault", format!("one-way: nothing from {from} to {}", to.join(" ")));
        let pairs: Vec<_> = to.iter().map(|other| (from.to_owned(), other.clone())).collect();
        pairs.iter().for_each(|(a, b)| sim.partition_oneway(a.clone(), b.clone()));
        Undo::RepairOneWay(pairs)
    }
}

fn hosts(members: &[u64]) -> Vec<String> {
    members.iter().map(|id| host(*id)).collect()
}
