//! JSON Schema (draft 2020-12) of a kind, for editors and for checks before a file is sent.
//!
//! Job: turn the descriptor of a kind into a schema: the comments of the protocol as descriptions, what the reader accepts
//! as types. Must never: promise more than the reader keeps; what only the wire conversion knows (limits, names, what
//! belongs together) is left to it.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{Cardinality, FieldDescriptor, FileDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::shape::{DURATION, TIMESTAMP};
use crate::failure::Failure;
use crate::render::json::{descriptor, enum_words};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What the wire conversion refuses to miss, by message. A field that is not here may be left out, or is judged there.
const REQUIRED: &[(&str, &[&str])] = &[
    ("quorate.v1.ServiceSpec", &["name", "driver", "nodes"]),
    ("quorate.v1.ProbeSpec", &["name"]),
    ("quorate.v1.HttpProbe", &["url"]),
    ("quorate.v1.JsonCheck", &["path", "op", "value"]),
    ("quorate.v1.TcpProbe", &["address"]),
    ("quorate.v1.ExecProbe", &["argv"]),
    ("quorate.v1.MembershipProbe", &["members", "key", "this", "role"]),
    ("quorate.v1.BackupPolicy", &["paths"]),
    ("quorate.v1.LogRotation", &["paths"]),
    ("quorate.v1.BinaryInstall", &["dir", "file"]),
    ("quorate.v1.ArchiveInstall", &["dir"]),
    ("quorate.v1.PackageInstall", &["package"]),
    ("quorate.v1.GroupSpec", &["name", "service", "voters", "policy"]),
    ("quorate.v1.FreezeSpec", &["name", "reason"]),
    ("quorate.v1.PolicySpec", &["name", "reason"]),
    ("quorate.v1.CertificateProbe", &["address", "serverName"]),
    ("quorate.v1.AlertsProbe", &["url", "matchers"]),
    ("quorate.v1.WindowSpec", &["name", "zone", "duration"]),
    ("quorate.v1.ScheduleSpec", &["name", "zone", "work"]),
    ("quorate.v1.QuorumPolicy", &["kind"]),
    ("quorate.v1.RollingSpec", &["group"]),
    ("quorate.v1.RunSpec", &["selector", "action"]),
    ("quorate.v1.BackupAllSpec", &["service"]),
    ("quorate.v1.RotateAllSpec", &["service"]),
    ("quorate.v1.VerifyBackupSpec", &["backup"]),
    ("quorate.v1.MembershipChangeSpec", &["group", "node", "change"]),
    ("quorate.v1.RebuildSpec", &["group", "node"]),
    ("quorate.v1.ServiceData", &["paths"]),
    ("quorate.v1.GroupMembership", &["addHook", "removeHook"]),
];

/// The schema of a kind's documents.
///
/// # Errors
/// When its type is not in the protocol.
pub fn schema(kind: &Kind) -> Result<Value, Failure> {
    let root = descriptor(kind.message)?;
    let mut writer = Writer { comments: BTreeMap::new(), open: Vec::new(), known: BTreeSet::new() };
    let Value::Object(mut schema) = writer.object(&root) else { return Ok(Value::Null) };
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        let _ =
            properties.insert("kind".to_owned(), json!({"const": kind.word, "description": "What it is."}));
    }
    let mut required = vec![Value::from("kind")];
    if let Some(Value::Array(own)) = schema.remove("required") {
        required.extend(own);
    }
    let mut definitions = Map::new();
    while let Some(message) = writer.open.pop() {
        let _ = definitions.insert(message.name().to_owned(), writer.object(&message));
    }
    let entries =
        [("$schema", json!(DIALECT)), ("title", json!(kind.word)), ("required", Value::Array(required))];
    schema.extend(entries.map(|(key, value)| (key.to_owned(), value)));
    if !definitions.is_empty() {
        let _ = schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(Value::Object(schema))
}

struct Writer {
    /// By file, then by the path of what they stand before.
    comments: BTreeMap<String, BTreeMap<Vec<i32>, String>>,
    /// Messages that are referred to and not described yet.
    open: Vec<MessageDescriptor>,
    known: BTreeSet<String>,
}

