//! The moments at which a schedule is due.
//!
//! By the same rules as the openings of windows: a local time that the zone leaves out means the first instant after the gap, so
//! several of them are one run; one that comes twice means the first of the two, so it is one run as well.

use quorate_model::{DurationMs, ScheduleSpec, Timestamp};

use super::{FIRST_WITHIN, Nonsense, local, resolve, rule, times, zone};

/// Runs that nobody was there for are counted up to this; more are as many.
const COUNTED_MAX: usize = 1_000;
/// How far back the newest of very many runs is looked for, the shortest way first: whoever was away for a year does not walk
/// through every minute of it.
const BACK: [DurationMs; 4] = [
    DurationMs::from_secs(3_600),
    DurationMs::from_secs(86_400),
    DurationMs::from_secs(32 * 86_400),
    DurationMs::from_secs(400 * 86_400),
];

/// The first runs after a moment, in order; fewer when there are no more.
///
/// # Errors
/// What of the declaration makes no sense.
pub(crate) fn next(spec: &ScheduleSpec, after: Timestamp, count: usize) -> Result<Vec<Timestamp>, Nonsense> {
    walk(spec, after, after.plus(FIRST_WITHIN), count)
}

/// The newest run that was due after a moment and is due by now, and how many there were before it.
///
/// # Errors
/// What of the declaration makes no sense.
pub(crate) fn latest(
    spec: &ScheduleSpec,
    after: Timestamp,
    now: Timestamp,
) -> Result<Option<(Timestamp, u32)>, Nonsense> {
    let counted = walk(spec, after, now, COUNTED_MAX.saturating_add(1))?;
    let Some(last) = counted.last().copied() else { return Ok(None) };
    let before = u32::try_from(counted.len().saturating_sub(1)).unwrap_or(u32::MAX);
    if counted.len() <= COUNTED_MAX {
        return Ok(Some((last, before)));
    }
    for back in BACK {
        if let Some(newest) = walk(spec, now.minus(back).max(last), now, usize::MAX)?.pop() {
            return Ok(Some((newest, before)));
        }
    }
    Ok(Some((last, before)))
}

/// Runs later than `after` and not later than `until`.
fn walk(
    spec: &ScheduleSpec,
    after: Timestamp,
    until: Timestamp,
    count: usize,
) -> Result<Vec<Timestamp>, Nonsense> {
    let (zone, rule) = (zone(&spec.zone)?, rule(&spec.when)?);
    let mut found: Vec<Timestamp> = Vec::new();
    // Whatever is earlier on the clock is not later in time: a local time means the first of its instants.
    let Some(from) = local(&zone, after) else { return Ok(found) };
    for at in times(&rule, from).filter_map(|time| resolve(&zone, time)) {
        if at > until || found.len() >= count {
            break;
        }
        if at > found.last().copied().unwrap_or(after) {
            found.push(at);
        }
    }
    Ok(found)
}

/// Whether the times of a declaration make sense: a zone that there is, a rule that can be read, and a run to come.
///
/// # Errors
/// What does not.
pub(crate) fn check(spec: &ScheduleSpec, now: Timestamp) -> Result<(), Nonsense> {
    if !next(spec, now, 1)?.is_empty() {
        return Ok(());
    }
    Err(match &spec.when {
        quorate_model::Recurrence::Once { .. } => {
            Nonsense::new("start", "it is over: nothing would ever run")
        }
        quorate_model::Recurrence::Cron { .. } => {
            Nonsense::new("cron", "there is no such day: nothing would ever run")
        }
    })
}

#[cfg(test)]
mod tests {
    use quorate_model::{LocalTime, MissedPolicy, Overlap, Recurrence, ScheduleName, ZoneName};

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn spec(zone: &str, when: &str) -> ScheduleSpec {
        let when = match LocalTime::new(when) {
            Ok(start) => Recurrence::Once { start },
            Err(_) => Recurrence::Cron { expr: when.into() },
        };
        ScheduleSpec {
            name: ScheduleName::new("s").unwrap(),
            zone: ZoneName::new(zone).unwrap(),
            when,
            overlap: Overlap::Skip,
            missed: MissedPolicy::Skip,
            paused: false,
            owner: String::new(),
            reason: "r".into(),
        }
    }

    fn told(spec: &ScheduleSpec, after: &str, count: usize) -> Vec<String> {
        next(spec, at(after), count).unwrap().into_iter().map(Timestamp::utc).collect()
    }

