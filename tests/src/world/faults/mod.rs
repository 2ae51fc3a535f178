//! What is done to the world, and undone: a schedule drawn from the seed.
//!
//! Faults follow each other with gaps and sometimes overlap; now and then comes a calm of more than ten seconds, in which
//! I-9 can be judged. Every fault that really began is counted under its name.
//!
//! By the catalogue (reliability.md §7): `crash-*` and `fall-instance` (a unit that ends by itself) F-1, F-2 and F-7, `flap-agent` F-34, `agents-again` F-35, `pause-*` F-3,
//! `slow-disk` F-10, `cut-*` and `leader-with-clients` F-12, F-15 and F-17, `one-way` F-13, `slow-links` and `loss` F-14,
//! `swizzle` F-16, `hold` F-26, and what [`super::post`] does to messages F-24, F-25, F-27 and F-28.
//!
//! A paused host (F-3) hears and says nothing, its disk finishes nothing, its agent begins no verb; when it goes on, all of
//! that comes at once. Its timers do run: a simulated host cannot be kept from being scheduled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_common::task::Entropy;

use super::agents::Site;
use super::board::Board;
use super::evidence::Calm;
use super::member::{Seat, host};
use super::post::{Post, Trick};
use super::trace::Trace;

mod start;

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

/// The first fault lasts until another member leads: at most three elections.
const FORCED_MS: u64 = 12_000;
/// And at least this long.
const AT_LEAST_MS: u64 = 1_500;

/// How a fault ends.
pub(super) enum Undo {
    Bounce(Vec<u64>),
    BounceAgent(String),
    Repair(Vec<(String, String)>),
    RepairOneWay(Vec<(String, String)>),
    Release(Vec<(String, String)>),
    Resume(String),
    Unclog,
    Post(Trick),
    Rise(String),
    BounceAgents(Vec<String>),
    FastDisk(u64),
    FastLinks,
    NoLoss,
}

struct Active {
    name: &'static str,
    began: u64,
    ends: u64,
    /// It ends early once somebody leads in a later term than this.
    until: Option<u64>,
    undo: Undo,
}

/// What comes of its own within a fault that goes step by step.
enum Later {
    Clog(String),
    Unclog(String),
    Kill(String),
    Bounce(String),
}

/// The schedule and what of it is under way.
pub struct Faults {
    entropy: Entropy,
    seats: BTreeMap<u64, Seat>,
    sites: BTreeMap<String, Site>,
    clients: Vec<String>,
    board: Board,
    trace: Trace,
    post: Post,
    active: Vec<Active>,
    later: Vec<(u64, Later)>,
    clogged: BTreeSet<String>,
    next: u64,
    /// When the last fault ends, in milliseconds.
    over: u64,
    calm_since: Option<u64>,
    /// Faults that happened, by name.
    pub happened: BTreeMap<String, u64>,
    /// Times without a fault.
    pub calms: Vec<Calm>,
    /// Times in which no coordinator ran.
    pub dark: Vec<Calm>,
}

/// A unit ends by itself. It concerns no coordinator, so writes go on (I-9) and other faults come meanwhile.
const FALL: &str = "fall-instance";

/// The faults to choose from, with their weights.
const KINDS: [(&str, u64); 26] = [
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
    ("pause-leader", 8),
    ("pause-member", 5),
    ("pause-agent", 12),
    ("swizzle", 8),
    ("flap-agent", 5),
    ("agents-again", 4),
    (FALL, 14),
    ("duplicate", 8),
    ("reorder", 8),
    ("replay", 8),
    ("truncate", 8),
];

/// What a sweep must have seen of each of, at least once: every fault, every trick on messages, and a power cut that found
/// unsynced writes. A snapshot whose stream breaks off (`truncate-snapshot`) is too rare to be demanded of sixty runs.
pub fn required() -> impl Iterator<Item = String> {
    let tricks =
        Trick::ALL.iter().flat_map(|t| ["peers", "session"].map(|way| format!("{}-{way}", t.name())));
    let others = ["unsynced-lost".to_owned()];
    KINDS.iter().map(|(name, _)| (*name).to_owned()).chain(tricks).chain(others)
}

/// Faults of links: undoing one would undo another, so there is one at a time.
const LINKS: [&str; 12] = [
    "cut-leader",
    "cut-member",
    "cut-half",
    "one-way",
    "hold",
    "leader-with-clients",
    "clients-only",
    "cut-agent",
    "pause-leader",
    "pause-member",
    "pause-agent",
    "swizzle",
];

/// Crashes of members and crashes of agents: of each one at a time.
const CRASHES: [&[&str]; 2] =
    [&["crash-leader", "crash-follower", "crash-all"], &["crash-agent", "flap-agent", "agents-again"]];

