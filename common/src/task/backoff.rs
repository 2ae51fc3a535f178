//! Exponential backoff with jitter, pure: the entropy is handed in, so a simulation replays bit for bit.

use std::time::Duration;

/// How waits grow. Every wait is between half of the current step and the whole of it ("equal jitter"): many clients
/// that lost the same server spread out, and none of them hammers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first step.
    pub initial: Duration,
    /// No step is longer.
    pub max: Duration,
    /// Each step is this many percent of the one before; below 100 counts as 100.
    pub growth_percent: u32,
}

impl Default for BackoffPolicy {
    /// 100 ms doubling to 10 s: the reconnect pace of agents and peers.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(10), growth_percent: 200 }
    }
}

/// The state of one retry loop.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    step: Duration,
    attempts: u32,
}

impl Backoff {
    /// Starts at the policy's first step.
    #[must_use]
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, step: policy.initial.min(policy.max), attempts: 0 }
    }

    /// The next wait, from 64 bits of entropy; then grows.
    pub fn next_delay(&mut self, entropy: u64) -> Duration {
        let whole = u64::try_from(self.step.as_micros()).unwrap_or(u64::MAX);
        let half = whole / 2;
        let spread = (whole - half).saturating_add(1);
        let delay = Duration::from_micros(half.saturating_add(entropy % spread));
        let grown = self.step.saturating_mul(self.policy.growth_percent.max(100)) / 100;
        self.step = grown.min(self.policy.max);
        self.attempts = self.attempts.saturating_add(1);
        delay
    }

    /// Back to the first step, after a success.
    pub fn reset(&mut self) {
        *self = Self::new(self.policy);
    }

    /// Waits handed out since the last reset.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// A small deterministic generator (SplitMix64) for jitter. Not for secrets.
#[derive(Clone, Debug)]
pub struct Entropy(u64);

impl Entropy {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by the operating system, for real processes.
    #[must_use]
    pub fn from_os() -> Self {
        Self(os_seed())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// 64 random bits that go back to the operating system: the keys of a hash map, which differ from call to call. Not for
/// secrets. (A simulator seeds what the operating system gives; a generator inside a library it could not.)
#[must_use]
pub fn os_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_limit_nor_shorter_than_half_a_step(
            initial_ms in 0_u64..10_000, max_ms in 0_u64..100_000, growth in 0_u32..1_000, draws in proptest::collection::vec(any::<u64>(), 1..40)
        ) {
            let policy = BackoffPolicy {
                initial: Duration::from_millis(initial_ms),
                max: Duration::from_millis(max_ms),
                growth_percent: growth,
            };
            let mut backoff = Backoff::new(policy);
            let floor = policy.initial.min(policy.max) / 2;
            for draw in draws {
                let delay = backoff.next_delay(draw);
                prop_assert!(delay <= policy.max && delay >= floor);
            }
        }
    }

    #[test]
    fn it_grows_to_the_limit_and_a_success_starts_over() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        let waits: Vec<u128> = (0..9).map(|_| backoff.next_delay(0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff.attempts(), 9);
        backoff.reset();
        assert_eq!(backoff.next_delay(0), Duration::from_millis(50));
    }

    #[test]
    fn the_same_seed_gives_the_same_jitter() {
        let (mut a, mut b) = (Entropy::seeded(7), Entropy::seeded(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Entropy::seeded(1).next_u64(), Entropy::seeded(2).next_u64());
    }
}
