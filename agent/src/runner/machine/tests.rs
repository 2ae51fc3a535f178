use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(n: u64) -> ExecutionId {
    ExecutionId::new(format!("x-{n}")).unwrap()
}

fn offer(n: u64) -> Offer {
    Offer {
        id: id(n),
        epoch: Epoch(n),
        digest: [u8::try_from(n % 251).unwrap(); 32],
        read: false,
        begin_before: None,
        refused: None,
    }
}

const NOW: DurationMs = DurationMs(1_000);

fn step(machine: &mut Machine, event: Event) -> Vec<Effect> {
    machine.step(NOW, event)
}

fn run(machine: &mut Machine, n: u64) {
    assert_eq!(step(machine, Event::Offered(offer(n))), [Effect::Accept(id(n))]);
    assert_eq!(step(machine, Event::Accepted(id(n))), [Effect::Report(id(n)), Effect::Begin(id(n))]);
    assert_eq!(step(machine, Event::Begun(id(n))), [Effect::Report(id(n)), Effect::Run(id(n))]);
}

fn end(machine: &mut Machine, n: u64) -> Vec<Effect> {
    assert_eq!(step(machine, Event::Worked(id(n))), []);
    step(machine, Event::Stored(id(n), ExecutionState::Succeeded))
}

#[test]
fn nothing_runs_before_its_intent_and_the_next_waits_for_the_stored_result() {
    let mut machine = Machine::default();
    run(&mut machine, 1);
    step(&mut machine, Event::Offered(offer(2)));
    assert_eq!(step(&mut machine, Event::Accepted(id(2))), [Effect::Report(id(2))]);
    assert_eq!(step(&mut machine, Event::Worked(id(1))), [], "the result is not durable yet");
    let effects = step(&mut machine, Event::Stored(id(1), ExecutionState::Succeeded));
    assert_eq!(effects, [Effect::Report(id(1)), Effect::Begin(id(2))]);
}

#[test]
fn a_second_delivery_reports_and_never_runs_again() {
    let mut machine = Machine::default();
    run(&mut machine, 1);
    assert_eq!(step(&mut machine, Event::Offered(offer(1))), [Effect::Report(id(1))]);
    end(&mut machine, 1);
    assert_eq!(step(&mut machine, Event::Offered(offer(1))), [Effect::Report(id(1))]);
    let other = Offer { digest: [9; 32], ..offer(1) };
    assert_eq!(step(&mut machine, Event::Offered(other.clone())), [Effect::Conflict(id(1), Epoch(1))]);
    assert_eq!(step(&mut machine, Event::Confirmed(id(1))), [Effect::Forget(id(1))]);
    assert_eq!(step(&mut machine, Event::Offered(offer(1))), [Effect::Report(id(1))]);
    assert_eq!(step(&mut machine, Event::Offered(other)), [Effect::Conflict(id(1), Epoch(1))]);
}

#[test]
fn older_epochs_expired_grants_and_refusals_do_nothing() {
    let mut machine = Machine::new(Epoch(5));
    let rejected = |machine: &mut Machine, offer: Offer| match &step(machine, Event::Offered(offer))[..] {
        [Effect::End(_, ExecutionState::Rejected, reason, _)] => *reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(&mut machine, offer(4)), Reason::EpochStale);
    let late = Offer { begin_before: Some(NOW), ..offer(6) };
    assert_eq!(rejected(&mut machine, late), Reason::GrantExpired);
    assert_eq!(machine.highest(), Epoch(5), "what was refused raises nothing");
    let denied = Offer { refused: Some((Reason::PolicyDenied, "no".into())), ..offer(7) };
    assert_eq!(rejected(&mut machine, denied), Reason::PolicyDenied);
}

#[test]
fn a_grant_that_ends_in_the_queue_is_not_used() {
    let mut machine = Machine::default();
    run(&mut machine, 1);
    step(&mut machine, Event::Offered(Offer { begin_before: Some(DurationMs(2_000)), ..offer(2) }));
    step(&mut machine, Event::Accepted(id(2)));
    let effects = machine.step(DurationMs(2_000), Event::Tick);
    assert!(matches!(&effects[..], [Effect::End(_, ExecutionState::Rejected, Reason::GrantExpired, _)]));
}

#[test]
fn a_cancel_before_the_effect_leaves_none_and_after_it_only_asks() {
    let mut machine = Machine::default();
    step(&mut machine, Event::Offered(offer(1)));
    step(&mut machine, Event::Accepted(id(1)));
    assert_eq!(step(&mut machine, Event::Cancel(id(1))), [], "its INTENT is being written");
    let effects = step(&mut machine, Event::Begun(id(1)));
    assert!(matches!(&effects[..], [Effect::End(_, ExecutionState::Canceled, ..)]), "{effects:?}");
    step(&mut machine, Event::Stored(id(1), ExecutionState::Canceled));
    run(&mut machine, 2);
    assert_eq!(step(&mut machine, Event::Cancel(id(2))), [Effect::Cancel(id(2))]);
    assert_eq!(step(&mut machine, Event::Cancel(id(2))), [], "once is enough");
}

