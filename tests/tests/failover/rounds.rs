//! Faults at random, several at once, again and again, while clients write: nobody ever sees two primaries.
//!
//! `QUORATE_FAILOVER_FAULTS=500` says how many, `QUORATE_SEED` repeats them. A pair that acknowledges only what both have loses
//! nothing of it; one that acknowledges alone may, and would show a second primary at once: there its writes need nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_tests::random::{Random, seed};
use quorate_tests::wait::wait_until;
use quorate_tests::writer::{self, Acknowledged, Writer};

use crate::faults::{Kind, Lasting, some};
use crate::pair::{LIMIT, MENDED, Pair};

/// Where nobody says how many.
const FAULTS: usize = 5;
/// Shortest and longest time that faults last, in milliseconds: less than a renewal, and more than a lease and what follows it.
const SHORT_MS: u64 = 300;
const LONG_MS: u64 = 14_000;
/// Between two writes of a client that keeps to one instance.
const SLOW: Duration = Duration::from_millis(40);

fn wanted() -> usize {
    std::env::var("QUORATE_FAILOVER_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(FAULTS)
}

/// What is acknowledged needs both: nothing of it is lost.
pub(crate) fn faults_lose_nothing(pair: &Pair) {
    run(pair, true);
}

/// Whoever leads acknowledges alone when it has to: two of them at once would both accept.
pub(crate) fn faults_find_no_two_primaries(pair: &Pair) {
    pair.acknowledge_alone();
    run(pair, false);
}

fn run(pair: &Pair, keeps: bool) {
    let (seed, wanted) = (seed(), wanted());
    println!("  QUORATE_FAILOVER_FAULTS={wanted} QUORATE_SEED={seed}");
    let (mut random, mut tally) = (Random::new(seed), BTreeMap::<Kind, usize>::new());
    let (mut done, mut rounds, mut moved, mut acknowledged) = (0, 0, 0, 0);
    while done < wanted {
        let primary = pair.mended();
        let begun = clients(pair);
        wait_until("writes to be acknowledged", LIMIT, || begun.iter().any(|writer| writer.count() > 5));
        let mut lasting = Lasting::default();
        let kinds: Vec<Kind> = some(&mut random, wanted - done)
            .into_iter()
            .filter(|kind| lasting.begin(pair, *kind, &primary))
            .collect();
        let span = random.between(SHORT_MS, LONG_MS);
        hold(span);
        lasting.end(pair);
        pair.mended();
        let before = begun.first().map_or(0, Writer::count);
        wait_until("writes to be acknowledged again", MENDED, || {
            begun.first().is_some_and(|writer| writer.count() > before + 5)
        });
        let told: Vec<Vec<Acknowledged>> = begun.into_iter().map(Writer::end).collect();
        // What a fault has begun may end after it: whoever leads by then has to have everything.
        let last = pair.mended();
        judge(pair, &told, keeps.then_some(last.as_str()), &format!("{kinds:?} for {span:?}"));
        done += kinds.len();
        rounds += 1;
        moved += usize::from(last != primary);
        acknowledged += told.iter().map(Vec::len).sum::<usize>();
        kinds.into_iter().for_each(|kind| *tally.entry(kind).or_default() += 1);
        println!("  {done}: {} -> {last} after {span:?}", tally_line(&tally));
    }
    println!(
        "  {done} faults in {rounds} rounds, {moved} changes of the primary, {acknowledged} writes acknowledged"
    );
}

fn tally_line(tally: &BTreeMap<Kind, usize>) -> String {
    tally.iter().map(|(kind, n)| format!("{kind} {n}")).collect::<Vec<_>>().join(", ")
}

/// One that follows the role, and one at each instance, whoever leads.
fn clients(pair: &Pair) -> Vec<Writer> {
    let both = pair.proxied.fleet.pair();
    let each = both.iter().map(|instance| Writer::begin_every(vec![instance.clone()], SLOW));
    std::iter::once(Writer::begin(both.clone())).chain(each.collect::<Vec<_>>()).collect()
}

fn hold(span: Duration) {
    let begun = Instant::now();
    wait_until("faults to have lasted", LIMIT, || begun.elapsed() >= span);
}

/// No two epochs accepted at once, by the instances' own record; each client saw epochs only grow; and nothing that was
/// acknowledged is lost where the primary that is left is given.
fn judge(pair: &Pair, told: &[Vec<Acknowledged>], left: Option<&str>, what: &str) {
    let accepted: Vec<_> =
        pair.proxied.fleet.pair().iter().flat_map(|instance| writer::accepted(&instance.dir)).collect();
    assert_eq!(writer::overlap(&accepted), None, "{what}");
    for acknowledged in told {
        assert_eq!(writer::backwards(acknowledged), None, "{what}");
        if let Some(left) = left {
            let log = writer::log(&pair.instance(left).dir);
            assert_eq!(writer::broken(acknowledged, &accepted, &log), None, "{what}");
        }
    }
}
