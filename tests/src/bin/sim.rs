//! `sim`: runs seeds of the simulation, each in a process of its own.
//!
//! `sim --seed N` replays one with its trace; `sim --seeds N [--from A] [--twice K] [--also N]… [--jobs J]` sweeps, and runs
//! the first K of the range twice to compare their traces byte for byte. Exit code 0 when all are true, 1 when one is false
//! or not reproducible, 2 when more are unknown than `--unknown N` allows, or when a sweep of at least forty seeds never saw
//! one of the faults it is there for.
//!
//! With `--kills N` each seed is a world of its own sort: rollouts, one after the other, and N points at which somebody is
//! killed within one.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Child, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail};
use quorate_tests::world::run::{Judgement, Plan, run};
use quorate_tests::world::{entropy, faults, kills};

/// Length of the safety phase unless told.
const SAFETY: Duration = Duration::from_secs(15);
/// Length of the quiet phase: ten seconds to come to itself, and some to show it.
const QUIET: Duration = Duration::from_secs(14);

/// Seeds from which on a sweep must have seen every fault.
const ENOUGH: usize = 40;
/// The same of kills: each seed has several.
const ENOUGH_KILLS: usize = 8;
/// In front of the numbers of a run that are added up.
const COUNTS: &str = "counts";

/// What the command line says.
struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    twice: u64,
    /// Unknown seeds that are allowed.
    unknown: u64,
    jobs: usize,
    list: Vec<u64>,
    safety: u64,
    child: bool,
    quietly: bool,
    /// Kill points of each seed; none for runs of faults.
    kills: Option<u64>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        seed: None,
        seeds: 0,
        from: 1,
        twice: 0,
        unknown: 0,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        list: Vec::new(),
        safety: SAFETY.as_secs(),
        child: false,
        quietly: false,
        kills: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            let text = words.next().with_context(|| format!("{word} needs a number"))?;
            text.parse().with_context(|| format!("{word} {text}"))
        };
        match word.as_str() {
            "--seed" => found.seed = Some(number()?),
            "--seeds" => found.seeds = number()?,
            "--from" => found.from = number()?,
            "--twice" => found.twice = number()?,
            "--unknown" => found.unknown = number()?,
            "--jobs" => found.jobs = usize::try_from(number()?)?.max(1),
            "--also" => found.list.push(number()?),
            "--safety" => found.safety = number()?,
            "--kills" => found.kills = Some(number()?),
            "--child" => found.child = true,
            "--quietly" => found.quietly = true,
            _ => bail!(
                "sim --seed N | --seeds N [--from A] [--twice K] [--also N]… [--unknown N] [--jobs J] [--safety SECONDS] [--kills POINTS]; not {word}"
            ),
        }
    }
    Ok(found)
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = arguments()?;
    match (arguments.seed, arguments.child) {
        (Some(seed), true) => child(seed, &arguments),
        (Some(seed), false) => {
            let (code, text) = finish(start(seed, &arguments, false)?)?;
            print!("{text}");
            Ok(ExitCode::from(code))
        }
        (None, _) => sweep(&arguments),
    }
}

/// One seed in this process, which must run under the seeded library.
fn child(seed: u64, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !entropy::seeded(seed) {
        bail!("this process has randomness of its own: run it without --child");
    }
    quorate_common::tls::install();
    let safety = Duration::from_secs(arguments.safety);
    let verdict =
        run(Plan { seed, shown: !arguments.quietly, safety, quiet: QUIET, kills: arguments.kills })?;
    for why in &verdict.why {
        println!("seed {seed}: {why}");
    }
    let counts: Vec<_> = verdict.counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
    println!("{COUNTS} {}", counts.join(" "));
    println!("seed {seed}: {}: {} trace {}", verdict.judgement.as_str(), verdict.numbers, verdict.trace);
    Ok(ExitCode::from(match verdict.judgement {
        Judgement::True => 0,
        Judgement::False => 1,
        Judgement::Unknown => 2,
    }))
}

fn start(seed: u64, arguments: &Arguments, quietly: bool) -> anyhow::Result<Child> {
    let mut words = vec!["--child".to_owned(), "--seed".to_owned(), seed.to_string()];
    words.extend(["--safety".to_owned(), arguments.safety.to_string()]);
    if let Some(points) = arguments.kills {
        words.extend(["--kills".to_owned(), points.to_string()]);
    }
    if quietly {
        words.push("--quietly".to_owned());
    }
    Ok(entropy::start(&std::env::current_exe()?, seed, &words)?)
}

fn finish(mut child: Child) -> anyhow::Result<(u8, String)> {
    let mut text = String::new();
    child.stdout.take().context("the output is piped")?.read_to_string(&mut text)?;
    let status = child.wait()?;
    // A simulator that dies (a signal, exit code 101) proves nothing and must not look like a pass.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 2).unwrap_or(1);
    Ok((code, text))
}

