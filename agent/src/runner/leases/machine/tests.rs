use proptest::prelude::*;

use super::*;

const TTL: DurationMs = DurationMs(15_000);

fn machine() -> Machine {
    Machine::taken_up(Epoch(7), TTL)
}

fn at(ms: u64) -> DurationMs {
    DurationMs(ms)
}

fn live(sent: u64) -> Machine {
    Machine { phase: Phase::Live { sent: at(sent) }, ..machine() }
}

#[test]
fn it_lives_from_when_an_answered_renewal_was_sent_and_not_from_when_it_was_answered() {
    let mut lease = machine();
    assert_eq!((lease.left(at(0)), lease.next()), (DurationMs::ZERO, Do::Wait(None)));
    assert!(lease.extend(at(3_000), at(1_000)));
    assert_eq!(lease.left(at(3_000)), at(8_000), "ten seconds from 1,000 on");
    assert_eq!(lease.next(), Do::Wait(Some(at(11_000))));
    assert!(lease.extend(at(4_000), at(500)));
    assert_eq!(lease.left(at(4_000)), at(7_000), "an older answer shortens nothing");
    lease.tick(at(10_999));
    assert_eq!(lease.phase, Phase::Live { sent: at(1_000) });
    lease.tick(at(11_000));
    assert_eq!(lease.next(), Do::Stop(at(14_750)), "killed before its 15 seconds are over");
    assert!(!lease.extend(at(11_001), at(11_000)), "too late");
    lease.down();
    assert_eq!(lease.phase, Phase::Released { why: Why::Silent });
}

#[test]
fn an_answer_from_the_future_is_none_and_a_first_one_that_is_over_stops_what_leads() {
    let mut lease = machine();
    assert!(!lease.extend(at(10), at(11)));
    assert_eq!(lease.phase, Phase::TakenUp { void: false });
    assert!(lease.extend(at(20_000), at(10_000)));
    assert_eq!(lease.phase, Phase::Stopping { kill_at: at(23_750), why: Why::Silent });
    let mut void = Machine { phase: Phase::TakenUp { void: true }, ..machine() };
    assert!(!void.extend(at(20_000), at(10_000)));
    assert_eq!(void.next(), Do::Guard, "nothing runs, and the next answer may come in time");
}

#[test]
fn what_is_found_of_another_boot_is_void_unless_nobody_ever_answered() {
    assert_eq!(live(5).found(true), live(5));
    assert_eq!(live(5).found(false).phase, Phase::TakenUp { void: true });
    assert_eq!(machine().found(false), machine());
    let mut stopping = live(5);
    stopping.stop(at(6), Why::Recalled);
    let kill_at = DurationMs::ZERO;
    assert_eq!(stopping.found(false).phase, Phase::Stopping { kill_at, why: Why::Recalled });
    stopping.down();
    assert_eq!(stopping.found(false).phase, Phase::Released { why: Why::Recalled });
    let mut void = live(5).found(false);
    assert!(void.extend(at(100), at(90)));
    assert_eq!(void.left(at(100)), at(9_990), "an answer of this boot gives it back");
}

#[test]
fn a_newer_lease_waits_until_nothing_leads_under_the_older_one() {
    let mut lease = live(0);
    assert_eq!(lease.taking(Epoch(7)), Taking::Same);
    assert_eq!(lease.taking(Epoch(6)), Taking::Stale);
    assert_eq!(lease.taking(Epoch(8)), Taking::OlderFirst);
    lease.stop(at(1), Why::Lost);
    assert_eq!(lease.taking(Epoch(8)), Taking::OlderFirst);
    lease.down();
    assert_eq!((lease.taking(Epoch(8)), lease.taking(Epoch(7))), (Taking::New, Taking::Same));
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// Answered now, sent so long ago, or in the future when negative.
    Answer(i64),
    Recall,
    Lost,
    Down,
    /// The helper is started anew.
    Restart,
    Boot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..8_000_u64).prop_map(Step::Pass),
        5 => (-2_000..12_000_i64).prop_map(Step::Answer),
        1 => Just(Step::Recall),
        1 => Just(Step::Lost),
        1 => Just(Step::Down),
        1 => Just(Step::Restart),
        1 => Just(Step::Boot),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// What may lead is told from the answers alone, by a second hand that knows no phases: the newest renewal of this boot that was
    /// sent before now and answered before its own time to stop, unless anything ended the lease before.
    #[test]
    fn nothing_leads_at_or_after_its_time_or_once_it_was_given_up(steps in steps(), ticks in any::<bool>()) {
        let mut lease = machine();
        let mut now = at(1_000_000);
        let demote_after = LeaseTimes::of(TTL).demote_after;
        // The end of the last answered renewal, and whether the lease is on its way out.
        let (mut end, mut out) = (None::<DurationMs>, false);
        for step in steps {
            let before = lease.left(now);
            match step {
                Step::Pass(ms) => now = now.plus(at(ms)),
                Step::Answer(ago) => {
                    let sent = if ago < 0 { now.plus(at(ago.unsigned_abs())) } else { now.minus(at(ago.unsigned_abs())) };
                    out |= end.is_some_and(|end| end <= now);
                    let counted = lease.extend(now, sent);
                    prop_assert!(!(counted && (out || sent > now)));
                    if counted {
                        let new = sent.plus(demote_after);
                        end = Some(end.map_or(new, |end| end.max(new)));
                    }
                    prop_assert!(out || lease.left(now) >= before, "an answer never shortens");
                }
                Step::Recall => { lease.tick(now); lease.stop(now, Why::Recalled); out = true; }
                Step::Lost => { lease.stop(now, Why::Lost); out = true; }
                Step::Down => lease.down(),
                Step::Restart => lease = lease.found(true),
                Step::Boot => {
                    // One that was over then is void now, not over: what ran is gone with the boot.
                    lease = lease.found(false);
                    out = matches!(lease.phase, Phase::Stopping { .. } | Phase::Released { .. });
                    end = None;
                    now = at(5_000);
                }
            }
            if ticks {
                lease.tick(now);
            }
            out |= matches!(lease.phase, Phase::Stopping { .. } | Phase::Released { .. });
            let allowed = if out { DurationMs::ZERO } else { end.map_or(DurationMs::ZERO, |end| end.minus(now)) };
            prop_assert_eq!(lease.left(now), allowed);
            if let Phase::Stopping { kill_at, why: Why::Silent } = lease.phase && let Some(end) = end {
                prop_assert!(kill_at < end.minus(demote_after).plus(TTL));
            }
        }
    }

    /// Whatever is said afterwards, one that was given up stays so.
    #[test]
    fn released_is_for_ever(steps in steps()) {
        let mut lease = live(1_000);
        lease.stop(at(1_001), Why::Recalled);
        lease.down();
        let mut now = at(2_000);
        for step in steps {
            match step {
                Step::Pass(ms) => now = now.plus(at(ms)),
                Step::Answer(ago) => assert!(!lease.extend(now, now.minus(at(ago.unsigned_abs())))),
                Step::Recall | Step::Lost => lease.stop(now, Why::Lost),
                Step::Down => lease.down(),
                Step::Restart => lease = lease.found(true),
                Step::Boot => lease = lease.found(false),
            }
            lease.tick(now);
            prop_assert_eq!(lease.phase, Phase::Released { why: Why::Recalled });
        }
    }
}
