//! Reading counts: strace's notes, a member's `/metrics`, the memory of a process.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use quorate_common::tls::{Address, ClientTls, HttpsLimits, https_request};
use tokio::runtime::Runtime;

/// Calls by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Barriers {
    /// `fsync`, `fdatasync`, `sync`, `syncfs`, `msync`.
    pub(crate) syncs: u64,
    /// `pwritev2` with `RWF_DSYNC` or `RWF_SYNC`: data and barrier in one call.
    pub(crate) dsync_writes: u64,
    /// sled's own call after each write of its log; starts the write-back, no barrier.
    pub(crate) sync_file_range: u64,
}

impl Barriers {
    pub(crate) fn in_trace(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("no trace {}", path.display()))?;
        let mut found = Self::default();
        for line in text.lines() {
            // `PID call(…`; the second half of an interrupted line says `<... call resumed>` and is not counted.
            let call =
                line.split_whitespace().nth(1).and_then(|rest| rest.split_once('(')).map(|(name, _)| name);
            match call {
                Some("fsync" | "fdatasync" | "sync" | "syncfs" | "msync") => found.syncs += 1,
                Some("pwritev2") if line.contains("RWF_DSYNC") || line.contains("RWF_SYNC") => {
                    found.dsync_writes += 1;
                }
                Some("sync_file_range") => found.sync_file_range += 1,
                _ => {}
            }
        }
        Ok(found)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            syncs: self.syncs - before.syncs,
            dsync_writes: self.dsync_writes - before.dsync_writes,
            sync_file_range: self.sync_file_range - before.sync_file_range,
        }
    }
}

/// Plain samples of a coordinator's `/metrics`, without the common prefix.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    pub(crate) fn ask(runtime: &Runtime, address: &Address, tls: &ClientTls) -> anyhow::Result<Self> {
        let limits = HttpsLimits::default();
        let answer = https_request(address, tls, http::Method::GET, "/metrics", Bytes::new(), &limits);
        let answer = runtime.block_on(answer)?;
        anyhow::ensure!(answer.status.is_success(), "{address}/metrics: {}", answer.status);
        let text = std::str::from_utf8(&answer.body)?;
        let sample = |line: &str| {
            let (name, value) = line.strip_prefix("quorate_coordinator_")?.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(Self(text.lines().filter_map(sample).collect()))
    }

    /// A sample that must be there; 0 would be a lie.
    ///
    /// # Panics
    /// When there is no such sample.
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no metric {name}"))
    }

    pub(crate) fn leads(&self) -> bool {
        self.0.get("raft_role{role=\"LEADER\"}") == Some(&1)
    }

    /// How much a counter grew.
    pub(crate) fn grew(&self, name: &str, before: &Self) -> u64 {
        self.get(name) - before.get(name)
    }
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
    /// Neither shared nor backed by a file: heap and stacks.
    pub(crate) anonymous: u64,
    pub(crate) threads: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
            line.split_whitespace().next().context("no value")?.parse::<u64>().context("no number")
        };
        let smaps = read("smaps_rollup")?;
        Ok(Self {
            rss: value(&smaps, "Rss:")?,
            pss: value(&smaps, "Pss:")?,
            anonymous: value(&smaps, "Anonymous:")?,
            threads: value(&read("status")?, "Threads:")?,
        })
    }
}

/// User and system time of a process so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
    let ticks = u32::try_from(stat.utime + stat.stime)?;
    Ok(f64::from(ticks) / f64::from(u32::try_from(procfs::ticks_per_second())?))
}
