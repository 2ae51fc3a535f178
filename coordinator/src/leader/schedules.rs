//! Runs of schedules: notices when one is due, plans it, and proposes what came of it as one command.
//!
//! Must never: remember what has run. The log does, and refuses a run that is settled; so a leader that dies between planning and
//! proposing, or proposes twice, does no harm.

use std::collections::BTreeMap;

use quorate_core::command::{Attempt, ScheduleCommand};
use quorate_core::plan::plan;
use quorate_core::safety::schedule::{Verdict, judge};
use quorate_core::state::Schedule;
use quorate_core::{Command, Observations, State};
use quorate_model::{
    DurationMs, OperationId, Reason, Refusal, Revision, ScheduleName, ScheduleSpec, Timestamp, minted,
};

use crate::zones::{self, moments};

/// Runs proposed in one round: plans are made while others wait for the state.
const AT_ONCE: usize = 8;
/// Time until a run that was proposed and is still due is proposed again.
const RETRY: DurationMs = DurationMs::from_secs(1);
/// Time until a declaration that could not be read is tried again.
const AGAIN: DurationMs = DurationMs::from_secs(60);
/// For this long a plan that is refused is no answer: a new leader has heard of few instances yet, and an operation that was
/// canceled leaves an instance behind that has just been started.
const SETTLE: DurationMs = DurationMs::from_secs(20);

/// A schedule that may have a run due.
pub(super) struct Wanted {
    spec: ScheduleSpec,
    revision: Revision,
    fired: Timestamp,
    /// The run that has waited.
    waiting: Option<Timestamp>,
}

/// A run that is due.
pub(super) struct Ready {
    name: ScheduleName,
    revision: Revision,
    due: Timestamp,
    passed: u32,
}

/// What a leader remembers of a schedule.
struct Known {
    revision: Revision,
    fired: Timestamp,
    /// When its next run is due.
    next: Timestamp,
    /// Nothing is proposed before this.
    hold: Timestamp,
    /// It could not be read, and that was said.
    told: bool,
}

/// What a leader remembers.
pub(super) struct Runs {
    /// Since when it leads.
    since: Timestamp,
    known: BTreeMap<ScheduleName, Known>,
    /// Runs that have waited, and since when they need not wait any more.
    free: BTreeMap<ScheduleName, (Timestamp, Timestamp)>,
    /// Runs whose plan is too large for the log.
    too_large: BTreeMap<ScheduleName, Timestamp>,
}

