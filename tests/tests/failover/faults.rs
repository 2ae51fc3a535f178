//! The faults: each begins, is held for a while together with others, and is taken back.

use std::fmt::{self, Display, Formatter};

use quorate_tests::cluster::Daemon;
use quorate_tests::proxy::{From, Rule, Trouble};
use quorate_tests::random::Random;
use rustix::process::{Pid, Signal, kill_process};

use crate::pair::Pair;

/// An hour, in seconds: how far a clock is turned.
const HOUR: i64 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillPrimary,
    StopPrimary,
    KillStandby,
    StopStandby,
    KillAgent,
    StopAgent,
    KillHelper,
    KillLeader,
    StopLeader,
    CutHost,
    StallHost,
    StallHostThere,
    StallHostBack,
    CutLeader,
    LeaderWithPrimary,
    ClockAhead,
    ClockBehind,
    LeaderClockAhead,
    LeaderClockBehind,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 19] = [
        Self::KillPrimary,
        Self::StopPrimary,
        Self::KillStandby,
        Self::StopStandby,
        Self::KillAgent,
        Self::StopAgent,
        Self::KillHelper,
        Self::KillLeader,
        Self::StopLeader,
        Self::CutHost,
        Self::StallHost,
        Self::StallHostThere,
        Self::StallHostBack,
        Self::CutLeader,
        Self::LeaderWithPrimary,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::LeaderClockAhead,
        Self::LeaderClockBehind,
    ];
}

/// Faults that last.
#[derive(Default)]
pub(crate) struct Lasting {
    stopped: Vec<Pid>,
    rules: Vec<Rule>,
    turned: Vec<Pid>,
}

impl Lasting {
    /// Begins one; false when it could not be done: its victim is not there.
    pub(crate) fn begin(&mut self, pair: &Pair, kind: Kind, primary: &str) -> bool {
        let fleet = &pair.proxied.fleet;
        let standby = pair.other(primary);
        let leader = || fleet.leader();
        match kind {
            Kind::KillPrimary => send(pair.found(primary), Signal::KILL),
            Kind::KillStandby => send(pair.found(&standby), Signal::KILL),
            Kind::StopPrimary => self.stop(pair.found(primary)),
            Kind::StopStandby => self.stop(pair.found(&standby)),
            Kind::KillAgent => send(fleet.pid(Daemon::Agent(primary)), Signal::KILL),
            Kind::KillHelper => send(fleet.pid(Daemon::Helper(primary)), Signal::KILL),
            Kind::StopAgent => self.stop(fleet.pid(Daemon::Agent(primary))),
            Kind::KillLeader => send(fleet.pid(Daemon::Coordinator(&leader())), Signal::KILL),
            Kind::StopLeader => self.stop(fleet.pid(Daemon::Coordinator(&leader()))),
            Kind::CutHost => self.trouble(pair, [host(primary, Trouble::Cut)]),
            Kind::StallHost => self.trouble(pair, [host(primary, Trouble::Stall)]),
            Kind::StallHostThere => self.trouble(pair, [host(primary, Trouble::StallThere)]),
            Kind::StallHostBack => self.trouble(pair, [host(primary, Trouble::StallBack)]),
            Kind::CutLeader => {
                let leader = leader();
                let into = Rule { from: From::Anyone, to: Some(leader.clone()), trouble: Trouble::Cut };
                self.trouble(pair, [into, Rule { from: From::One(leader), to: None, trouble: Trouble::Cut }])
            }
            Kind::LeaderWithPrimary => self.trouble(pair, with_primary(&leader(), primary)),
            Kind::ClockAhead => self.turn(pair, halves(pair, primary), HOUR),
            Kind::ClockBehind => self.turn(pair, halves(pair, primary), -HOUR),
            Kind::LeaderClockAhead => self.turn(pair, fleet.pid(Daemon::Coordinator(&leader())), HOUR),
            Kind::LeaderClockBehind => self.turn(pair, fleet.pid(Daemon::Coordinator(&leader())), -HOUR),
        }
    }

    /// Takes all of them back.
    pub(crate) fn end(self, pair: &Pair) {
        pair.proxied.network.set(Vec::new());
        for pid in self.turned {
            pair.turn_clock(pid, 0);
        }
        // Whoever was ended meanwhile is nobody's to wake.
        for pid in self.stopped {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    fn stop(&mut self, victim: Option<Pid>) -> bool {
        self.stopped.extend(victim);
        send(victim, Signal::STOP)
    }

    fn trouble(&mut self, pair: &Pair, rules: impl IntoIterator<Item = Rule>) -> bool {
        self.rules.extend(rules);
        pair.proxied.network.set(self.rules.clone());
        true
    }

    fn turn(&mut self, pair: &Pair, victims: impl IntoIterator<Item = Pid>, seconds: i64) -> bool {
        let before = self.turned.len();
        self.turned.extend(victims);
        self.turned.iter().skip(before).for_each(|pid| pair.turn_clock(*pid, seconds));
        self.turned.len() > before
    }
}

fn send(victim: Option<Pid>, signal: Signal) -> bool {
    victim.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Both halves of a host's agent.
fn halves(pair: &Pair, node: &str) -> Vec<Pid> {
    let fleet = &pair.proxied.fleet;
    [Daemon::Agent(node), Daemon::Helper(node)].into_iter().filter_map(|daemon| fleet.pid(daemon)).collect()
}

/// A host and the coordinators.
fn host(node: &str, trouble: Trouble) -> Rule {
    Rule { from: From::One(node.to_owned()), to: None, trouble }
}

/// The leader of the coordinators hears nobody but the primary's agent, and nobody but that hears it.
pub(crate) fn with_primary(leader: &str, primary: &str) -> Vec<Rule> {
    let cut = |from, to| Rule { from, to, trouble: Trouble::Stall };
    let leader = leader.to_owned();
    let mut rules = vec![cut(From::Coordinators, Some(leader.clone())), cut(From::One(leader.clone()), None)];
    let others = (1..=5).map(|n| format!("node{n}")).filter(|node| node != primary);
    rules.extend(others.map(|node| cut(From::One(node), Some(leader.clone()))));
    rules
}

/// Some faults that are begun together.
pub(crate) fn some(random: &mut Random, most: usize) -> Vec<Kind> {
    let mut all = Kind::ALL;
    random.shuffle(&mut all);
    let count = 1 + usize::try_from(random.below(3)).unwrap_or(0);
    all.into_iter().take(count.min(most.max(1))).collect()
}
