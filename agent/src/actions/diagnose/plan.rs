//! What the things seen mean. Pure. The limits are those of the guides: S4 (disk below 10 % critical, memory above 85 %),
//! S1 (memory below 10 % available), S2 (storage kept below 80 %).

use quorate_model::action::Finding;
use quorate_model::node::Disk;
use quorate_model::service::UnitStatus;
use quorate_model::{DurationMs, ServiceName, Timestamp};

use super::parse;

/// Most findings; the worst come first, so that the bound cuts what is fine.
pub(super) const FINDINGS_MAX: usize = 64;
/// Longest message or evidence in bytes.
const TEXT_MAX_BYTES: usize = 400;
/// Processes told in each list.
pub(super) const TOP: usize = 10;
/// Times of processes are counted in 1/100 s on every architecture of Linux that user programs see.
const TICK_MS: u64 = 10;
/// A clock before this was never set: 2025-01-01T00:00:00Z.
const CLOCK_FLOOR: Timestamp = Timestamp(1_735_689_600_000);
/// A unit that was started by its supervisor this often looks like a crash loop.
const RESTARTS_MANY: u32 = 3;

/// One process at one moment. Its name is the short one of the kernel: a command line may hold secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) start_ticks: u64,
    pub(super) busy_ticks: u64,
    pub(super) resident_pages: u64,
    pub(super) state: char,
}

/// A process with a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranked {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) amount: u64,
}

/// Everything that was seen. A source that could not be read is empty text.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) units: Vec<(ServiceName, Result<UnitStatus, String>)>,
    pub(super) facts: Result<(u32, Vec<Disk>), String>,
    pub(super) meminfo: String,
    pub(super) vmstat: String,
    pub(super) loadavg: String,
    /// `cpu`, `memory`, `io`.
    pub(super) pressure: Vec<(&'static str, String)>,
    pub(super) sockets: Vec<String>,
    pub(super) now: Timestamp,
    /// Busiest processes, percent of one CPU.
    pub(super) busiest: Vec<Ranked>,
    /// Largest processes, bytes.
    pub(super) largest: Vec<Ranked>,
    /// Processes stuck in the kernel (state D), at most [`TOP`].
    pub(super) stuck: Vec<Ranked>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            units: Vec::new(),
            facts: Err("nobody asked".to_owned()),
            meminfo: String::new(),
            vmstat: String::new(),
            loadavg: String::new(),
            pressure: Vec::new(),
            sockets: Vec::new(),
            now: Timestamp::ZERO,
            busiest: Vec::new(),
            largest: Vec::new(),
            stuck: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Critical,
    Warning,
    Ok,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Ok => "ok",
        }
    }

    /// Smaller is worse.
    const fn below(value: u64, critical: u64, warning: u64) -> Self {
        if value < critical {
            Self::Critical
        } else if value < warning {
            Self::Warning
        } else {
            Self::Ok
        }
    }

    /// Greater is worse.
    const fn above(value: u64, warning: u64, critical: u64) -> Self {
        if value > critical {
            Self::Critical
        } else if value > warning {
            Self::Warning
        } else {
            Self::Ok
        }
    }
}

/// Cuts a text at a character's end and takes its control characters away, since names on a host are anybody's choice.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

type Found = (Level, Finding);

fn finding(
    level: Level,
    subject: impl AsRef<str>,
    message: impl AsRef<str>,
    evidence: impl AsRef<str>,
) -> Found {
    let finding = Finding {
        subject: bounded(subject.as_ref()),
        level: level.word().to_owned(),
        message: bounded(message.as_ref()),
        evidence: bounded(evidence.as_ref()),
    };
    (level, finding)
}

fn unreadable(subject: &str, why: &str) -> Found {
    finding(Level::Warning, subject, "it could not be read", why)
}

