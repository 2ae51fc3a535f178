//! When a member stays down: after its store ended it three times within ten minutes (R8).

use std::time::Duration;

use quorate_durable::failures;

use super::error::StoreRefused;
use super::identity::StoreDirs;

/// Failures within [`FAILED_WITHIN`] after which a member stays down (R8).
const FAILED_TOO_OFTEN: usize = 3;
/// The time that counts (R8).
const FAILED_WITHIN: Duration = Duration::from_mins(10);

/// Writes down that this member ends over its store.
pub fn record_failure(dirs: &StoreDirs, why: &str) {
    failures::record(&dirs.log(), why);
}

/// Refuses a member that ended over its store again and again: a supervisor would start it for ever, and nobody would look
/// at the disk.
///
/// # Errors
/// [`StoreRefused::StaysDown`].
pub fn check_failures(dirs: &StoreDirs) -> Result<(), StoreRefused> {
    let path = failures::path(&dirs.log());
    let recent = failures::recent(&dirs.log(), FAILED_WITHIN).map_err(StoreRefused::io("read", &path))?;
    match recent.last() {
        Some(last) if recent.len() >= FAILED_TOO_OFTEN => Err(StoreRefused::StaysDown {
            count: recent.len(),
            last: last.why.clone(),
            within: FAILED_WITHIN,
            path,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_within_ten_minutes_keep_a_member_down() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(dir.path());
        check_failures(&dirs).unwrap();
        record_failure(&dirs, "no space left on device");
        record_failure(&dirs, "no space left on device");
        check_failures(&dirs).unwrap();
        record_failure(&dirs, "input/output error");
        let refused = check_failures(&dirs).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("failed 3 times within 10 minutes, last: input/output error"), "{text}");
        assert_eq!((refused.exit_code(), refused.needs_rejoin()), (74, false));
        // The way out that the sentence names.
        std::fs::remove_file(failures::path(&dirs.log())).unwrap();
        check_failures(&dirs).unwrap();
    }
}
