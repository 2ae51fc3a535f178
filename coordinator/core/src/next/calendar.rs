//! The calendar: announcements that are due.

use alloc::boxed::Box;
use alloc::vec::Vec;

use quorate_model::{DurationMs, Occurrence, Timestamp};

use crate::command::{CalendarCommand, Command};
use crate::state::{State, Window};

/// Most announcements of one round: whoever declares a window of every night is told of fourteen nights, and not at the cost of
/// what else is due.
const ANNOUNCED_AT_ONCE: usize = 16;

pub(super) fn next(state: &State, now: Timestamp, due: &mut Vec<Command>) {
    let openings = state.windows.values().flat_map(|window| {
        let told =
            move |opening: &Occurrence| Some((window, opening.start, announcement(window, opening, now)?));
        window.upcoming(now).filter_map(told)
    });
    for (window, start, before) in openings.take(ANNOUNCED_AT_ONCE) {
        let window = window.spec.name.clone();
        due.push(Command::Calendar(Box::new(CalendarCommand::Announce { window, start, before })));
    }
}

/// The announcement of an opening that is due and not made yet. When several were missed, because nobody led or the window is
/// new, only the last of them is made: what was to be said two weeks before is no news a day before.
fn announcement(window: &Window, opening: &Occurrence, now: Timestamp) -> Option<DurationMs> {
    let left = opening.start.since(now);
    let due = window.spec.announce.iter().copied().filter(|before| left <= *before).min()?;
    let is_made = window.announced.get(&opening.start).is_some_and(|last| *last <= due);
    (!is_made).then_some(due)
}
