//! Kill points: rollout after rollout in one world, and in each one kill, at a point that the seed chooses over its length.
//!
//! A point is a place in what happens, not in time: the k-th entry of the log, the k-th message, the k-th barrier of an
//! agent's journal, the k-th beginning or end of a verb on a host since the rollout was asked for. Journals lie on slow disks here:
//! what was done and is not yet written down is what a crash must not make undone, or done again. How many there are is counted in a round of the same script without a
//! kill, so that a point falls anywhere from the request to the end. A point that a shorter rollout never reached is no kill
//! point and is not counted; another round takes its place.
//!
//! After each round the world waits until everything stands still, and then writes down what is on the hosts, what they did,
//! what is left open, and what the coordinators believe ([`Round`]). [`crate::invariants::rounds`] judges it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_core::State;
use quorate_core::state::operation::Operation;
use quorate_model::{ActionKind, InstanceId, NodeName, ObligationState, ServiceName};

use self::script::Script;
use super::agents::Site;
use super::evidence::{Act, Round, Work};
use super::machine::SERVICE;
use super::member::host;
use super::run::World;
use super::shelf::{ONE, TWO};
use crate::world::shelf::FADE;

mod calls;
pub mod script;

/// Longest round, and longest time until everything stands still after it.
const LIMIT: Duration = Duration::from_secs(240);
/// A barrier of an agent's journal takes up to so long: many times what the simulation looks at in one step.
const JOURNAL_US: u64 = 40_000;
/// A release that fades ends so long after its start.
const FADES_MS: u64 = 1_000;
/// Rounds beyond the points that are wanted, at most: some points are never reached, some rounds repair.
const MORE_ROUNDS: u64 = 6;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Leader,
    Follower,
    Agent,
    All,
}

impl Who {
    const ALL: [Self; 4] = [Self::Leader, Self::Follower, Self::Agent, Self::All];

    const fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Agent => "agent",
            Self::All => "all",
        }
    }
}

/// What is counted to find the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Entries,
    Messages,
    Barriers,
    Verbs,
}

/// Entries, messages, barriers, and beginnings and ends of verbs so far.
type Counts = [u64; 4];

/// One kill that is to come.
#[derive(Clone, Copy, Debug)]
struct Point {
    who: Who,
    count: Count,
    /// The how many-th, since the request.
    at: u64,
    away_ms: u64,
}

/// Whoever is down, until when.
#[derive(Default)]
struct Away {
    members: Vec<u64>,
    agents: Vec<String>,
    until: Duration,
}

/// The draws of a run.
struct Dice(Entropy);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    fn point(&mut self, length: Counts) -> Point {
        let who = match self.below(20) {
            0..=6 => Who::Leader,
            7..=10 => Who::Follower,
            11..=16 => Who::Agent,
            _ => Who::All,
        };
        let count = match self.below(4) {
            0 => Count::Entries,
            1 => Count::Messages,
            2 => Count::Barriers,
            _ => Count::Verbs,
        };
        let at = 1 + self.below(length[count as usize]);
        // Mostly as long as a restart takes, sometimes long enough to be missed.
        let away_ms = if self.below(8) == 0 { 4_000 + self.below(4_000) } else { 200 + self.below(2_500) };
        Point { who, count, at, away_ms }
    }
}

