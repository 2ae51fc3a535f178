//! Time zones: when a window opens or a schedule is due, by the clocks of its zone.
//!
//! Job: work out the openings of a declaration, judge whether it has any, and write moments as its zone shows them. Must never:
//! decide whether something may start; the core does, from openings that the log holds, because two coordinators may have
//! different zone data.
//!
//! The cron expression runs on local time without a zone, then each local time is looked up in the zone. So there is one rule for
//! all: a local time that the zone leaves out means the first instant after the gap, one that comes twice means the first of the
//! two, and the duration is elapsed time.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use quorate_core::state::calendar::OPENINGS_MAX;
use quorate_model::{DurationMs, Occurrence, Recurrence, Timestamp, WindowSpec, ZoneName};

pub(crate) mod moments;
mod names;

#[cfg(test)]
mod tests;

/// Openings are worked out for this long.
pub(crate) const HORIZON: DurationMs = DurationMs::from_secs(60 * 86_400);
/// How far ahead the first opening of a window may be: every rule that ever holds comes true in that time, also one for the 29th
/// of February around a year like 2100.
const FIRST_WITHIN: DurationMs = DurationMs::from_secs(9 * 366 * 86_400);
/// Most local times looked at: hourly for the horizon and a week on each side, twice over.
const LOOKED_AT_MAX: usize = 4_096;

/// Why the times of a window make no sense: the field, and one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nonsense {
    /// Field of the specification.
    pub(crate) field: &'static str,
    /// What is wrong.
    pub(crate) why: String,
}

impl Nonsense {
    fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// Every opening up to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Openings {
    /// In order, apart from each other.
    pub(crate) list: Vec<Occurrence>,
    /// Until when none is missing.
    pub(crate) until: Timestamp,
}

/// When the local times of a declaration are.
enum Rule {
    Once(DateTime),
    Cron(Box<Cron>),
}

/// A zone by its name, in any case.
pub(crate) fn zone(name: &ZoneName) -> Result<TimeZone, Nonsense> {
    TimeZone::get(name.as_str()).map_err(|_| Nonsense::new("zone", names::unknown(name.as_str())))
}

/// The name of a zone as the zone data write it.
pub(crate) fn written(name: &ZoneName) -> Result<ZoneName, Nonsense> {
    let found = zone(name)?;
    let as_known = found.iana_name().and_then(|known| ZoneName::new(known).ok());
    Ok(as_known.unwrap_or_else(|| name.clone()))
}

fn rule(when: &Recurrence) -> Result<Rule, Nonsense> {
    match when {
        Recurrence::Once { start } => start
            .as_str()
            .parse()
            .map(Rule::Once)
            .map_err(|_| Nonsense::new("start", format!("there is no {start}"))),
        Recurrence::Cron { expr } => CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(expr)
            .map(|cron| Rule::Cron(Box::new(cron)))
            .map_err(|error| Nonsense::new("cron", error.to_string())),
    }
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

/// The instant that a local time means.
fn resolve(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let found = zone.to_ambiguous_timestamp(local);
    let at = match found.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
        AmbiguousOffset::Gap { after, .. } => {
            // By the clocks after the change it was before the change: what follows is the change itself.
            let earlier = after.to_timestamp(local).ok()?;
            zone.following(earlier).next()?.timestamp()
        }
    };
    Some(Timestamp(at.as_millisecond()))
}

/// What a clock in the zone shows.
fn local(zone: &TimeZone, at: Timestamp) -> Option<DateTime> {
    Some(zone.to_datetime(instant(at)?))
}

/// The local times of a rule from a local time on.
fn times(rule: &Rule, from: DateTime) -> impl Iterator<Item = DateTime> {
    let mut once = match rule {
        Rule::Once(start) => Some(*start).filter(|start| *start >= from),
        Rule::Cron(_) => None,
    };
    let mut cursor = (from, true);
    std::iter::from_fn(move || match rule {
        Rule::Once(_) => once.take(),
        Rule::Cron(cron) => {
            let found = cron.find_next_occurrence(&cursor.0, cursor.1).ok()?;
            cursor = (found, false);
            Some(found)
        }
    })
}

/// The openings of a declaration that are not over at `now`: those that begin within the horizon, or when there is none the
/// first one after it.
///
/// # Errors
/// What of it makes no sense.
pub(crate) fn openings(spec: &WindowSpec, now: Timestamp) -> Result<Openings, Nonsense> {
    let (zone, rule) = (zone(&spec.zone)?, rule(&spec.when)?);
    let horizon = now.plus(HORIZON);
    let latest = now.plus(FIRST_WITHIN);
    // A day earlier than the longest that could still be open: no clock is ever put forward or back by more.
    let from = local(&zone, now.minus(spec.duration).minus(DurationMs::from_secs(2 * 86_400)));
    let Some(from) = from else { return Ok(Openings { list: Vec::new(), until: now }) };
    let mut list: Vec<Occurrence> = Vec::new();
    let mut until = None;
    let mut looked_at = 0_usize;
    for start in times(&rule, from).filter_map(|time| resolve(&zone, time)) {
        let opening = Occurrence { start, end: start.plus(spec.duration) };
        looked_at = looked_at.saturating_add(1);
        if (start >= horizon && !list.is_empty()) || start >= latest {
            break;
        }
        if opening.end <= now {
            continue;
        }
        if let Some(last) = list.last_mut().filter(|last| opening.start <= last.end) {
            last.end = last.end.max(opening.end);
        } else if list.len() >= OPENINGS_MAX || looked_at > LOOKED_AT_MAX {
            // What comes later is worked out later.
            until = Some(start);
            break;
        } else {
            list.push(opening);
        }
    }
    let known = list.last().map_or(horizon, |last| last.end.max(horizon));
    Ok(Openings { list, until: until.unwrap_or(known) })
}

/// Whether the times of a declaration make sense: a zone that there is, a rule that can be read, and an opening to come.
///
/// # Errors
/// What does not.
pub(crate) fn check(spec: &WindowSpec, now: Timestamp) -> Result<(), Nonsense> {
    let found = openings(spec, now)?;
    if !found.list.is_empty() {
        return Ok(());
    }
    let far = match rule(&spec.when)? {
        Rule::Once(start) => {
            resolve(&zone(&spec.zone)?, start).is_some_and(|at| at >= now.plus(FIRST_WITHIN))
        }
        Rule::Cron(_) => false,
    };
    Err(match &spec.when {
        Recurrence::Once { .. } if far => Nonsense::new("start", "it is more than nine years away"),
        Recurrence::Once { .. } => Nonsense::new("start", "it is over: the window would never open"),
        Recurrence::Cron { .. } => Nonsense::new("cron", "there is no such day: the window would never open"),
    })
}

/// A moment as the zone writes it, `2026-12-24T22:00:00+01:00[Europe/Berlin]`; empty when there is no such zone here.
pub(crate) fn told(name: &ZoneName, at: Timestamp) -> String {
    let zoned = zone(name).ok().zip(instant(at)).map(|(zone, at)| at.to_zoned(zone));
    zoned.map(|zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%:z[%Q]").to_string()).unwrap_or_default()
}
