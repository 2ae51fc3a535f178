//! Windows, where they stand, and when they open next.

use quorate_common::wire::calendar::write_etag;
use quorate_common::wire::enums::write_window_state;
use quorate_common::wire::time::write_timestamp;
use quorate_common::wire::window::write_window;
use quorate_core::state::Window;
use quorate_model::{Occurrence, Timestamp, ZoneName};
use quorate_proto::v1;

use crate::zones;

/// Openings that are shown (proto).
const SHOWN: usize = 5;

/// A window as it stands now.
pub(crate) fn window(window: &Window, now: Timestamp) -> v1::Window {
    let Window { spec, applied_by, created_at, revision, until, openings: _, announced: _ } = window;
    v1::Window {
        name: spec.name.as_str().to_owned(),
        state: write_window_state(window.state(now)) as i32,
        spec: Some(write_window(spec)),
        applied_by: applied_by.to_string(),
        created: write_timestamp(*created_at),
        openings: window.known(now).take(SHOWN).map(|opening| told(opening, &spec.zone)).collect(),
        known_until: until.and_then(write_timestamp),
        revision: revision.0,
        etag: write_etag(*revision),
    }
}

fn told(opening: &Occurrence, zone: &ZoneName) -> v1::WindowOpening {
    let Occurrence { start, end } = *opening;
    v1::WindowOpening {
        start: write_timestamp(start),
        end: write_timestamp(end),
        local_start: zones::told(zone, start),
        local_end: zones::told(zone, end),
    }
}
