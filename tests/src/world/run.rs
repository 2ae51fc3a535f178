//! One seed, from birth to verdict.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::State;
use quorate_core::hash::Hash;
use quorate_core::state::audit::AuditResult;
use quorate_model::Timestamp;

use super::agents::Site;
use super::board::{Board, Look};
use super::build::{Ground, NODES, Paper};
use super::clients::Notebook;
use super::evidence::{Effect, Evidence, Execution, Final, Sight};
use super::faults::{Faults, HEALTHY_LINK};
use super::kills::script::Order;
use super::member::{self, host};
use super::post::Post;
use super::shelf::Shelf;
use super::trace::{self, Trace};
use crate::invariants;

/// One step of simulated time.
const TICK: Duration = Duration::from_millis(4);
/// The members are looked at every so many steps.
const LOOK_STEPS: u64 = 5;
/// Longest birth: an election, and two seconds for each further member.
const BIRTH: Duration = Duration::from_secs(40);
/// Longest end: every call has its own deadline, every member catches up.
const ENDING: Duration = Duration::from_secs(40);
/// Applied entries between two digests of a member's state.
const DIGEST_EVERY: u64 = 200;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Whether each line of the trace is printed.
    pub shown: bool,
    /// Length of the safety phase.
    pub safety: Duration,
    /// Length of the quiet phase.
    pub quiet: Duration,
    /// Kill points of a run of kills; none for a run of faults.
    pub kills: Option<u64>,
}

/// How a run was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No invariant is broken, and what had to happen did.
    True,
    /// An invariant is broken.
    False,
    /// Too little happened to say.
    Unknown,
}

impl Judgement {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// The judgement.
    pub judgement: Judgement,
    /// Broken invariants, or what was missing.
    pub why: Vec<String>,
    /// One line of numbers.
    pub numbers: String,
    /// The same, and faults and tricks by name, to be added up.
    pub counts: BTreeMap<String, u64>,
    /// Short name of the trace.
    pub trace: String,
}

/// Everything of one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) sim: turmoil::Sim<'static>,
    pub(super) board: Board,
    pub(super) trace: Trace,
    pub(super) notebook: Notebook,
    pub(super) faults: Faults,
    pub(super) evidence: Evidence,
    pub(super) last: BTreeMap<u64, Look>,
    pub(super) steps: u64,
    pub(super) sites: BTreeMap<String, Site>,
    pub(super) post: Post,
    /// Rounds of kills so far.
    pub(super) rounds: u64,
    /// What the conductor is to do.
    pub(super) order: Order,
    /// The nodes' folders, which go with the world.
    _shelf: Option<Shelf>,
}

/// Runs one seed in this process.
///
/// # Errors
/// When the world cannot be built; a broken invariant is a verdict.
pub fn run(plan: Plan) -> anyhow::Result<Verdict> {
    // Agents read their machine's clocks in one place; a second run in this process finds it set already.
    let _ = quorate_agent::host::clock::simulate(clocks);
    let mut world = World::new(plan)?;
    // Whatever panics, in whichever task: it is seen.
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
    }));
    let ended = match plan.kills {
        Some(points) => world.play_kills(points),
        None => world.play(),
    };
    drop(std::panic::take_hook());
    if let Err(why) = ended {
        world.board.broke(why);
    }
    for panic in panics.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        world.board.broke(format!("panic: {panic}"));
    }
    Ok(world.judge())
}

/// The clocks of every simulated machine: switched on when the simulation began.
fn clocks() -> (Timestamp, Duration) {
    (quorate_coordinator::member::Clock::now(&member::SimClock), trace::now())
}

