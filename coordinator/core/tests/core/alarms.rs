//! The alarm against an independent, naive model: every policy, one to seven voters, any of them out for any cause.

use proptest::prelude::*;
use quorate_core::safety::{Evidence, alarm};
use quorate_model::{AlarmLevel, BftRounding, DurationMs, OutReason, QuorumPolicy};

use crate::budget::{Case, STANDS, Stand, case, naive_required};
use crate::world::{START, group};

fn policies() -> [QuorumPolicy; 7] {
    [
        QuorumPolicy::Majority,
        QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds },
        QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne },
        QuorumPolicy::MinAvailable { count: 2 },
        QuorumPolicy::MinAvailablePercent { percent: 51 },
        QuorumPolicy::PrimaryStandby,
        QuorumPolicy::None,
    ]
}

fn found(case: &Case) -> quorate_core::safety::QuorumAlarm {
    let evidence = Evidence::from_readings(&case.readings);
    alarm(&case.state, &case.state.groups[&group("ledger")], &evidence, case.now)
}

/// What is shown to be out: a fresh reading of a node that is heard says so, or the budget has paid for it.
fn is_shown(stand: Stand) -> bool {
    match stand {
        Stand::Stopped
        | Stand::Starting
        | Stand::Failing
        | Stand::Failed
        | Stand::Learning
        | Stand::Granted => true,
        Stand::Up
        | Stand::Unhealthy
        | Stand::Soaking
        | Stand::Lagging
        | Stand::SyncUnknown
        | Stand::NoReading
        | Stand::OldReading
        | Stand::ReadBeforeWork
        | Stand::Disconnected
        | Stand::Down
        | Stand::Removed
        | Stand::Draining
        | Stand::UnknownWork
        | Stand::RunningWork => false,
    }
}

fn naive(serving: usize, coming_back: usize, voters: usize, required: u32, spare: u32) -> AlarmLevel {
    let required = usize::try_from(required).unwrap();
    let spare = usize::try_from(spare).unwrap();
    if (voters > 0 && serving == 0) || serving < required {
        return AlarmLevel::Critical;
    }
    let left = serving + coming_back - required;
    if left == 0 || left < spare { AlarmLevel::Warning } else { AlarmLevel::None }
}

/// The literal table: what is raised with so many of the declared voters up.
#[test]
fn every_size_and_policy_from_all_up_to_nobody() {
    for policy in policies() {
        for voters in 1..=7_usize {
            let required = usize::try_from(naive_required(&policy, u32::try_from(voters).unwrap())).unwrap();
            for up in 0..=voters {
                for down in [Stand::Stopped, Stand::NoReading, Stand::Down] {
                    let stands: Vec<Stand> =
                        (0..voters).map(|n| if n < up { Stand::Up } else { down }).collect();
                    let alarm = found(&case(&stands, &policy, 0));
                    let expected = if up == 0 || up < required {
                        AlarmLevel::Critical
                    } else if up == required {
                        AlarmLevel::Warning
                    } else {
                        AlarmLevel::None
                    };
                    assert_eq!(alarm.level, expected, "{policy:?}: {up} of {voters} up, others {down:?}");
                    assert_eq!(alarm.missing.len(), voters - up);
                    let unknown = alarm.missing.iter().filter(|voter| voter.is_unknown()).count();
                    assert_eq!(unknown, if down == Stand::Stopped { 0 } else { voters - up });
                }
            }
        }
    }
}

#[test]
fn nothing_known_of_anybody_is_the_worst_and_not_silence() {
    let alarm = found(&case(&[Stand::NoReading; 3], &QuorumPolicy::Majority, 0));
    assert_eq!((alarm.level, alarm.available, alarm.margin), (AlarmLevel::Critical, 0, -2));
    assert!(alarm.missing.iter().all(|voter| voter.why == OutReason::Unknown && voter.since.is_none()));
}

#[test]
fn since_is_what_is_recorded() {
    let stands = [Stand::Up, Stand::Down, Stand::OldReading, Stand::Draining, Stand::Granted];
    let case = case(&stands, &QuorumPolicy::Majority, 0);
    let alarm = found(&case);
    let told: Vec<_> = alarm.missing.iter().map(|v| (v.why, v.since)).collect();
    let read = case.now.minus(DurationMs(6_001));
    assert_eq!(
        told,
        [
            (OutReason::Unreachable, Some(START)),
            (OutReason::Stale, Some(read)),
            (OutReason::Drained, Some(START)),
            (OutReason::Granted, Some(START)),
        ]
    );
}

