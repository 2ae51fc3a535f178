//! Traffic: how an instance is taken out of its load balancer and put back.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::BalancerName;
use crate::time::DurationMs;

/// Longest name of a pool or of a server in it, in bytes, before and after filling in.
pub const POOL_NAME_MAX_BYTES: usize = 128;

words! {
    /// What becomes of a drain whose connections do not end in time.
    pub enum OnTimeout {
        /// It is undone and the step fails.
        Fail = "FAIL",
        /// The work begins all the same; the connections that are left are told.
        Proceed = "PROCEED",
    }
}

/// How one instance is taken out of its load balancer and put back. Where the balancer is and how it is told is declared on
/// the host alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSpec {
    /// The `[balancer.NAME]` of the host's own `agent.toml`.
    pub adapter: BalancerName,
    /// The pool's name in the balancer.
    pub backend: String,
    /// The instance's name or address in the pool; `${…}` variables allowed.
    pub server: String,
    /// How long its connections may take to end.
    pub drain_timeout: DurationMs,
    /// What happens when they do not.
    pub on_timeout: OnTimeout,
    /// Servers that must serve in the pool while this one is out.
    pub min_up: u32,
}

/// Whether a text can be a pool's or a server's name once it is filled in: nothing that a balancer's command line, its
/// configuration or a terminal reads as more than a name.
#[must_use]
pub fn is_pool_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'[' | b']');
    (1..=POOL_NAME_MAX_BYTES).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(fits)
}

/// What was measured while an instance was taken out of its pool or put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReceipt {
    /// The pool.
    pub backend: String,
    /// The server in it.
    pub server: String,
    /// Balancers that were told; all of them.
    pub balancers: u32,
    /// Other servers that serve in the pool, where there are fewest.
    pub others_up: u32,
    /// Its connections at first; none when they cannot be counted.
    pub connections_before: Option<u64>,
    /// Its connections at the end; none when they cannot be counted.
    pub connections_after: Option<u64>,
    /// How long it was waited, for connections to end or for the balancer to say that it serves.
    pub waited: DurationMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_name_is_nothing_more() {
        for good in ["app", "front1", "10.0.0.1:8080", "[::1]:80", "a_b-c.d"] {
            assert!(is_pool_name(good), "{good}");
        }
        for bad in ["", "-x", "a b", "a/b", "a;show", "a\nb", "${node}", "a\u{e9}", &"x".repeat(129)] {
            assert!(!is_pool_name(bad), "{bad:?}");
        }
    }
}
