//! Proto to JSON, by the descriptor, with the two simplifications that the contract names: enum values without
//! the prefix of their type, and 64-bit integers as numbers. Every field is shown, so that scripts need no defaults.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value as Field,
};
use serde_json::{Map, Number, Value};

use crate::failure::Failure;

/// Every type of the protocol, with its comments.
pub(crate) fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        // The descriptor is compiled in beside the code it describes; that it decodes is tested below.
        DescriptorPool::decode(quorate_proto::DESCRIPTOR_SET).unwrap_or_default()
    })
}

/// A type of the protocol.
pub(crate) fn descriptor(type_name: &str) -> Result<MessageDescriptor, Failure> {
    pool().get_message_by_name(type_name).ok_or_else(|| {
        Failure::failed(format!("{type_name} is not in the protocol; this is a defect of quorate"))
    })
}

/// A message as JSON.
///
/// # Errors
/// When the type is not in the protocol.
pub fn to_json<M: Message>(message: &M, type_name: &str) -> Result<Value, Failure> {
    let dynamic = DynamicMessage::decode(descriptor(type_name)?, message.encode_to_vec().as_slice())
        .map_err(|e| Failure::failed(format!("{type_name} does not decode: {e}")))?;
    Ok(message_json(&dynamic))
}

/// A message as JSON; durations and times as texts.
pub(crate) fn message_json(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => return timestamp_json(message),
        "google.protobuf.Duration" => return duration_json(message),
        _ => {}
    }
    let mut object = Map::new();
    for field in descriptor.fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        object.insert(field.json_name().to_owned(), field_json(&field, message.get_field(&field).as_ref()));
    }
    Value::Object(object)
}

fn seconds_nanos(message: &DynamicMessage) -> (i64, i32) {
    let part = |name| message.get_field_by_name(name).map(std::borrow::Cow::into_owned);
    let seconds = part("seconds").and_then(|v| v.as_i64()).unwrap_or(0);
    let nanos = part("nanos").and_then(|v| v.as_i32()).unwrap_or(0);
    (seconds, nanos)
}

fn timestamp_json(message: &DynamicMessage) -> Value {
    let (seconds, nanos) = seconds_nanos(message);
    jiff::Timestamp::new(seconds, nanos).map_or(Value::Null, |t| Value::String(format!("{t:.3}")))
}

fn duration_json(message: &DynamicMessage) -> Value {
    let (seconds, nanos) = seconds_nanos(message);
    if nanos == 0 {
        return Value::String(format!("{seconds}s"));
    }
    let fraction = format!("{:09}", nanos.unsigned_abs());
    let sign = if seconds == 0 && nanos < 0 { "-" } else { "" };
    Value::String(format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0')))
}

fn field_json(field: &FieldDescriptor, value: &Field) -> Value {
    match value {
        Field::List(items) => {
            Value::Array(items.iter().map(|item| single_json(&field.kind(), item)).collect())
        }
        Field::Map(entries) => {
            let kind = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other,
            };
            let mut sorted: Vec<(String, Value)> =
                entries.iter().map(|(key, item)| (key_text(key), single_json(&kind, item))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(sorted.into_iter().collect())
        }
        _ => single_json(&field.kind(), value),
    }
}

/// A map's key as text.
pub(crate) fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

/// One value as JSON.
pub(crate) fn single_json(kind: &Kind, value: &Field) -> Value {
    match value {
        Field::Bool(v) => Value::Bool(*v),
        Field::I32(v) => Value::from(*v),
        Field::I64(v) => Value::from(*v),
        Field::U32(v) => Value::from(*v),
        Field::U64(v) => Value::from(*v),
        Field::F32(v) => Number::from_f64(f64::from(*v)).map_or(Value::Null, Value::Number),
        Field::F64(v) => Number::from_f64(*v).map_or(Value::Null, Value::Number),
        Field::String(v) => Value::String(v.clone()),
        Field::Bytes(v) => Value::String(v.iter().map(|b| format!("{b:02x}")).collect()),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(item) => Value::String(enum_word(item, *number)),
            _ => Value::from(*number),
        },
        Field::Message(message) => message_json(message),
        Field::List(_) | Field::Map(_) => Value::Null,
    }
}

/// `NODE_STATUS_` for `NodeStatus`.
pub(crate) fn prefix(item: &EnumDescriptor) -> String {
    let mut text = String::new();
    for (i, c) in item.name().chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text.push('_');
    text
}

/// The word of an enum value.
pub(crate) fn enum_word(item: &EnumDescriptor, number: i32) -> String {
    item.get_value(number).map_or_else(
        || number.to_string(),
        |value| value.name().strip_prefix(&prefix(item)).unwrap_or(value.name()).to_owned(),
    )
}

/// The words that may be written for an enum: all but the one for "not set".
pub(crate) fn enum_words(item: &EnumDescriptor) -> Vec<String> {
    item.values().map(|value| enum_word(item, value.number())).filter(|word| word != "UNSPECIFIED").collect()
}

/// The word of an enum value by its type's full name, for tables.
#[must_use]
pub fn word(type_name: &str, number: i32) -> String {
    pool().get_enum_by_name(type_name).map_or_else(|| number.to_string(), |item| enum_word(&item, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::v1;
    use serde_json::json;

    #[test]
    fn a_list_reads_as_the_contract_shows_it() {
        let mut node = v1::Node { name: "node1".into(), ..v1::Node::default() };
        node.set_status(v1::NodeStatus::Ready);
        node.set_scheduling(v1::NodeScheduling::Eligible);
        node.set_drain(v1::NodeDrain::None);
        node.labels.insert("zone".into(), "a".into());
        node.node_id = 7;
        let list = v1::ListNodesResponse { nodes: vec![node], next_page_token: String::new() };
        let value = to_json(&list, "quorate.v1.ListNodesResponse").unwrap();
        assert_eq!(value["nextPageToken"], "");
        let node = &value["nodes"][0];
        assert_eq!(node["status"], "READY");
        assert_eq!(node["scheduling"], "ELIGIBLE");
        assert_eq!(node["drain"], "NONE");
        assert_eq!(node["labels"], json!({"zone": "a"}));
        assert_eq!(node["nodeId"], 7);
    }

    #[test]
    fn times_and_durations_are_canonical() {
        let operation = v1::Operation {
            created: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            steps: vec![v1::Step {
                deadline: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
                ..v1::Step::default()
            }],
            ..v1::Operation::default()
        };
        let value = to_json(&operation, "quorate.v1.Operation").unwrap();
        assert_eq!(value["created"], "1970-01-01T00:00:01.500Z");
        assert_eq!(value["steps"][0]["deadline"], "1.5s");
        assert_eq!(value["openObligations"], 0);
    }
}
