//! No field number, no name and no type of a released protocol is ever used again for something else.
//!
//! `frozen.txt` holds one line per message field, enum value and method of every release. A line may be added; a line that
//! is there must stay true. `UPDATE_FROZEN=1 cargo test -p quorate-proto` appends what is new; it never takes a line out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, MessageDescriptor};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(quorate_proto::DESCRIPTOR_SET).expect("our own descriptor decodes")
}

fn message_lines(message: &MessageDescriptor, lines: &mut BTreeSet<String>) {
    for field in message.fields() {
        let mut line = format!("field {} {}", message.full_name(), field.number());
        let _ = write!(line, " {} {:?} {:?}", field.name(), field.kind(), field.cardinality());
        lines.insert(line);
    }
}

/// Everything a peer of another version relies on, one line each.
fn lines(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for message in pool.all_messages().filter(|m| m.full_name().starts_with("quorate.")) {
        message_lines(&message, &mut lines);
    }
    for item in pool.all_enums().filter(|e| e.full_name().starts_with("quorate.")) {
        for value in item.values() {
            lines.insert(format!("enum {} {} {}", item.full_name(), value.number(), value.name()));
        }
    }
    for service in pool.services() {
        for method in service.methods() {
            lines.insert(format!(
                "method {} {} -> {} {} {}",
                method.full_name(),
                method.input().full_name(),
                method.output().full_name(),
                method.is_client_streaming(),
                method.is_server_streaming()
            ));
        }
    }
    lines
}

fn frozen_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen.txt")
}

#[test]
fn what_was_frozen_is_still_there() {
    let now = lines(&pool());
    let text = fs::read_to_string(frozen_path()).unwrap_or_default();
    let frozen: BTreeSet<String> = text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
    let gone: Vec<&String> = frozen.difference(&now).collect();
    assert!(gone.is_empty(), "changed or removed since it was frozen: {gone:#?}");

    let fresh: Vec<&String> = now.difference(&frozen).collect();
    if env::var_os("UPDATE_FROZEN").is_some() {
        let mut text =
            String::from("# Frozen protocol. Lines are added, never changed. First frozen 2026-11-21.\n");
        for line in frozen.union(&now) {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(frozen_path(), text).expect("frozen.txt is writable");
    } else {
        assert!(fresh.is_empty(), "not frozen yet, run with UPDATE_FROZEN=1: {fresh:#?}");
    }
}

#[test]
fn every_call_has_a_request_and_a_response_of_its_own() {
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for service in pool().services() {
        for method in service.methods() {
            for (message, suffix) in [(method.input(), "Request"), (method.output(), "Response")] {
                assert_eq!(message.name(), format!("{}{suffix}", method.name()), "{}", method.full_name());
                let before = used.insert(message.full_name().to_owned(), method.full_name().to_owned());
                assert_eq!(before, None, "{} serves two calls", message.full_name());
            }
        }
    }
    assert!(used.len() > 60, "only {} messages were looked at", used.len());
}

#[test]
fn every_enum_begins_with_unspecified_and_carries_its_prefix() {
    let mut seen = 0;
    for item in pool().all_enums().filter(|e| e.full_name().starts_with("quorate.")) {
        let mut prefix = String::new();
        for (i, c) in item.name().chars().enumerate() {
            if c.is_ascii_uppercase() && i > 0 {
                prefix.push('_');
            }
            prefix.push(c.to_ascii_uppercase());
        }
        for value in item.values() {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.full_name());
        }
        let zero = item.get_value(0).expect("a zero value");
        let name = zero.name().to_owned();
        assert_eq!(name, format!("{prefix}_UNSPECIFIED"));
        seen += 1;
    }
    assert!(seen >= 15, "only {seen} enums were looked at");
}
