//! Rounds: a rolling restart each, with faults while it runs, and an account of its effects on the instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_tests::cluster::{CALM, Poll};
use quorate_tests::random::Random;
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::Value;

use crate::clients::Load;
use crate::faults::{Kind, inject};
use crate::fleet::Chaos;
use crate::report::{Figures, Verdict, judge};
use crate::witness::Witness;

/// Faults of one round.
const FAULTS: usize = 3;
/// Every operation ends within this, whatever happened: its own deadlines and a minute (I-19).
const ENDS: Duration = Duration::from_secs(240);
/// A member that is down for a step of the operation is soon up again; longer than this, and nobody is at it.
const REVIVE: Duration = Duration::from_secs(8);
/// Rounds after the planned ones, for faults that could not be done in their turn.
const ROUNDS_MORE: usize = 3;
/// Rounds when nothing is said: every kind of fault once.
const ROUNDS: usize = Kind::ALL.len().div_ceil(FAULTS);

pub(crate) fn run(chaos: &Chaos, seed: u64, rounds: Option<usize>) -> Verdict {
    let period = std::env::var("QUORATE_PERIOD_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(40);
    let load = Load::begin(chaos, seed, Duration::from_millis(period));
    let witness = Witness::begin(chaos.fleet.instances(), Arc::clone(&load.recorder));
    let (mut random, mut figures) = (Random::new(seed), Figures::default());
    let (chosen, mut kinds, mut broken) = (Kind::chosen(), Vec::new(), Vec::new());
    let begun = Instant::now();
    let planned = rounds.unwrap_or(ROUNDS);
    for round in 1..=planned + ROUNDS_MORE {
        let missing = |kind: &Kind| !figures.faults.contains_key(kind);
        if round > planned {
            // What could not be done in its turn, because its victim was just down.
            kinds = chosen.iter().copied().filter(missing).collect();
            if kinds.is_empty() {
                break;
            }
        } else if kinds.len() < FAULTS {
            let mut all = chosen.clone();
            random.shuffle(&mut all);
            kinds.extend(all);
        }
        let faults: Vec<Kind> = kinds.drain(..FAULTS.min(kinds.len())).collect();
        let mut one =
            Round { chaos, load: &load, witness: &witness, random: &mut random, figures: &mut figures };
        if let Err(why) = one.run(round, &faults) {
            println!("  BROKEN: {why}");
            broken.push(format!("round {round}: {why}"));
            break;
        }
    }
    figures.chaos_for = begun.elapsed();
    if broken.is_empty()
        && let Err(why) = quiet(chaos, &mut figures)
    {
        broken.push(format!("quiet phase: {why}"));
    }
    figures.ran_for = begun.elapsed();
    let calls = load.tally.calls.load(Ordering::Relaxed);
    let (ops, tally) = load.end(chaos);
    println!("{calls} calls ended");
    judge(chaos, &figures, (&tally, &ops), witness.end(), (&chosen, broken))
}

/// No faults any more: everything becomes healthy, and a fresh rolling restart succeeds under the eyes of the witness.
fn quiet(chaos: &Chaos, figures: &mut Figures) -> Result<(), String> {
    let begun = Instant::now();
    figures.repaired += chaos.heal().len();
    figures.healed_after = begun.elapsed();
    let before = chaos.fleet.starts();
    let poll = Poll::begin(chaos.fleet.instances());
    let words =
        ["rollout", "start", "--restart", "ledger", "--wait", "--yes", "--timeout", "170s", "-o", "json"];
    let done = chaos.fleet.quorate(&words);
    let tally = poll.end();
    if done.code != 0 {
        return Err(format!("a fresh rolling restart gave {done:?}"));
    }
    let wanted: BTreeMap<String, usize> = before.iter().map(|(node, n)| (node.clone(), n + 1)).collect();
    let starts = chaos.fleet.starts();
    if starts != wanted {
        return Err(format!("instances started {starts:?}, not {wanted:?}"));
    }
    figures.quiet_fewest = tally.fewest;
    if !tally.below.is_empty() {
        return Err(format!("fewer than two served: {tally:?}"));
    }
    let audit = chaos.fleet.quorate(&["audit", "verify"]);
    println!("audit: {}", audit.stdout.trim());
    if audit.code == 0 { Ok(()) } else { Err(format!("the audit: {audit:?}")) }
}

struct Round<'a> {
    chaos: &'a Chaos,
    load: &'a Load,
    witness: &'a Witness,
    random: &'a mut Random,
    figures: &'a mut Figures,
}

