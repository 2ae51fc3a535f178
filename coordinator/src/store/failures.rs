//! When a member stays down: after its store ended it three times within ten minutes (R8), and after its state was found to
//! differ from that of the others (I-7).

use std::time::{Duration, SystemTime};

use quorate_durable::failures::{self, Failure};
use quorate_durable::files;

use super::error::StoreRefused;
use super::identity::StoreDirs;

/// Failures within [`FAILED_WITHIN`] after which a member stays down (R8).
const FAILED_TOO_OFTEN: usize = 3;
/// The time that counts (R8).
const FAILED_WITHIN: Duration = Duration::from_mins(10);

/// Bytes of the sentence about a divergence.
const SENTENCE: u64 = 4096;

/// Writes down that this member ends over its store.
pub fn record_failure(dirs: &StoreDirs, why: &str) {
    failures::record(&dirs.log(), why);
}

/// Writes down that this member's state is not that of the others. It stays in the directory, which `rejoin` sets aside.
///
/// # Errors
/// [`StoreRefused`] when the file system refuses.
pub fn record_divergence(dirs: &StoreDirs, why: &str) -> Result<(), StoreRefused> {
    let path = dirs.diverged();
    files::write_atomic(&path, why.as_bytes()).map_err(StoreRefused::io("write", &path))
}

/// Refuses a member that ended over its store again and again: a supervisor would start it for ever, and nobody would look
/// at the disk. And one whose state was found to differ: what it would start from is what it has.
///
/// # Errors
/// [`StoreRefused::StaysDown`], [`StoreRefused::Diverged`].
pub fn check_failures(dirs: &StoreDirs) -> Result<(), StoreRefused> {
    let path = dirs.diverged();
    if let Some(why) = files::read_limited(&path, SENTENCE).map_err(StoreRefused::io("read", &path))? {
        return Err(StoreRefused::Diverged { why: String::from_utf8_lossy(&why).into_owned() });
    }
    let path = failures::path(&dirs.log());
    let recent = failures::recent(&dirs.log(), FAILED_WITHIN * 2).map_err(StoreRefused::io("read", &path))?;
    match too_often(&recent, SystemTime::now()) {
        Some((count, last)) => {
            Err(StoreRefused::StaysDown { count, last: last.why.clone(), within: FAILED_WITHIN, path })
        }
        None => Ok(()),
    }
}

/// Whether the newest failure is one of three within ten minutes and not yet ten minutes old.
fn too_often(failures: &[Failure], now: SystemTime) -> Option<(usize, &Failure)> {
    // By a clock that was set back the difference is negative: that is near, too.
    let near =
        |from: SystemTime, to: SystemTime| to.duration_since(from).map_or(true, |ago| ago < FAILED_WITHIN);
    let last = failures.last().filter(|last| near(last.at, now))?;
    let count = failures.iter().filter(|failure| near(failure.at, last.at)).count();
    (count >= FAILED_TOO_OFTEN).then_some((count, last))
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
        let text = |minutes: u64| format!("{minutes} minutes ago");
        let ago = |minutes: u64| Failure {
            at: SystemTime::now() - Duration::from_mins(minutes),
            why: text(minutes),
        };
        let now = SystemTime::now();
        // Ten minutes from the last of them, not until the first of them is old.
        assert!(too_often(&[ago(16), ago(12), ago(8)], now).is_some());
        assert!(too_often(&[ago(19), ago(15), ago(11)], now).is_none());
        assert!(too_often(&[ago(19), ago(7), ago(1)], now).is_none());
        // The way out that the sentence names.
        std::fs::remove_file(failures::path(&dirs.log())).unwrap();
        check_failures(&dirs).unwrap();
    }

    #[test]
    fn a_member_that_diverged_must_rejoin() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(dir.path());
        record_divergence(&dirs, "the state differs").unwrap();
        let refused = check_failures(&dirs).unwrap_err();
        assert_eq!((refused.exit_code(), refused.needs_rejoin()), (74, true));
        assert!(refused.to_string().contains("the state differs"), "{refused}");
    }
}
