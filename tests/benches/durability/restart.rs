//! (b) A member with 20,000 entries in its log and no snapshot starts again.

use std::time::Duration;

use quorate_tests::wait::wait_for;
use tokio::runtime::Runtime;

use crate::fleet::{Fleet, Options};
use crate::load::{self, per};

const ENTRIES: u64 = 20_000;
const RUNS: usize = 3;

pub(crate) fn run(runtime: &Runtime) -> anyhow::Result<()> {
    let options = Options { snapshot_entries: Some(10_000_000), ..Options::default() };
    let mut fleet = Fleet::start(runtime, options)?;
    println!("\n== (b) restart of a member with {ENTRIES} entries in its log");
    fill(runtime, &fleet)?;
    for _ in 0..RUNS {
        let leader = fleet.leader(runtime);
        let member = (leader + 1) % fleet.members.len();
        let begin = fleet.restart(member)?;
        let mut serves = None;
        let applied = wait_for("the member to have applied its log", Duration::from_secs(120), || {
            let metrics = fleet.metrics(runtime, member).map_err(|error| format!("{error:#}"))?;
            serves.get_or_insert_with(|| begin.elapsed());
            let applied = metrics.get("raft_applied_index");
            let last = metrics.get("raft_last_log_index");
            let done = applied >= ENTRIES && applied == last && metrics.get("raft_has_quorum") == 1;
            if done { Ok(applied) } else { Err(format!("{applied} of {last} applied")) }
        });
        println!(
            "  {}: serves after {:.2} s, {applied} entries applied and a leader heard after {:.2} s (target < 2 s); \
             log {:.1} MB, load {:.1}",
            fleet.members[member].name,
            serves.unwrap_or_default().as_secs_f64(),
            begin.elapsed().as_secs_f64(),
            per(fleet.metrics(runtime, member)?.get("raft_log_bytes"), 1_000_000),
            crate::load_average(),
        );
    }
    Ok(())
}

/// Two writers: with two entries in flight every write is an entry of its own.
fn fill(runtime: &Runtime, fleet: &Fleet) -> anyhow::Result<()> {
    let leader = fleet.leader(runtime);
    let channel = fleet.channel(leader)?;
    let mut written = 0;
    loop {
        let last = fleet.metrics(runtime, leader)?.get("raft_last_log_index");
        let missing = ENTRIES.saturating_sub(last);
        if missing == 0 {
            println!("  {written} writes made {last} entries");
            return Ok(());
        }
        let channel = channel.clone();
        let base = written;
        load::run(runtime, 2, missing, move |writer, n| load::declare(channel.clone(), writer, base + n))?;
        written += missing;
    }
}
