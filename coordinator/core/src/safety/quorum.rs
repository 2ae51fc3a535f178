//! How many voters a policy requires. Integers only.

use quorate_model::{BftRounding, QuorumPolicy};

/// Voters that must be available, of `voters` declared ones. Never more than `voters` for the counted policies, so that a
/// group is never impossible to satisfy by arithmetic; `group apply` refuses counts that are larger.
#[must_use]
pub fn required(policy: &QuorumPolicy, voters: u32) -> u32 {
    // u64 so that twice the count cannot overflow.
    let wide = u64::from(voters);
    let needed = match policy {
        QuorumPolicy::Majority => wide.saturating_div(2).saturating_add(1),
        QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds } => wide.saturating_mul(2).div_ceil(3),
        QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne } => {
            wide.saturating_mul(2).saturating_div(3).saturating_add(1)
        }
        QuorumPolicy::MinAvailable { count } => u64::from(*count),
        QuorumPolicy::MinAvailablePercent { percent } => {
            wide.saturating_mul(u64::from(*percent)).div_ceil(100)
        }
        // The primary. Disturbing either of the pair is refused elsewhere.
        QuorumPolicy::PrimaryStandby => 1,
        QuorumPolicy::None => 0,
    };
    u32::try_from(needed).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_vocabulary_holds() {
        let ceil = QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds };
        let floor = QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne };
        for (policy, expected) in [
            (QuorumPolicy::Majority, [1, 2, 2, 3, 3, 4, 4, 5, 5]),
            (ceil, [1, 2, 2, 3, 4, 4, 5, 6, 6]),
            (floor, [1, 2, 3, 3, 4, 5, 5, 6, 7]),
            (QuorumPolicy::MinAvailable { count: 2 }, [2; 9]),
            (QuorumPolicy::MinAvailablePercent { percent: 51 }, [1, 2, 2, 3, 3, 4, 4, 5, 5]),
            (QuorumPolicy::None, [0; 9]),
            (QuorumPolicy::PrimaryStandby, [1; 9]),
        ] {
            for (voters, needed) in (1..=9).zip(expected) {
                assert_eq!(required(&policy, voters), needed, "{policy:?} of {voters}");
            }
        }
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let percent = QuorumPolicy::MinAvailablePercent { percent: u32::MAX };
        assert_eq!(required(&percent, u32::MAX), u32::MAX);
        assert_eq!(required(&QuorumPolicy::Majority, u32::MAX), 2_147_483_648);
    }
}
