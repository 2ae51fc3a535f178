//! Reads what the diagnosis rests on.

use std::path::Path;
use std::time::Duration;

use quorate_model::ActionOutcome;

use super::parse;
use super::plan::{self, Process, Ranked, Seen};
use crate::actions::job::{Task, on_thread};
use crate::actions::{ActionContext, ActionError};
use crate::host::{fs, proc};

/// Time between the two looks at the processes: long enough for some clock ticks, short enough to wait for.
const BETWEEN: Duration = Duration::from_millis(500);
/// Longest text of `/proc` read: 16,000 sockets and more.
const TEXT_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// `host.facts`.
pub(in crate::actions) async fn facts(context: &ActionContext) -> Result<ActionOutcome, ActionError> {
    let facts = context.facts.facts().await.map_err(|e| ActionError::port("collecting facts", e))?;
    let message = format!("{}: {}, kernel {}", facts.hostname, facts.os, facts.kernel);
    Ok(ActionOutcome { message, facts: Some(facts), ..ActionOutcome::default() })
}

/// `host.diagnose`.
pub(in crate::actions) async fn diagnose(context: &ActionContext) -> Result<ActionOutcome, ActionError> {
    let task = || Task::new("looking at the host");
    let begun = context.clock.monotonic();
    let before = on_thread(context, task(), |_| Ok(processes())).await?;
    let mut units = Vec::new();
    for service in context.services.all() {
        context.check("looking at the units")?;
        let status = service.driver.status().await.map_err(|e| e.to_string());
        units.push((service.spec.name, status));
    }
    let facts = context.facts.facts().await.map(|f| (f.cpus, f.disks)).map_err(|e| e.to_string());
    tokio::select! {
        () = context.cancel.cancelled() => return Err(ActionError::Canceled("looking at the host")),
        () = tokio::time::sleep(BETWEEN) => {}
    }
    let (after, texts) = on_thread(context, task(), |_| Ok((processes(), texts(Path::new("/"))))).await?;
    let between = context.clock.monotonic().minus(begun);
    let seen = Seen {
        units,
        facts,
        now: context.clock.wall(),
        busiest: plan::busiest(&before, &after, between),
        stuck: plan::stuck_twice(&before, &after),
        largest: plan::largest(&after).into_iter().filter_map(resident).collect(),
        ..texts
    };
    let findings = plan::judge(&seen);
    Ok(ActionOutcome { message: plan::summary(&findings), findings, ..ActionOutcome::default() })
}

/// A text, or nothing: the judgement says that it could not be read.
fn text(path: &Path) -> String {
    fs::read_limited(path, TEXT_MAX_BYTES)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The texts below `root`: `/`, or a made-up tree in tests.
fn texts(root: &Path) -> Seen {
    let of = |name: &str| text(&root.join("proc").join(name));
    Seen {
        meminfo: of("meminfo"),
        vmstat: of("vmstat"),
        loadavg: of("loadavg"),
        pressure: ["cpu", "memory", "io"].map(|what| (what, of(&format!("pressure/{what}")))).to_vec(),
        sockets: ["tcp", "tcp6"].map(|table| text(&proc::net_table(root, table))).to_vec(),
        ..Seen::default()
    }
}

/// Memory that new work can have, in bytes.
pub(in crate::actions) fn available_memory() -> Option<u64> {
    parse::meminfo(&text(Path::new("/proc/meminfo")), "MemAvailable")
}

/// Every process that is there; those that end meanwhile are left out.
fn processes() -> Vec<Process> {
    let pids = proc::pids().unwrap_or_default();
    let each = |pid| {
        let stat = proc::stat(pid).ok()??;
        Some(Process {
            pid: stat.pid,
            busy_ticks: stat.user_ticks.saturating_add(stat.system_ticks),
            name: stat.name,
            start_ticks: stat.start_ticks,
            resident_pages: stat.rss_pages,
            state: stat.state,
        })
    };
    pids.into_iter().filter_map(each).collect()
}

/// A process's memory in bytes rather than in pages, whose size differs between hosts.
fn resident(process: Ranked) -> Option<Ranked> {
    let amount = parse::meminfo(&text(Path::new(&format!("/proc/{}/status", process.pid))), "VmRSS")?;
    Some(Ranked { amount, ..process })
}

#[cfg(test)]
mod tests {
    use quorate_model::ActionSpec;

    use crate::actions::execute;
    use crate::actions::testing::bench;

    #[test]
    fn ports_are_those_of_the_host_and_not_of_the_helpers_own_empty_network() {
        let root = tempfile::tempdir().expect("temp dir");
        let head = "  sl  local_address rem_address   st\n";
        let tables = [
            ("1/net/tcp", format!("{head} 0: 0100007F:1D0B 00000000:0000 0A x\n")),
            ("net/tcp", head.to_owned()),
        ];
        for (table, text) in tables {
            let path = root.path().join("proc").join(table);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("a table");
        }
        let found = super::plan::judge(&super::texts(root.path()));
        let ports = found.iter().find(|f| f.subject == "ports").expect("judged");
        assert_eq!((ports.message.as_str(), ports.evidence.as_str()), ("1 TCP ports listening", "7435"));
    }

    #[tokio::test]
    async fn this_host_is_looked_at_and_nothing_is_started_or_stopped() {
        let b = bench(std::path::Path::new("/nonexistent"), true);
        let outcome = execute(&b.context, &ActionSpec::HostDiagnose).await.expect("looked at");
        for subject in ["unit ledger", "memory", "load", "clock", "ports", "processes by memory"] {
            let found = outcome.findings.iter().find(|f| f.subject == subject);
            let found = found.unwrap_or_else(|| panic!("no {subject} in {:?}", outcome.findings));
            assert!(!found.evidence.is_empty() || subject == "ports", "{found:?}");
        }
        assert!(crate::actions::testing::locked(&b.unit.calls).is_empty());
    }

    #[tokio::test]
    async fn facts_are_the_ports() {
        let b = bench(std::path::Path::new("/nonexistent"), true);
        let outcome = execute(&b.context, &ActionSpec::HostFacts).await.expect("collected");
        assert_eq!(outcome.facts.expect("facts").hostname, "fake");
    }
}
