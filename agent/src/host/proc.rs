//! The few lines of `/proc` that supervision needs, read with limits.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most processes looked at in one scan; above it the scan is an error, not a guess. Default `pid_max` is 4 Mi, hosts
/// with more than 100,000 live processes are in trouble of their own.
pub const PIDS_MAX: usize = 100_000;
/// Longest environment read. The kernel allows a quarter of the stack limit, usually 2 MiB.
const ENVIRON_MAX_BYTES: u64 = 2 * 1024 * 1024;
/// Longest `/proc/PID/stat`: 52 numbers and a 64-byte name.
const STAT_MAX_BYTES: u64 = 4096;
/// Largest table of connections: 100,000 of some 150 bytes each.
const TCP_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The fields of `/proc/PID/stat` in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Short name, at most 15 bytes, lossy UTF-8.
    pub name: String,
    /// State letter: `R`, `S`, `D`, `Z`, `T`, `X`, …
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// Process group.
    pub pgrp: u32,
    /// User time in clock ticks.
    pub user_ticks: u64,
    /// System time in clock ticks.
    pub system_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Start time in clock ticks since boot (field 22).
    pub start_ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
}

impl Stat {
    /// Whether it still executes; a zombie only waits to be reaped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Parses one line of `/proc/PID/stat`. The name stands in parentheses and may hold anything, so fields are counted
/// from the last one.
#[must_use]
pub fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let pid = std::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
    let name = String::from_utf8_lossy(line.get(open.checked_add(1)?..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close.checked_add(1)?..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `fields[0]` is field 3 of proc(5).
    let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        name,
        state: fields.first()?.chars().next()?,
        ppid: u32::try_from(number(4)?).ok()?,
        pgrp: u32::try_from(number(5)?).ok()?,
        user_ticks: number(14)?,
        system_ticks: number(15)?,
        threads: number(20)?,
        start_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

/// Whether a line is that of a process whose parent just took its end: the kernel then knows its name and its id still,
/// and -1 for the group it was in (`do_task_stat` without the signal handlers, which are let go of first).
fn is_reaped(line: &[u8]) -> bool {
    let fields = line.iter().rposition(|b| *b == b')').and_then(|at| line.get(at.checked_add(1)?..));
    fields.is_some_and(|f| f.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).nth(2) == Some(b"-1"))
}

/// Whether an error only says that the process is gone.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// One process, or `None` when there is none with this id.
///
/// # Errors
/// When `/proc` can not be read or holds something else than expected.
pub fn stat(pid: u32) -> io::Result<Option<Stat>> {
    let mut line = Vec::with_capacity(512);
    let read =
        File::open(format!("/proc/{pid}/stat")).and_then(|f| f.take(STAT_MAX_BYTES).read_to_end(&mut line));
    match read {
        Ok(_) if is_reaped(&line) => Ok(None),
        Ok(_) => parse_stat(&line).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed"))
        }),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All process ids.
///
/// # Errors
/// When `/proc` can not be listed, or holds more than [`PIDS_MAX`].
pub fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
        if pids.len() == PIDS_MAX {
            return Err(io::Error::other(format!("more than {PIDS_MAX} processes")));
        }
        pids.push(pid);
    }
    Ok(pids)
}

/// Where a table of the *host's* network lies, below `root` (`/` in production): that of PID 1. The helper runs in a network
/// namespace of its own, in which `/proc/net` is always empty. Our own table is second best, where PID 1 is hidden
/// (`hidepid`, `ProtectProc`): right for whoever shares the host's network.
#[must_use]
pub fn net_table(root: &Path, table: &str) -> PathBuf {
    let of_init = root.join("proc/1/net").join(table);
    // Opened rather than looked at: a hidden process's folder may be there and refuse everything in it.
    if File::open(&of_init).is_ok() { of_init } else { root.join("proc/net").join(table) }
}

/// The value of a variable in a process's environment as it was at its `exec`, when it starts with `prefix`
/// (`NAME=start of value`). `None` when it has none, is gone, or belongs to somebody whose memory we may not read.
#[must_use]
pub fn environ_entry(pid: u32, prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRON_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    bytes.split(|b| *b == 0).find(|entry| entry.starts_with(prefix)).map(<[u8]>::to_vec)
}