impl Writer {
    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.field(&field);
            if let Some(text) = self.comment(&field.parent_file(), field.path())
                && let Value::Object(schema) = &mut schema
            {
                let _ = schema.insert("description".to_owned(), Value::String(text));
            }
            let _ = properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
        let Value::Object(object) = &mut schema else { return schema };
        if let Some(text) = self.comment(&message.parent_file(), message.path()) {
            let _ = object.insert("description".to_owned(), Value::String(text));
        }
        if let Some((_, required)) = REQUIRED.iter().find(|(name, _)| *name == message.full_name()) {
            let _ = object.insert("required".to_owned(), json!(required));
        }
        // Every oneof of a specification must be chosen: a driver is something, a probe does something.
        let oneofs: Vec<Value> = message
            .oneofs()
            .filter(|oneof| !oneof.is_synthetic())
            .map(|oneof| oneof.fields().map(|field| json!({"required": [field.json_name()]})).collect())
            .map(|choices: Vec<Value>| json!({"oneOf": choices}))
            .collect();
        match oneofs.as_slice() {
            [] => {}
            [one] => object.extend(one.as_object().cloned().unwrap_or_default()),
            many => {
                let _ = object.insert("allOf".to_owned(), json!(many));
            }
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            let value = match field.kind() {
                FieldKind::Message(entry) => self.single(&entry.map_entry_value_field().kind()),
                other => self.single(&other),
            };
            return json!({"type": "object", "additionalProperties": value});
        }
        let single = self.single(&field.kind());
        match field.cardinality() {
            Cardinality::Repeated => json!({"type": "array", "items": single}),
            Cardinality::Optional | Cardinality::Required => single,
        }
    }

    fn single(&mut self, kind: &FieldKind) -> Value {
        let whole = |least: i64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
        match kind {
            FieldKind::Bool => json!({"type": "boolean"}),
            // A number without quotes is taken as it stands.
            FieldKind::String => json!({"type": ["string", "number"]}),
            FieldKind::Bytes => json!(false),
            FieldKind::Float | FieldKind::Double => json!({"type": "number"}),
            FieldKind::Uint32 | FieldKind::Fixed32 => whole(0, u64::from(u32::MAX)),
            FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => {
                json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            FieldKind::Uint64 | FieldKind::Fixed64 => long("^[0-9]+$", &whole(0, u64::MAX)),
            FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => {
                long("^-?[0-9]+$", &json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}))
            }
            FieldKind::Enum(item) => {
                let words = enum_words(item);
                let lower = words.iter().map(|word| word.to_ascii_lowercase());
                json!({"enum": words.iter().cloned().chain(lower).collect::<Vec<_>>()})
            }
            FieldKind::Message(message) => match message.full_name() {
                DURATION => json!({"type": "string", "pattern": duration_pattern()}),
                TIMESTAMP => json!({"type": "string", "format": "date-time"}),
                _ => {
                    if self.known.insert(message.full_name().to_owned()) {
                        self.open.push(message.clone());
                    }
                    json!({"$ref": format!("#/$defs/{}", message.name())})
                }
            },
        }
    }

    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) -> Option<String> {
        let comments = self.comments.entry(file.name().to_owned()).or_insert_with(|| {
            let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
            let of = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
            info.location
                .into_iter()
                .filter_map(|place| Some((place.path, of(place.leading_comments.as_deref()?))))
                .collect()
        });
        comments.get(path).filter(|text| !text.is_empty()).cloned()
    }
}

/// Canonical JSON of the protocol writes 64-bit numbers as texts, and both are read.
fn long(pattern: &str, number: &Value) -> Value {
    json!({"anyOf": [number, {"type": "string", "pattern": pattern}]})
}

/// What the reader takes for a duration: `90s`, `1h 30m`, `1.5s`.
fn duration_pattern() -> String {
    const UNITS: &str = "nsec|ns|usec|us|µs|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|\
                         hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y";
    format!("^\\s*([0-9]+(\\.[0-9]+)?\\s*({UNITS})\\s*)+$")
}
