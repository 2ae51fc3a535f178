//! Freezes, and where they stand.

use quorate_common::wire::calendar::{write_etag, write_freeze};
use quorate_common::wire::enums::write_freeze_state;
use quorate_common::wire::time::write_timestamp;
use quorate_core::state::Freeze;
use quorate_model::Timestamp;
use quorate_proto::v1;

/// A freeze as it stands now.
pub(crate) fn freeze(freeze: &Freeze, now: Timestamp) -> v1::Freeze {
    let Freeze { spec, applied_by, created_at, revision } = freeze;
    v1::Freeze {
        name: spec.name.as_str().to_owned(),
        state: write_freeze_state(spec.state(now)) as i32,
        spec: Some(write_freeze(spec)),
        applied_by: applied_by.to_string(),
        created: write_timestamp(*created_at),
        since: write_timestamp(freeze.since()),
        revision: revision.0,
        etag: write_etag(*revision),
    }
}
