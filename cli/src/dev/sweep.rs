//! Ending everything of a fleet, with or without its supervisor.
//!
//! **Invariant:** only processes with a proof are signaled: recorded with pid and start time in this boot, a descendant of
//! such a one, or one of our programs running with a configuration file under this DIR.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::Signal;

use super::fleet::{Fleet, FleetState, Slot, Supervisor};
use super::layout::Layout;
use super::process::{Identity, Snapshot};

/// How long a daemon may take to end after SIGTERM before SIGKILL.
const DAEMON_GRACE: Duration = Duration::from_secs(5);
/// How long an instance may take; one that was told to ignore SIGTERM is killed then.
const INSTANCE_GRACE: Duration = Duration::from_secs(1);
/// How long SIGKILL may take: only a process stuck in the kernel needs longer.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How often the processes are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// What still runs of a fleet: recorded daemons, their descendants, and strays with a configuration under DIR.
pub(super) fn running(layout: &Layout, fleet: Option<&Fleet>) -> anyhow::Result<BTreeSet<Identity>> {
    let snapshot = Snapshot::take()?;
    let recorded = fleet.map(Fleet::daemons).unwrap_or_default();
    let strays = snapshot.configured_under(layout.dir());
    // Orphans come to the supervisor, and it starts nothing but the fleet: all its descendants are the fleet's.
    let own =
        fleet.and_then(Fleet::live_supervisor).filter(|supervisor| supervisor.pid == std::process::id());
    let roots = recorded.into_iter().map(|(_, identity)| identity).chain(strays).chain(own);
    let mut found = snapshot.with_descendants(roots);
    found.retain(|identity| identity.pid != std::process::id());
    Ok(found)
}

/// Ends all of it: agents and helpers first (nothing is started again), then instances, then coordinators.
///
/// # Errors
/// When something does not even end by SIGKILL; it is named.
pub(super) async fn sweep(layout: &Layout, fleet: Option<&Fleet>) -> anyhow::Result<()> {
    // Descendants are found through their parents, so look before anybody is signaled.
    let mut all = running(layout, fleet)?;
    let recorded = fleet.map(Fleet::daemons).unwrap_or_default();
    let coordinators: BTreeSet<Identity> = recorded
        .iter()
        .filter(|(slot, _)| matches!(slot, Slot::Coordinator(_)))
        .map(|(_, identity)| *identity)
        .collect();
    let daemons: BTreeSet<Identity> = recorded
        .iter()
        .filter(|(slot, _)| matches!(slot, Slot::Agent(_) | Slot::Helper(_)))
        .map(|(_, identity)| *identity)
        .collect();
    end(&daemons, DAEMON_GRACE).await;
    all.extend(running(layout, fleet)?);
    let rest: BTreeSet<Identity> = all.difference(&coordinators).copied().collect();
    end(&rest, INSTANCE_GRACE).await;
    end(&coordinators, DAEMON_GRACE).await;
    let deadline = Instant::now() + KILL_GRACE;
    loop {
        let left = running(layout, fleet)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let pids: Vec<String> = left.iter().map(|identity| identity.pid.to_string()).collect();
            bail!("still running after SIGKILL: {}", pids.join(", "));
        }
        end(&left, Duration::ZERO).await;
    }
}

/// SIGTERM, wait, SIGKILL to what is left, wait.
async fn end(processes: &BTreeSet<Identity>, grace: Duration) {
    for process in processes {
        process.signal(Signal::TERM);
    }
    if gone(processes, grace).await {
        return;
    }
    for process in processes {
        process.signal(Signal::KILL);
    }
    gone(processes, KILL_GRACE).await;
}

async fn gone(processes: &BTreeSet<Identity>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if !processes.iter().any(|process| process.alive()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `quorate dev stop`: asks the supervisor to end, then makes sure. Returns whether there was anything to stop.
///
/// # Errors
/// When something cannot be ended or DIR cannot be read.
pub(super) async fn stop(layout: &Layout) -> anyhow::Result<bool> {
    let fleet = Fleet::load(layout)?;
    let supervisor = fleet.as_ref().and_then(Fleet::live_supervisor);
    if let Some(supervisor) = supervisor {
        supervisor.signal(Signal::TERM);
        // It runs the same sweep, each of whose waits is bounded.
        let limit = DAEMON_GRACE * 2 + INSTANCE_GRACE + KILL_GRACE * 4;
        if !gone(&BTreeSet::from([supervisor]), limit).await {
            supervisor.signal(Signal::KILL);
            gone(&BTreeSet::from([supervisor]), KILL_GRACE).await;
        }
    }
    let fleet = Fleet::load(layout)?;
    let found = !running(layout, fleet.as_ref())?.is_empty();
    sweep(layout, fleet.as_ref()).await?;
    if let Some(mut fleet) = fleet {
        mark_stopped(&mut fleet);
        fleet.save(layout)?;
    }
    match std::fs::remove_dir_all(layout.short_dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("warning: cannot remove {}: {error}", layout.short_dir().display());
        }
        _ => {}
    }
    Ok(found || supervisor.is_some())
}

/// Nothing runs: no pids, but names, ports and places stay for the next start.
pub(super) fn mark_stopped(fleet: &mut Fleet) {
    for member in &mut fleet.coordinators {
        (member.pid, member.start) = (0, 0);
    }
    for agent in &mut fleet.agents {
        (agent.pid, agent.start, agent.helper_pid, agent.helper_start) = (0, 0, 0, 0);
    }
    if fleet.state != FleetState::Failed {
        fleet.state = FleetState::Stopped;
    }
    fleet.supervisor = Supervisor::default();
}
