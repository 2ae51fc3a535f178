//! Slots that are counted in all and per key, given back when dropped. Refusing is immediate: nobody waits in line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_source: BTreeMap<IpAddr, usize>,
}

/// A limit in all, one per source address, and another one for loopback.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    counts: Arc<Mutex<Counts>>,
    max_total: usize,
    max_per_source: usize,
    max_per_loopback: usize,
}

/// One taken slot.
#[derive(Debug)]
pub(super) struct Slot {
    counts: Arc<Mutex<Counts>>,
    source: IpAddr,
}

impl Admission {
    pub(super) fn new(max_total: usize, max_per_source: usize, max_per_loopback: usize) -> Self {
        Self { counts: Arc::default(), max_total, max_per_source, max_per_loopback }
    }

    /// Takes a slot, or says which limit is reached.
    pub(super) fn enter(&self, remote: SocketAddr) -> Result<Slot, &'static str> {
        let source = source_of(remote);
        let limit = if source.is_loopback() { self.max_per_loopback } else { self.max_per_source };
        let mut counts = lock(&self.counts);
        if counts.total >= self.max_total {
            return Err("too_many");
        }
        let here = counts.by_source.entry(source).or_default();
        if *here >= limit {
            return Err("too_many_from_source");
        }
        *here += 1;
        counts.total += 1;
        drop(counts);
        Ok(Slot { counts: self.counts.clone(), source })
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        lock(&self.counts).total
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total = counts.total.saturating_sub(1);
        if let Some(here) = counts.by_source.get_mut(&self.source) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address that is counted: an IPv6 host owns at least a /64, so the lower half does not tell hosts apart.
fn source_of(remote: SocketAddr) -> IpAddr {
    match remote.ip().to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) if v6.is_loopback() => IpAddr::V6(v6),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_per_source_and_come_back() {
        let admission = Admission::new(4, 1, 2);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let one = admission.enter(at("10.0.0.1:1")).unwrap();
        assert_eq!(admission.enter(at("10.0.0.1:2")).unwrap_err(), "too_many_from_source");
        assert_eq!(admission.enter(at("[::ffff:10.0.0.1]:2")).unwrap_err(), "too_many_from_source");
        let v6 = admission.enter(at("[2001:db8::1]:1")).unwrap();
        assert_eq!(admission.enter(at("[2001:db8::2]:1")).unwrap_err(), "too_many_from_source");
        let here = [admission.enter(at("127.0.0.1:1")).unwrap(), admission.enter(at("127.0.0.1:2")).unwrap()];
        assert_eq!(admission.enter(at("10.0.0.2:1")).unwrap_err(), "too_many");
        drop((one, v6, here));
        assert_eq!(admission.taken(), 0);
        assert!(lock(&admission.counts).by_source.is_empty());
        assert!(admission.enter(at("10.0.0.1:1")).is_ok());
    }
}