impl World {
    fn new(plan: Plan) -> anyhow::Result<Self> {
        let seed = plan.seed;
        // Kills are many: mostly the smallest cluster, and seldom the cost of certificates.
        let (members, tls) = match plan.kills {
            None => (if (seed >> 1) % 2 == 1 { 5 } else { 3 }, seed.is_multiple_of(4)),
            Some(_) => (if seed % 16 == 5 { 5 } else { 3 }, seed % 16 == 11),
        };
        let all = member::principals(members, NODES);
        let paper = Paper::new(all, tls)?;
        let (board, trace, notebook) = (Board::default(), Trace::new(plan.shown), Notebook::default());
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(86_400))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(HEALTHY_LINK)
            .repair_rate(0.2)
            .tcp_capacity(65_536)
            .enable_random_order()
            .build();
        let post = Post::new(seed, trace.clone());
        let (board_, post_) = (board.clone(), post.clone());
        let shelf = plan.kills.map(|_| Shelf::new()).transpose()?;
        let ground = Ground { seed, members, paper, board: board_, post: post_, trace: trace.clone(), shelf };
        let seats = ground.seats(&mut sim)?;
        let order = Order::default();
        let clients = match plan.kills {
            None => ground.clients(&mut sim, &notebook)?,
            Some(_) => ground.conductor(&mut sim, &notebook, &order)?,
        };
        let sites = ground.sites(&mut sim)?;
        trace.say("world", format!("seed {seed}, {members} members, tls {tls}"));
        let faults =
            Faults::new(seed, seats, sites.clone(), clients, board.clone(), post.clone(), trace.clone());
        let evidence = Evidence { members, ..Evidence::default() };
        Ok(Self {
            plan,
            sim,
            board,
            trace,
            notebook,
            faults,
            evidence,
            last: BTreeMap::new(),
            steps: 0,
            sites,
            post,
            rounds: 0,
            order,
            _shelf: ground.shelf,
        })
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("the simulation stopped: {error}"))?;
        self.steps += 1;
        trace::set_now(self.sim.elapsed());
        if self.steps.is_multiple_of(LOOK_STEPS) {
            self.look();
        }
        Ok(())
    }

    /// Notes what changed about the members.
    fn look(&mut self) {
        let now = micros(self.sim.elapsed());
        for look in self.board.looks() {
            let before = self.last.get(&look.member);
            if before == Some(&look) {
                continue;
            }
            let led = before.is_some_and(|b| b.status.is_leader() && b.start == look.start);
            if look.status.is_leader() && !led {
                self.trace.say(&host(look.member), format!("leads in term {}", look.status.term));
            }
            let passed = before.is_none_or(|b| b.revision / DIGEST_EVERY != look.revision / DIGEST_EVERY);
            if passed && let Some(member) = self.board.member(look.member) {
                let (index, digest) = member.node().state().read(|state, index| (index, state.digest()));
                self.evidence.digests.push((look.member, index, digest));
            }
            self.evidence.looks.push((now, look.clone()));
            self.last.insert(look.member, look);
        }
    }

    pub(super) fn until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, String> {
        let end = self.sim.elapsed() + limit;
        while self.sim.elapsed() < end {
            if done(self) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(done(self))
    }

    /// Until every member is there, and the nodes are.
    pub(super) fn birth(&mut self) -> Result<(), String> {
        let members = usize::try_from(self.evidence.members).unwrap_or(0);
        let born = self.until(BIRTH, |world| {
            let looks = world.board.looks();
            looks.iter().any(|look| look.status.is_leader() && look.status.voters().count() == members)
                && looks.iter().filter(|look| look.revision > 0).count() == members
                && world.board.looks().iter().all(|look| look.head.0 >= NODES * 2)
        })?;
        if !born {
            return Err(format!("the cluster of {members} was not born within {BIRTH:?}"));
        }
        Ok(())
    }

    fn play(&mut self) -> Result<(), String> {
        self.birth()?;
        self.trace.say("world", "safety phase");
        self.notebook.seen().go = true;
        let end = self.sim.elapsed() + self.plan.safety;
        self.faults.until(end);
        self.post.break_streams(true);
        while self.sim.elapsed() < end {
            let now = self.sim.elapsed();
            self.faults.step(now, &mut self.sim);
            self.step()?;
        }
        self.trace.say("world", "quiet phase");
        let now = self.sim.elapsed();
        self.faults.heal(now, &mut self.sim);
        self.post.break_streams(false);
        let quiet = self.plan.quiet;
        self.until(quiet, |_| false)?;
        self.notebook.seen().stop = true;
        self.faults.close(self.sim.elapsed());
        let ended = self.until(ENDING, |world| {
            world.notebook.seen().open == 0 && world.idle() && world.agreed().is_some()
        })?;
        if !ended {
            self.tell_work();
            let looks: Vec<_> = self.board.looks().iter().map(|look| (look.member, look.revision)).collect();
            let open = self.notebook.seen().open;
            return Err(format!("no end within {ENDING:?}: {open} calls open, members at {looks:?}"));
        }
        self.trace.say("world", "everything has ended");
        if let Some(member) = self.board.up().first().and_then(|id| self.board.member(*id)) {
            let nodes = member.node().state().read(|state, _| {
                let status =
                    state.nodes.by_name.iter().map(|(name, node)| format!("{name} {:?}", node.status));
                let seen = state.instances.0.iter().flat_map(|(node, services)| {
                    services
                        .iter()
                        .map(move |(service, i)| format!("{service}@{node} {:?} {:?}", i.observed, i.role))
                });
                status.chain(seen).collect::<Vec<_>>()
            });
            self.trace.say("world", nodes.join(", "));
        }
        Ok(())
    }

    /// Everything that was ever begun, for whoever has to find out why it does not end.
    pub(super) fn tell_work(&self) {
        let Some(member) = self.board.up().first().and_then(|id| self.board.member(*id)) else { return };
        let executions = member.node().state().read(|state, _| executions(state));
        if let Some(leader) = self.board.leader().and_then(|id| self.board.member(id)) {
            leader.backend().observe(&mut |seen| {
                let now = quorate_coordinator::member::Clock::now(&member::SimClock);
                for reading in seen.instances.values() {
                    let (at, up) = (now.since(reading.at), now.since(reading.up_since));
                    let what =
                        format!("{} {} seen {at} ago, up for {up}", reading.instance, reading.observed);
                    self.trace.say("world", what);
                }
            });
        }
        for execution in executions {
            self.trace.say("world", format!("{execution:?}"));
        }
    }

    /// The index at which every member stands, when they do.
    pub(super) fn agreed(&self) -> Option<u64> {
        let looks = self.board.looks();
        let first = looks.first()?.revision;
        let all = u64::try_from(looks.len()).unwrap_or(0) == self.evidence.members;
        (all && looks.iter().all(|look| look.revision == first)).then_some(first)
    }

    /// Whether every operation has ended.
    pub(super) fn idle(&self) -> bool {
        let ended = |state: &State, _| state.operations.values().all(|o| o.state.is_terminal());
        self.board.up().iter().all(|id| self.board.member(*id).is_some_and(|m| m.node().state().read(ended)))
    }

    /// The ground truth of the hosts.
    fn gather_hosts(&mut self) {
        for (name, site) in &self.sites {
            self.evidence.acts.extend(site.machine.begun());
            // In a run of kills units fall because of the release that we brought.
            let ours = if self.plan.kills.is_some() { site.machine.falls() } else { Vec::new() };
            let changes = site.machine.changes().into_iter().chain(ours);
            self.evidence.changes.extend(changes.map(|(at, runs)| (name.clone(), at, runs)));
            let falls = site.machine.falls().into_iter();
            self.evidence.falls.extend(falls.map(|(at, runs)| (name.clone(), at, runs)));
            let sights = site.machine.sights().into_iter();
            let sight = |(at, runs)| Sight { node: name.clone(), at, runs };
            self.evidence.sights.extend(sights.map(sight));
            self.evidence.voters.push(name.clone());
        }
        if let Some(site) = self.sites.values().next() {
            self.evidence.epochs = site.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        let longest = self.board.looks().into_iter().max_by_key(|look| look.revision);
        if let Some(member) = longest.and_then(|look| self.board.member(look.member)) {
            self.evidence.executions = member.node().state().read(|state, _| executions(state));
        }
        self.evidence.operations = self.notebook.seen().operations;
        self.evidence.dark = std::mem::take(&mut self.faults.dark);
    }

    fn judge(mut self) -> Verdict {
        self.gather_hosts();
        for id in self.board.up() {
            if let Some(member) = self.board.member(id) {
                let last = member.node().state().read(last_words);
                self.evidence.finals.insert(id, last);
            }
        }
        {
            let mut seen = self.notebook.seen();
            self.evidence.writes = std::mem::take(&mut seen.writes);
            self.evidence.reads = std::mem::take(&mut seen.reads);
            self.evidence.repeats = std::mem::take(&mut seen.repeats);
            self.evidence.cancels = std::mem::take(&mut seen.cancels);
        }
        self.evidence.broken = self.board.broken();
        self.evidence.messages = self.post.struck();
        self.evidence.faults = std::mem::take(&mut self.faults.happened);
        self.evidence.calms = std::mem::take(&mut self.faults.calms);
        let broken = invariants::broken(&self.evidence);
        let missing = match self.plan.kills {
            None => invariants::coverage::missing(&self.evidence),
            Some(points) => self.missing_kills(points),
        };
        let (judgement, why) = match (broken.is_empty(), missing.is_empty()) {
            (false, _) => (Judgement::False, broken),
            (true, false) => (Judgement::Unknown, missing),
            (true, true) => (Judgement::True, Vec::new()),
        };
        for line in &why {
            self.trace.say("judge", line);
        }
        let e = &self.evidence;
        let numbers = format!(
            "members {} acked {} unknown {} reads {} repeats {} operations {} changes {} faults {} index {} simulated {:.1} s",
            e.members,
            e.acked(),
            e.writes.iter().filter(|w| w.end == super::evidence::End::Unknown).count(),
            e.reads.len(),
            e.repeats.len(),
            e.operations,
            e.acts.len(),
            e.faults.values().sum::<u64>(),
            e.finals.values().map(|f| f.revision).max().unwrap_or(0),
            self.sim.elapsed().as_secs_f64(),
        );
        self.trace.say("world", format!("{}: {numbers}", judgement.as_str()));
        let mut counts: BTreeMap<String, u64> = e.faults.clone();
        counts.extend(e.messages.clone());
        counts.extend(e.points.clone());
        counts.extend(e.ends.iter().map(|(state, count)| (format!("ended-{state}"), *count)));
        for (name, count) in &counts {
            self.trace.say("world", format!("fault {name}: {count}"));
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        counts.insert("acked".to_owned(), count(e.acked()));
        counts.insert("reads".to_owned(), count(e.reads.len()));
        counts.insert("operations".to_owned(), e.operations);
        counts.insert("cancels".to_owned(), count(e.cancels.len()));
        counts.insert("changes".to_owned(), count(e.acts.len()));
        counts.insert("faults".to_owned(), e.faults.values().sum());
        counts.insert("struck-messages".to_owned(), e.messages.values().sum());
        counts.insert("simulated-ms".to_owned(), micros(self.sim.elapsed()) / 1_000);
        Verdict { seed: self.plan.seed, judgement, why, numbers, counts, trace: self.trace.digest() }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn last_words(state: &State, revision: u64) -> Final {
    let labels = state.nodes.by_name.iter().map(|(name, node)| (name.to_string(), node.labels.clone()));
    let ok =
        state.audit.records.iter().map(|record| &record.what).filter(|what| what.result == AuditResult::Ok);
    let effects = ok.map(|what| Effect {
        request: what.request_id.as_ref().map(ToString::to_string),
        action: what.action.clone(),
        resource: what.resource.clone(),
    });
    let open = state.operations.iter().filter(|(_, operation)| !operation.state.is_terminal());
    Final {
        revision,
        digest: digest(state),
        labels: labels.collect(),
        effects: effects.collect(),
        trimmed: state.audit.anchor.seq > 0,
        open: open.map(|(id, operation)| waits(id.as_str(), operation)).collect(),
    }
}

/// An operation that has not ended, and why it waits.
fn waits(id: &str, operation: &quorate_core::state::operation::Operation) -> String {
    let conditions: Vec<_> = operation.conditions.iter().map(|c| c.message.as_str()).collect();
    let steps: Vec<_> = operation
        .steps
        .iter()
        .filter(|step| !quorate_core::state::operation::is_over(step.state))
        .map(|step| format!("{:?} on {} {:?}", step.kind, step.node, step.state))
        .collect();
    format!("{id} {:?} ({}) {}", operation.state, conditions.join("; "), steps.join(", "))
}

fn executions(state: &State) -> Vec<Execution> {
    let one = |execution: &quorate_core::state::Execution| {
        let operation = state.operations.get(&execution.operation);
        let step = operation.and_then(|o| o.step(execution.step));
        let step = step.filter(|step| step.execution.as_ref() == Some(&execution.id));
        let since = execution.created_at.0.saturating_sub(member::EPOCH_MS);
        Execution {
            id: execution.id.to_string(),
            node: execution.node.to_string(),
            state: format!("{:?}", execution.state),
            ended: execution.state.is_final(),
            disruptive: execution.disruptive,
            operation: execution.operation.to_string(),
            step: step.map(|step| format!("{:?}", step.state)),
            created: u64::try_from(since).unwrap_or(0) * 1_000,
        }
    };
    state.executions.values().map(one).collect()
}

fn digest(state: &State) -> Hash {
    state.digest()
}
