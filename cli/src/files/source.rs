//! The text of a fleet file, and how a place in it is shown.
//!
//! Job: read a file within its bounds, and draw its line with a caret under what is wrong. Must never: give a meaning to
//! the text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::render::style::safe;

/// Largest fleet file; a thousand services fit.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;
/// Most files of one command.
const MAX_FILES: usize = 1_000;
/// Characters of a line that are shown; the rest of a long one is left out around the caret.
const SHOWN_CHARS: usize = 100;
/// What stands before the caret in a line that is too long.
const BEFORE_CHARS: usize = 60;
/// Longest word that is repeated in a message.
const WORD_CHARS: usize = 60;
/// Most complaints told at once; who has more repairs these first.
const MAX_TOLD: usize = 10;

/// Where something stands, counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its line.
    pub(super) line: usize,
    /// Its column.
    pub(super) column: usize,
    /// How far it reaches in that line.
    pub(super) width: usize,
}

impl Place {
    /// The beginning of a text.
    pub(super) const START: Self = Self { line: 1, column: 1, width: 1 };
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) what: String,
    /// What to write instead; may be empty.
    pub(super) hint: String,
}

impl Complaint {
    /// Something wrong at a place.
    #[must_use]
    pub(super) fn new(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into(), hint: String::new() }
    }

    /// With what to write instead.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// A file's name and text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    name: String,
    text: String,
}

impl Source {
    /// Reads a file; `-` is standard input.
    ///
    /// # Errors
    /// Exit code 2 when it cannot be read, is too large, or is no text.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let stdin = path == Path::new("-");
        let read = if stdin {
            io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
        } else {
            File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        };
        let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
        read.map_err(|error| Failure::usage(format!("{}: {error}", one_line(&name))))?;
        Self::new(name, bytes)
    }

    /// The bytes of a file as text.
    ///
    /// # Errors
    /// Exit code 2 when they are too many, or no text.
    pub(super) fn new(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, Failure> {
        let name = one_line(&name.into());
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::usage(format!("{name}: it is larger than {} MiB", MAX_BYTES / 1024 / 1024)));
        }
        let (text, bad) = match String::from_utf8(bytes) {
            Ok(text) => {
                let bad = unwanted(&text);
                (text, bad)
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let what = "here begins what is no UTF-8; save the file as UTF-8";
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some((at, what)))
            }
        };
        let skipped = text.len();
        // A mark that some editors put before the text.
        let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned);
        let skipped = skipped - text.len();
        let source = Self { name, text };
        match bad {
            None => Ok(source),
            Some((at, what)) => {
                let place = source.place_of(at.saturating_sub(skipped));
                Err(Failure::usage(source.show(&Complaint::new(place, what))))
            }
        }
    }

    /// What it is called in messages.
    #[must_use]
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark.
    #[must_use]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn place_of(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Place { line, column, width: 1 }
    }

    /// Where the `at`-th character of `text` stands, a part of the value at `whole`; none when it is written in another way,
    /// for example escaped or over several lines.
    #[must_use]
    pub(super) fn inside(&self, whole: Place, text: &str, at: usize) -> Option<Place> {
        let line = self.text.split('\n').nth(whole.line.checked_sub(1)?)?;
        let (start, _) = line.char_indices().nth(whole.column.checked_sub(1)?)?;
        let value = line.get(start..)?;
        let skipped = value.get(..value.find(text)?)?.chars().count();
        Some(Place { line: whole.line, column: whole.column + skipped + at, width: 1 })
    }

    /// `FILE:LINE:COLUMN: what`, the line, a caret under the place, and the hint.
    #[must_use]
    pub(super) fn show(&self, complaint: &Complaint) -> String {
        let Complaint { place, what, hint } = complaint;
        let mut told = format!("{}:{}:{}: {what}", self.name, place.line, place.column);
        let margin = place.line.to_string().len();
        let line = self.text.split('\n').nth(place.line.saturating_sub(1)).unwrap_or_default();
        let chars: Vec<char> = line.trim_end_matches('\r').chars().collect();
        let at = place.column.saturating_sub(1).min(chars.len());
        let from = if chars.len() > SHOWN_CHARS { at.saturating_sub(BEFORE_CHARS) } else { 0 };
        let shown =
            |range: &[char]| range.iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect::<String>();
        let seen = chars.get(from..chars.len().min(from + SHOWN_CHARS)).unwrap_or_default();
        let before = safe(&shown(seen.get(..at - from).unwrap_or_default())).chars().count();
        let carets = place.width.clamp(1, (seen.len() + 1).saturating_sub(at - from).max(1));
        told += &format!("\n{} | {}", place.line, shown(seen));
        told += &format!("\n{:margin$} | {:before$}{}", "", "", "^".repeat(carets));
        if !hint.is_empty() {
            told += &format!("\n{:margin$} = {hint}", "");
        }
        told
    }
}

/// A name must not make lines of its own.
fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The first character that no text file needs, by its offset. The parser takes NUL for the end of the file.
fn unwanted(text: &str) -> Option<(usize, &'static str)> {
    text.char_indices().find_map(|(at, c)| match c {
        '\n' | '\t' => None,
        '\r' if text.get(at + 1..).is_some_and(|rest| rest.starts_with('\n')) => None,
        '\r' => Some((at, "a carriage return without a line feed")),
        '\0' => Some((at, "a NUL byte: this is no text file")),
        c if c.is_control() => {
            Some((at, "a control character; in quotes it can be written as \\u and four digits"))
        }
        _ => None,
    })
}

/// What is wrong, as far as it is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    shown: Vec<String>,
    more: usize,
}

impl Told {
    /// One more thing that is wrong. It is put into words only when it will be told: a file can be wrong in every line.
    pub(super) fn add(&mut self, show: impl FnOnce() -> String) {
        if self.shown.len() < MAX_TOLD {
            self.shown.push(show());
        } else {
            self.more += 1;
        }
    }

    /// The failure of files that cannot be used; nothing when there is nothing wrong.
    ///
    /// # Errors
    /// Exit code 2 with what is wrong.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        if self.more > 0 {
            self.shown.push(format!("and {} more", self.more));
        }
        if self.shown.is_empty() { Ok(()) } else { Err(Failure::usage(self.shown.join("\n"))) }
    }
}

/// A word of a file as it may stand in a message.
#[must_use]
pub(super) fn quoted(word: &str) -> String {
    let mut chars = word.chars();
    let short: String = chars.by_ref().take(WORD_CHARS).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("\"{}{rest}\"", one_line(&short))
}

/// The files behind what `-f` names: a folder stands for the YAML and JSON files in it, in order of their names.
///
/// # Errors
/// Exit code 2 when a folder cannot be read or holds no such file, or when there are too many.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let fail = |why: String| Failure::usage(format!("{}: {why}", one_line(&path.display().to_string())));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| fail(error.to_string()))? {
            let file = entry.map_err(|error| fail(error.to_string()))?.path();
            let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if matches!(ending, "yaml" | "yml" | "json") && file.is_file() {
                found.push(file);
            }
            if found.len() > MAX_FILES {
                break;
            }
        }
        if found.is_empty() {
            return Err(fail("the folder holds no .yaml, .yml or .json file".to_owned()));
        }
        found.sort();
        all.append(&mut found);
    }
    if all.len() > MAX_FILES {
        return Err(Failure::usage(format!("more than {MAX_FILES} files")));
    }
    Ok(all)
}
