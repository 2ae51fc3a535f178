//! A tree becomes a message: every key must be a field, every value must fit its field.
//!
//! Job: compare a document with the descriptor of its kind and name everything that does not fit, with its place and what
//! was expected. Must never: know a kind, fill in a default, or judge whether values make sense together: the wire
//! conversion does, the same here and on the coordinators.

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};

use super::source::{Complaint, quoted};
use super::tree::{At, Entry, Node};
use crate::render::json::{enum_word, enum_words, prefix};

/// Durations of the protocol.
pub(super) const DURATION: &str = "google.protobuf.Duration";
/// Points in time of the protocol.
pub(super) const TIMESTAMP: &str = "google.protobuf.Timestamp";
/// How different a word may be from the one that was meant, in edits for each this many characters.
const CHARS_PER_EDIT: usize = 3;
/// Longest word that is compared with those known, in characters.
const LONGEST_WORD: usize = 64;

/// The message that a map describes. What does not fit is added to `out`, and the message is then not whole.
#[must_use]
pub(super) fn message(descriptor: &MessageDescriptor, at: &At, out: &mut Vec<Complaint>) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match (descriptor.full_name(), &at.node) {
        (DURATION, _) => duration(&mut message, at, out),
        (TIMESTAMP, _) => timestamp(&mut message, at, out),
        (_, Node::Map(entries)) => fields(&mut message, entries, out),
        (_, Node::Scalar { .. } | Node::List(_)) => {
            let what = format!("{} where a map is expected", at.word());
            let names: Vec<String> = descriptor.fields().map(|f| f.json_name().to_owned()).collect();
            out.push(Complaint::new(at.place, what).hint(format!("its keys are {}", names.join(", "))));
        }
    }
    message
}

fn fields(message: &mut DynamicMessage, entries: &[Entry], out: &mut Vec<Complaint>) {
    let descriptor = message.descriptor();
    let mut given: Vec<(FieldDescriptor, &Entry)> = Vec::new();
    for entry in entries {
        let field = descriptor.fields().find(|f| f.json_name() == entry.key || f.name() == entry.key);
        let Some(field) = field else {
            out.push(unknown(entry, descriptor.fields().map(|f| f.json_name().to_owned()).collect()));
            continue;
        };
        if entry.value.is_null() {
            continue;
        }
        let beside = |(other, _): &&(FieldDescriptor, &Entry)| {
            let oneof = field.containing_oneof();
            *other == field || (oneof.is_some() && other.containing_oneof() == oneof)
        };
        if let Some((_, first)) = given.iter().find(beside) {
            let what =
                format!("{:?} cannot stand beside {:?}, line {}", entry.key, first.key, first.place.line);
            out.push(Complaint::new(entry.place, what).hint("only one of them may be given"));
            continue;
        }
        let before = out.len();
        let value = field_value(&field, &entry.value, out);
        // A list or map that is not whole is not set: its length would be judged later.
        if out.len() == before
            && let Some(value) = value
        {
            message.set_field(&field, value);
        }
        given.push((field, entry));
    }
}

/// A word that is none of those known, with the one that was meant.
#[must_use]
pub(super) fn unknown(entry: &Entry, known: Vec<String>) -> Complaint {
    let complaint = Complaint::new(entry.place, format!("unknown key {}", quoted(&entry.key)));
    complaint.hint(meant(&entry.key, &known))
}

/// "Did you mean", or all that are known.
#[must_use]
pub(super) fn meant(word: &str, known: &[String]) -> String {
    // No name is nearly as long; the distance of a hostile word would take its time.
    let lower: String = word.chars().take(LONGEST_WORD).collect::<String>().to_ascii_lowercase();
    let distance = |name: &&String| strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase());
    match known.iter().min_by_key(distance) {
        Some(near) if distance(&near) <= (near.chars().count() / CHARS_PER_EDIT).max(1) => {
            format!("did you mean {near:?}?")
        }
        _ => format!("known are {}", known.join(", ")),
    }
}

fn field_value(field: &FieldDescriptor, at: &At, out: &mut Vec<Complaint>) -> Option<Value> {
    if field.is_map() {
        return map(field, at, out);
    }
    if field.cardinality() == Cardinality::Repeated {
        let Node::List(items) = &at.node else {
            let what = format!("{} where a list is expected", at.word());
            out.push(Complaint::new(at.place, what).hint(format!("write {}: [ … ]", field.json_name())));
            return None;
        };
        let items = items.iter().filter_map(|item| single(&field.kind(), item, out)).collect();
        return Some(Value::List(items));
    }
    single(&field.kind(), at, out)
}

fn map(field: &FieldDescriptor, at: &At, out: &mut Vec<Complaint>) -> Option<Value> {
    let (Kind::Message(entry), Node::Map(entries)) = (field.kind(), &at.node) else {
        out.push(Complaint::new(at.place, format!("{} where a map is expected", at.word())));
        return None;
    };
    let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut found = std::collections::HashMap::new();
    for entry in entries {
        // No map of the API has other keys.
        let Kind::String = key else {
            out.push(Complaint::new(entry.place, "this map cannot be written in a file"));
            return None;
        };
        if let Some(item) = single(&value, &entry.value, out) {
            let _ = found.insert(MapKey::String(entry.key.clone()), item);
        }
    }
    Some(Value::Map(found))
}

