//! The time of the fleet, as this member tells it: never behind what stands in the log.
//!
//! Entries carry the wall clock of whoever leads, and the state keeps the newest of them. When that clock was ahead and is set
//! right, readings would be older than the steps that they are to prove, until the wall has caught up. So time goes on from where
//! it stood, a tenth slower than it passes, until the wall is there again: a tenth is the most that adjtimex(2) lets a clock be
//! slewed by, and what every span of a lease allows for.
//!
//! Must never: go back, stand still, or date a certificate: others read that by their own clocks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::State;
use quorate_model::Timestamp;
use tokio::time::Instant;

use super::ground::Clock;
use crate::raft::StateHandle;

/// Of ten parts of time that pass, so many are told while it is ahead.
const SLOW_TENTHS: i64 = 9;

/// The time of the fleet.
pub(super) struct FleetClock {
    wall: Arc<dyn Clock>,
    state: StateHandle<State>,
    /// From when on it is told by what passes, and what it was then.
    anchor: Mutex<(Instant, Timestamp)>,
}

impl FleetClock {
    pub(super) fn new(wall: Arc<dyn Clock>, state: StateHandle<State>) -> Self {
        Self { wall, state, anchor: Mutex::new((Instant::now(), Timestamp::ZERO)) }
    }
}

impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        let logged = self.state.try_read(|state| state.clock).unwrap_or(Timestamp::ZERO);
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, anchored) = tell(anchor.1, anchor.0.elapsed(), self.wall.now(), logged);
        if anchored {
            *anchor = (Instant::now(), now);
        }
        now
    }
}

/// The time now, and whether what passes is counted from it on.
fn tell(anchor: Timestamp, passed: Duration, wall: Timestamp, logged: Timestamp) -> (Timestamp, bool) {
    let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    let slow = Timestamp(anchor.0.saturating_add(passed.saturating_mul(SLOW_TENTHS) / 10));
    let ahead = slow.max(logged);
    if wall >= ahead { (wall, true) } else { (ahead, ahead > slow) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_stood_until_the_wall_is_there() {
        let hour = 3_600_000;
        let second = Duration::from_secs(1);
        // An honest wall is told as it is.
        assert_eq!(
            tell(Timestamp(5_000), second, Timestamp(6_000), Timestamp(5_500)),
            (Timestamp(6_000), true)
        );
        // Somebody was an hour ahead: from there on, slower.
        let (now, anchored) = tell(Timestamp(5_000), second, Timestamp(6_000), Timestamp(hour));
        assert_eq!((now, anchored), (Timestamp(hour), true));
        let (now, anchored) = tell(now, second * 100, Timestamp(106_000), Timestamp(hour));
        assert_eq!((now, anchored), (Timestamp(hour + 90_000), false));
        // What is said meanwhile stands in the log, and changes nothing.
        assert_eq!(tell(Timestamp(hour), second * 100, Timestamp(106_000), now), (now, false));
        // A wall that is set back is as one that was ahead.
        assert_eq!(
            tell(Timestamp(9_000), second, Timestamp(2_000), Timestamp(8_000)),
            (Timestamp(9_900), false)
        );
        // Ten hours later it has caught up.
        let later = Duration::from_secs(36_001);
        assert_eq!(
            tell(Timestamp(hour), later, Timestamp(36_001_000), Timestamp(hour)),
            (Timestamp(36_001_000), true)
        );
    }
}
