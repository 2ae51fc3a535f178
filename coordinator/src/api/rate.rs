//! At most so many failed enrolments per minute and address. Guessing a token's 256 bits is hopeless; this keeps the audit
//! and the CPU free of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use quorate_model::{DurationMs, Timestamp};

const WINDOW: DurationMs = DurationMs::from_secs(60);
/// Most addresses remembered; beyond it the oldest windows go. An IPv6 caller counts by its /64, which is what one host gets.
const ADDRESSES_MAX: usize = 10_000;

/// Failures by address.
#[derive(Debug)]
pub(crate) struct FailureLimit {
    per_minute: u32,
    limit_loopback: bool,
    seen: Mutex<BTreeMap<IpAddr, (Timestamp, u32)>>,
}

impl FailureLimit {
    pub(crate) fn new(per_minute: u32, limit_loopback: bool) -> Self {
        Self { per_minute, limit_loopback, seen: Mutex::default() }
    }

    /// Whether this address has used up its failures.
    pub(crate) fn is_over(&self, address: IpAddr, now: Timestamp) -> bool {
        if self.is_exempt(address) {
            return false;
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&network(address))
            .is_some_and(|(since, count)| now.since(*since) < WINDOW && *count >= self.per_minute)
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, address: IpAddr, now: Timestamp) {
        if self.is_exempt(address) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ADDRESSES_MAX {
            seen.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        if seen.len() >= ADDRESSES_MAX {
            let oldest = seen.iter().min_by_key(|(_, (since, _))| *since).map(|(address, _)| *address);
            if let Some(address) = oldest {
                seen.remove(&address);
            }
        }
        let entry = seen.entry(network(address)).or_insert((now, 0));
        if now.since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        !self.limit_loopback && address.is_loopback()
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_a_minute_and_no_more() {
        let limit = FailureLimit::new(5, true);
        let (address, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for n in 0..5 {
            assert!(!limit.is_over(address, Timestamp(n)));
            limit.failed(address, Timestamp(n));
        }
        assert!(limit.is_over(address, Timestamp(59_999)));
        assert!(!limit.is_over(other, Timestamp(59_999)));
        assert!(!limit.is_over(address, Timestamp(60_000)), "a new minute");
    }

    #[test]
    fn one_ipv6_host_is_one_address_and_memory_is_bounded() {
        let limit = FailureLimit::new(1, true);
        limit.failed("2001:db8::1".parse().unwrap(), Timestamp(0));
        assert!(limit.is_over("2001:db8::ffff".parse().unwrap(), Timestamp(1)));
        for n in 0..20_000_u32 {
            limit.failed(IpAddr::V4(n.into()), Timestamp(1));
        }
        assert!(limit.seen.lock().unwrap().len() <= ADDRESSES_MAX);
    }

    #[test]
    fn loopback_may_be_exempt() {
        let limit = FailureLimit::new(0, false);
        assert!(!limit.is_over("127.0.0.1".parse().unwrap(), Timestamp(0)));
    }
}
