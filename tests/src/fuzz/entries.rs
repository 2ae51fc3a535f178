//! 3: any entries in any order. Two replicas, one of which is replaced by its own snapshot now and then, stay the same
//! (I-7); a repeated request id gets the first answer and does nothing (I-5); the audit stays whole (I-32).

use std::sync::OnceLock;

use quorate_core::state::audit;
use quorate_core::{Answer, Entry, State, apply};
use quorate_model::{RequestId, Timestamp};
use serde_json::Value;

/// Bytes that describe one entry.
const STRIDE: usize = 6;
/// Entries of one run.
const ENTRIES_MAX: usize = 64;

pub(super) fn run(data: &[u8]) {
    let samples = samples();
    let (mut steady, mut restored) = (State::default(), State::default());
    for (index, step) in (1_u64..).zip(data.chunks_exact(STRIDE).take(ENTRIES_MAX)) {
        let Some(entry) = entry(samples, step) else { continue };
        let one = apply(&mut steady, index, &entry);
        let other = apply(&mut restored, index, &entry);
        assert_eq!(one, other, "two replicas answered differently");
        if step[5] % 8 == 1 {
            let bytes = rmp_serde::to_vec_named(&restored).expect("a state encodes");
            restored = rmp_serde::from_slice(&bytes).expect("a snapshot decodes");
        }
        if entry.request_id.is_some() && step[5] % 8 == 3 {
            repeat(&steady, index, &entry, &one);
        }
    }
    assert_eq!(steady.digest(), restored.digest(), "two replicas are different");
    assert_eq!(audit::verify_kept(&steady.audit), Ok(()));
}

/// The same request once more, on a copy: the same answer, and nothing but the clock and the revision moves.
fn repeat(state: &State, index: u64, entry: &Entry, first: &Answer) {
    let mut copy = state.clone();
    let again = apply(&mut copy, index + 1, entry);
    assert_eq!(&again, first, "the same request id got another answer");
    copy.revision = state.revision;
    // Answers past their life are forgotten at every entry, also at this one.
    copy.dedupe = state.dedupe.clone();
    assert_eq!(copy.digest(), state.digest(), "a repeated request changed something");
}

fn samples() -> &'static [Value] {
    static SAMPLES: OnceLock<Vec<Value>> = OnceLock::new();
    SAMPLES.get_or_init(made_samples)
}

fn made_samples() -> Vec<Value> {
    super::frozen_entries()
        .iter()
        .map(|bytes| rmp_serde::from_slice::<Entry>(bytes).expect("a frozen entry"))
        .map(|entry| serde_json::to_value(entry).expect("an entry is JSON too"))
        .collect()
}

/// A frozen entry with another time, another request id and one leaf changed.
fn entry(samples: &[Value], step: &[u8]) -> Option<Entry> {
    let mut value = samples.get(usize::from(step[0]) % samples.len())?.clone();
    if step[3] != 0 {
        let mut leaves = 0;
        count(&value, &mut leaves);
        let mut at = usize::from(step[2]) % leaves.max(1);
        change(&mut value, &mut at, step[3]);
    }
    let mut entry: Entry = serde_json::from_value(value).ok()?;
    entry.at = Timestamp(entry.at.0.wrapping_add(i64::from(step[1]) * 1_000));
    entry.request_id = (!step[4].is_multiple_of(3))
        .then(|| RequestId::new(format!("request-{}", step[4] % 16)).ok())
        .flatten();
    Some(entry)
}

fn count(value: &Value, leaves: &mut usize) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| count(item, leaves)),
        Value::Object(fields) => fields.values().for_each(|field| count(field, leaves)),
        _ => *leaves += 1,
    }
}

fn change(value: &mut Value, at: &mut usize, how: u8) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, at, how)),
        Value::Object(fields) => fields.values_mut().for_each(|field| change(field, at, how)),
        leaf => {
            if *at == 0 {
                *leaf = other(leaf, how);
            }
            *at = at.wrapping_sub(1);
        }
    }
}

fn other(leaf: &Value, how: u8) -> Value {
    match leaf {
        Value::Number(_) => {
            let edges = [0, 1, 2, 7, u64::from(u32::MAX), u64::MAX - 1, u64::MAX, u64::from(how)];
            Value::from(edges[usize::from(how) % edges.len()])
        }
        Value::String(_) => {
            let words = ["node1", "node2", "node3", "ledger", "r-1", "x-1", "p-1", "", "..", "a\nb"];
            Value::from(words[usize::from(how) % words.len()])
        }
        Value::Bool(old) => Value::from(!old),
        _ => Value::Null,
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let count = u8::try_from(super::frozen_entries().len()).unwrap_or(u8::MAX);
    let in_order: Vec<u8> = (0..count).flat_map(|i| [i, 0, 0, 0, 0, 0]).collect();
    let repeated: Vec<u8> = (0..count).flat_map(|i| [i, 1, 0, 0, i, 3]).collect();
    let changed: Vec<u8> = (0..count).flat_map(|i| [i, 1, i.wrapping_mul(7), i | 1, i, 3]).collect();
    [in_order, repeated, changed]
        .into_iter()
        .flat_map(|all| all.chunks(STRIDE * 24).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect()
}
