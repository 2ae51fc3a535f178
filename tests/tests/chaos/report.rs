//! The figures of a run, and what they prove.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_tests::history::{Call, Op, Outcome, index, wgl};
use quorate_tests::outside::Seen;

use crate::clients::{CLIENTS, Tally};
use crate::faults::Kind;
use crate::fleet::Chaos;

/// Answered calls on registers per second below which a full run proves nothing (reliability.md 8). A read of a node answers
/// for six registers. `QUORATE_LOAD_MIN` gives another number, for a machine that has other work; it is shown.
const LOAD_MIN: u32 = 200;
/// The same for the bounded run: `cargo test` shares two cores with whatever else its machine does.
const LOAD_MIN_BOUNDED: u32 = 40;

fn load_min() -> f64 {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
    let usual = if number("QUORATE_ROUNDS").is_some() { LOAD_MIN } else { LOAD_MIN_BOUNDED };
    f64::from(number("QUORATE_LOAD_MIN").unwrap_or(usual))
}

/// Three values: what was not tried is not proved.
#[derive(Debug)]
pub(crate) enum Verdict {
    Holds,
    #[expect(dead_code, reason = "shown by Debug")]
    Unknown(String),
    #[expect(dead_code, reason = "shown by Debug")]
    Broken(String),
}

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) rounds: usize,
    pub(crate) ends: BTreeMap<String, usize>,
    pub(crate) faults: BTreeMap<Kind, usize>,
    pub(crate) killed: usize,
    pub(crate) leader_kills_us: Vec<u64>,
    pub(crate) steps: usize,
    pub(crate) steps_succeeded: usize,
    pub(crate) effects: usize,
    pub(crate) repaired: usize,
    pub(crate) chaos_for: Duration,
    pub(crate) ran_for: Duration,
    pub(crate) healed_after: Duration,
    pub(crate) quiet_fewest: Option<usize>,
}

impl Figures {
    fn print(&self, tally: &Tally, seen: &Seen, slow: usize, gaps: &[u64]) {
        println!(
            "rounds {} ({:?}), {:.0?} of chaos, healed after {:.1?}",
            self.rounds, self.ends, self.chaos_for, self.healed_after
        );
        println!("faults {:?}, processes killed {}", self.faults, self.killed);
        println!(
            "restart steps {} ({} succeeded), starts counted on the instances {}, instances started again after our kills {}",
            self.steps, self.steps_succeeded, self.effects, self.repaired
        );
        let get = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        println!(
            "{CLIENTS} clients: {} calls, writes acknowledged {}, unknown {}, refused {}, repeated tries {}; node reads {}, audit reads {}",
            get(&tally.calls),
            get(&tally.acked),
            get(&tally.unknown),
            get(&tally.refused),
            get(&tally.repeated),
            get(&tally.read),
            get(&tally.audits)
        );
        println!("odd answers {:?}", tally.odd.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        println!(
            "looks {} ({slow} too slow), fewest serving {:?}, fewest with our own faults apart {:?}, stopped by steps {}, taken by us {}, quiet phase fewest {:?}",
            seen.looks, seen.fewest, seen.fewest_by_us, seen.steps, seen.taken, self.quiet_fewest
        );
        let at = |percent: usize| gaps.get(gaps.len().saturating_sub(1).min(gaps.len() * percent / 100));
        println!("write gap after a killed leader, ms: p50 {:?} p99 {:?} of {}", at(50), at(99), gaps.len());
    }
}

/// Milliseconds from each kill to the first answer of a write that was asked for after it.
fn gaps(ops: &[Op], kills_us: &[u64]) -> Vec<u64> {
    let mut gaps: Vec<u64> = kills_us
        .iter()
        .filter_map(|kill| {
            let later = ops
                .iter()
                .filter(|op| op.invoked_us >= *kill && matches!(op.outcome, Outcome::Written { .. }));
            later.map(|op| op.returned_us).min().map(|first| (first - kill) / 1_000)
        })
        .collect();
    gaps.sort_unstable();
    gaps
}

pub(crate) fn judge(
    chaos: &Chaos,
    figures: &Figures,
    (tally, ops): (&Tally, &[Op]),
    (seen, slow): (Seen, usize),
    (wanted, mut broken): (&[Kind], Vec<String>),
) -> Verdict {
    figures.print(tally, &seen, slow, &gaps(ops, &figures.leader_kills_us));
    let counts = chaos.network.counts();
    println!("network: {counts:?}");
    match index::check(ops) {
        Ok(judged) => println!("history by index: {judged:?}"),
        Err(violation) => broken.push(violation.to_string()),
    }
    // Its windows take few reads: one of each client in a while is enough for a second opinion.
    let mut turn = 0_u32;
    let some: Vec<Op> = ops
        .iter()
        .filter(|op| {
            turn += u32::from(op.call == Call::Read);
            op.call != Call::Read || turn.is_multiple_of(8) || op.client > CLIENTS
        })
        .cloned()
        .collect();
    match wgl::check(&some) {
        Ok(searched) => println!("history by search: {searched:?}"),
        Err(violation) => broken.push(violation.to_string()),
    }
    broken.extend(seen.broken.iter().cloned());
    if !broken.is_empty() {
        keep(ops);
        return Verdict::Broken(broken.join("\n"));
    }
    let missing: Vec<Kind> =
        wanted.iter().copied().filter(|kind| !figures.faults.contains_key(kind)).collect();
    let answered = ops.iter().filter(|op| op.index().is_some()).count();
    let load = f64::from(u32::try_from(answered).unwrap_or(u32::MAX)) / figures.ran_for.as_secs_f64();
    println!("load: {load:.0} answered calls on registers a second, {:.0} are needed", load_min());
    if !missing.is_empty() {
        return Verdict::Unknown(format!("these faults did not happen: {missing:?}"));
    }
    if load < load_min() || seen.steps < 3 || seen.looks < 200 {
        return Verdict::Unknown(format!("too little happened: {load:.0} calls a second, {seen:?}"));
    }
    Verdict::Holds
}

/// The history of a broken run, for whoever looks into it.
fn keep(ops: &[Op]) {
    let path = std::env::temp_dir().join(format!("quorate-chaos-history-{}.json", std::process::id()));
    let text = serde_json::to_vec(ops).unwrap_or_default();
    match fs::write(&path, text) {
        Ok(()) => println!("the history is in {}", path.display()),
        Err(error) => println!("the history was not kept: {error}"),
    }
}
