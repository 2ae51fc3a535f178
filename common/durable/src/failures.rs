//! What went wrong with a store lately: one line each in a file beside it, so that the next start knows. A daemon that comes
//! back to a failing disk again and again harms it and hides it (reliability.md R8).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::files;

/// Lines kept.
const KEPT: usize = 16;
/// Characters of one line's sentence.
const SENTENCE: usize = 250;
/// Bytes of the file that are read: [`KEPT`] sentences of four bytes a character, and their times.
const FILE: u64 = 32 << 10;

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, by the clock of the machine.
    pub at: SystemTime,
    /// One sentence.
    pub why: String,
}

/// The file of the store in `dir`.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    files::beside(dir, ".failures")
}

/// Writes a failure down, durably. The process is about to end: what cannot be written is only logged.
pub fn record(dir: &Path, why: &str) {
    let path = path(dir);
    if let Err(error) = try_record(&path, SystemTime::now(), why) {
        tracing::warn!(%error, path = %path.display(), "cannot write down why the store failed");
    }
}

fn try_record(path: &Path, at: SystemTime, why: &str) -> io::Result<()> {
    let mut all = read(path).unwrap_or_default();
    all.push(Failure { at, why: why.to_owned() });
    let first = all.len().saturating_sub(KEPT);
    let mut text = String::new();
    for failure in all.iter().skip(first) {
        let ms = failure.at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let one_line: String =
            failure.why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SENTENCE).collect();
        text.push_str(&format!("{ms} {one_line}\n"));
    }
    files::write_atomic(path, text.as_bytes())
}

/// The failures of the last `within`, oldest first. By a clock that was set back meanwhile, later ones count, too: those of
/// up to `within` ahead.
///
/// # Errors
/// What the kernel says. A line that does not parse is none.
pub fn recent(dir: &Path, within: Duration) -> io::Result<Vec<Failure>> {
    let now = SystemTime::now();
    let near = |at: SystemTime| match now.duration_since(at) {
        Ok(ago) => ago < within,
        Err(ahead) => ahead.duration() < within,
    };
    Ok(read(&path(dir))?.into_iter().filter(|failure| near(failure.at)).collect())
}

fn read(path: &Path) -> io::Result<Vec<Failure>> {
    let bytes = files::read_limited(path, FILE)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let parse = |line: &str| {
        let (ms, why) = line.split_once(' ')?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms.parse().ok()?))?;
        Some(Failure { at, why: why.to_owned() })
    };
    Ok(text.lines().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_failures_are_found_again_and_old_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("log");
        assert_eq!(recent(&store, Duration::from_secs(600)).unwrap(), []);
        let old = SystemTime::now() - Duration::from_secs(601);
        try_record(&path(&store), old, "long ago").unwrap();
        record(&store, "no space\nleft");
        let ahead = SystemTime::now() + Duration::from_secs(60);
        try_record(&path(&store), ahead, "before the clock was set back").unwrap();
        let why: Vec<String> =
            recent(&store, Duration::from_secs(600)).unwrap().into_iter().map(|f| f.why).collect();
        assert_eq!(why, ["no space left", "before the clock was set back"]);
    }

    #[test]
    fn the_file_stays_small_and_junk_in_it_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("log");
        std::fs::write(path(&store), b"\xff\xfe\nnonsense\n99999999999999999999999 x\n").unwrap();
        assert_eq!(recent(&store, Duration::from_secs(600)).unwrap(), []);
        for n in 0..40 {
            record(&store, &format!("{n} {}", "𝔵".repeat(1000)));
        }
        let all = recent(&store, Duration::from_secs(600)).unwrap();
        assert_eq!(all.len(), KEPT);
        assert!(all.last().unwrap().why.starts_with("39 "));
        assert!(std::fs::metadata(path(&store)).unwrap().len() < FILE);
    }
}