impl World {
    /// Every round of a run.
    pub(super) fn play_kills(&mut self, points: u64) -> Result<(), String> {
        self.birth()?;
        for site in self.sites.values() {
            site.slowness.most_us.store(JOURNAL_US, Ordering::Relaxed);
        }
        self.notebook.seen().go = true;
        self.until(LIMIT, |world| world.notebook.seen().declared)?;
        let mut dice = Dice(Entropy::seeded(self.plan.seed ^ 0x0071_1150));
        let all = u64::try_from(Script::ALL.len()).unwrap_or(1);
        let script = Script::ALL[usize::try_from(self.plan.seed % all).unwrap_or(0)];
        self.trace.say("world", format!("script {script:?}"));
        // Something to go back to.
        self.round(Script::Plain, ONE, None, &mut dice)?;
        if script == Script::Undo {
            self.round(Script::Plain, TWO, None, &mut dice)?;
        }
        let (next, version) = self.next(script, &mut dice);
        let length = self.round(next, version, None, &mut dice)?;
        self.trace.say("world", format!("{length:?} entries, messages, barriers and verbs long"));
        let mut rounds = 0;
        while self.faults.happened.values().sum::<u64>() < points && rounds < 2 * points + MORE_ROUNDS {
            rounds += 1;
            let (next, version) = self.next(script, &mut dice);
            let point = dice.point(length);
            self.round(next, version, Some(point), &mut dice)?;
        }
        self.notebook.seen().stop = true;
        Ok(())
    }

    /// What comes next: the seed's script, or a good release everywhere where a bad one is still in use.
    fn next(&self, script: Script, dice: &mut Dice) -> (Script, &'static str) {
        let used: Vec<String> = self.sites.values().filter_map(|site| site.machine.release()).collect();
        let all_have =
            |version: &str| used.len() == self.sites.len() && used.iter().all(|u| u.starts_with(version));
        if used.iter().any(|release| !release.starts_with(ONE) && !release.starts_with(TWO)) {
            return (Script::Plain, ONE);
        }
        let other = match (all_have(ONE), all_have(TWO)) {
            (true, _) => TWO,
            (_, true) => ONE,
            (false, false) => {
                if dice.below(2) == 0 {
                    ONE
                } else {
                    TWO
                }
            }
        };
        (script, script.version().unwrap_or(other))
    }

    fn counts(&self) -> Counts {
        let entries = self.board.looks().iter().map(|look| look.revision).max().unwrap_or(0);
        let barriers = self.sites.values().map(|site| site.disk.syncs()).sum();
        let verbs = self.sites.values().map(|site| site.machine.verbs()).sum();
        [entries, self.post.passed(), barriers, verbs]
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn releases(&self) -> BTreeMap<String, Option<String>> {
        self.sites.iter().map(|(name, site)| (name.clone(), site.machine.release())).collect()
    }

    /// One rollout with at most one kill. Its length.
    fn round(
        &mut self,
        script: Script,
        version: &'static str,
        point: Option<Point>,
        dice: &mut Dice,
    ) -> Result<Counts, String> {
        self.rounds += 1;
        let number = self.rounds;
        let (before, from, begun) = (self.releases(), self.now_us(), self.counts());
        {
            let mut sheet = self.order.sheet();
            (sheet.operation, sheet.ended) = (None, None);
            sheet.next = Some((number, script, version));
        }
        let (mut point, mut away) = (point, Away::default());
        let mut killed = 0;
        let end = self.sim.elapsed() + LIMIT;
        while self.sim.elapsed() < end {
            self.step()?;
            self.fade();
            let counts = self.counts();
            if self.order.sheet().ended.is_some() {
                // The rollout was shorter: this point does not exist.
                point = None;
            }
            if let Some(due) = point
                && counts[due.count as usize].saturating_sub(begun[due.count as usize]) >= due.at
            {
                point = None;
                away = self.kill(due, dice);
                killed += u64::try_from(away.agents.len()).unwrap_or(0);
            }
            if self.sim.elapsed() >= away.until {
                self.bring_back(std::mem::take(&mut away));
            }
            let nobody_away = away.members.is_empty() && away.agents.is_empty();
            if nobody_away && self.order.sheet().ended.is_some() && self.stands_still() {
                break;
            }
        }
        self.bring_back(away);
        let ended = self.order.sheet().ended.clone();
        let still = self.stands_still();
        if !still {
            self.tell_work();
        }
        let length = std::array::from_fn(|n| self.counts()[n].saturating_sub(begun[n]));
        let mut round = self.written(number, script, version, before, from, killed);
        if !still {
            round.open.push(format!("something goes on {LIMIT:?} after the request"));
        }
        let state = round.state.clone();
        *self.evidence.ends.entry(state).or_default() += 1;
        self.evidence.rounds.push(round);
        match ended {
            Some(_) => Ok(length),
            None => Err(format!("round {number} did not end within {LIMIT:?}")),
        }
    }

    /// Releases that fade do so.
    fn fade(&mut self) {
        let now = u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX);
        for site in self.sites.values() {
            let due = site.machine.runs_since().is_some_and(|since| since + FADES_MS <= now);
            if due && site.machine.release().is_some_and(|release| release.starts_with(FADE)) {
                self.trace.say(&site.name, "the unit fades");
                site.machine.fall();
            }
        }
    }