impl Runs {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, known: BTreeMap::new(), free: BTreeMap::new(), too_large: BTreeMap::new() }
    }

    /// Schedules that may have a run due.
    pub(super) fn wanted(&mut self, state: &State, now: Timestamp) -> Vec<Wanted> {
        self.known.retain(|name, _| state.schedules.contains_key(name));
        self.free.retain(|name, _| state.schedules.contains_key(name));
        self.too_large.retain(|name, _| state.schedules.contains_key(name));
        let due = state.schedules.values().filter_map(|schedule| self.one(state, schedule, now));
        due.collect()
    }

    fn one(&self, state: &State, schedule: &Schedule, now: Timestamp) -> Option<Wanted> {
        let Schedule { spec, revision, fired, waiting, .. } = schedule;
        if spec.paused {
            return None;
        }
        let known = self.known.get(&spec.name).filter(|k| k.revision == *revision && k.fired == *fired);
        if known.is_some_and(|known| now < known.hold) {
            return None;
        }
        let waiting = waiting.filter(|_| state.open_of(&spec.name).next().is_none());
        if waiting.is_none() && known.is_some_and(|known| now < known.next) {
            return None;
        }
        Some(Wanted { spec: spec.clone(), revision: *revision, fired: *fired, waiting })
    }

    /// The runs among them that are due. Worked out where nobody waits for the state.
    pub(super) fn ready(&mut self, wanted: Vec<Wanted>, now: Timestamp) -> Vec<Ready> {
        let mut ready = Vec::new();
        for Wanted { spec, revision, fired, waiting } in wanted {
            let told = self.known.get(&spec.name).is_some_and(|k| k.revision == revision && k.told);
            let mut known = Known { revision, fired, next: now, hold: now, told: false };
            let run = match waiting {
                Some(due) => {
                    let free = self.free.entry(spec.name.clone()).or_insert((due, now));
                    if free.0 != due {
                        *free = (due, now);
                    }
                    Ok(Some((due, 0)))
                }
                None => moments::latest(&spec, fired, now),
            };
            let found = run.and_then(|run| match run {
                Some(run) => Ok(Some(run)),
                None => {
                    let next = moments::next(&spec, now, 1)?;
                    known.next = next.first().copied().unwrap_or(Timestamp(i64::MAX));
                    Ok(None)
                }
            });
            match found {
                Ok(None) => {}
                Ok(Some(_)) if ready.len() >= AT_ONCE => continue,
                Ok(Some((due, passed))) => {
                    known.hold = now.plus(RETRY);
                    ready.push(Ready { name: spec.name.clone(), revision, due, passed });
                }
                Err(zones::Nonsense { field, why }) => {
                    if !told {
                        tracing::error!(schedule = %spec.name, field, why, "a schedule does not run: this host cannot tell when it is due");
                    }
                    known.told = true;
                    known.hold = now.plus(AGAIN);
                }
            }
            self.known.insert(spec.name, known);
        }
        ready
    }

    /// What is to be proposed for a run; nothing when it is better looked at again.
    pub(super) fn propose(
        &self,
        state: &State,
        obs: &Observations,
        run: &Ready,
        now: Timestamp,
        mint: &mut dyn FnMut() -> u64,
    ) -> Option<Command> {
        let Ready { name, revision, due, passed } = run;
        let schedule = state.schedules.get(name).filter(|schedule| schedule.revision == *revision)?;
        let attempt = match judge(state, schedule, *due, now).ok()? {
            Verdict::Start => Some(self.attempt(state, obs, schedule, *due, now, mint)?),
            Verdict::Wait { .. } | Verdict::Skip { .. } | Verdict::Missed | Verdict::Denied(_) => None,
        };
        let (name, revision, due, passed) = (name.clone(), *revision, *due, *passed);
        let command = ScheduleCommand::Fire { name, revision, due, passed, attempt };
        Some(Command::Schedule(Box::new(command)))
    }

    fn attempt(
        &self,
        state: &State,
        obs: &Observations,
        schedule: &Schedule,
        due: Timestamp,
        now: Timestamp,
        mint: &mut dyn FnMut() -> u64,
    ) -> Option<Attempt> {
        if self.too_large.get(&schedule.spec.name) == Some(&due) {
            let refusal = Refusal::new(Reason::LimitReached, "the plan is too large for the log");
            return Some(Attempt::Refused { refusal });
        }
        let free = self.free.get(&schedule.spec.name).filter(|(of, _)| *of == due);
        let since = free.map_or(self.since, |(_, since)| self.since.max(*since));
        match plan(state, obs, &schedule.work, now, mint) {
            Ok(plan) => {
                let id = OperationId::new(minted("r", mint())).ok()?;
                Some(Attempt::Start { id, plan: Box::new(plan) })
            }
            Err(refusal) if now.since(since) < SETTLE => {
                tracing::debug!(schedule = %schedule.spec.name, %refusal, "a run is not planned yet; it is looked at again");
                None
            }
            Err(refusal) => Some(Attempt::Refused { refusal }),
        }
    }

    /// A run could not be written, and never will be.
    pub(super) fn too_large(&mut self, (name, due): (ScheduleName, Timestamp)) {
        self.too_large.insert(name, due);
    }
}

