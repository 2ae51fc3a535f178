//! What is wrong with a configuration, and where.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::telemetry::sanitize;

/// A configuration that cannot be used. `Display` is ready for a person: what, file, line, column, the line itself
/// and a caret under the place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than the limit, which is checked before parsing.
    #[error("configuration {} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit_bytes: usize,
    },
    /// More drop-ins than the limit.
    #[error("{} holds more than {limit} drop-ins", path.display())]
    TooMany {
        /// Which directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The file is not UTF-8.
    #[error("configuration {} is not UTF-8: line {line}, column {column}", path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// Line of the first bad byte, from 1.
        line: usize,
        /// Its column in bytes, from 1.
        column: usize,
    },
    /// The text does not parse, or does not fit the expected type.
    #[error("{0}")]
    Invalid(Box<Place>),
}

/// A message and the place it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is wrong.
    pub message: String,
    /// File name, or `environment VARIABLE`.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text of the line.
    pub excerpt: String,
    /// How many characters the caret line marks, 1 at least.
    pub width: usize,
}

/// A longer line is cut: the caret must stay on the screen.
const EXCERPT_MAX_CHARS: usize = 160;

impl Place {
    /// Finds line and column of a byte range in a text.
    pub(super) fn new(message: &str, origin: &str, text: &str, range: core::ops::Range<usize>) -> Self {
        let mut start = range.start.min(text.len());
        while !text.is_char_boundary(start) {
            start = start.saturating_sub(1);
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let excerpt = text[line_start..line_end].trim_end_matches('\r');
        let column = text[line_start..start].chars().count() + 1;
        let end = range.end.clamp(start, line_end);
        let width = text.get(start..end).map_or(1, |marked| marked.chars().count()).max(1);
        Self {
            message: message.trim_end().to_owned(),
            origin: origin.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            excerpt: excerpt.chars().take(EXCERPT_MAX_CHARS).collect(),
            width,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { message, origin, line, column, excerpt, width } = self;
        // Tabs become one blank and the caret is counted in characters, so that it stands under the place.
        let shown: String = excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let mut out = String::new();
        let _ = writeln!(out, "{}", sanitize(message));
        let _ = writeln!(out, "{margin}--> {}:{line}:{column}", sanitize(origin));
        let _ = writeln!(out, "{margin} |");
        let _ = writeln!(out, "{number} | {shown}");
        if *column <= EXCERPT_MAX_CHARS {
            let carets = (*width).min(EXCERPT_MAX_CHARS + 1 - column);
            let _ = write!(out, "{margin} | {}{}", " ".repeat(column - 1), "^".repeat(carets.max(1)));
        }
        f.write_str(out.trim_end())
    }
}
