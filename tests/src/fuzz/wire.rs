//! 1: every message of the wire that a stranger can send is decoded and checked. What is accepted means the same after it was
//! written out and read again.

use std::fmt::Debug;

use prost::Message;
use quorate_common::wire::{
    Invalid, agent, backup, calendar, group, outcome, policy, probe, schedule, selector, service, window,
};
use quorate_proto::v1;

fn both_ways<M: Message + Default, T: Debug>(
    bytes: &[u8],
    read: impl Fn(M) -> Result<T, Invalid>,
    write: impl Fn(&T) -> M,
) {
    let Ok(message) = M::decode(bytes) else { return };
    let Ok(thing) = read(message) else { return };
    // Through bytes once more, as a peer would see it. By Debug, because a reading may be NaN-free but not Eq.
    let again = M::decode(write(&thing).encode_to_vec().as_slice()).expect("what we write decodes");
    let again = read(again).expect("what we accept we also accept from ourselves");
    assert_eq!(format!("{thing:?}"), format!("{again:?}"), "a message changed its meaning on the way");
}

pub(super) fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 13 {
        0 => both_ways(bytes, group::read_group, group::write_group),
        1 => both_ways(bytes, service::read_service, service::write_service),
        2 => both_ways(bytes, backup::read_policy, backup::write_policy),
        3 => both_ways(bytes, backup::read_rotation, backup::write_rotation),
        4 => both_ways(bytes, outcome::read_outcome, outcome::write_outcome),
        5 => both_ways(bytes, probe::read_probe, probe::write_probe),
        6 => both_ways(bytes, agent::read_from_agent, |(sequence, said)| {
            agent::write_from_agent(*sequence, said)
        }),
        7 => both_ways(bytes, agent::read_to_agent, agent::write_to_agent),
        8 => both_ways(
            bytes,
            |message: v1::Selector| selector::read_selector("selector", Some(message)),
            selector::write_selector,
        ),
        9 => both_ways(bytes, calendar::read_freeze, calendar::write_freeze),
        10 => both_ways(bytes, window::read_window, window::write_window),
        11 => both_ways(bytes, policy::read_policy, policy::write_policy),
        _ => both_ways(bytes, schedule::read_schedule, |(spec, work)| {
            schedule::write_schedule(spec, work.clone())
        }),
    }
}

/// One of each, with every field filled from the descriptor, so that a changed byte lands in something that is looked at.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let names = [
        "quorate.v1.GroupSpec",
        "quorate.v1.ServiceSpec",
        "quorate.v1.BackupPolicy",
        "quorate.v1.LogRotation",
        "quorate.v1.ActionOutcome",
        "quorate.v1.ProbeSpec",
        "quorate.agent.v1.SessionRequest",
        "quorate.agent.v1.SessionResponse",
        "quorate.v1.Selector",
        "quorate.v1.FreezeSpec",
        "quorate.v1.WindowSpec",
        "quorate.v1.PolicySpec",
        "quorate.v1.ScheduleSpec",
    ];
    let pool =
        prost_reflect::DescriptorPool::decode(quorate_proto::DESCRIPTOR_SET).expect("our own descriptor");
    let mut seeds = Vec::new();
    for (which, name) in (0_u8..).zip(names) {
        let message = pool.get_message_by_name(name).expect("a message of ours");
        // Each alternative of a oneof is a seed of its own.
        let most = message.oneofs().map(|o| o.fields().len()).max().unwrap_or(1).max(1);
        for turn in 0..most {
            let mut bytes = vec![which];
            bytes.extend(filled(&message, turn, 0).encode_to_vec());
            seeds.push(bytes);
        }
    }
    seeds
}

/// Deeper messages stay empty.
const DEEPEST: usize = 5;

fn filled(of: &prost_reflect::MessageDescriptor, turn: usize, depth: usize) -> prost_reflect::DynamicMessage {
    let mut message = prost_reflect::DynamicMessage::new(of.clone());
    for field in of.fields() {
        let chosen = field.containing_oneof().is_none_or(|oneof| {
            oneof.fields().nth(turn % oneof.fields().len()).is_some_and(|f| f.number() == field.number())
        });
        if !chosen {
            continue;
        }
        let value = single(&field, turn, depth);
        let value = if field.is_list() { prost_reflect::Value::List(vec![value]) } else { value };
        if !field.is_map() {
            message.set_field(&field, value);
        }
    }
    message
}

fn single(field: &prost_reflect::FieldDescriptor, turn: usize, depth: usize) -> prost_reflect::Value {
    use prost_reflect::{Kind, Value};
    match field.kind() {
        Kind::Message(inner) if depth < DEEPEST => Value::Message(filled(&inner, turn, depth + 1)),
        Kind::Message(inner) => Value::Message(prost_reflect::DynamicMessage::new(inner)),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(text(field.name())),
        Kind::Bytes => Value::Bytes(bytes::Bytes::from_static(b"bytes")),
        Kind::Double => Value::F64(1.5),
        Kind::Float => Value::F32(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(3),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(3),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(3),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(3),
    }
}

/// A text that the field of this name is likely to take.
fn text(field: &str) -> String {
    match field {
        "sha256" | "output_sha256" => "a".repeat(64),
        "unit" => "scribe.service".to_owned(),
        "path" | "paths" | "socket" | "directory" => "/srv/data".to_owned(),
        "url" => "http://127.0.0.1:1/health".to_owned(),
        _ => "node1".to_owned(),
    }
}