    #[test]
    fn a_run_is_due_after_the_moment_and_never_at_it() {
        let minutely = spec("UTC", "* * * * *");
        for after in ["2027-01-15T08:00:00Z", "2027-01-15T08:00:00.001Z", "2027-01-15T08:00:59.999Z"] {
            assert_eq!(
                told(&minutely, after, 2),
                ["2027-01-15T08:01:00Z", "2027-01-15T08:02:00Z"],
                "{after}"
            );
        }
        assert_eq!(told(&minutely, "2027-01-15T07:59:59.999Z", 1), ["2027-01-15T08:00:00Z"]);
        let once = spec("Europe/Berlin", "2027-01-15T09:00");
        assert_eq!(told(&once, "2027-01-15T07:59:59Z", 5), ["2027-01-15T08:00:00Z"]);
        assert!(told(&once, "2027-01-15T08:00:00Z", 5).is_empty());
    }

    #[test]
    fn a_change_of_clocks_neither_doubles_a_run_nor_loses_a_daily_one() {
        // No half past two on that day: at three. Both times of the gap are one run.
        let gap = spec("Europe/Berlin", "15,30 2 * * *");
        let found = told(&gap, "2027-03-27T12:00:00Z", 3);
        assert_eq!(found, ["2027-03-28T01:00:00Z", "2027-03-29T00:15:00Z", "2027-03-29T00:30:00Z"]);
        // From within the gap's own instant it is over.
        assert_eq!(told(&gap, "2027-03-28T01:00:00Z", 1), ["2027-03-29T00:15:00Z"]);
        // Half past two comes twice on that day: the first of the two, and asked between them there is no second.
        let fold = spec("Europe/Berlin", "30 2 * * *");
        assert_eq!(told(&fold, "2027-10-30T12:00:00Z", 1), ["2027-10-31T00:30:00Z"]);
        for after in ["2027-10-31T00:30:00Z", "2027-10-31T01:10:00Z", "2027-10-31T01:30:00Z"] {
            assert_eq!(told(&fold, after, 1), ["2027-11-01T01:30:00Z"], "{after}");
        }
    }

    /// However often somebody asks, and from wherever, the same runs are seen.
    #[test]
    fn step_by_step_gives_the_same_runs() {
        for (zone, when) in [("Europe/Berlin", "*/20 * * * *"), ("America/New_York", "7 */3 * * *")] {
            for start in ["2027-03-13T00:00:00Z", "2027-03-27T00:00:00Z", "2027-10-30T12:00:00Z"] {
                let spec = spec(zone, when);
                let all = next(&spec, at(start), 150).unwrap();
                let mut one = at(start);
                for wanted in &all {
                    one = next(&spec, one, 1).unwrap()[0];
                    assert_eq!(one, *wanted, "{zone} {when}");
                }
                let (newest, before) = latest(&spec, at(start), all[149]).unwrap().unwrap();
                assert_eq!((newest, before), (all[149], 149));
            }
        }
    }

    #[test]
    fn the_newest_of_very_many_is_found() {
        let minutely = spec("UTC", "* * * * *");
        let (long_ago, now) = (at("2025-01-01T00:00:00Z"), at("2027-01-15T08:00:30Z"));
        let found = latest(&minutely, long_ago, now).unwrap();
        assert_eq!(found, Some((at("2027-01-15T08:00:00Z"), 1_000)));
        let weekdays = spec("UTC", "* * * * 1-5");
        let found = latest(&weekdays, long_ago, at("2027-01-17T12:00:00Z")).unwrap();
        assert_eq!(found, Some((at("2027-01-15T23:59:00Z"), 1_000)));
        assert_eq!(latest(&minutely, now, now).unwrap(), None);
    }

    #[test]
    fn what_never_comes_is_refused() {
        let now = at("2027-01-15T08:00:00Z");
        for (zone, when, field) in [
            ("UTC", "0 0 30 2 *", Some("cron")),
            ("UTC", "0 25 * * *", Some("cron")),
            ("UTC", "2027-01-15T08:00", Some("start")),
            ("UTC", "2027-02-30T08:00", Some("start")),
            ("Mars/Olympus", "* * * * *", Some("zone")),
            ("UTC", "0 0 29 2 *", None),
            ("UTC", "2027-01-15T08:01", None),
        ] {
            let found = check(&spec(zone, when), now);
            assert_eq!(found.err().map(|nonsense| nonsense.field), field, "{when}");
        }
    }
}
