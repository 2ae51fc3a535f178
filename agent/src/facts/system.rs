//! CPU, memory, load, processes, network, file handles, pressure, uptime.

use std::io;

use super::metrics as m;
use super::reader::{Reader, first_number, hundredths, malformed};
use super::sample::{Sample, Value};

/// Most cores, interfaces and devices reported; beyond it a page of thousands of lines helps nobody.
pub(super) const ROWS_MAX: usize = 256;

const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Microseconds of one clock tick.
pub(super) fn tick_us() -> u64 {
    1_000_000_u64.checked_div(procfs::ticks_per_second()).unwrap_or(10_000)
}

pub(super) fn cpu(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let tick = tick_us();
    let text = r.text("/proc/stat")?;
    let mut cores = 0_usize;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(key) = words.next() else { continue };
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
        match key {
            "ctxt" => out.extend(number().map(|n| Sample::plain(m::CONTEXT_SWITCHES, Value::whole(n)))),
            "processes" => out.extend(number().map(|n| Sample::plain(m::FORKS, Value::whole(n)))),
            "procs_running" => {
                out.extend(number().map(|n| Sample::plain(m::PROCESSES_RUNNING, Value::whole(n))))
            }
            "procs_blocked" => {
                out.extend(number().map(|n| Sample::plain(m::PROCESSES_BLOCKED, Value::whole(n))))
            }
            _ => {
                let Some(core) = key.strip_prefix("cpu").filter(|c| !c.is_empty()) else { continue };
                cores += 1;
                if cores > ROWS_MAX {
                    continue;
                }
                for mode in CPU_MODES {
                    let Some(ticks) = number() else { break };
                    out.push(Sample {
                        metric: m::CPU_SECONDS,
                        labels: vec![("cpu", core.to_owned()), ("mode", mode.to_owned())],
                        value: Value::micros(ticks.saturating_mul(tick)),
                    });
                }
            }
        }
    }
    if cores == 0 { Err(malformed("/proc/stat")) } else { Ok(()) }
}

pub(super) fn memory(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let text = r.text("/proc/meminfo")?;
    let mut found = 0_u32;
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let metric = match key {
            "MemTotal" => m::MEMORY_TOTAL,
            "MemFree" => m::MEMORY_FREE,
            "MemAvailable" => m::MEMORY_AVAILABLE,
            "Buffers" => m::MEMORY_BUFFERS,
            "Cached" => m::MEMORY_CACHED,
            "Dirty" => m::MEMORY_DIRTY,
            "SwapTotal" => m::SWAP_TOTAL,
            "SwapFree" => m::SWAP_FREE,
            _ => continue,
        };
        let kib = first_number(rest).ok_or_else(|| malformed("/proc/meminfo"))?;
        out.push(Sample::plain(metric, Value::whole(kib.saturating_mul(1024))));
        found += 1;
    }
    if found == 0 { Err(malformed("/proc/meminfo")) } else { Ok(()) }
}

pub(super) fn load(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let text = r.text("/proc/loadavg")?;
    let bad = || malformed("/proc/loadavg");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    for (metric, word) in [m::LOAD1, m::LOAD5, m::LOAD15].into_iter().zip(&words) {
        let units = hundredths(word).ok_or_else(bad)?;
        out.push(Sample::plain(metric, Value { units, decimals: 2 }));
    }
    let threads = words.get(3).and_then(|w| w.split_once('/')).and_then(|(_, all)| all.parse().ok());
    out.push(Sample::plain(m::THREADS, Value::whole(threads.ok_or_else(bad)?)));
    Ok(())
}

pub(super) fn processes(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let mut count = 0_u64;
    for entry in std::fs::read_dir(r.root().join("proc"))? {
        let name = entry?.file_name();
        count += u64::from(name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    }
    out.push(Sample::plain(m::PROCESSES, Value::whole(count)));
    Ok(())
}

pub(super) fn network(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let text = r.text("/proc/net/dev")?;
    for line in text.lines().skip(2).take(ROWS_MAX) {
        let (name, rest) = line.rsplit_once(':').ok_or_else(|| malformed("/proc/net/dev"))?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|w| w.parse().ok()).collect();
        let columns = [
            (m::NETWORK_RECEIVED_BYTES, 0),
            (m::NETWORK_RECEIVED_PACKETS, 1),
            (m::NETWORK_RECEIVE_ERRORS, 2),
            (m::NETWORK_RECEIVE_DROPS, 3),
            (m::NETWORK_SENT_BYTES, 8),
            (m::NETWORK_SENT_PACKETS, 9),
            (m::NETWORK_SEND_ERRORS, 10),
            (m::NETWORK_SEND_DROPS, 11),
        ];
        for (metric, column) in columns {
            let n = numbers.get(column).ok_or_else(|| malformed("/proc/net/dev"))?;
            out.push(Sample::one(metric, "interface", name.trim(), Value::whole(*n)));
        }
    }
    Ok(())
}

pub(super) fn files(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let text = r.text("/proc/sys/fs/file-nr")?;
    let numbers: Vec<u64> = text.split_ascii_whitespace().map_while(|w| w.parse().ok()).collect();
    let [open, unused, max] = numbers[..] else { return Err(malformed("/proc/sys/fs/file-nr")) };
    out.push(Sample::plain(m::FILES_OPEN, Value::whole(open.saturating_sub(unused))));
    out.push(Sample::plain(m::FILES_MAX, Value::whole(max)));
    Ok(())
}

/// A kernel without PSI has no such files, which is no error.
pub(super) fn pressure(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    for resource in ["cpu", "io", "memory"] {
        let path = format!("/proc/pressure/{resource}");
        let text = match r.text(&path) {
            Ok(text) => text,
            // Compiled in and switched off: the files are there and reading them is refused.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => continue,
            Err(e) => return Err(e),
        };
        for line in text.lines() {
            let metric = if line.starts_with("some") { m::PRESSURE_SOME } else { m::PRESSURE_FULL };
            let total = line.rsplit_once("total=").and_then(|(_, n)| n.trim().parse().ok());
            let total = total.ok_or_else(|| malformed(&path))?;
            out.push(Sample::one(metric, "resource", resource, Value::micros(total)));
        }
    }
    Ok(())
}

pub(super) fn uptime(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    let text = r.text("/proc/uptime")?;
    let units = text.split_ascii_whitespace().next().and_then(hundredths);
    let units = units.ok_or_else(|| malformed("/proc/uptime"))?;
    out.push(Sample::plain(m::UPTIME_SECONDS, Value { units, decimals: 2 }));
    Ok(())
}