/// The run that a command settles.
pub(super) fn fired(command: &Command) -> Option<(ScheduleName, Timestamp)> {
    let Command::Schedule(schedule) = command else { return None };
    match schedule.as_ref() {
        ScheduleCommand::Fire { name, due, .. } => Some((name.clone(), *due)),
        ScheduleCommand::Apply { .. }
        | ScheduleCommand::Delete { .. }
        | ScheduleCommand::SetPaused { .. }
        | ScheduleCommand::Run { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::Answer;
    use quorate_core::command::{CalendarCommand, OperationCommand};
    use quorate_core::state::schedule::Run;
    use quorate_model::{FreezeName, FreezeSpec, InstanceState, OperationState, RunResult};
    use quorate_proto::v1;
    use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;

    use super::*;
    use crate::api::tests::World;

    const MINUTE: DurationMs = DurationMs::from_secs(60);

    fn name() -> ScheduleName {
        ScheduleName::new("s").unwrap()
    }

    /// A rolling restart of ledger, every minute.
    async fn world(overlap: v1::ScheduleOverlap, missed: v1::ScheduleMissed) -> World {
        let world = World::new().with_ledger().await;
        let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
        let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
        let spec = v1::ScheduleSpec {
            name: "s".into(),
            zone: "UTC".into(),
            when: Some(v1::schedule_spec::When::Cron("* * * * *".into())),
            work: Some(work),
            overlap: overlap as i32,
            missed: missed as i32,
            reason: "memory grows".into(),
            ..Default::default()
        };
        let request = v1::ApplyScheduleRequest { spec: Some(spec), ..Default::default() };
        let mut client = ScheduleServiceClient::new(world.as_role("operator"));
        client.apply_schedule(request).await.unwrap();
        world
    }

    /// What a leader does in one look.
    fn look(world: &World, runs: &mut Runs) -> Vec<Answer> {
        let memory = &world.memory;
        let now = world.api.backend().now();
        for node in ["node1", "node2", "node3"] {
            world.see(node, InstanceState::Healthy);
        }
        let wanted = runs.wanted(&memory.state.lock().unwrap(), now);
        let ready = runs.ready(wanted, now);
        let propose = |run: &Ready| {
            let (state, obs) = (memory.state.lock().unwrap(), memory.obs.lock().unwrap());
            runs.propose(&state, &obs, run, now, &mut || world.api.backend().mint())
        };
        let commands: Vec<Command> = ready.iter().filter_map(propose).collect();
        commands.into_iter().map(|command| memory.system(command)).collect()
    }

    /// A leader for a long time.
    fn settled_leader() -> Runs {
        Runs::new(Timestamp::ZERO)
    }

    fn settled(world: &World) -> Vec<Run> {
        world.memory.state.lock().unwrap().schedules[&name()].runs.iter().cloned().collect()
    }

    fn end(world: &World, id: &OperationId) {
        for command in [
            OperationCommand::Cancel { id: id.clone() },
            OperationCommand::Settle { id: id.clone(), state: OperationState::Canceled },
        ] {
            world.memory.system(Command::Operation(Box::new(command)));
        }
    }

    #[tokio::test]
    async fn a_run_is_started_when_it_is_due_and_once() {
        let world = world(v1::ScheduleOverlap::Skip, v1::ScheduleMissed::Skip).await;
        let (mut one, mut other) = (settled_leader(), settled_leader());
        let began = world.api.backend().now();
        assert!(look(&world, &mut one).is_empty(), "nothing is due yet");
        world.memory.advance(DurationMs(MINUTE.0 - 1));
        assert!(look(&world, &mut one).is_empty());
        world.memory.advance(DurationMs(1));
        assert!(matches!(look(&world, &mut one).as_slice(), [Answer::Operation { .. }]));
        // The next leader knows nothing but the state.
        for leader in [&mut one, &mut other] {
            assert!(look(&world, leader).is_empty());
        }
        let runs = settled(&world);
        assert_eq!((runs.len(), runs[0].due, runs[0].result), (1, began.plus(MINUTE), RunResult::Started));
        world.memory.advance(MINUTE);
        assert!(matches!(look(&world, &mut other).as_slice(), [Answer::Done { .. }]));
        assert_eq!(settled(&world)[1].result, RunResult::Skipped);
        let by =
            world.memory.state.lock().unwrap().operations.values().next().unwrap().created_by.to_string();
        assert_eq!(by, "schedule:s");
    }

    #[tokio::test]
    async fn of_those_that_were_missed_the_newest_is_settled() {
        let world = world(v1::ScheduleOverlap::Skip, v1::ScheduleMissed::RunOnce).await;
        let began = world.api.backend().now();
        world.memory.advance(DurationMs(MINUTE.0 * 10 + 5_000));
        assert_eq!(look(&world, &mut settled_leader()).len(), 1);
        let runs = settled(&world);
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].result, runs[0].passed), (RunResult::Started, 9));
        assert_eq!(runs[0].due, began.plus(DurationMs(MINUTE.0 * 10)));
    }

    #[tokio::test]
    async fn a_run_that_waits_begins_when_the_operation_is_over() {
        let world = world(v1::ScheduleOverlap::BufferOne, v1::ScheduleMissed::Skip).await;
        let mut leader = settled_leader();
        world.memory.advance(MINUTE);
        let first = look(&world, &mut leader);
        let [Answer::Operation { operation, .. }] = first.as_slice() else { panic!("{first:?}") };
        world.memory.advance(MINUTE);
        assert!(matches!(look(&world, &mut leader).as_slice(), [Answer::Done { .. }]), "it waits");
        world.memory.advance(RETRY);
        assert!(look(&world, &mut leader).is_empty(), "it waits still");
        end(&world, operation);
        let second = look(&world, &mut leader);
        let [Answer::Operation { operation: next, .. }] = second.as_slice() else { panic!("{second:?}") };
        assert_ne!(operation, next);
        world.memory.advance(RETRY);
        assert!(look(&world, &mut leader).is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_planned_is_noted_but_not_by_a_new_leader() {
        let world = world(v1::ScheduleOverlap::Skip, v1::ScheduleMissed::Skip).await;
        let spec = FreezeSpec {
            name: FreezeName::new("books").unwrap(),
            selector: None,
            services: vec![],
            reason: "the books are closed".into(),
            starts: None,
            ends: None,
        };
        let freeze = CalendarCommand::ApplyFreeze { spec, expect: None };
        world.memory.system(Command::Calendar(Box::new(freeze)));
        world.memory.advance(MINUTE);
        let mut new = Runs::new(world.api.backend().now());
        assert!(look(&world, &mut new).is_empty(), "it looks again");
        assert!(settled(&world).is_empty());
        world.memory.advance(SETTLE);
        assert_eq!(look(&world, &mut new).len(), 1);
        let runs = settled(&world);
        assert_eq!((runs[0].result, runs[0].reason), (RunResult::Refused, Some(Reason::Freeze)));
        let text = world.api.metrics().render(&world.api).unwrap();
        for line in [
            "quorate_coordinator_schedules{result=\"REFUSED\"} 1",
            "quorate_coordinator_schedules{result=\"STARTED\"} 0",
            "quorate_coordinator_schedule_runs_total{result=\"REFUSED\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[tokio::test]
    async fn a_plan_that_is_too_large_is_noted() {
        let world = world(v1::ScheduleOverlap::Skip, v1::ScheduleMissed::Skip).await;
        world.memory.advance(MINUTE);
        let mut leader = settled_leader();
        leader.too_large((name(), world.api.backend().now()));
        assert_eq!(look(&world, &mut leader).len(), 1);
        assert_eq!(settled(&world)[0].reason, Some(Reason::LimitReached));
    }
}
