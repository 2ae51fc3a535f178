//! Frames that make us work and carry nothing, counted as they arrive: PING, SETTINGS, RST_STREAM, PRIORITY, empty DATA,
//! unknown kinds. The HTTP/2 library answers them for ever; a connection that sends nothing else at full speed is closed
//! (B-13).
//!
//! Must never: change a byte, or look into a frame beyond its head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are still to come.
    skip: usize,
    per_second: u64,
    /// Control frames that may still come, in thousandths.
    credit: u64,
    since: Instant,
    flood: Arc<AtomicBool>,
}

impl Frames {
    /// Allows this many control frames a second, and twice as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self {
            head: [0; HEAD],
            have: 0,
            skip: 0,
            per_second,
            credit: per_second * 2_000,
            since: Instant::now(),
            flood: Arc::default(),
        }
    }

    /// Turns true when the connection was a flood.
    pub(super) fn flood(&self) -> Arc<AtomicBool> {
        self.flood.clone()
    }

    /// Takes the next bytes; false when there were too many control frames.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let part = self.skip.min(bytes.len());
                self.skip -= part;
                bytes = &bytes[part..];
                continue;
            }
            let part = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEAD {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                if is_control(kind, flags, length) && !self.spend() {
                    self.flood.store(true, Ordering::Relaxed);
                    return false;
                }
            }
        }
        true
    }

    fn spend(&mut self) -> bool {
        if self.credit < 1_000 {
            // Earned since the last look: one second earns one second's frames, in thousandths one per millisecond each.
            let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            if ms > 0 {
                let earned = ms.saturating_mul(self.per_second);
                self.credit = self.credit.saturating_add(earned).min(self.per_second * 2_000);
                self.since = Instant::now();
            }
        }
        match self.credit.checked_sub(1_000) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

/// Kinds by number: DATA 0, HEADERS 1, PRIORITY 2, RST_STREAM 3, SETTINGS 4, PUSH_PROMISE 5, PING 6, GOAWAY 7,
/// WINDOW_UPDATE 8, CONTINUATION 9 (which the library bounds with its header list).
const fn is_control(kind: u8, flags: u8, length: u32) -> bool {
    let first_flag = flags & 1 != 0;
    match kind {
        // Empty, and not the end of its stream.
        0 => length == 0 && !first_flag,
        // Not an acknowledgement.
        4 | 6 => !first_flag,
        1 | 7 | 8 | 9 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(vec![0; payload]);
        bytes
    }

    #[test]
    fn floods_of_every_kind_are_noticed_however_the_bytes_arrive() {
        for (kind, flags, payload) in [(6, 0, 8), (4, 0, 0), (3, 0, 4), (2, 0, 5), (0, 0, 0), (42, 9, 3)] {
            for piece in [1, 7, 9, 4_096] {
                let mut frames = Frames::new(100);
                let flood = frames.flood();
                let bytes = frame(kind, flags, payload).repeat(100_000 / (payload + 9));
                assert!(
                    !bytes.chunks(piece).all(|part| frames.take(part)),
                    "kind {kind} in pieces of {piece}"
                );
                assert!(flood.load(Ordering::Relaxed));
            }
        }
    }

    #[test]
    fn work_and_acknowledgements_are_not_counted() {
        let mut frames = Frames::new(1);
        for (kind, flags, payload) in [(1, 4, 30), (0, 0, 100), (0, 1, 0), (8, 0, 4), (4, 1, 0), (6, 1, 8)] {
            for _ in 0..1_000 {
                assert!(frames.take(&frame(kind, flags, payload)), "kind {kind}");
            }
        }
        assert!(frames.take(&frame(6, 0, 8)), "a ping now and then is none");
    }
}