#[test]
fn an_unknown_one_keeps_its_turn_until_the_truth_is_stored() {
    let mut machine = Machine::default();
    run(&mut machine, 1);
    let effects = step(&mut machine, Event::Stored(id(1), ExecutionState::Unknown));
    assert_eq!(effects, [Effect::Report(id(1))]);
    step(&mut machine, Event::Offered(offer(2)));
    assert_eq!(step(&mut machine, Event::Accepted(id(2))), [Effect::Report(id(2))]);
    assert_eq!(end(&mut machine, 1), [Effect::Report(id(1)), Effect::Begin(id(2))]);
}

#[test]
fn a_stopping_helper_begins_nothing() {
    let mut machine = Machine::default();
    step(&mut machine, Event::Offered(offer(1)));
    step(&mut machine, Event::Stop);
    assert_eq!(step(&mut machine, Event::Accepted(id(1))), [Effect::Report(id(1))]);
    assert_eq!(step(&mut machine, Event::Offered(offer(2))), []);
}

/// A host that does what effects ask, in an order that proptest chooses.
#[derive(Default)]
struct World {
    machine: Machine,
    pending: Vec<Event>,
    runs: BTreeMap<ExecutionId, u32>,
    at_work: BTreeSet<ExecutionId>,
    reads: BTreeSet<ExecutionId>,
    accepted: BTreeSet<ExecutionId>,
    ended: BTreeMap<ExecutionId, ExecutionState>,
    now: u64,
}

impl World {
    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        for effect in self.machine.step(DurationMs(self.now), event) {
            match effect {
                Effect::Accept(id) => {
                    self.accepted.insert(id.clone());
                    self.pending.push(Event::Accepted(id));
                }
                Effect::Begin(id) => self.pending.push(Event::Begun(id)),
                Effect::Run(id) => {
                    let runs = self.runs.entry(id.clone()).or_default();
                    *runs += 1;
                    prop_assert_eq!(*runs, 1, "{} ran twice", id);
                    self.at_work.insert(id.clone());
                    let changing = self.at_work.difference(&self.reads).count();
                    prop_assert!(changing <= 1, "two changes at once: {:?}", self.at_work);
                    prop_assert!(self.at_work.intersection(&self.reads).count() <= READERS_MAX);
                    self.pending.push(Event::Worked(id));
                }
                Effect::End(id, state, ..) => {
                    prop_assert!(!self.runs.contains_key(&id), "{} ended as if it had not begun", id);
                    self.pending.push(Event::Stored(id, state));
                }
                Effect::Cancel(_) | Effect::Report(_) | Effect::Conflict(..) | Effect::Drop(_) => {}
                Effect::Forget(id) => prop_assert!(self.ended.contains_key(&id)),
            }
        }
        Ok(())
    }

    fn advance(&mut self, pick: usize) -> Result<(), TestCaseError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let event = self.pending.remove(pick % self.pending.len());
        match &event {
            Event::Worked(id) => {
                let id = id.clone();
                self.apply(event)?;
                self.at_work.remove(&id);
                self.pending.push(Event::Stored(id, ExecutionState::Succeeded));
                return Ok(());
            }
            Event::Stored(id, state) => {
                let before = self.ended.insert(id.clone(), *state);
                prop_assert_eq!(before, None, "{} ended twice", id);
            }
            _ => {}
        }
        self.apply(event)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn never_two_changes_at_once_never_twice_and_every_accepted_one_ends(
        script in proptest::collection::vec((0_u8..10, 0_u64..24, any::<usize>()), 1..200)
    ) {
        let mut world = World::default();
        for (what, n, pick) in script {
            world.now += 10;
            let read = n % 3 == 0;
            match what {
                0..4 => {
                    let begin_before = (n % 4 == 1).then_some(DurationMs(n * 80));
                    if read {
                        world.reads.insert(id(n));
                    }
                    world.apply(Event::Offered(Offer { read, begin_before, ..offer(n) }))?;
                }
                4 => world.apply(Event::Cancel(id(n)))?,
                5 => world.apply(Event::Confirmed(id(n)))?,
                _ => world.advance(pick)?,
            }
        }
        let highest = world.machine.highest();
        for _ in 0..2_000 {
            world.now += 10_000;
            world.apply(Event::Tick)?;
            world.advance(0)?;
        }
        prop_assert!(world.pending.is_empty());
        for id in &world.accepted {
            prop_assert!(world.ended.contains_key(id), "{} was dropped", id);
        }
        prop_assert!(world.machine.highest() >= highest, "epochs never go back");
        prop_assert_eq!(world.machine.in_hand().count(), 0);
    }
}
