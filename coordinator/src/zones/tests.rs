//! Openings over changes of clocks, against fixed moments and against somebody who watches a clock on the wall.

use jiff::ToSpan;
use proptest::prelude::*;
use quorate_model::{LocalTime, WindowName};

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn spec(zone: &str, when: &str, hours: u64) -> WindowSpec {
    let when = match LocalTime::new(when) {
        Ok(start) => Recurrence::Once { start },
        Err(_) => Recurrence::Cron { expr: when.into() },
    };
    WindowSpec {
        name: WindowName::new("w").unwrap(),
        selector: None,
        services: vec![],
        zone: ZoneName::new(zone).unwrap(),
        when,
        duration: DurationMs::from_secs(hours * 3_600),
        owner: String::new(),
        announce: vec![],
        reason: "r".into(),
    }
}

fn first(zone: &str, when: &str, now: &str) -> (String, String) {
    let found = openings(&spec(zone, when, 4), at(now)).unwrap();
    let opening = found.list.first().unwrap();
    (opening.start.utc(), opening.end.utc())
}

/// Zone, when, looked at from, and the first opening's two ends.
const CLOCKS: [(&str, &str, &str, &str, &str); 11] = [
    // There is no half past two: it opens at three. The duration is elapsed time.
    ("Europe/Berlin", "30 2 * * 0", "2027-03-25T00:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T05:00:00Z"),
    // Half past two comes twice: the first of them.
    ("Europe/Berlin", "30 2 * * 0", "2027-10-28T00:00:00Z", "2027-10-31T00:30:00Z", "2027-10-31T04:30:00Z"),
    (
        "America/New_York",
        "30 2 14 3 *",
        "2027-03-10T00:00:00Z",
        "2027-03-14T07:00:00Z",
        "2027-03-14T11:00:00Z",
    ),
    (
        "America/New_York",
        "30 1 7 11 *",
        "2027-11-01T00:00:00Z",
        "2027-11-07T05:30:00Z",
        "2027-11-07T09:30:00Z",
    ),
    // Half an hour only.
    (
        "Australia/Lord_Howe",
        "15 2 * * 0",
        "2027-10-01T00:00:00Z",
        "2027-10-02T15:30:00Z",
        "2027-10-02T19:30:00Z",
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * 0",
        "2027-04-02T00:00:00Z",
        "2027-04-03T14:45:00Z",
        "2027-04-03T18:45:00Z",
    ),
    // No change of clocks, and half an hour off.
    ("Asia/Kolkata", "0 22 * * *", "2027-03-28T12:00:00Z", "2027-03-28T16:30:00Z", "2027-03-28T20:30:00Z"),
    // A whole day that never was.
    (
        "Pacific/Apia",
        "2011-12-30T22:00",
        "2011-12-01T00:00:00Z",
        "2011-12-30T10:00:00Z",
        "2011-12-30T14:00:00Z",
    ),
    ("Pacific/Apia", "0 22 30 12 *", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T14:00:00Z"),
    (
        "Europe/Berlin",
        "2027-03-28T02:30",
        "2027-03-01T00:00:00Z",
        "2027-03-28T01:00:00Z",
        "2027-03-28T05:00:00Z",
    ),
    ("UTC", "30 2 * * 0", "2027-03-25T00:00:00Z", "2027-03-28T02:30:00Z", "2027-03-28T06:30:00Z"),
];

#[test]
fn a_clock_that_is_put_forward_or_back_moves_no_more_than_it_must() {
    for (zone, when, now, start, end) in CLOCKS {
        assert_eq!(first(zone, when, now), (start.to_owned(), end.to_owned()), "{zone} {when}");
    }
}

#[test]
fn midnight_year_end_and_leap_days_are_days_like_others() {
    for (zone, when, now, start, end) in [
        (
            "Europe/Berlin",
            "30 23 31 12 *",
            "2027-12-01T00:00:00Z",
            "2027-12-31T22:30:00Z",
            "2028-01-01T02:30:00Z",
        ),
        (
            "Europe/Berlin",
            "30 0 1 1 *",
            "2027-12-01T00:00:00Z",
            "2027-12-31T23:30:00Z",
            "2028-01-01T03:30:00Z",
        ),
        // Further ahead than the horizon: the first one is known all the same.
        ("UTC", "0 3 29 2 *", "2027-06-01T00:00:00Z", "2028-02-29T03:00:00Z", "2028-02-29T07:00:00Z"),
        ("UTC", "0 3 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T03:00:00Z", "2104-02-29T07:00:00Z"),
        ("UTC", "0 3 L * *", "2028-02-02T00:00:00Z", "2028-02-29T03:00:00Z", "2028-02-29T07:00:00Z"),
        ("UTC", "0 2 * * 6#2", "2027-05-01T00:00:00Z", "2027-05-08T02:00:00Z", "2027-05-08T06:00:00Z"),
        ("UTC", "2028-02-29T23:00", "2027-06-01T00:00:00Z", "2028-02-29T23:00:00Z", "2028-03-01T03:00:00Z"),
        // Open already.
        ("UTC", "0 22 * * *", "2027-05-01T01:59:59Z", "2027-04-30T22:00:00Z", "2027-05-01T02:00:00Z"),
        ("UTC", "0 22 * * *", "2027-05-01T02:00:00Z", "2027-05-01T22:00:00Z", "2027-05-02T02:00:00Z"),
    ] {
        assert_eq!(first(zone, when, now), (start.to_owned(), end.to_owned()), "{zone} {when} at {now}");
    }
}

#[test]
fn openings_that_meet_are_one_and_too_many_are_cut() {
    let now = at("2027-05-01T00:10:00Z");
    let found = openings(&spec("UTC", "0 * * * *", 2), now).unwrap();
    assert_eq!(found.list.len(), 1);
    assert!(found.list[0].holds(now) && found.until == found.list[0].end && found.until >= now.plus(HORIZON));
    let half = WindowSpec { duration: DurationMs::from_secs(1_800), ..spec("UTC", "0 * * * *", 1) };
    let found = openings(&half, now).unwrap();
    assert_eq!(found.list.len(), OPENINGS_MAX);
    assert_eq!(found.until, at("2027-05-11T16:00:00Z"), "the next one is not known any more");
    // Two days of a week: all of sixty days, and known as far.
    let found = openings(&spec("Europe/Berlin", "0 22 * * 3,6", 4), now).unwrap();
    assert_eq!((found.list.len(), found.until), (17, now.plus(HORIZON)));
}

#[test]
fn what_never_opens_is_no_window() {
    let now = at("2027-05-01T00:00:00Z");
    for (field, zone, when) in [
        ("zone", "Mars/Olympus", "0 22 * * 6"),
        ("cron", "UTC", "0 25 * * 6"),
        ("cron", "UTC", "0 22 32 * 6"),
        ("cron", "UTC", "0 22 * 13 6"),
        ("cron", "UTC", "0 22 * * 9"),
        ("cron", "UTC", "0 22 * * XYZ"),
        ("cron", "UTC", "0 22 30 2 *"),
        ("cron", "UTC", "0 22 */0 * *"),
        ("start", "UTC", "2027-02-29T22:00"),
        ("start", "UTC", "2027-13-01T22:00"),
        ("start", "UTC", "2027-05-01T24:00"),
        ("start", "UTC", "2027-04-30T20:00"),
    ] {
        let found = check(&spec(zone, when, 4), now).unwrap_err();
        assert_eq!(found.field, field, "{when}: {found:?}");
    }
    let far = check(&spec("UTC", "2199-12-24T22:00", 4), now).unwrap_err();
    assert_eq!((far.field, far.why.as_str()), ("start", "it is more than nine years away"));
    assert_eq!(check(&spec("UTC", "2027-04-30T20:01", 4), now), Ok(()), "a minute is left");
}

#[test]
fn zones_are_found_in_any_case_and_moments_are_written_in_them() {
    let name = |text: &str| ZoneName::new(text).unwrap();
    assert_eq!(written(&name("europe/berlin")), Ok(name("Europe/Berlin")));
    assert_eq!(
        told(&name("Europe/Berlin"), at("2026-12-24T21:00:00Z")),
        "2026-12-24T22:00:00+01:00[Europe/Berlin]"
    );
    assert_eq!(told(&name("Mars/Olympus"), at("2026-12-24T21:00:00Z")), "");
}

/// A rule of which both the expression and the meaning are plain.
#[derive(Clone, Debug)]
struct Plain {
    minute: i8,
    hour: Option<i8>,
    weekday: Option<i8>,
    day: Option<i8>,
}

impl Plain {
    fn expression(&self) -> String {
        let field = |value: Option<i8>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
        format!("{} {} {} * {}", self.minute, field(self.hour), field(self.day), field(self.weekday))
    }

    fn is(&self, local: DateTime) -> bool {
        let is = |wanted: Option<i8>, found: i8| wanted.is_none_or(|wanted| wanted == found);
        let (on_day, on_weekday) =
            (is(self.day, local.day()), is(self.weekday, local.weekday().to_sunday_zero_offset()));
        // Where both kinds of day are given, either will do.
        let day = if self.day.is_some() && self.weekday.is_some() {
            on_day || on_weekday
        } else {
            on_day && on_weekday
        };
        day && local.minute() == self.minute && is(self.hour, local.hour())
    }
}

/// Watches a clock in the zone, minute by minute, as somebody would who has only the clock: the first time that it shows what is
/// wanted, or the moment it jumps over it.
fn watched(zone: &TimeZone, rule: &Plain, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    const MINUTE: i64 = 60_000;
    let show = |at: i64| local(zone, Timestamp(at)).unwrap();
    let begin = from.0 - from.0.rem_euclid(MINUTE);
    let mut furthest = show(begin - MINUTE);
    let mut found = Vec::new();
    for now in (begin..to.0).step_by(60_000) {
        let shown = show(now);
        let mut missed = furthest.checked_add(1.minute()).unwrap();
        let mut is_wanted = false;
        while missed <= shown {
            is_wanted |= rule.is(missed);
            missed = missed.checked_add(1.minute()).unwrap();
        }
        furthest = furthest.max(shown);
        if is_wanted {
            found.push(Timestamp(now));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn openings_are_those_that_a_clock_on_the_wall_shows(
        zone in prop::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "UTC",
            "America/St_Johns", "Africa/Casablanca", "Pacific/Chatham",
        ]),
        minute in 0_i8..60,
        hour in prop::option::weighted(0.8, 0_i8..5),
        weekday in prop::option::of(0_i8..7),
        day in prop::option::weighted(0.3, 1_i8..32),
        length in 60_u64..20_000,
        now in 1_200_000_000_u64..2_500_000_000,
    ) {
        let rule = Plain { minute, hour, weekday, day };
        let duration = DurationMs::from_secs(length);
        let spec = WindowSpec { duration, ..spec(zone, &rule.expression(), 1) };
        let now = Timestamp(i64::try_from(now).unwrap() * 1_000);
        let found = openings(&spec, now).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        // A day earlier, so that openings which meet are joined here as they are there.
        let from = now.minus(duration).minus(DurationMs::from_secs(86_400));
        let mut wanted: Vec<Occurrence> = Vec::new();
        for start in watched(&zone, &rule, from, found.until.min(now.plus(HORIZON))) {
            let opening = Occurrence { start, end: start.plus(duration) };
            match wanted.last_mut() {
                Some(last) if opening.start <= last.end => last.end = opening.end,
                Some(_) | None => wanted.push(opening),
            }
        }
        wanted.retain(|opening| opening.end > now);
        let told: Vec<Occurrence> =
            found.list.iter().copied().filter(|o| o.start < now.plus(HORIZON)).collect();
        // An opening that was never closed began before either of the two looked.
        let always = wanted.first().is_some_and(|first| first.length() > DurationMs::from_secs(86_400));
        if always {
            prop_assert_eq!(told.last().map(|o| o.end), wanted.last().map(|o| o.end));
        } else {
            prop_assert_eq!(told, wanted);
        }
        prop_assert!(found.list.last().is_none_or(|last| last.end <= found.until));
    }
}