/// What came of many seeds.
#[derive(Default)]
struct Tally {
    kinds: [u64; 4],
    counts: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, kind: usize, counts: BTreeMap<String, u64>) {
        self.kinds[kind] += 1;
        for (name, count) in counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}

/// Many seeds, some of them twice.
fn sweep(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let began = std::time::Instant::now();
    // Once, before many want it at the same time.
    entropy::library()?;
    let range = (arguments.from..arguments.from + arguments.seeds).zip(0..);
    let range = range.map(|(seed, n)| (seed, n < arguments.twice));
    let work: Vec<(u64, bool)> = arguments.list.iter().map(|seed| (*seed, false)).chain(range).collect();
    let all = work.len();
    let queue = std::sync::Mutex::new(work.into_iter());
    let tally = std::sync::Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let next = queue.lock().ok().and_then(|mut queue| queue.next());
                        let Some((seed, twice)) = next else { return Ok(()) };
                        let (kind, counts) = one(seed, twice, arguments)?;
                        if let Ok(mut tally) = tally.lock() {
                            tally.add(kind, counts);
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    let tally = tally.into_inner().unwrap_or_default();
    let [good, bad, unknown, differ] = tally.kinds;
    for (name, count) in &tally.counts {
        println!("  {name} {count}");
    }
    println!(
        "{all} seeds in {:.0} s: {good} true, {bad} false, {unknown} unknown, {differ} not reproducible; {} run twice",
        began.elapsed().as_secs_f64(),
        arguments.twice.min(arguments.seeds),
    );
    let required: Vec<String> = match arguments.kills {
        None => faults::required().collect(),
        Some(_) => {
            tell_kills(&tally);
            kills::kinds().collect()
        }
    };
    let unseen: Vec<String> =
        required.into_iter().filter(|name| tally.counts.get(name).is_none_or(|count| *count == 0)).collect();
    let enough = if arguments.kills.is_some() { ENOUGH_KILLS } else { ENOUGH };
    let blind = all >= enough && !unseen.is_empty();
    if blind {
        println!("unknown: never happened: {}", unseen.join(", "));
    }
    Ok(ExitCode::from(if bad + differ > 0 {
        1
    } else if unknown > arguments.unknown || blind {
        2
    } else {
        0
    }))
}

/// How many points there were, of whom, and how the rollouts ended.
fn tell_kills(tally: &Tally) {
    let beginning = |text: &str| -> Vec<(String, u64)> {
        let named =
            tally.counts.iter().filter_map(|(name, n)| Some((name.strip_prefix(text)?.to_owned(), *n)));
        named.collect()
    };
    let list = |all: &[(String, u64)]| {
        let words: Vec<String> = all.iter().map(|(name, count)| format!("{name} {count}")).collect();
        words.join(", ")
    };
    let kills = beginning("kill-");
    println!(
        "{} kill points: {}; found by {}; terminal states {}",
        kills.iter().map(|(_, count)| count).sum::<u64>(),
        list(&kills),
        list(&beginning("at-")),
        list(&beginning("ended-")),
    );
}

/// The numbers in what a run said.
fn counts(text: &str) -> BTreeMap<String, u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(COUNTS)).unwrap_or_default();
    let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}

/// One seed; 0 true, 1 false, 2 unknown, 3 not reproducible.
fn one(seed: u64, twice: bool, arguments: &Arguments) -> anyhow::Result<(usize, BTreeMap<String, u64>)> {
    let (code, text) = finish(start(seed, arguments, !twice)?)?;
    let counts = counts(&text);
    if twice {
        let (_, again) = finish(start(seed, arguments, false)?)?;
        if text != again {
            let mut lines = text.lines().zip(again.lines());
            let first = lines.position(|(a, b)| a != b).unwrap_or(0);
            println!("seed {seed}: two runs differ, first at line {first}");
            let nth = |text: &str| text.lines().nth(first).unwrap_or("").to_owned();
            println!("  {}\n  {}", nth(&text), nth(&again));
            return Ok((3, counts));
        }
    }
    let told = text.lines().filter(|line| line.starts_with("seed "));
    told.for_each(|line| println!("{line}{}", if twice { " (twice the same)" } else { "" }));
    if code == 1 {
        let safety = arguments.safety;
        let kills = arguments.kills.map(|points| format!(" --kills {points}")).unwrap_or_default();
        println!(
            "  reproduce: cargo run -p quorate-tests --bin sim -- --seed {seed} --safety {safety}{kills}"
        );
    }
    Ok((usize::from(code), counts))
}