    /// Everybody is up, agrees, and has nothing in hand.
    fn stands_still(&self) -> bool {
        let idle = |site: &Site| {
            site.standing()
                .is_some_and(|s| s.in_hand.is_empty() && s.waiting == 0 && s.unconfirmed.is_empty())
        };
        self.agreed().is_some() && self.idle() && self.sites.values().all(idle) && self.nothing_open()
    }

    fn nothing_open(&self) -> bool {
        let quiet = |state: &State, _| state.open.is_empty() && state.grants.is_empty();
        self.board.up().iter().all(|id| self.board.member(*id).is_some_and(|m| m.node().state().read(quiet)))
    }

    fn kill(&mut self, point: Point, dice: &mut Dice) -> Away {
        let all: Vec<u64> = self.board.up();
        let leader = self.board.leader();
        let followers: Vec<u64> = all.iter().copied().filter(|id| Some(*id) != leader).collect();
        let pick = |dice: &mut Dice, from: usize| {
            usize::try_from(dice.below(u64::try_from(from).unwrap_or(1))).unwrap_or(0)
        };
        let names: Vec<String> = self.sites.keys().cloned().collect();
        let at_work = |name: &&String| self.sites.get(*name).is_some_and(Site::is_at_work);
        let busy: Vec<String> = names.iter().filter(at_work).cloned().collect();
        let (members, agents) = match point.who {
            Who::Leader => (leader.into_iter().collect(), Vec::new()),
            Who::Follower => {
                let n = pick(dice, followers.len());
                (followers.get(n).copied().into_iter().collect(), Vec::new())
            }
            Who::Agent => {
                // Mostly one that is at work: the others have little to lose.
                let from = if busy.is_empty() || dice.below(4) == 0 { &names } else { &busy };
                let n = pick(dice, from.len());
                (Vec::new(), from.get(n).cloned().into_iter().collect())
            }
            Who::All => (all, names),
        };
        if members.is_empty() && agents.is_empty() {
            // Nobody leads right now: this point does not exist.
            return Away::default();
        }
        let (who, count, at) = (point.who.name(), point.count, point.at);
        self.trace.say("kill", format!("{who} at {at} of {count:?} for {} ms", point.away_ms));
        if agents.iter().any(|name| busy.contains(name)) {
            *self.evidence.points.entry("at-work-of-the-agent".to_owned()).or_default() += 1;
        }
        for id in &members {
            self.faults.crash_member(&mut self.sim, *id);
        }
        for name in &agents {
            drop(self.faults.crash_agent(&mut self.sim, name.clone()));
        }
        *self.faults.happened.entry(format!("kill-{who}")).or_default() += 1;
        *self.evidence.points.entry(format!("at-{count:?}").to_lowercase()).or_default() += 1;
        Away { members, agents, until: self.sim.elapsed() + Duration::from_millis(point.away_ms) }
    }

    fn bring_back(&mut self, away: Away) {
        for id in away.members {
            self.sim.bounce(host(id));
        }
        for name in away.agents {
            self.sim.bounce(name.as_str());
        }
    }

