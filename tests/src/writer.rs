//! A client that writes without a pause to whichever of a pair accepts, and what must hold of what it was told.
//!
//! Three promises, judged at the end, from outside: no instant in which two epochs accepted writes, epochs that only grow, and
//! every acknowledged write on the primary that is left. Times are microseconds of CLOCK_BOOTTIME, which every process of one
//! machine reads alike.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Instance;
use crate::wait::every;

/// Between two writes, so that the machine is left to those who answer.
const PERIOD: Duration = Duration::from_millis(10);
/// Longer than a primary waits for its standby.
const LIMIT: Duration = Duration::from_secs(4);

/// Microseconds since this machine started, those it slept in included.
#[must_use]
pub fn boot_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000 + nanos.unwrap_or(0) / 1_000
}

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// What was written, unique.
    pub value: String,
    /// Who acknowledged it.
    pub node: String,
    /// Under which epoch.
    pub epoch: u64,
    /// As which line.
    pub sequence: u64,
    /// When it was sent.
    pub began: u64,
    /// When its acknowledgment had been read.
    pub ended: u64,
}

/// A write as the process that accepted it tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Which process, by its file.
    pub by: String,
    /// Under which epoch.
    pub epoch: u64,
    /// When it was taken in hand.
    pub began: u64,
    /// When it was durable.
    pub ended: u64,
}

/// A client at work.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Acknowledged>>,
}

impl Writer {
    /// Begins to write, to each instance in turn until one accepts, and to that one as long as it does.
    #[must_use]
    pub fn begin(instances: Vec<Instance>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || write(&instances, &stopped));
        Self { stop, thread }
    }

    /// Ends it: everything that was acknowledged, in order.
    ///
    /// # Panics
    /// When its thread did.
    #[must_use]
    pub fn end(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer ends well")
    }
}

fn write(instances: &[Instance], stop: &AtomicBool) -> Vec<Acknowledged> {
    let (mut acknowledged, mut epoch, mut turn) = (Vec::<Acknowledged>::new(), None, 0);
    let mut number = 0_u64;
    every(PERIOD, || {
        let Some(instance) = instances.get(turn % instances.len().max(1)) else { return false };
        number += 1;
        // A value is tried once: what was refused or not answered may be there, and must not be, nor must it not.
        let value = format!("w{number}");
        let began = boot_us();
        match told(instance, epoch, &value) {
            Some((200, answer)) => {
                let (Some(of), Some(sequence)) = (answer["epoch"].as_u64(), answer["sequence"].as_u64())
                else {
                    panic!("no acknowledgment: {answer}");
                };
                epoch = Some(of);
                let (node, ended) = (instance.node.clone(), boot_us());
                acknowledged.push(Acknowledged { value, node, epoch: of, sequence, began, ended });
            }
            // Whoever knows a newer epoch is believed; an older one is left alone.
            Some((409, answer)) if answer["epoch"].as_u64() > epoch => epoch = answer["epoch"].as_u64(),
            Some(_) | None => turn += 1,
        }
        !stop.load(Ordering::SeqCst)
    });
    acknowledged
}

