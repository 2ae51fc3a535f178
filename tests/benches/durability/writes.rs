//! (a) Barriers per write and member, with one writer and with 64.

use tokio::runtime::Runtime;

use crate::counts::{Barriers, Metrics, cpu_seconds};
use crate::fleet::{Fleet, Options};
use crate::load::{self, per};

/// Writers and writes of one measurement, and the target for barriers per write.
pub(crate) const RUNS: [(usize, u64, &str); 2] = [(1, 500, "exactly 1"), (64, 10_000, "at most 0.1")];
/// Connections that many writers share.
pub(crate) const CONNECTIONS: usize = 16;
/// Writes before the first measured one.
pub(crate) const WARM: u64 = 200;

struct Before {
    metrics: Vec<Metrics>,
    traced: Vec<Barriers>,
    cpu: Vec<f64>,
}

impl Before {
    fn take(runtime: &Runtime, fleet: &Fleet, traced: bool) -> anyhow::Result<Self> {
        let members = 0..fleet.members.len();
        Ok(Self {
            metrics: members.map(|n| fleet.metrics(runtime, n)).collect::<anyhow::Result<_>>()?,
            traced: if traced {
                fleet.members.iter().map(crate::fleet::Member::traced).collect::<anyhow::Result<_>>()?
            } else {
                Vec::new()
            },
            cpu: fleet.members.iter().map(|m| cpu_seconds(m.pid()?)).collect::<anyhow::Result<_>>()?,
        })
    }
}

pub(crate) fn run(runtime: &Runtime) -> anyhow::Result<()> {
    for traced in [true, false] {
        let fleet = Fleet::start(runtime, Options { traced, ..Options::default() })?;
        let how = if traced {
            "barriers counted by strace (which slows them) and by the member itself"
        } else {
            "the same without strace: times"
        };
        println!("\n== (a) Quorate, 3 members, mutual TLS, ApplyService through the leader: {how}");
        for (writers, writes, target) in RUNS {
            measure(runtime, &fleet, writers, writes, target, traced)?;
        }
    }
    Ok(())
}

fn measure(
    runtime: &Runtime,
    fleet: &Fleet,
    writers: usize,
    writes: u64,
    target: &str,
    traced: bool,
) -> anyhow::Result<()> {
    let leader = fleet.leader(runtime);
    let connections = if writers == 1 { 1 } else { CONNECTIONS };
    let channels = (0..connections).map(|_| fleet.channel(leader)).collect::<anyhow::Result<Vec<_>>>()?;
    let write =
        move |writer: usize, number| load::declare(channels[writer % channels.len()].clone(), writer, number);
    let write = std::sync::Arc::new(write);
    let warm = std::sync::Arc::clone(&write);
    load::run(runtime, writers, WARM, move |writer, number| warm(writer, 1_000_000 + number))?;
    // Followers learn of the last commit with the next entry or heartbeat; let them, so that nothing is counted late.
    settle(runtime, fleet);
    let before = Before::take(runtime, fleet, traced)?;
    let outcome = load::run(runtime, writers, writes, move |writer, number| write(writer, number))?;
    settle(runtime, fleet);
    let after = Before::take(runtime, fleet, traced)?;
    println!(
        "{writers} writer(s), {connections} connection(s), {writes} writes: {:.0} per s, p50 {} us, p99 {} us",
        outcome.per_second(),
        outcome.percentile(50),
        outcome.percentile(99)
    );
    for (n, member) in fleet.members.iter().enumerate() {
        let (now, then) = (&after.metrics[n], &before.metrics[n]);
        let own = now.grew("store_fdatasyncs_total", then);
        let slots = now.grew("store_committed_writes_total", then);
        let entries = now.grew("raft_last_log_index", then);
        print!(
            "  {}{} by /metrics: {:.4} fdatasync per write (target {target}), {:.3} slot writes per write, {entries} \
             entries",
            member.name,
            if n == leader { "*" } else { " " },
            per(own, writes),
            per(slots, writes),
        );
        if traced {
            let seen = after.traced[n].since(before.traced[n]);
            print!(
                "; by strace: {:.4} fsync+fdatasync, {:.3} DSYNC pwritev2, {:.3} sync_file_range",
                per(seen.syncs, writes),
                per(seen.dsync_writes, writes),
                per(seen.sync_file_range, writes)
            );
        } else {
            let cpu = (after.cpu[n] - before.cpu[n]) * 1e6 / per(writes, 1);
            print!("; {cpu:.0} CPU ms per 1,000 writes");
        }
        println!();
    }
    Ok(())
}

/// Until every member has applied what the leader has, and noted it.
fn settle(runtime: &Runtime, fleet: &Fleet) {
    let wait = std::time::Duration::from_secs(30);
    let mut last = Vec::new();
    quorate_tests::wait::wait_for("the members to agree", wait, || {
        let now: Vec<_> = (0..fleet.members.len())
            .map(|n| {
                let metrics = fleet.metrics(runtime, n).map_err(|error| error.to_string())?;
                Ok((metrics.get("raft_applied_index"), metrics.get("store_committed_writes_total")))
            })
            .collect::<Result<_, String>>()?;
        let same = now.windows(2).all(|pair| pair[0].0 == pair[1].0) && now == last;
        let seen = format!("{now:?}");
        last = now;
        if same { Ok(()) } else { Err(seen) }
    });
}