/// A restart of ours takes the spare for a moment, by plan. One that does not come to its end has taken it.
#[test]
fn work_of_ours_warns_only_when_it_does_not_end() {
    let mut case = case(&[Stand::Up, Stand::Up, Stand::Granted], &QuorumPolicy::Majority, 0);
    assert_eq!(found(&case).level, AlarmLevel::None);
    assert_eq!(found(&case).due(AlarmLevel::None, true), AlarmLevel::None);
    // One that is raised already is not taken back because somebody works on it.
    assert_eq!(found(&case).due(AlarmLevel::Warning, true), AlarmLevel::Warning);
    assert_eq!(found(&case).due(AlarmLevel::Critical, true), AlarmLevel::Warning);
    let patience = case.state.settings.gate_deadline;
    case.now = START.plus(patience).plus(DurationMs(1));
    for reading in &mut case.readings {
        reading.at = case.now;
    }
    assert_eq!(found(&case).level, AlarmLevel::Warning);
}

#[test]
fn work_of_ours_never_hides_a_lost_quorum() {
    let alarm = found(&case(&[Stand::Up, Stand::Stopped, Stand::Granted], &QuorumPolicy::Majority, 0));
    assert_eq!(alarm.level, AlarmLevel::Critical);
}

/// What a leader that has just begun may raise, and what it may take back.
#[test]
fn what_is_not_seen_yet_raises_nothing() {
    use AlarmLevel::{Critical, None, Warning};
    let unseen = found(&case(&[Stand::NoReading; 3], &QuorumPolicy::Majority, 0));
    assert_eq!((unseen.due(None, false), unseen.due(None, true)), (None, Critical));
    assert_eq!(unseen.due(Warning, false), Warning, "what was held is held");
    assert_eq!(unseen.due(Critical, false), Critical);
    let shown = found(&case(&[Stand::NoReading, Stand::Stopped, Stand::Failed], &QuorumPolicy::Majority, 0));
    assert_eq!(shown.due(None, false), Critical, "two of three are shown to be out, whoever leads");
    let well = found(&case(&[Stand::Up; 3], &QuorumPolicy::Majority, 0));
    assert_eq!(well.due(Critical, false), None, "three that are seen to be up need no patience");
}

proptest! {
    #[test]
    fn the_alarm_is_as_the_naive_model_says(
        picks in prop::collection::vec(0..STANDS.len(), 1..=7),
        policy in prop::sample::select(policies().to_vec()),
        spare in 0..3_u32,
    ) {
        let stands: Vec<Stand> = picks.iter().map(|n| STANDS[*n]).collect();
        let alarm = found(&case(&stands, &policy, spare));
        let voters = stands.len();
        let required = naive_required(&policy, u32::try_from(voters).unwrap());
        let up = stands.iter().filter(|s| **s == Stand::Up).count();
        let ours =
            |s: &&Stand| matches!(s, Stand::Granted | Stand::UnknownWork | Stand::RunningWork | Stand::ReadBeforeWork);
        let level = naive(up, stands.iter().filter(ours).count(), voters, required, spare);
        prop_assert_eq!(alarm.level, level, "{:?} {:?}", policy, stands);
        let serving = stands.iter().filter(|s| !is_shown(**s)).count();
        let returning = stands.iter().filter(|s| **s == Stand::Granted).count();
        prop_assert_eq!(alarm.certain, naive(serving, returning, voters, required, spare));
        prop_assert_eq!(alarm.alone, naive(up, 0, voters, required, spare));
        prop_assert!(alarm.alone >= alarm.level, "work brings nobody back");
        prop_assert!(alarm.certain <= alarm.level, "what is certain is never worse than what is feared");
        let out: Vec<_> = alarm.missing.iter().map(|v| v.node.to_string()).collect();
        let expected: Vec<_> = (1..=voters)
            .filter(|n| stands[n - 1] != Stand::Up)
            .map(|n| format!("node{n}"))
            .collect();
        prop_assert_eq!(out, expected);
    }
}
