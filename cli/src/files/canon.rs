//! Specifications as canonical YAML, and the difference of two.
//!
//! Job: show what is stored and what a file says in one form, so that only what differs is seen: fields in the order of
//! the protocol, defaults filled in by the wire conversion, what is empty left out. Must never: compare texts that people
//! wrote.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as FieldKind, ReflectMessage, Value as Field};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::kinds::Kind;
use crate::failure::Failure;
use crate::render::json;

/// Unchanged lines shown around a change.
const CONTEXT_LINES: usize = 3;

/// What a document would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is no such thing yet.
    Create,
    /// It is there, and different.
    Update,
    /// It is there, and the same.
    None,
}

impl Change {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::None => "NONE",
        }
    }
}

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `@@ -3,7 +3,7 @@`.
    Place(String),
    /// In both.
    Same(String),
    /// Only in what is stored.
    Gone(String),
    /// Only in the file.
    New(String),
}

impl Line {
    /// As in a unified diff.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Place(text) => text.clone(),
            Self::Same(text) => format!(" {text}"),
            Self::Gone(text) => format!("-{text}"),
            Self::New(text) => format!("+{text}"),
        }
    }
}

/// What changes from the stored specification, if any, to the wanted one. Both go through the same conversion, so that a
/// default that was filled in is no difference.
///
/// # Errors
/// When what is stored cannot be read: the coordinators know more than this release.
pub fn difference(kind: &Kind, stored: Option<&[u8]>, wanted: &[u8]) -> Result<(Change, Vec<Line>), Failure> {
    let canonical = |bytes: &[u8]| {
        (kind.canon)(bytes).map_err(|error| {
            Failure::failed(format!("the stored {} is not readable here: {error}", kind.noun))
        })
    };
    let old = stored.map(canonical).transpose()?.map(|bytes| yaml(kind, &bytes)).transpose()?;
    let new = yaml(kind, &canonical(wanted)?)?;
    let change = match &old {
        None => Change::Create,
        Some(old) if *old == new => Change::None,
        Some(_) => Change::Update,
    };
    Ok((change, lines(&old.unwrap_or_default(), &new)))
}

fn lines(old: &str, new: &str) -> Vec<Line> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        lines.push(Line::Place(hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let text = change.value().trim_end_matches('\n').to_owned();
            lines.push(match change.tag() {
                ChangeTag::Equal => Line::Same(text),
                ChangeTag::Delete => Line::Gone(text),
                ChangeTag::Insert => Line::New(text),
            });
        }
    }
    lines
}

/// A specification as a document of a fleet file.
///
/// # Errors
/// When its type is not in the protocol.
pub fn yaml(kind: &Kind, bytes: &[u8]) -> Result<String, Failure> {
    let message = DynamicMessage::decode(json::descriptor(kind.message)?, bytes)
        .map_err(|error| Failure::failed(format!("{} does not decode: {error}", kind.message)))?;
    let Shown::Map(mut entries) = shown(&message) else { return Ok(String::new()) };
    entries.insert(0, ("kind".to_owned(), Shown::Leaf(Value::String(kind.word.to_owned()))));
    serde_saphyr::to_string(&Shown::Map(entries))
        .map_err(|error| Failure::failed(format!("{} cannot be shown as YAML: {error}", kind.noun)))
}

/// A value with its keys in the order of the protocol.
enum Shown {
    Leaf(Value),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(value) => value.serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

fn shown(message: &DynamicMessage) -> Shown {
    let descriptor = message.descriptor();
    if matches!(descriptor.full_name(), super::shape::DURATION | super::shape::TIMESTAMP) {
        return Shown::Leaf(json::message_json(message));
    }
    let set = descriptor.fields().filter(|field| message.has_field(field));
    Shown::Map(set.map(|f| (f.json_name().to_owned(), field(&f, message.get_field(&f).as_ref()))).collect())
}

fn field(field: &FieldDescriptor, value: &Field) -> Shown {
    match value {
        Field::List(items) => Shown::List(items.iter().map(|item| single(&field.kind(), item)).collect()),
        Field::Map(entries) => {
            let kind = match field.kind() {
                FieldKind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other,
            };
            let mut sorted: Vec<(String, Shown)> =
                entries.iter().map(|(key, item)| (json::key_text(key), single(&kind, item))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Shown::Map(sorted)
        }
        value => single(&field.kind(), value),
    }
}

fn single(kind: &FieldKind, value: &Field) -> Shown {
    match value {
        Field::Message(message) => shown(message),
        value => Shown::Leaf(json::single_json(kind, value)),
    }
}
