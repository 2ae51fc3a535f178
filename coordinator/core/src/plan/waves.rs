//! Cuts the ordered targets into waves: the canary, then the ramp, never wider than the quorum allows.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{Promotion, Share, WavePolicy};

/// One wave to be: what it is called, and how many of the targets it takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) label: &'static str,
    pub(super) size: usize,
}

/// How many instances at once a policy asks for when `max_unavailable` says nothing: its widest wave, but never all members.
pub(super) fn widest(policy: &WavePolicy, members: u32) -> u32 {
    let most = members.saturating_sub(1).max(1);
    let ramp = policy.ramp.iter().map(|share| share.of(members)).max();
    ramp.unwrap_or(1).max(policy.canary).min(most)
}

/// The sizes of the waves of targets in zones of so many, none wider than `width` and none across two zones. A canary that is
/// wider is made narrower, not cut in two: what is promoted is one wave.
pub(super) fn cut(policy: &WavePolicy, zones: &[usize], width: u32) -> Vec<Cut> {
    let count = zones.iter().fold(0_usize, |sum, zone| sum.saturating_add(*zone));
    let total = u32::try_from(count).unwrap_or(u32::MAX);
    let narrow = |wanted: u32| usize::try_from(wanted.min(width).max(1)).unwrap_or(1);
    let mut cuts = Vec::new();
    let mut ramp = policy.ramp.iter();
    let mut share: Option<&Share> = None;
    for zone in zones {
        let mut left = *zone;
        if policy.canary > 0 && left > 0 && cuts.is_empty() {
            let size = narrow(policy.canary).min(left);
            cuts.push(Cut { label: "canary", size });
            left = left.saturating_sub(size);
        }
        while left > 0 {
            share = ramp.next().or(share);
            let size = share.map_or_else(|| narrow(width), |share| narrow(share.of(total))).min(left);
            cuts.push(Cut { label: "", size });
            left = left.saturating_sub(size);
        }
    }
    cuts
}

/// Whether a wave must be promoted before the next one begins; the last one has none after it.
pub(super) fn promotes(policy: &WavePolicy, label: &str, last: bool) -> bool {
    match policy.promotion {
        Promotion::Automatic => false,
        Promotion::Canary => label == "canary" && !last,
        Promotion::Every => !last,
    }
}

/// What the waves of a policy are, for the notes of a plan: where the quorum made one narrower than was asked.
pub(super) fn narrowed(policy: &WavePolicy, members: u32, width: u32) -> Option<String> {
    let wanted = widest(policy, members);
    let asked = !policy.ramp.is_empty() || policy.canary > 0;
    (asked && wanted > width)
        .then(|| alloc::format!("waves of {wanted} were asked for; the quorum allows {width} at once"))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn sizes(policy: &WavePolicy, count: usize, width: u32) -> Vec<usize> {
        cut(policy, &[count], width).iter().map(|cut| cut.size).collect()
    }

    #[test]
    fn without_a_policy_waves_are_as_wide_as_allowed() {
        let plain = WavePolicy::default();
        assert_eq!(sizes(&plain, 5, 2), [2, 2, 1]);
        assert_eq!(sizes(&plain, 0, 2), [0_usize; 0]);
        assert_eq!(sizes(&plain, 3, 0), [1, 1, 1], "a wave of nobody would never end");
    }

    #[test]
    fn a_ramp_grows_and_its_last_share_goes_on() {
        let ramp = vec![Share::Count(1), Share::Count(5), Share::Percent(20)];
        let policy = WavePolicy { ramp, ..WavePolicy::default() };
        assert_eq!(sizes(&policy, 50, 50), [1, 5, 10, 10, 10, 10, 4]);
        assert_eq!(sizes(&policy, 10, 3), [1, 3, 2, 2, 2], "the quorum is the upper bound");
    }

    #[test]
    fn the_canary_comes_first_and_is_no_wider_than_asked_or_allowed() {
        let policy = WavePolicy { canary: 2, ..WavePolicy::default() };
        let labels: Vec<_> = cut(&policy, &[6], 3).iter().map(|cut| (cut.label, cut.size)).collect();
        assert_eq!(labels, [("canary", 2), ("", 3), ("", 1)]);
        assert_eq!(sizes(&policy, 6, 1), [1; 6]);
        assert_eq!(sizes(&policy, 1, 3), [1]);
    }

    #[test]
    fn every_target_is_in_one_wave_and_none_is_too_wide() {
        for count in 0..40_usize {
            for width in 1..6_u32 {
                for canary in 0..4_u32 {
                    let ramp = vec![Share::Percent(10), Share::Count(4), Share::Percent(50)];
                    let policy = WavePolicy { canary, ramp, ..WavePolicy::default() };
                    let cuts = sizes(&policy, count, width);
                    assert_eq!(cuts.iter().sum::<usize>(), count);
                    assert!(cuts.iter().all(|size| (1..=width as usize).contains(size)), "{cuts:?}");
                }
            }
        }
    }

    #[test]
    fn no_wave_goes_across_two_zones_and_the_ramp_goes_on() {
        let ramp = vec![Share::Count(2), Share::Count(3)];
        let policy = WavePolicy { canary: 1, ramp, ..WavePolicy::default() };
        let cuts: Vec<_> = cut(&policy, &[2, 4, 5], 9).iter().map(|cut| (cut.label, cut.size)).collect();
        assert_eq!(cuts, [("canary", 1), ("", 1), ("", 3), ("", 1), ("", 3), ("", 2)]);
    }

    #[test]
    fn the_last_wave_is_never_promoted() {
        let every = WavePolicy { promotion: Promotion::Every, ..WavePolicy::default() };
        assert!(promotes(&every, "", false) && !promotes(&every, "leader", true));
        let canary = WavePolicy { promotion: Promotion::Canary, canary: 1, ..WavePolicy::default() };
        assert!(promotes(&canary, "canary", false) && !promotes(&canary, "", false));
        assert!(!promotes(&canary, "canary", true));
    }

    #[test]
    fn a_ramp_widens_but_never_to_all() {
        let ramp = vec![Share::Count(1), Share::Percent(100)];
        assert_eq!(widest(&WavePolicy { ramp, ..WavePolicy::default() }, 5), 4);
        assert_eq!(widest(&WavePolicy::default(), 5), 1);
        assert_eq!(widest(&WavePolicy { canary: 3, ..WavePolicy::default() }, 1), 1);
    }
}