/// Whether a process has a handler of its own for a signal, or ignores it. `None` when it is gone.
///
/// # Errors
/// When `/proc` can not be read.
pub fn handles_signal(pid: u32, signal: i32) -> io::Result<Option<bool>> {
    let mut text = String::new();
    let read =
        File::open(format!("/proc/{pid}/status")).and_then(|f| f.take(64 * 1024).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(e) if is_gone(&e) => return Ok(None),
        Err(e) => return Err(e),
    }
    let mask = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let handled = mask("SigCgt:").unwrap_or(0) | mask("SigIgn:").unwrap_or(0);
    let bit = u32::try_from(signal.saturating_sub(1)).unwrap_or(0);
    Ok(Some(handled.checked_shr(bit).unwrap_or(0) & 1 == 1))
}

/// The host's tables of TCP connections, of both address families. The helper may have a network of its own with nothing in
/// it; the host's is that of its first process.
///
/// # Errors
/// As the system calls: what can not be read is not empty.
pub fn tcp_tables() -> io::Result<Vec<String>> {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
    let elsewhere = match (namespace("1"), namespace("self")) {
        (Ok(first), Ok(own)) => first != own,
        // Without the right to look, this is no helper that was put into a network of its own.
        (Err(_), _) | (_, Err(_)) => false,
    };
    let of = if elsewhere { "1" } else { "self" };
    let read = |name: &str| {
        let path = PathBuf::from(format!("/proc/{of}/net/{name}"));
        match super::fs::read_limited(&path, TCP_MAX_BYTES) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "tcp6" => Ok(String::new()),
            Err(error) => Err(error),
        }
    };
    Ok(vec![read("tcp")?, read("tcp6")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) R (b c) S 1 40 40 0 -1 4194560 1 2 3 4 11 12 0 0 20 0 7 0 99 1000 55 18446744073709551615";
        let s = parse_stat(line).expect("well-formed line");
        assert_eq!((s.pid, s.name.as_str(), s.state, s.ppid, s.pgrp), (42, "a) R (b c", 'S', 1, 40));
        assert_eq!(
            (s.user_ticks, s.system_ticks, s.threads, s.start_ticks, s.rss_pages),
            (11, 12, 7, 99, 55)
        );
    }

    #[test]
    fn garbage_is_no_stat() {
        for bad in [&b""[..], b"(", b")(", b"1 (a)", b"x (a) S 1", b"\xff\xfe", b"1 (a) S 1 2"] {
            assert!(parse_stat(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_that_was_just_reaped_is_gone() {
        let line =
            b"42 (a) 7 -1) X 0 -1 -1 0 -1 4194564 1 2 3 4 11 12 0 0 20 0 0 0 99 0 0 18446744073709551615";
        assert!(is_reaped(line) && parse_stat(line).is_none());
        for other in [&b""[..], b"42 (a) -1 -1 -1) S 1 40 40 0 -1", b"2 (kthreadd) S 0 0 0 0 -1"] {
            assert!(!is_reaped(other), "{other:?}");
        }
    }

    #[test]
    fn the_hosts_network_is_that_of_pid_1_and_else_our_own() {
        let root = tempfile::tempdir().expect("temp dir");
        let own = root.path().join("proc/net/tcp");
        assert_eq!(net_table(root.path(), "tcp"), own);
        let of_init = root.path().join("proc/1/net");
        std::fs::create_dir_all(&of_init).expect("folders");
        std::fs::write(of_init.join("tcp"), "").expect("a file");
        assert_eq!(net_table(root.path(), "tcp"), of_init.join("tcp"));
        assert_eq!(net_table(root.path(), "tcp6"), root.path().join("proc/net/tcp6"));
    }

    #[test]
    fn this_process_is_found_and_an_impossible_one_is_not() {
        let me = stat(std::process::id()).expect("/proc").expect("alive");
        assert!(me.is_alive() && me.start_ticks > 0);
        assert_eq!(stat(u32::MAX).expect("/proc"), None);
        assert!(pids().expect("/proc").contains(&std::process::id()));
    }
}
