//! One process held by pidfd and start time, and the search for all processes of a run.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::host::proc::{self, Stat};

/// A process that can not be mistaken for another one, even after its pid was given away again.
pub(in crate::host) struct Held {
    pub(in crate::host) pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl Held {
    /// Holds the process with this pid if it is alive and began at `start_ticks`.
    pub(in crate::host) fn hold(pid: u32, start_ticks: u64) -> io::Result<Option<Self>> {
        let Some(fd) = open_pidfd(pid)? else { return Ok(None) };
        // Checked after opening: from here on the descriptor means this process and no other.
        match proc::stat(pid)? {
            Some(stat) if stat.start_ticks == start_ticks && stat.is_alive() => {
                Ok(Some(Self { pid, fd: watched(fd)? }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Sends a signal; `false` when it has ended already.
    pub(in crate::host) fn signal(&self, signal: Signal) -> io::Result<bool> {
        send(self.fd.get_ref(), signal)
    }

    /// Waits for its end; `false` when it still runs at the deadline.
    pub(in crate::host) async fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        match tokio::time::timeout(limit, self.fd.readable()).await {
            Ok(ready) => ready.map(|_| true),
            Err(_) => Ok(false),
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is an unsafe fn, which this workspace forbids; the objection (a type whose descriptor \
              changes or closes while registered) can not occur with an OwnedFd that AsyncFd itself owns"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn open_pidfd(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn send(fd: &OwnedFd, signal: Signal) -> io::Result<bool> {
    match pidfd_send_signal(fd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// How processes of one run are recognised: by group, and by the mark in the environment (a daemon that left the group
/// still carries it).
#[derive(Clone, Debug)]
pub(in crate::host) struct Family {
    /// Process group, 0 for none known.
    pub(in crate::host) group: u32,
    /// Start time of the group's leader, 0 when not known. A leader with another one means that the number was given
    /// away: the kernel keeps it while any member lives, so then no member of ours is left in it.
    pub(in crate::host) leader_began: u64,
    /// Start of the environment entry: `QUORATE_INSTANCE=<scope>/<name>/`, with the token when it is known.
    pub(in crate::host) mark: Vec<u8>,
}

impl Family {
    fn owns(&self, stat: &Stat, group: u32) -> bool {
        let in_group = group != 0 && stat.pgrp == group && stat.start_ticks >= self.leader_began;
        in_group || proc::environ_entry(stat.pid, &self.mark).is_some()
    }

    /// All live members.
    pub(in crate::host) fn members(&self) -> io::Result<Vec<Stat>> {
        let me = std::process::id();
        let mut found = Vec::new();
        let group = match proc::stat(self.group)? {
            Some(leader) if self.leader_began != 0 && leader.start_ticks != self.leader_began => 0,
            Some(_) | None => self.group,
        };
        for pid in proc::pids()? {
            if pid == me {
                continue;
            }
            // A process that vanishes or becomes unreadable between listing and reading is not ours to count.
            let Ok(Some(stat)) = proc::stat(pid) else { continue };
            if stat.is_alive() && self.owns(&stat, group) {
                found.push(stat);
            }
        }
        found.sort_by_key(|s| (s.start_ticks, s.pid));
        Ok(found)
    }

    /// Kills every member until none is left. Returns who was killed, as `pid name`, and who would not die.
    pub(in crate::host) async fn kill(&self, limit: Duration) -> io::Result<(Vec<String>, Vec<String>)> {
        let end = Instant::now() + limit;
        let mut killed: Vec<String> = Vec::new();
        loop {
            let members = self.members()?;
            if members.is_empty() {
                return Ok((killed, Vec::new()));
            }
            let mut held = Vec::new();
            for stat in &members {
                if let Some(process) = Held::hold(stat.pid, stat.start_ticks)?
                    && process.signal(Signal::KILL)?
                {
                    note(&mut killed, stat);
                    held.push(process);
                }
            }
            for process in held {
                let left = end.saturating_duration_since(Instant::now());
                process.ended_within(left).await?;
            }
            tokio::task::yield_now().await;
            if Instant::now() >= end {
                let left = self.members()?.iter().map(label).collect();
                return Ok((killed, left));
            }
        }
    }
}

/// A process as people name it; control characters of a hostile name are replaced.
pub(in crate::host) fn label(stat: &Stat) -> String {
    let name: String = stat.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{} {name}", stat.pid)
}

/// Most names kept of what was killed; the number of kills itself is not limited.
const NAMES_MAX: usize = 64;

fn note(killed: &mut Vec<String>, stat: &Stat) {
    let text = label(stat);
    if killed.len() < NAMES_MAX && !killed.contains(&text) {
        killed.push(text);
    }
}