/// Judges everything; the worst first.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut all: Vec<Found> = seen.units.iter().map(|(name, unit)| judge_unit(name, unit)).collect();
    let cpus = match &seen.facts {
        Ok((cpus, disks)) => {
            all.extend(disks.iter().flat_map(judge_disk));
            *cpus
        }
        Err(why) => {
            all.push(unreadable("disk", why));
            0
        }
    };
    all.push(memory(&seen.meminfo));
    all.push(load(&seen.loadavg, cpus));
    all.extend(seen.pressure.iter().map(|(what, text)| pressure(what, text)));
    all.push(oom(&seen.vmstat));
    all.push(clock(seen.now));
    all.push(stuck(&seen.stuck));
    all.push(ports(&seen.sockets));
    all.push(finding(Level::Ok, "processes by cpu", "percent of one CPU", ranked(&seen.busiest, "%")));
    let largest: Vec<Ranked> =
        seen.largest.iter().map(|p| Ranked { amount: p.amount / (1024 * 1024), ..p.clone() }).collect();
    all.push(finding(Level::Ok, "processes by memory", "resident MiB", ranked(&largest, " MiB")));
    all.sort_by_key(|(level, _)| *level);
    all.truncate(FINDINGS_MAX);
    all.into_iter().map(|(_, finding)| finding).collect()
}

/// One sentence about all findings.
pub(super) fn summary(findings: &[Finding]) -> String {
    let count = |word: &str| findings.iter().filter(|f| f.level == word).count();
    format!("{} critical, {} warnings, {} ok", count("critical"), count("warning"), count("ok"))
}

fn judge_unit(name: &ServiceName, unit: &Result<UnitStatus, String>) -> Found {
    let subject = format!("unit {name}");
    let unit = match unit {
        Ok(unit) => unit,
        Err(why) => return unreadable(&subject, why),
    };
    let evidence = format!(
        "load={} active={} sub={} pid={} restarts={} result={} exit={} since={}",
        unit.load,
        unit.active,
        unit.sub,
        unit.main_pid,
        unit.restarts,
        unit.result,
        unit.exit_status,
        unit.since.0
    );
    let (level, message) = match (unit.load.as_str(), unit.active.as_str()) {
        ("not-found", _) => (Level::Critical, "there is no such unit"),
        ("masked", _) => (Level::Critical, "it is masked"),
        (_, "failed") => (Level::Critical, "it failed"),
        (_, "active") if unit.restarts >= RESTARTS_MANY => {
            (Level::Warning, "it runs, after several restarts")
        }
        (_, "active") => (Level::Ok, "it runs"),
        (_, "inactive") => (Level::Warning, "it is stopped"),
        _ => (Level::Warning, "it is between two states"),
    };
    finding(level, subject, message, evidence)
}

/// Part of a whole in percent; an unknown whole is all there.
fn percent(part: u64, whole: u64) -> u64 {
    u128::from(part)
        .checked_mul(100)
        .and_then(|n| n.checked_div(u128::from(whole)))
        .map_or(100, |p| u64::try_from(p).unwrap_or(100))
}

fn judge_disk(disk: &Disk) -> Vec<Found> {
    let free = percent(disk.available_bytes, disk.size_bytes);
    let evidence = format!(
        "{} of {} bytes available on {} ({})",
        disk.available_bytes, disk.size_bytes, disk.device, disk.filesystem
    );
    let space = Level::below(free, 10, 20);
    let mut all = vec![finding(space, format!("disk {}", disk.mount), format!("{free} % free"), evidence)];
    // Some file systems make inodes as they need them and tell none.
    if disk.inodes > 0 {
        let free = percent(disk.inodes_free, disk.inodes);
        let evidence = format!("{} of {} inodes free", disk.inodes_free, disk.inodes);
        let level = Level::below(free, 5, 10);
        all.push(finding(level, format!("inodes {}", disk.mount), format!("{free} % free"), evidence));
    }
    all
}

fn memory(text: &str) -> Found {
    let (Some(total), Some(available)) =
        (parse::meminfo(text, "MemTotal"), parse::meminfo(text, "MemAvailable"))
    else {
        return unreadable("memory", "/proc/meminfo");
    };
    let free = percent(available, total);
    let swap = parse::meminfo(text, "SwapTotal").unwrap_or(0);
    let swap_free = parse::meminfo(text, "SwapFree").unwrap_or(0);
    let evidence = format!("{available} of {total} bytes available, swap {swap_free} of {swap} free");
    finding(Level::below(free, 10, 15), "memory", format!("{free} % available"), evidence)
}

fn load(text: &str, cpus: u32) -> Found {
    let Some([one, five, fifteen]) = parse::loadavg(text) else { return unreadable("load", "/proc/loadavg") };
    let per_cpu = five / u64::from(cpus.max(1));
    let shown = |n: u64| format!("{}.{:02}", n / 100, n % 100);
    let evidence = format!("{} {} {} on {cpus} CPUs", shown(one), shown(five), shown(fifteen));
    finding(
        Level::above(per_cpu, 100, 400),
        "load",
        format!("{} per CPU over 5 minutes", shown(per_cpu)),
        evidence,
    )
}

