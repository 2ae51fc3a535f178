//! This process's clock, and what it cannot honestly say.
//!
//! A host without a battery boots in 1970 until it has asked a time server. A CA made then has ended before the clock is
//! right, and a member that runs then is refused by everybody and refuses everybody: both wait for the clock instead.

use quorate_model::Timestamp;

/// 2026-01-01 00:00 UTC, before the first release: no honest clock shows less.
const RELEASED: Timestamp = Timestamp(1_767_225_600_000);

/// The host's clock says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clock of this host says {}, but {since} {}: set the clock, then try again", shown(*clock), shown(*begins))]
pub struct WrongClock {
    clock: Timestamp,
    since: &'static str,
    begins: Timestamp,
}

/// This process's clock.
pub(super) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Refuses a clock that shows less than this release's age.
///
/// # Errors
/// [`WrongClock`].
pub(super) fn check_released(clock: Timestamp) -> Result<(), WrongClock> {
    at_least(clock, "this program was made after", RELEASED)
}

/// Refuses a clock that shows less than when the member's own certificate begins.
///
/// # Errors
/// [`WrongClock`].
pub(super) fn check_born(clock: Timestamp, begins: Timestamp) -> Result<(), WrongClock> {
    at_least(clock, "this member's certificate begins at", begins)
}

fn at_least(clock: Timestamp, since: &'static str, begins: Timestamp) -> Result<(), WrongClock> {
    if clock < begins { Err(WrongClock { clock, since, begins }) } else { Ok(()) }
}

fn shown(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_beginning_is_named_with_both_times() {
        let error = check_released(Timestamp(86_400_000)).unwrap_err();
        let text = "the clock of this host says 1970-01-02T00:00:00Z, but this program was made after \
                    2026-01-01T00:00:00Z: set the clock, then try again";
        assert_eq!(error.to_string(), text);
        assert_eq!(check_released(RELEASED), Ok(()));
        assert!(check_born(RELEASED, Timestamp(RELEASED.0 + 1)).is_err());
        assert_eq!(check_born(RELEASED, RELEASED), Ok(()));
        assert!(shown(Timestamp(i64::MAX)).ends_with("ms"));
    }
}
