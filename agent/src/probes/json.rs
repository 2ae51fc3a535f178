//! Paths into a JSON document, and comparisons. Pure.

use std::cmp::Ordering;

use quorate_model::Comparison;
use serde_json::Value;

/// Most steps of a path; no answer of a service is deeper.
const STEPS_MAX: usize = 32;

/// The value at a path: dotted (`status.peers.0.state`), or an RFC 6901 pointer when it begins with `/` (for keys that
/// hold dots). The empty path is the document.
pub(super) fn at<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path.starts_with('/') {
        return document.pointer(path);
    }
    path.split('.').take(STEPS_MAX + 1).enumerate().try_fold(document, |value, (i, step)| {
        if i == STEPS_MAX {
            return None;
        }
        match value {
            Value::Object(map) => map.get(step),
            Value::Array(list) => list.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    })
}

/// A scalar as text, for keys and roles.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number that is not negative, as a number or as text.
pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::String(s) => s.parse().ok(),
        other => other.as_u64(),
    }
}

/// Compares; `None` when the two can not be compared so (text with `<`, a number with text).
pub(super) fn holds(left: &Value, op: Comparison, right: &Value) -> Option<bool> {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
        },
        _ => {
            let comparable = std::mem::discriminant(left) == std::mem::discriminant(right);
            return match op {
                Comparison::Eq if comparable => Some(left == right),
                Comparison::Ne if comparable => Some(left != right),
                // `null` or another type: not equal, and nothing else can be said.
                Comparison::Eq => Some(false),
                Comparison::Ne => Some(true),
                Comparison::Lt | Comparison::Le | Comparison::Gt | Comparison::Ge => None,
            };
        }
    };
    Some(match op {
        Comparison::Eq => order == Ordering::Equal,
        Comparison::Ne => order != Ordering::Equal,
        Comparison::Lt => order == Ordering::Less,
        Comparison::Le => order != Ordering::Greater,
        Comparison::Gt => order == Ordering::Greater,
        Comparison::Ge => order != Ordering::Less,
    })
}

fn whole(n: &serde_json::Number) -> Option<i128> {
    n.as_u64().map(i128::from).or_else(|| n.as_i64().map(i128::from))
}