fn pressure(what: &str, text: &str) -> Found {
    let subject = format!("pressure {what}");
    let Some(some) = parse::pressure(text, "some") else {
        return finding(Level::Ok, subject, "this kernel does not tell", "/proc/pressure");
    };
    let full = parse::pressure(text, "full").unwrap_or(0);
    let evidence =
        format!("avg60 some {}.{:02} %, full {}.{:02} %", some / 100, some % 100, full / 100, full % 100);
    let level = Level::above(some, 2_000, 6_000).min(Level::above(full, 1_000, 3_000));
    finding(level, subject, format!("work waits {} % of the time", some / 100), evidence)
}

fn oom(text: &str) -> Found {
    match parse::vmstat(text, "oom_kill") {
        None => unreadable("oom", "/proc/vmstat"),
        Some(0) => {
            finding(Level::Ok, "oom", "nothing was killed for want of memory", "oom_kill=0 since boot")
        }
        Some(n) => {
            let evidence = format!("oom_kill={n} since boot");
            finding(Level::Warning, "oom", "processes were killed for want of memory", evidence)
        }
    }
}

fn clock(now: Timestamp) -> Found {
    let evidence = format!("{} ms since 1970", now.0);
    if now < CLOCK_FLOOR {
        return finding(Level::Critical, "clock", "the clock was never set", evidence);
    }
    finding(Level::Ok, "clock", "plausible; the coordinator compares it with its own", evidence)
}

fn stuck(processes: &[Ranked]) -> Found {
    if processes.is_empty() {
        return finding(Level::Ok, "stuck processes", "none", "no process in state D twice in a row");
    }
    finding(
        Level::Warning,
        "stuck processes",
        "waiting in the kernel, often for a disk",
        ranked(processes, ""),
    )
}

fn ports(sockets: &[String]) -> Found {
    // Even a table without a socket has a head.
    if sockets.iter().all(String::is_empty) {
        return unreadable("ports", "/proc/net/tcp");
    }
    let mut ports: Vec<u16> = sockets.iter().flat_map(|text| parse::listening(text, 4_096)).collect();
    ports.sort_unstable();
    ports.dedup();
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    finding(Level::Ok, "ports", format!("{} TCP ports listening", ports.len()), list.join(" "))
}

fn ranked(processes: &[Ranked], unit: &str) -> String {
    let each = |p: &Ranked| match unit {
        "" => format!("{} {}", p.pid, p.name),
        _ => format!("{} {} {}{unit}", p.pid, p.name, p.amount),
    };
    processes.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// The busiest between two looks, in percent of one CPU.
pub(super) fn busiest(before: &[Process], after: &[Process], between: DurationMs) -> Vec<Ranked> {
    let busy = |p: &Process| {
        let old = before.iter().find(|o| o.pid == p.pid && o.start_ticks == p.start_ticks)?;
        let ms = p.busy_ticks.saturating_sub(old.busy_ticks).saturating_mul(TICK_MS);
        Some(Ranked {
            pid: p.pid,
            name: p.name.clone(),
            amount: ms.saturating_mul(100).checked_div(between.0)?,
        })
    };
    top(after.iter().filter_map(busy).collect())
}

/// The largest, in resident pages.
pub(super) fn largest(processes: &[Process]) -> Vec<Ranked> {
    let each = |p: &Process| Ranked { pid: p.pid, name: p.name.clone(), amount: p.resident_pages };
    top(processes.iter().map(each).collect())
}

/// Those in state D at both looks.
pub(super) fn stuck_twice(before: &[Process], after: &[Process]) -> Vec<Ranked> {
    let was = |p: &Process| {
        before.iter().any(|o| o.pid == p.pid && o.start_ticks == p.start_ticks && o.state == 'D')
    };
    let each = |p: &Process| Ranked { pid: p.pid, name: p.name.clone(), amount: 0 };
    after.iter().filter(|p| p.state == 'D' && was(p)).take(TOP).map(each).collect()
}

fn top(mut all: Vec<Ranked>) -> Vec<Ranked> {
    all.retain(|p| p.amount > 0);
    all.sort_by_key(|p| (std::cmp::Reverse(p.amount), p.pid));
    all.truncate(TOP);
    all
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