    /// What a round left behind.
    fn written(
        &self,
        number: u64,
        script: Script,
        version: &str,
        before: BTreeMap<String, Option<String>>,
        from: u64,
        killed: u64,
    ) -> Round {
        let operation = self.order.sheet().operation.clone().unwrap_or_default();
        let mut round = Round {
            number,
            operation: operation.clone(),
            state: "never started".to_owned(),
            version: (!matches!(script, Script::Undo | Script::Restart)).then(|| version.to_owned()),
            before,
            after: self.releases(),
            from,
            to: self.now_us(),
            killed,
            ..Round::default()
        };
        for (name, site) in &self.sites {
            match site.standing() {
                None => round.open.push(format!("the agent of {name} is not there")),
                Some(standing) => {
                    let owed = standing.open_obligations;
                    if owed > 0 || !standing.in_hand.is_empty() || standing.waiting > 0 {
                        round.open.push(format!("{name} owes {owed}, has {:?} in hand", standing.in_hand));
                    }
                }
            }
        }
        for id in self.board.up() {
            if let Some(member) = self.board.member(id) {
                member.node().state().read(|state, _| round.open.extend(left_open(id, state)));
            }
        }
        let Some(member) = self.board.up().first().and_then(|id| self.board.member(*id)) else {
            return round;
        };
        member.node().state().read(|state, _| {
            let found = state.operations.values().find(|o| o.id.as_str() == operation);
            if let Some(found) = found {
                round.state = format!("{:?}", found.state);
                round.terminal = found.state.is_terminal();
                round.work = self.work(state, found);
            }
            round.believed = self.sites.keys().map(|name| (name.clone(), believed(state, name))).collect();
        });
        round
    }

    /// What each execution of a rollout did on its host.
    fn work(&self, state: &State, operation: &Operation) -> Vec<Work> {
        let mine = state.executions.values().filter(|e| e.operation == operation.id && e.disruptive);
        let one = |execution: &quorate_core::state::Execution| {
            let node = execution.node.to_string();
            let acts = self.sites.get(&node).map(|site| site.machine.begun()).unwrap_or_default();
            let id = execution.id.to_string();
            let mine = |act: &&Act| act.verb != "stop" && act.execution.as_ref() == Some(&id);
            let begun = acts.iter().filter(mine).count();
            let done = acts.iter().filter(mine).filter(|act| act.done).count();
            Work {
                node,
                undoes: execution.action.kind() == ActionKind::ArtifactRevert,
                state: format!("{:?}", execution.state),
                done: u64::try_from(done).unwrap_or(u64::MAX),
                begun: u64::try_from(begun).unwrap_or(u64::MAX),
                id,
            }
        };
        mine.map(one).collect()
    }

    /// Numbers of a run of kills, and what of it is missing.
    pub(super) fn missing_kills(&self, points: u64) -> Vec<String> {
        let found: u64 = self.evidence.faults.values().sum();
        let enough = found >= points;
        if enough { Vec::new() } else { vec![format!("unknown: {found} kill points of {points}")] }
    }
}

/// What a member's state still has open.
fn left_open(id: u64, state: &State) -> Vec<String> {
    let owed = state
        .obligations
        .values()
        .filter(|o| matches!(o.state, ObligationState::Open | ObligationState::Failed))
        .map(|o| format!("member {id}: {} is owed on {}", o.what, o.node));
    let grants = state.grants.values().map(|g| format!("member {id}: {} holds a grant", g.instance));
    let open = state.open.iter().map(|execution| format!("member {id}: {execution} is open"));
    owed.chain(grants).chain(open).collect()
}

/// The release that the coordinators believe in use on a node, named as the link names it.
fn believed(state: &State, node: &str) -> Option<String> {
    let id = InstanceId { node: NodeName::new(node).ok()?, service: ServiceName::new(SERVICE).ok()? };
    let release = state.instances.get(&id)?.release.as_ref()?;
    Some(format!("{}-{}", release.version, release.artifact.as_str().get(..12)?))
}

/// Every kind of kill, as it is counted.
pub fn kinds() -> impl Iterator<Item = String> {
    Who::ALL.iter().map(|who| format!("kill-{}", who.name()))
}
