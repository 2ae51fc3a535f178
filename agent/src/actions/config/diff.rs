//! What a candidate would change, as a unified diff. Pure.
//!
//! Must never: show a byte of a file that is sensitive, or more than there is room for.

use std::time::Duration;

use quorate_model::action::OUTPUT_TAIL_MAX_BYTES;
use similar::{ChangeTag, TextDiff};

/// Longest diff that is made; the rest is counted.
const DIFF_MAX_BYTES: usize = 64 * 1024;
/// A comparison that takes longer is finished more coarsely.
const PATIENCE: Duration = Duration::from_secs(2);
/// Kept free for the line that says what is left out.
const MORE_BYTES: usize = 64;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Lines that are new.
    pub(super) added: usize,
    /// Lines that go.
    pub(super) removed: usize,
    /// The unified diff, at most 64 KiB; empty when it is not shown.
    pub(super) text: String,
    /// One of the two is no text.
    pub(super) binary: bool,
}

impl Difference {
    /// One clause for people.
    pub(super) fn words(&self) -> String {
        if self.binary {
            return "the content differs and is no text".to_owned();
        }
        format!("+{} -{} lines", self.added, self.removed)
    }

    /// As much of the text as travels with an outcome, whole lines from its beginning.
    pub(super) fn head(&self) -> String {
        if self.text.len() <= OUTPUT_TAIL_MAX_BYTES {
            return self.text.clone();
        }
        let mut head = String::new();
        let mut lines = self.text.split_inclusive('\n');
        let mut left = 0;
        for line in lines.by_ref() {
            if head.len() + line.len() > OUTPUT_TAIL_MAX_BYTES - MORE_BYTES {
                left = 1;
                break;
            }
            head.push_str(line);
        }
        format!("{head}… {} more lines of the comparison\n", left + lines.count())
    }
}

/// Compares two contents of a file; the one in place may be missing.
pub(super) fn compare(path: &str, old: Option<&[u8]>, new: &[u8], sensitive: bool) -> Difference {
    let old = old.unwrap_or_default();
    let is_text = |bytes: &[u8]| !bytes.contains(&0);
    let (Ok(before), Ok(after)) = (str::from_utf8(old), str::from_utf8(new)) else {
        return Difference { binary: true, ..Difference::default() };
    };
    if !is_text(old) || !is_text(new) {
        return Difference { binary: true, ..Difference::default() };
    }
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(before, after);
    let count = |tag: ChangeTag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let mut text = String::new();
    if !sensitive && added + removed > 0 {
        let whole = diff.unified_diff().context_radius(3).header(path, path).to_string();
        for line in whole.split_inclusive('\n') {
            if text.len() + line.len() > DIFF_MAX_BYTES {
                break;
            }
            text.push_str(line);
        }
    }
    Difference { added, removed, text, binary: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_as_a_unified_diff() {
        let found = compare("/etc/app.toml", Some(b"a = 1\nb = 2\n"), b"a = 1\nb = 3\nc = 4\n", false);
        assert_eq!((found.added, found.removed, found.words().as_str()), (2, 1, "+2 -1 lines"));
        assert!(found.text.starts_with("--- /etc/app.toml\n+++ /etc/app.toml\n@@"), "{}", found.text);
        assert!(found.text.contains("-b = 2\n") && found.text.contains("+b = 3\n"));
        assert_eq!(compare("p", Some(b"x\n"), b"x\n", false), Difference::default());
        assert_eq!(compare("p", None, b"x\n", false).words(), "+1 -0 lines");
    }

    #[test]
    fn what_is_secret_or_no_text_is_not_shown() {
        let secret = compare("p", Some(b"password = old\n"), b"password = new\n", true);
        assert_eq!((secret.words().as_str(), secret.text.as_str()), ("+1 -1 lines", ""));
        for bytes in [&b"\xff\xfe"[..], b"a\0b"] {
            let found = compare("p", Some(b"x\n"), bytes, false);
            assert!(found.binary && found.text.is_empty(), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_diff_keeps_whole_lines_and_says_what_is_missing() {
        let new: String = (0..3_000).map(|n| format!("line {n} of a long configuration file\n")).collect();
        let found = compare("p", None, new.as_bytes(), false);
        assert!(found.text.len() <= DIFF_MAX_BYTES && found.text.ends_with('\n'));
        let head = found.head();
        assert!(
            head.len() <= OUTPUT_TAIL_MAX_BYTES && head.ends_with("more lines of the comparison\n"),
            "{head}"
        );
    }
}