impl Round<'_> {
    fn run(&mut self, number: usize, faults: &[Kind]) -> Result<(), String> {
        self.figures.repaired += self.chaos.heal().len();
        let before = self.chaos.fleet.starts();
        let begun = Instant::now();
        let Some(id) = self.start(number)? else {
            self.figures.rounds += 1;
            return Ok(());
        };
        for kind in faults {
            let pause = self.random.between(0, 2_000);
            let paused = Instant::now();
            wait_until("the moment", CALM, || paused.elapsed() >= pause);
            self.fault(*kind);
        }
        self.chaos.network.set(Vec::new());
        let (operation, revived) = self.ended(&id)?;
        self.figures.repaired += revived.len();
        let took = begun.elapsed();
        self.figures.rounds += 1;
        let state = operation["state"].as_str().unwrap_or_default().to_owned();
        println!("round {number}: {faults:?}: {state} after {took:.1?} {}", operation["message"]);
        *self.figures.ends.entry(state).or_default() += 1;
        self.account(&operation, &before, &revived)
    }

    /// Starts a rolling restart; asked again with the same request id until somebody answers.
    fn start(&mut self, number: usize) -> Result<Option<String>, String> {
        let request = format!("round-{number}");
        let words = [
            "rollout",
            "start",
            "--restart",
            "ledger",
            "--yes",
            "--detach",
            "--request-id",
            &request,
            "-o",
            "json",
        ];
        let answer = wait_for("a rolling restart to be taken", CALM, || {
            let answer = self.chaos.fleet.quorate(&words);
            if [4, 5].contains(&answer.code) { Err(answer.stderr) } else { Ok(answer) }
        });
        match answer.code {
            0 => {
                let name = answer.json()["name"].as_str().unwrap_or_default().to_owned();
                Ok(Some(name.rsplit('/').next().unwrap_or_default().to_owned()))
            }
            3 => {
                println!("round {number}: refused: {}", answer.stderr.lines().next().unwrap_or_default());
                *self.figures.ends.entry("REFUSED".to_owned()).or_default() += 1;
                Ok(None)
            }
            _ => Err(format!("starting gave {answer:?}")),
        }
    }

    fn fault(&mut self, kind: Kind) {
        let at_us = self.load.recorder.now_us();
        let taken = &mut |node: &str| self.witness.taken(node);
        let Some(done) = inject(self.chaos, kind, self.random, taken) else {
            println!("  {kind:?}: could not be done");
            return;
        };
        println!(
            "  {:6.1} s {kind:?}: {}",
            f64::from(u32::try_from(at_us / 1_000).unwrap_or(u32::MAX)) / 1_000.0,
            done.told
        );
        *self.figures.faults.entry(kind).or_default() += 1;
        self.figures.killed += done.killed;
        if kind == Kind::KillLeader {
            // From before the leader was looked up: the gap is told too long rather than too short.
            self.figures.leader_kills_us.push(self.load.recorder.now_us());
        }
    }

    /// The operation once it is terminal; an error when it does not end.
    fn ended(&self, id: &str) -> Result<(Value, Vec<String>), String> {
        let (begun, mut looked, mut revived) = (Instant::now(), Instant::now(), Vec::new());
        loop {
            let operation = self.chaos.fleet.operation(id);
            let terminal = ["SUCCEEDED", "FAILED", "CANCELED", "ROLLED_BACK"];
            if terminal.iter().any(|state| operation["state"] == *state) {
                return Ok((operation, revived));
            }
            if begun.elapsed() > ENDS {
                let explained = self.chaos.fleet.quorate(&["explain", id]);
                return Err(format!("{id} did not end in {ENDS:?}: {operation:#} {}", explained.stdout));
            }
            let asked = Instant::now();
            wait_until("a moment", CALM, || asked.elapsed() >= Duration::from_millis(250));
            // A member that the test killed holds the operation up until somebody starts it.
            if looked.elapsed() > REVIVE {
                revived.extend(self.chaos.revive());
                looked = Instant::now();
            }
        }
    }

    /// Each step that succeeded has its effect once, each that did not at most once, each that never began none.
    fn account(
        &mut self,
        operation: &Value,
        before: &BTreeMap<String, usize>,
        revived: &[String],
    ) -> Result<(), String> {
        // An interrupted step may still be carried out by its host: the agents come back first.
        wait_for("every node to be READY", CALM, || {
            let nodes = self.chaos.fleet.quorate(&["node", "list", "-o", "json"]);
            let ready = nodes.code == 0
                && nodes.json()["nodes"].as_array().is_some_and(|n| n.iter().all(|n| n["status"] == "READY"));
            if ready { Ok(()) } else { Err(nodes.stdout + &nodes.stderr) }
        });
        let starts = self.chaos.fleet.starts();
        let steps = operation["steps"].as_array().cloned().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for step in steps.iter().filter(|step| step["kind"] == "RESTART") {
            let node = step["node"].as_str().unwrap_or_default();
            let begun = starts[node] - before[node];
            seen.insert(node.to_owned());
            let succeeded = step["state"] == "SUCCEEDED";
            let attempted = step["attempts"].as_u64().unwrap_or(0) > 0;
            let by_hand = revived.iter().filter(|revived| *revived == node).count();
            let most = usize::from(attempted) + by_hand;
            if begun > most || (succeeded && begun < 1) {
                return Err(format!("{node} was started {begun} times: {operation:#}"));
            }
            self.figures.steps += 1;
            self.figures.effects += begun;
            self.figures.steps_succeeded += usize::from(succeeded);
        }
        let open = (&operation["openObligations"], &operation["openGrants"]);
        if operation["state"] == "SUCCEEDED" && open != (&0.into(), &0.into()) {
            return Err(format!("something is left open: {operation:#}"));
        }
        let others = starts
            .iter()
            .filter(|(node, n)| !seen.contains(*node) && !revived.contains(*node) && before[*node] != **n);
        match others.count() {
            0 => Ok(()),
            n => Err(format!("{n} instances were started that have no step: {operation:#}")),
        }
    }
}
