//! Several texts, one table: every value keeps the place it came from.
//!
//! All texts share one numbering of bytes (each begins after the one before), so an error's span in the merged table
//! still names its file. That is why tables are merged with their spans instead of as plain values.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};

/// One text and where it begins in the common numbering.
struct Source {
    origin: String,
    text: String,
    base: usize,
    /// Where a single value goes; `None` for a whole file.
    path: Option<Vec<String>>,
}

/// The texts read so far, in the order in which they override each other.
#[derive(Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    next_base: usize,
}

impl Sources {
    /// Adds a file's text.
    pub(super) fn add(&mut self, origin: String, text: String) {
        self.push(origin, text, None);
    }

    /// Adds one value for a path; `text` is what an error shows.
    pub(super) fn add_value(&mut self, origin: String, text: String, path: Vec<String>) {
        self.push(origin, text, Some(path));
    }

    fn push(&mut self, origin: String, text: String, path: Option<Vec<String>>) {
        let base = self.next_base;
        self.next_base = base + text.len() + 1;
        self.list.push(Source { origin, text, base, path });
    }

    /// Merges everything (tables merge, everything else replaces) into the caller's type.
    pub(super) fn into_raw<Raw: serde::de::DeserializeOwned>(self) -> Result<Raw, ConfigError> {
        let mut root = DeTable::new();
        for source in &self.list {
            overlay(&mut root, source.table()?);
        }
        let end = self.list.first().map_or(0, |first| first.text.len());
        let deserializer = toml::de::Deserializer::from(Spanned::new(0..end, root));
        Raw::deserialize(deserializer).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            ConfigError::Invalid(Box::new(place_of(&self.list, error.message(), &span)))
        })
    }
}

impl Source {
    fn table(&self) -> Result<DeTable<'_>, ConfigError> {
        let Some(path) = &self.path else {
            return match DeTable::parse(&self.text) {
                Ok(table) => Ok(shifted(table.into_inner(), self.base)),
                Err(error) => {
                    let span = error.span().unwrap_or(0..0);
                    let place = Place::new(error.message(), &self.origin, &self.text, span);
                    Err(ConfigError::Invalid(Box::new(place)))
                }
            };
        };
        let span = self.base..self.base + self.text.len();
        // A value that is not TOML is taken as a string: `INTERVAL=10s` needs no quotes.
        let mut node = DeValue::parse(&self.text).map_or_else(
            |_| DeValue::String(Cow::Borrowed(self.text.as_str())),
            |value| shifted_value(value.into_inner(), self.base),
        );
        let mut table = DeTable::new();
        for (depth, key) in path.iter().rev().enumerate() {
            if depth > 0 {
                node = DeValue::Table(std::mem::take(&mut table));
            }
            let value = std::mem::replace(&mut node, DeValue::Boolean(false));
            table.insert(
                Spanned::new(span.clone(), Cow::Borrowed(key.as_str())),
                Spanned::new(span.clone(), value),
            );
        }
        Ok(table)
    }
}

fn place_of(sources: &[Source], message: &str, span: &Range<usize>) -> Place {
    let source = sources.iter().rev().find(|source| source.base <= span.start);
    match source {
        Some(Source { origin, text, base, path: _ }) => {
            Place::new(message, origin, text, span.start - base..span.end.saturating_sub(*base))
        }
        None => Place::new(message, "configuration", "", 0..0),
    }
}

fn overlay<'a>(under: &mut DeTable<'a>, over: DeTable<'a>) {
    for (key, value) in over {
        match (under.get_mut(&key).map(Spanned::get_mut), value.into_parts()) {
            (Some(DeValue::Table(below)), (_, DeValue::Table(above))) => overlay(below, above),
            (_, (span, value)) => {
                // Removed first: the map would keep the old key, and with it the old place.
                under.remove(&key);
                under.insert(key, Spanned::new(span, value));
            }
        }
    }
}

/// Takes a `Spanned` apart.
trait IntoParts<T> {
    fn into_parts(self) -> (Range<usize>, T);
}

impl<T> IntoParts<T> for Spanned<T> {
    fn into_parts(self) -> (Range<usize>, T) {
        (self.span(), self.into_inner())
    }
}

fn moved(span: &Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

fn shifted(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, value)| {
            let key_span = moved(&key.span(), base);
            let (span, value) = value.into_parts();
            (
                Spanned::new(key_span, key.into_inner()),
                Spanned::new(moved(&span, base), shifted_value(value, base)),
            )
        })
        .collect()
}

fn shifted_value(value: DeValue<'_>, base: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shifted(table, base)),
        DeValue::Array(items) => DeValue::Array(
            items
                .into_iter()
                .map(|item| {
                    let (span, item) = item.into_parts();
                    Spanned::new(moved(&span, base), shifted_value(item, base))
                })
                .collect(),
        ),
        other @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => other,
    }
}
