//! Hostile text made safe to print: one line, no escape codes, no hidden direction changes, bounded.

use std::fmt::{self, Write};

/// Longest text that [`sanitize`] prints, in characters: enough for any name, path or message of ours; the rest is cut
/// and counted. Long output goes through files, not logs.
pub const SANITIZE_MAX_CHARS: usize = 1_024;

/// Text with everything dangerous escaped; implements `Display` without allocating.
#[derive(Clone, Copy)]
pub struct Sanitized<'a> {
    text: &'a str,
    max_chars: usize,
}

/// Escapes control characters (so newlines, ANSI codes, NUL), bidirectional overrides, zero-width and other invisible
/// characters, line separators and the backslash itself (so that an escape cannot be forged).
#[must_use]
pub const fn sanitize(text: &str) -> Sanitized<'_> {
    sanitize_to(text, SANITIZE_MAX_CHARS)
}

/// As [`sanitize`], with another limit in characters.
#[must_use]
pub const fn sanitize_to(text: &str, max_chars: usize) -> Sanitized<'_> {
    Sanitized { text, max_chars }
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        // Zero-width, direction marks, line and paragraph separators, bidi overrides and isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        // Musical formatting, language tags, variation selectors.
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.max_chars) {
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\\' => f.write_str("\\\\")?,
                c if u32::from(c) < 0x20 || c == '\u{7f}' => write!(f, "\\x{:02x}", u32::from(c))?,
                c if c.is_control() || is_invisible(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        match chars.count() {
            0 => Ok(()),
            cut => write!(f, "… ({cut} more)"),
        }
    }
}

impl fmt::Debug for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_codes_newlines_and_direction_changes_are_shown_not_obeyed() {
        for (raw, shown) in [
            ("plain née 日本 ✔", "plain née 日本 ✔"),
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\x1b[2J\x07", "\\x1b[2J\\x07"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\\nb", "a\\\\nb"),
            ("\0\u{2028}\u{200b}\u{feff}", "\\x00\\u{2028}\\u{200b}\\u{feff}"),
        ] {
            assert_eq!(sanitize(raw).to_string(), shown);
        }
        assert_eq!(sanitize_to("abcdef", 4).to_string(), "abcd… (2 more)");
    }

    proptest! {
        #[test]
        fn nothing_that_moves_the_cursor_gets_through(text in any::<String>()) {
            let shown = sanitize(&text).to_string();
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_invisible(c)));
        }
    }
}