/// One write; `None` when nobody knows what became of it.
fn told(instance: &Instance, epoch: Option<u64>, value: &str) -> Option<(u16, Value)> {
    let body = format!("{{\"key\":\"k\",\"value\":\"{value}\"}}");
    let believed = epoch.map(|epoch| format!("X-Epoch: {epoch}\r\n")).unwrap_or_default();
    let length = body.len();
    let mut stream = TcpStream::connect_timeout(&instance.at, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream
        .write_all(
            format!(
                "POST /write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{believed}\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
        .ok()?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// What all processes of an instance accepted, as they wrote it down.
///
/// # Panics
/// When there is no such folder, or it holds something else under such a name.
#[must_use]
pub fn accepted(dir: &Path) -> Vec<Accepted> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(dir).expect("the data folder").flatten() {
        let by = file.path().display().to_string();
        if !file.file_name().to_string_lossy().starts_with("accepted-") {
            continue;
        }
        let text = std::fs::read_to_string(file.path()).expect("a text");
        // A process that was killed may have left half a line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let words: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
            let [epoch, _, began, ended] = words[..] else { panic!("{by}: {line:?}") };
            all.push(Accepted { by: by.clone(), epoch, began, ended });
        }
    }
    all
}

/// The lines of an instance's log: epoch, sequence and value.
///
/// # Panics
/// When there is none, or it is damaged.
#[must_use]
pub fn log(dir: &Path) -> BTreeSet<(u64, u64, String)> {
    let text = std::fs::read_to_string(dir.join("write.log")).expect("a log");
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [epoch, sequence, _, value, _] = words[..] else { panic!("{line:?} is no line") };
        (epoch.parse().expect("an epoch"), sequence.parse().expect("a number"), value.to_owned())
    };
    whole.lines().map(line).collect()
}

/// Why two epochs accepted at once, or an older one after a newer one; `None` when none did.
#[must_use]
pub fn overlap(accepted: &[Accepted]) -> Option<String> {
    // From its first write to its last one, an epoch has nobody beside it.
    let mut spans = BTreeMap::<u64, (u64, u64)>::new();
    for write in accepted {
        let span = spans.entry(write.epoch).or_insert((write.began, write.ended));
        *span = (span.0.min(write.began), span.1.max(write.ended));
    }
    let pairs = spans.iter().zip(spans.iter().skip(1));
    let wrong = pairs.into_iter().find(|((_, (_, ended)), (_, (began, _)))| ended >= began);
    let ((old, (_, ended)), (new, (began, _))) = wrong?;
    let by = |epoch| accepted.iter().find(|write| write.epoch == epoch).map_or("", |write| &write.by);
    Some(format!(
        "epoch {old} ({}) accepted until {ended}, epoch {new} ({}) from {began} on",
        by(*old),
        by(*new)
    ))
}

/// The first broken promise; `None` when all were kept. `left` is the log of the primary that is left.
#[must_use]
pub fn broken(
    acknowledged: &[Acknowledged],
    accepted: &[Accepted],
    left: &BTreeSet<(u64, u64, String)>,
) -> Option<String> {
    let older = acknowledged.iter().zip(acknowledged.iter().skip(1)).find(|(a, b)| b.epoch < a.epoch);
    if let Some((before, after)) = older {
        return Some(format!("an older epoch acknowledged after a newer one: {before:?}, {after:?}"));
    }
    let there = |ack: &&Acknowledged| !left.contains(&(ack.epoch, ack.sequence, ack.value.clone()));
    let lost = acknowledged.iter().find(there).map(|ack| format!("acknowledged and lost: {ack:?}"));
    lost.or_else(|| overlap(accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(epoch: u64, sequence: u64) -> Acknowledged {
        let (value, node) = (format!("w{sequence}"), "node1".to_owned());
        Acknowledged { value, node, epoch, sequence, began: 1, ended: 2 }
    }

    fn took(epoch: u64, began: u64, ended: u64) -> Accepted {
        Accepted { by: format!("process of {epoch}"), epoch, began, ended }
    }

    fn left(lines: &[(u64, u64)]) -> BTreeSet<(u64, u64, String)> {
        lines.iter().map(|(epoch, sequence)| (*epoch, *sequence, format!("w{sequence}"))).collect()
    }

    #[test]
    fn each_broken_promise_is_found() {
        let accepted = [took(1, 10, 20), took(1, 30, 40), took(4, 50, 60)];
        let log = left(&[(1, 1), (1, 2), (4, 3)]);
        let acks = [ack(1, 1), ack(1, 2), ack(4, 3)];
        assert_eq!(broken(&acks, &accepted, &log), None);
        assert!(broken(&[ack(4, 3), ack(1, 1)], &accepted, &log).is_some_and(|why| why.contains("older")));
        assert!(broken(&acks, &accepted, &left(&[(1, 1), (4, 3)])).is_some_and(|why| why.contains("lost")));
        assert!(broken(&acks, &accepted, &left(&[(1, 1), (2, 2), (4, 3)])).is_some(), "another's line");
    }

    #[test]
    fn two_epochs_at_once_are_found_whoever_was_first() {
        for late in [took(1, 55, 56), took(1, 45, 50), took(1, 70, 71)] {
            let accepted = [took(1, 10, 20), took(4, 50, 60), late];
            assert!(overlap(&accepted).is_some_and(|why| why.contains("process of 1")), "{accepted:?}");
        }
        assert_eq!(overlap(&[took(4, 50, 60), took(1, 10, 49)]), None);
    }
}