/// Whether two faults cannot go on at once.
fn excludes(one: &str, other: &str) -> bool {
    let both = |all: &[&str]| all.contains(&one) && all.contains(&other);
    one == other || both(&LINKS) || CRASHES.iter().any(|all| both(all))
}

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
        post: Post,
        trace: Trace,
    ) -> Self {
        Self {
            entropy: Entropy::seeded(seed ^ 0x00fa_0175),
            seats,
            sites,
            clients,
            board,
            trace,
            post,
            active: Vec::new(),
            later: Vec::new(),
            clogged: BTreeSet::new(),
            next: 0,
            over: 0,
            calm_since: None,
            happened: BTreeMap::new(),
            calms: Vec::new(),
            dark: Vec::new(),
        }
    }

    /// When the safety phase ends: no fault outlives it.
    pub fn until(&mut self, end: Duration) {
        self.over = ms(end);
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
        let calm = self.active.iter().all(|a| a.name == FALL);
        match (calm, self.calm_since) {
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
            if self.next > 0 && self.active.iter().filter(|a| a.name != FALL).count() < 2 {
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
        self.go_on(now, sim, all);
        let led = self.board.term_led();
        let due = |a: &Active| {
            all || a.ends <= now
                || a.until.is_some_and(|term| led > Some(term) && a.began + AT_LEAST_MS < now)
        };
        let (due, rest) = std::mem::take(&mut self.active).into_iter().partition(due);
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

    /// The next steps of faults that have several. At the end of all faults nothing more breaks, and everything comes back.
    fn go_on(&mut self, now: u64, sim: &mut turmoil::Sim<'_>, all: bool) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| all || *at <= now);
        self.later = rest;
        for (_, step) in due {
            match step {
                Later::Clog(name) if !all => self.clog(sim, &name),
                Later::Kill(name) if !all => drop(self.crash_agent(sim, name)),
                Later::Clog(_) | Later::Kill(_) => {}
                Later::Unclog(name) => self.unclog(sim, &name),
                Later::Bounce(name) => {
                    if !sim.is_host_running(name.as_str()) {
                        sim.bounce(name);
                    }
                }
            }
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
            Undo::BounceAgents(names) => names.into_iter().for_each(|name| sim.bounce(name)),
            Undo::Resume(name) => {
                self.stall(&name, 0);
                self.unclog(sim, &name);
            }
            Undo::Unclog => {
                let clogged = self.clogged.clone();
                clogged.iter().for_each(|name| self.unclog(sim, name));
            }
            Undo::Post(trick) => self.post.end(trick),
            Undo::Rise(name) => {
                let rose = self.sites.get(&name).is_some_and(|site| site.machine.rise());
                self.trace
                    .say(&name, if rose { "the unit is started again" } else { "the unit runs already" });
            }
            Undo::Repair(pairs) => pairs.into_iter().for_each(|(a, b)| sim.repair(a, b)),
            Undo::RepairOneWay(pairs) => pairs.into_iter().for_each(|(a, b)| sim.repair_oneway(a, b)),
            Undo::Release(pairs) => pairs.into_iter().for_each(|(a, b)| sim.release(a, b)),
            Undo::FastDisk(id) => {
                if let Some(seat) = self.seats.get(&id) {
                    seat.slowness.most_us.store(HEALTHY_DISK_US, Ordering::Relaxed);
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
        // The first fault always takes the leader away, until another one leads.
        let forced = self.happened.is_empty();
        if forced {
            name = if self.below(2) == 0 { "crash-leader" } else { "cut-leader" };
        }
        if self.active.iter().any(|a| excludes(a.name, name)) {
            return;
        }
        let until = self.board.term_led().filter(|_| forced);
        let length = if forced { FORCED_MS } else { self.length(name) };
        let length = length.min(self.over.saturating_sub(now));
        if let Some(undo) = self.start(name, now, length, sim) {
            if name == "crash-all" {
                // Verbs that begin in the moment of the crash were handed out before it.
                self.dark.push(Calm { from: now * 1_000, to: (now + length) * 1_000 });
            }
            *self.happened.entry(name.to_owned()).or_default() += 1;
            self.active.push(Active { name, began: now, ends: now + length, until, undo });
        }
    }

    /// How long a fault lasts, in milliseconds.
    fn length(&mut self, name: &str) -> u64 {
        if name.starts_with("pause-") {
            // F-3: 0.1 to 60 s; most of them short, because all of them have to fit.
            return match self.below(10) {
                0..=5 => 100 + self.below(2_900),
                6..=8 => 3_000 + self.below(7_000),
                _ => 10_000 + self.below(50_000),
            };
        }
        if name == FALL && self.below(2) == 0 {
            // Longer than any health counts as fresh: by then nobody may be surprised.
            return 16_000 + self.below(30_000);
        }
        500 + self.below(4_000)
    }
}
