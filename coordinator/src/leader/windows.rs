//! Works out the openings of windows, for which the core has no time zones, and proposes them well before they are needed.

use std::collections::BTreeMap;

use quorate_core::command::CalendarCommand;
use quorate_core::state::Window;
use quorate_core::state::calendar::OPENINGS_MAX;
use quorate_core::{Command, State};
use quorate_model::{DurationMs, Revision, Timestamp, WindowName, WindowSpec};

use crate::zones;

/// What is known reaches at least this far ahead: further than any announcement is made.
const AHEAD: DurationMs = DurationMs::from_secs(30 * 86_400);
/// Fewer openings to come than this are too few, however far they reach.
const FEW: usize = OPENINGS_MAX / 2;
/// Time until a declaration that could not be read is tried again: a zone that this host lacks is not looked for in each round.
const AGAIN: DurationMs = DurationMs::from_secs(60);

/// Windows whose openings are to be worked out, and the revision of their declaration.
pub(super) fn wanted(state: &State, now: Timestamp) -> Vec<(WindowSpec, Revision)> {
    let due = state.windows.values().filter(|window| is_due(window, now));
    due.map(|window| (window.spec.clone(), window.revision)).collect()
}

fn is_due(window: &Window, now: Timestamp) -> bool {
    match window.until {
        None => true,
        // The only one known is over, and the next may be a year away: it is told, too. Where there was none, there is none.
        Some(until) if until >= now.plus(AHEAD) => {
            !window.openings.is_empty() && window.known(now).next().is_none()
        }
        Some(_) => window.known(now).count() < FEW,
    }
}

/// What a leader remembers: declarations that it could not read, and when it tried.
#[derive(Default)]
pub(super) struct Openings {
    failed: BTreeMap<WindowName, (Revision, Timestamp)>,
}

impl Openings {
    /// The openings of these windows, to be proposed.
    pub(super) fn due(&mut self, wanted: Vec<(WindowSpec, Revision)>, now: Timestamp) -> Vec<Command> {
        self.failed.retain(|name, _| wanted.iter().any(|(spec, _)| spec.name == *name));
        wanted.into_iter().filter_map(|(spec, revision)| self.one(spec, revision, now)).collect()
    }

    fn one(&mut self, spec: WindowSpec, revision: Revision, now: Timestamp) -> Option<Command> {
        let tried = self.failed.get(&spec.name).filter(|(of, _)| *of == revision).map(|(_, at)| *at);
        if tried.is_some_and(|at| now.since(at) < AGAIN) {
            return None;
        }
        match zones::openings(&spec, now) {
            Ok(zones::Openings { list, until }) => {
                self.failed.remove(&spec.name);
                let name = spec.name;
                let command = CalendarCommand::SetOpenings { name, revision, until, openings: list };
                Some(Command::Calendar(Box::new(command)))
            }
            Err(zones::Nonsense { field, why }) => {
                if tried.is_none() {
                    tracing::error!(window = %spec.name, field, why, "a window stays closed: this host cannot tell when it opens");
                }
                self.failed.insert(spec.name, (revision, now));
                None
            }
        }
    }
}

/// The opening that a command announces.
pub(super) fn announced(command: &Command) -> Option<(WindowName, Timestamp)> {
    let Command::Calendar(calendar) = command else { return None };
    match calendar.as_ref() {
        CalendarCommand::Announce { window, start, before: _ } => Some((window.clone(), *start)),
        CalendarCommand::ApplyFreeze { .. }
        | CalendarCommand::DeleteFreeze { .. }
        | CalendarCommand::ApplyWindow { .. }
        | CalendarCommand::DeleteWindow { .. }
        | CalendarCommand::SetOpenings { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::{Principal, Recurrence, ZoneName};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const DAY: DurationMs = DurationMs::from_secs(86_400);

    fn window(zone: &str, expr: &str) -> Window {
        Window {
            spec: WindowSpec {
                name: WindowName::new("w").unwrap(),
                selector: None,
                services: vec![],
                zone: ZoneName::new(zone).unwrap(),
                when: Recurrence::Cron { expr: expr.into() },
                duration: DurationMs::from_secs(1_800),
                owner: String::new(),
                announce: vec![],
                reason: "r".into(),
            },
            applied_by: Principal::System,
            created_at: NOW,
            revision: Revision(7),
            until: None,
            openings: vec![],
            announced: BTreeMap::new(),
        }
    }

    /// What a leader proposes is stored; it is asked for again long before it runs out, and not in each round.
    #[test]
    fn openings_are_worked_out_well_ahead_and_not_all_the_time() {
        for expr in ["0 22 * * 6", "15 * * * *", "0 3 1 1 *"] {
            let mut window = window("Europe/Berlin", expr);
            let mut now = NOW;
            let mut proposed = 0;
            while now < NOW.plus(DurationMs(DAY.0 * 400)) {
                if is_due(&window, now) {
                    let found = zones::openings(&window.spec, now).unwrap();
                    (window.openings, window.until) = (found.list, Some(found.until));
                    proposed += 1;
                }
                assert!(!is_due(&window, now), "{expr}: it would be proposed in each round");
                let next = window.known(now).next().expect("an opening is known");
                assert!(next.end > now && window.until.unwrap() >= next.end, "{expr}");
                assert!(
                    window.upcoming(now).count() >= FEW || window.until.unwrap() >= now.plus(AHEAD),
                    "{expr}"
                );
                now = now.plus(DurationMs(DAY.0 / 4));
            }
            assert!(proposed > 1 && proposed < 100, "{expr}: {proposed}");
        }
    }

    #[test]
    fn a_zone_that_is_not_here_is_not_looked_for_in_each_round() {
        let broken = window("Mars/Olympus", "0 22 * * 6");
        let mut openings = Openings::default();
        let wanted = || vec![(broken.spec.clone(), broken.revision)];
        assert!(openings.due(wanted(), NOW).is_empty());
        assert_eq!(openings.failed.len(), 1);
        let at = |openings: &Openings| openings.failed.values().next().unwrap().1;
        let _ = openings.due(wanted(), NOW.plus(DurationMs(59_000)));
        assert_eq!(at(&openings), NOW);
        let _ = openings.due(wanted(), NOW.plus(DurationMs(60_000)));
        assert_eq!(at(&openings), NOW.plus(DurationMs(60_000)));
        // Declared anew it is tried at once; what is no longer wanted is forgotten.
        let spec = WindowSpec { zone: ZoneName::new("UTC").unwrap(), ..broken.spec.clone() };
        assert_eq!(openings.due(vec![(spec, Revision(8))], NOW.plus(DurationMs(60_001))).len(), 1);
        assert!(openings.failed.is_empty());
    }
}
