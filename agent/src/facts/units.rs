//! Metrics of the services this agent watches, and of the agent itself.

use std::io;

use quorate_model::Timestamp;

use super::metrics as m;
use super::reader::{Reader, first_number};
use super::sample::{Sample, Value};
use super::system::tick_us;
use crate::host::proc::{Stat, parse_stat};

/// A service instance to report on, as its driver last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedUnit {
    /// The service's name.
    pub service: String,
    /// Main process, 0 for none.
    pub main_pid: u32,
    /// Restarts by its supervisor.
    pub restarts: u32,
    /// When its current run began; `None` when it does not run.
    pub since: Option<Timestamp>,
}

fn stat(r: &mut Reader, pid: &str) -> io::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(r.text(&path)?.as_bytes()).ok_or_else(|| super::reader::malformed(&path))
}

fn cpu_us(stat: &Stat) -> u64 {
    stat.user_ticks.saturating_add(stat.system_ticks).saturating_mul(tick_us())
}

fn files(r: &Reader, pid: &str) -> io::Result<u64> {
    let entries = std::fs::read_dir(r.root().join("proc").join(pid).join("fd"))?;
    Ok(entries.count() as u64)
}

pub(super) fn own(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let stat = stat(r, "self")?;
    out.push(Sample::plain(m::SELF_CPU_SECONDS, Value::micros(cpu_us(&stat))));
    out.push(Sample::plain(
        m::SELF_RESIDENT,
        Value::whole(stat.rss_pages.saturating_mul(procfs::page_size())),
    ));
    out.push(Sample::plain(m::SELF_THREADS, Value::whole(stat.threads)));
    out.push(Sample::plain(m::SELF_FILES, Value::whole(files(r, "self")?)));
    Ok(())
}

pub(super) fn watched(r: &mut Reader, units: &[WatchedUnit], out: &mut Vec<Sample>) {
    for unit in units {
        let put = |metric, value| Sample::one(metric, "service", unit.service.clone(), value);
        let pid = unit.main_pid.to_string();
        let stat = (unit.main_pid != 0).then(|| stat(r, &pid).ok().filter(Stat::is_alive)).flatten();
        out.push(put(m::UNIT_UP, Value::whole(u64::from(stat.is_some()))));
        out.push(put(m::UNIT_RESTARTS, Value::whole(u64::from(unit.restarts))));
        let Some(stat) = stat else { continue };
        let group = Group::of(r, &pid).unwrap_or_default();
        let resident = group.memory_bytes.unwrap_or(stat.rss_pages.saturating_mul(procfs::page_size()));
        out.push(put(m::UNIT_CPU_SECONDS, Value::micros(group.cpu_us.unwrap_or_else(|| cpu_us(&stat)))));
        out.push(put(m::UNIT_RESIDENT, Value::whole(resident)));
        out.push(put(m::UNIT_THREADS, Value::whole(group.threads.unwrap_or(stat.threads))));
        if let Ok(open) = files(r, &pid) {
            out.push(put(m::UNIT_FILES, Value::whole(open)));
        }
        if let Some(since) = unit.since {
            let units = u64::try_from(since.0).unwrap_or(0);
            out.push(put(m::UNIT_START_SECONDS, Value { units, decimals: 3 }));
        }
    }
}

/// What the control group of a unit says; only of version 2, and only where the group is the unit's own.
#[derive(Default)]
struct Group {
    cpu_us: Option<u64>,
    memory_bytes: Option<u64>,
    threads: Option<u64>,
}

impl Group {
    fn of(r: &mut Reader, pid: &str) -> Option<Self> {
        let text = r.text(&format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|l| l.strip_prefix("0::"))?.to_owned();
        if !path.ends_with(".service") || path.contains("..") {
            return None;
        }
        let base = format!("/sys/fs/cgroup{path}");
        let usage =
            |text: &str| text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.trim().parse().ok());
        Some(Self {
            cpu_us: r.text(&format!("{base}/cpu.stat")).ok().and_then(usage),
            memory_bytes: r.text(&format!("{base}/memory.current")).ok().and_then(first_number),
            threads: r.text(&format!("{base}/pids.current")).ok().and_then(first_number),
        })
    }
}