/// One value; `None` when it does not fit, which is told.
fn single(kind: &Kind, at: &At, out: &mut Vec<Complaint>) -> Option<Value> {
    if let Kind::Message(descriptor) = kind {
        return Some(Value::Message(message(descriptor, at, out)));
    }
    let read = match &at.node {
        Node::Scalar { text, plain } if !at.is_null() => scalar(kind, text, *plain),
        Node::Scalar { .. } | Node::List(_) | Node::Map(_) => Err(String::new()),
    };
    match read {
        Ok(value) => Some(value),
        Err(hint) => {
            let what = format!("{} is expected here", expected(kind));
            out.push(Complaint::new(at.place, what).hint(hint));
            None
        }
    }
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "a text".to_owned(),
        Kind::Bytes => "nothing that a file can hold".to_owned(),
        Kind::Enum(item) => format!("one of {}", enum_words(item).join(", ")),
        Kind::Message(_) => "a map".to_owned(),
        Kind::Float | Kind::Double => "a number".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => format!("a whole number from 0 to {}", u32::MAX),
        Kind::Uint64 | Kind::Fixed64 => format!("a whole number from 0 to {}", u64::MAX),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            format!("a whole number from {} to {}", i32::MIN, i32::MAX)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            format!("a whole number from {} to {}", i64::MIN, i64::MAX)
        }
    }
}

/// A scalar for a field, or a hint. A file's text is kept as it stands: `1.10` for a text is no number that loses a zero.
fn scalar(kind: &Kind, text: &str, plain: bool) -> Result<Value, String> {
    let unquoted = || if plain { String::new() } else { "without quotes".to_owned() };
    // Canonical JSON of the protocol writes 64-bit numbers as texts; scripts that print it need not know that.
    match kind {
        Kind::Bool => match (text, plain) {
            ("true" | "True" | "TRUE", true) => Ok(Value::Bool(true)),
            ("false" | "False" | "FALSE", true) => Ok(Value::Bool(false)),
            (_, _) => Err(unquoted()),
        },
        Kind::String => {
            let truth = matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
            if plain && truth { Err(format!("write \"{text}\"")) } else { Ok(Value::String(text.to_owned())) }
        }
        Kind::Enum(item) => word(item, text),
        Kind::Uint32 | Kind::Fixed32 if plain => text.parse().map(Value::U32).map_err(|_| String::new()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 if plain => {
            text.parse().map(Value::I32).map_err(|_| String::new())
        }
        Kind::Uint64 | Kind::Fixed64 => text.parse().map(Value::U64).map_err(|_| String::new()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            text.parse().map(Value::I64).map_err(|_| String::new())
        }
        Kind::Float | Kind::Double if plain => {
            let number: f64 = text.parse().map_err(|_| String::new())?;
            match kind {
                _ if !number.is_finite() => Err(String::new()),
                #[expect(clippy::cast_possible_truncation, reason = "the field has no more digits")]
                Kind::Float => Ok(Value::F32(number as f32)),
                _ => Ok(Value::F64(number)),
            }
        }
        Kind::Uint32
        | Kind::Fixed32
        | Kind::Int32
        | Kind::Sint32
        | Kind::Sfixed32
        | Kind::Float
        | Kind::Double => Err(unquoted()),
        Kind::Bytes | Kind::Message(_) => Err(String::new()),
    }
}

/// `majority`, `MAJORITY` or `QUORUM_POLICY_KIND_MAJORITY`.
fn word(item: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let upper = text.to_ascii_uppercase().replace('-', "_");
    let full = format!("{}{upper}", prefix(item));
    let found = item.values().find(|value| value.name() == full || value.name() == upper);
    match found {
        Some(value) if enum_word(item, value.number()) != "UNSPECIFIED" => {
            Ok(Value::EnumNumber(value.number()))
        }
        _ => Err(Some(meant(text, &enum_words(item)))
            .filter(|hint| hint.starts_with("did"))
            .unwrap_or_default()),
    }
}

fn duration(message: &mut DynamicMessage, at: &At, out: &mut Vec<Complaint>) {
    let read = match &at.node {
        Node::Scalar { text, .. } => humantime::parse_duration(text).ok(),
        Node::List(_) | Node::Map(_) => None,
    };
    let parts = read.and_then(|span| {
        Some((i64::try_from(span.as_secs()).ok()?, i32::try_from(span.subsec_nanos()).ok()?))
    });
    match parts {
        Some(parts) => set_parts(message, parts),
        None => out
            .push(Complaint::new(at.place, "a duration is expected here").hint("such as 30s, 5m or 1h 30m")),
    }
}

fn timestamp(message: &mut DynamicMessage, at: &At, out: &mut Vec<Complaint>) {
    let read = match &at.node {
        Node::Scalar { text, .. } => text.parse::<jiff::Timestamp>().ok(),
        Node::List(_) | Node::Map(_) => None,
    };
    match read {
        Some(time) => set_parts(message, (time.as_second(), time.subsec_nanosecond())),
        None => out.push(
            Complaint::new(at.place, "a point in time is expected here").hint("such as 2026-12-24T18:00:00Z"),
        ),
    }
}

/// Both have the same two fields.
fn set_parts(message: &mut DynamicMessage, (seconds, nanos): (i64, i32)) {
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
}
