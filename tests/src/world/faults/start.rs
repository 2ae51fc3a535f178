//! How each fault begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{FALL, Faults, LOSS, Later, SLOW_DISK_US, Undo};
use crate::world::member::host;
use crate::world::operator;
use crate::world::post::Trick;

impl Faults {
    /// Begins a fault; none when there is nothing to do it to.
    pub(super) fn start(
        &mut self,
        name: &'static str,
        now: u64,
        length: u64,
        sim: &mut turmoil::Sim<'_>,
    ) -> Option<Undo> {
        if let Some(trick) = Trick::ALL.into_iter().find(|t| t.name() == name) {
            self.trace.say("fault", format!("messages: {name}"));
            self.post.begin(trick);
            return Some(Undo::Post(trick));
        }
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
            "pause-leader" => Some(self.pause(sim, host(leader?), now + length)),
            "pause-member" => {
                let id = self.pick(&all)?;
                Some(self.pause(sim, host(id), now + length))
            }
            _ => self.start_at_agents(name, now, length, sim, &all),
        }
    }

    fn start_at_agents(
        &mut self,
        name: &'static str,
        now: u64,
        length: u64,
        sim: &mut turmoil::Sim<'_>,
        all: &[u64],
    ) -> Option<Undo> {
        let names: Vec<String> = self.sites.keys().cloned().collect();
        let one = self.pick(&names)?;
        match name {
            "crash-agent" => Some(self.crash_agent(sim, one)),
            "cut-agent" => Some(self.cut(name, sim, &[one], &hosts(all))),
            "pause-agent" => Some(self.pause(sim, one, now + length)),
            FALL => {
                if !self.sites.get(&one)?.machine.fall() {
                    return None;
                }
                self.trace.say(&one, "the unit ends by itself");
                Some(Undo::Rise(one))
            }
            "swizzle" => Some(self.swizzle(now, length)),
            "flap-agent" => {
                // F-34: it is there for a while and away for a while, several times.
                let undo = self.crash_agent(sim, one.clone());
                let (mut at, end) = (now, now + length);
                loop {
                    at += 300 + self.below(700);
                    self.later.push((at, Later::Bounce(one.clone())));
                    at += 1_000 + self.below(1_000);
                    if at >= end {
                        break;
                    }
                    self.later.push((at, Later::Kill(one.clone())));
                }
                // Its last return is one of the steps.
                drop(undo);
                Some(Undo::BounceAgents(Vec::new()))
            }
            "agents-again" => {
                // F-35: all of them come back at the same instant.
                names.iter().for_each(|name| drop(self.crash_agent(sim, name.clone())));
                Some(Undo::BounceAgents(names))
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
                self.seats.get(&id)?.slowness.most_us.store(most, Ordering::Relaxed);
                Some(Undo::FastDisk(id))
            }
            _ => None,
        }
    }

    /// A host's agent loses its power; the machine's units go on.
    pub(in crate::world) fn crash_agent(&mut self, sim: &mut turmoil::Sim<'_>, name: String) -> Undo {
        if let Some(site) = self.sites.get(&name).cloned() {
            let unsynced = site.disk.unsynced();
            let kept = self.below(u64::try_from(unsynced).unwrap_or(0) + 1);
            self.trace.say(&name, format!("the agent is killed, {kept} of {unsynced} unsynced batches kept"));
            site.disk.crash_keeping(usize::try_from(kept).unwrap_or(0));
            site.gone();
            sim.crash(name.as_str());
        }
        Undo::BounceAgent(name)
    }

    /// Power cuts: of what had no barrier a part that the dice choose has reached the disk.
    fn crash(&mut self, sim: &mut turmoil::Sim<'_>, members: Vec<u64>) -> Undo {
        for id in &members {
            if self.crash_member(sim, *id) {
                *self.happened.entry("unsynced-lost".to_owned()).or_default() += 1;
            }
        }
        Undo::Bounce(members)
    }

    /// Power cut of one member. Whether there was anything to lose.
    pub(in crate::world) fn crash_member(&mut self, sim: &mut turmoil::Sim<'_>, id: u64) -> bool {
        let Some(seat) = self.seats.get(&id).cloned() else { return false };
        let unsynced = seat.disk.unsynced();
        let kept = self.below(u64::try_from(unsynced).unwrap_or(0) + 1);
        self.trace.say(&host(id), format!("power cut, {kept} of {unsynced} unsynced batches kept"));
        seat.disk.crash_keeping(usize::try_from(kept).unwrap_or(0));
        self.board.gone(id);
        sim.crash(host(id));
        unsynced > 0
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

    /// Everybody.
    fn everybody(&self) -> Vec<String> {
        let members = self.seats.keys().map(|id| host(*id));
        let operators = operator::NAMES.iter().map(|name| (*name).to_owned());
        let users = self.clients.iter().cloned().chain(operators);
        members.chain(self.sites.keys().cloned()).chain(users).collect()
    }

    /// Holds what passes to and from a host.
    pub(super) fn clog(&mut self, sim: &mut turmoil::Sim<'_>, name: &str) {
        self.trace.say("fault", format!("{name} is clogged"));
        if self.clogged.insert(name.to_owned()) {
            let others = self.everybody().into_iter().filter(|other| other != name);
            others.for_each(|other| sim.hold(name, other));
        }
    }

    /// Lets it go, but for what another clogged host holds.
    pub(super) fn unclog(&mut self, sim: &mut turmoil::Sim<'_>, name: &str) {
        if self.clogged.remove(name) {
            self.trace.say("fault", format!("{name} is free"));
            let others = self.everybody().into_iter();
            let free = others.filter(|other| other != name && !self.clogged.contains(other));
            free.for_each(|other| sim.release(name, other));
        }
    }

    /// Until when, in milliseconds, a host's disk finishes nothing and its agent begins nothing.
    pub(super) fn stall(&self, name: &str, until: u64) {
        let seat = self.seats.iter().find(|(id, _)| host(**id) == name).map(|(_, seat)| &seat.slowness);
        if let Some(slowness) = seat.or_else(|| self.sites.get(name).map(|site| &site.slowness)) {
            slowness.stalled_us.store(until * 1_000, Ordering::Relaxed);
        }
    }

    /// A host stands still (F-3).
    fn pause(&mut self, sim: &mut turmoil::Sim<'_>, name: String, until: u64) -> Undo {
        self.trace.say("fault", format!("{name} is paused until {until} ms"));
        self.stall(&name, until);
        self.clog(sim, &name);
        Undo::Resume(name)
    }

    /// Hosts are clogged one after the other, and set free in another order (F-16).
    fn swizzle(&mut self, now: u64, length: u64) -> Undo {
        let mut names: Vec<String> =
            self.seats.keys().map(|id| host(*id)).chain(self.sites.keys().cloned()).collect();
        let count = 2 + usize::try_from(self.below(u64::try_from(names.len()).unwrap_or(2) - 1)).unwrap_or(0);
        self.shuffle(&mut names);
        names.truncate(count);
        let half = length / 2;
        for name in &names {
            let at = now + self.below(half);
            self.later.push((at, Later::Clog(name.clone())));
        }
        self.shuffle(&mut names);
        for name in names {
            let at = now + half + self.below(half);
            self.later.push((at, Later::Unclog(name)));
        }
        Undo::Unclog
    }

    fn shuffle(&mut self, names: &mut [String]) {
        for n in (1..names.len()).rev() {
            let with = self.below(u64::try_from(n).unwrap_or(0) + 1);
            names.swap(n, usize::try_from(with).unwrap_or(0));
        }
    }
}

fn hosts(members: &[u64]) -> Vec<String> {
    members.iter().map(|id| host(*id)).collect()
}
