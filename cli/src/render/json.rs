//! Proto to JSON and back, by the descriptor, with the two simplifications that the contract names: enum values without
//! the prefix of their type, and 64-bit integers as numbers. Every field is shown, so that scripts need no defaults.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Map, Number, Value};

use crate::failure::Failure;

/// Deepest nesting of a document given by a user.
const MAX_DEPTH: usize = 32;

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        // The descriptor is compiled in beside the code it describes; that it decodes is tested below.
        DescriptorPool::decode(quorate_proto::DESCRIPTOR_SET).unwrap_or_default()
    })
}

fn descriptor(type_name: &str) -> Result<MessageDescriptor, Failure> {
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

fn message_json(message: &DynamicMessage) -> Value {
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

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

fn single_json(kind: &Kind, value: &Field) -> Value {
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
fn prefix(item: &EnumDescriptor) -> String {
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

fn enum_word(item: &EnumDescriptor, number: i32) -> String {
    item.get_value(number).map_or_else(
        || number.to_string(),
        |value| value.name().strip_prefix(&prefix(item)).unwrap_or(value.name()).to_owned(),
    )
}

/// The word of an enum value by its type's full name, for tables.
#[must_use]
pub fn word(type_name: &str, number: i32) -> String {
    pool().get_enum_by_name(type_name).map_or_else(|| number.to_string(), |item| enum_word(&item, number))
}

/// A message from JSON written by a user: unknown keys are refused, enum words may leave out their prefix, durations may
/// be written as people do (`90s`, `5m`).
///
/// # Errors
/// [`Failure`] with exit code 2, naming the field.
pub fn from_json<M: Message + Default>(value: Value, type_name: &str) -> Result<M, Failure> {
    let descriptor = descriptor(type_name)?;
    let value = normalise(&descriptor, value, "", 0)?;
    let dynamic =
        DynamicMessage::deserialize(descriptor, value).map_err(|e| Failure::usage(e.to_string()))?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|e| Failure::usage(e.to_string()))
}

fn normalise(descriptor: &MessageDescriptor, value: Value, at: &str, depth: usize) -> Result<Value, Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::usage(format!("{at}: nested deeper than {MAX_DEPTH}")));
    }
    if descriptor.full_name() == "google.protobuf.Duration" {
        return normal_duration(&value, at);
    }
    let Value::Object(object) = value else { return Ok(value) };
    let mut normal = Map::new();
    for (key, item) in object {
        let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let field = descriptor
            .fields()
            .find(|f| f.json_name() == key || f.name() == key)
            .ok_or_else(|| Failure::usage(format!("{place}: unknown field; {}", known(descriptor))))?;
        let item = normal_field(&field, item, &place, depth)?;
        normal.insert(field.json_name().to_owned(), item);
    }
    Ok(Value::Object(normal))
}

fn known(descriptor: &MessageDescriptor) -> String {
    let names: Vec<String> = descriptor.fields().map(|f| f.json_name().to_owned()).collect();
    format!("known are {}", names.join(", "))
}

fn normal_field(field: &FieldDescriptor, item: Value, at: &str, depth: usize) -> Result<Value, Failure> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return Ok(item) };
        let kind = entry.map_entry_value_field().kind();
        let Value::Object(entries) = item else { return Ok(item) };
        let mut normal = Map::new();
        for (key, value) in entries {
            let place = format!("{at}.{key}");
            normal.insert(key, normal_single(&kind, value, &place, depth)?);
        }
        return Ok(Value::Object(normal));
    }
    if field.cardinality() == Cardinality::Repeated {
        let Value::Array(items) = item else { return Ok(item) };
        let mut normal = Vec::with_capacity(items.len());
        for (i, value) in items.into_iter().enumerate() {
            normal.push(normal_single(&field.kind(), value, &format!("{at}[{i}]"), depth)?);
        }
        return Ok(Value::Array(normal));
    }
    normal_single(&field.kind(), item, at, depth)
}

fn normal_single(kind: &Kind, value: Value, at: &str, depth: usize) -> Result<Value, Failure> {
    match (kind, value) {
        (Kind::Message(message), value) => normalise(message, value, at, depth.saturating_add(1)),
        (Kind::Enum(item), Value::String(text)) => {
            let upper = text.to_ascii_uppercase().replace('-', "_");
            let full = format!("{}{upper}", prefix(item));
            if item.get_value_by_name(&full).is_some() {
                return Ok(Value::String(full));
            }
            if item.get_value_by_name(&text).is_some() {
                return Ok(Value::String(text));
            }
            let words: Vec<String> = item.values().map(|v| enum_word(item, v.number())).skip(1).collect();
            Err(Failure::usage(format!("{at}: {text:?} is not one of {}", words.join(", "))))
        }
        // A YAML file writes `port: 4001` where a text is meant; a number or a bool as text is no ambiguity.
        (Kind::String, Value::Number(number)) => Ok(Value::String(number.to_string())),
        (_, value) => Ok(value),
    }
}

fn normal_duration(value: &Value, at: &str) -> Result<Value, Failure> {
    let text = value
        .as_str()
        .ok_or_else(|| Failure::usage(format!("{at}: a duration is a text such as \"30s\"")))?;
    let span = humantime::parse_duration(text).map_err(|e| {
        Failure::usage(format!("{at}: {text:?} is not a duration ({e}); write \"30s\" or \"5m\""))
    })?;
    let nanos = format!("{:09}", span.subsec_nanos());
    let text = match nanos.trim_end_matches('0') {
        "" => format!("{}s", span.as_secs()),
        fraction => format!("{}.{fraction}s", span.as_secs()),
    };
    Ok(Value::String(text))
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
    fn a_user_document_becomes_a_message() {
        let spec: v1::GroupSpec = from_json(
            json!({"name": "ledger", "service": "ledger", "voters": ["node1"], "policy": {"kind": "majority"}}),
            "quorate.v1.GroupSpec",
        )
        .unwrap();
        assert_eq!(spec.policy.unwrap().kind(), v1::QuorumPolicyKind::Majority);
        let spec: v1::ServiceSpec =
            from_json(json!({"name": "x", "stopTimeout": "1m 30s"}), "quorate.v1.ServiceSpec").unwrap();
        assert_eq!(spec.stop_timeout.unwrap().seconds, 90);
    }

    #[test]
    fn a_wrong_document_names_the_field() {
        let error =
            |value| from_json::<v1::ServiceSpec>(value, "quorate.v1.ServiceSpec").unwrap_err().to_string();
        assert!(error(json!({"nmae": "x"})).contains("nmae: unknown field"));
        assert!(error(json!({"probes": [{"name": "p", "htttp": {}}]})).contains("probes[0].htttp"));
        assert!(error(json!({"stopTimeout": 5})).contains("stopTimeout"));
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
