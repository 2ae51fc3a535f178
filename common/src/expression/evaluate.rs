//! Readings in, true or false out.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Value};
use quorate_model::Millionths;

use super::Expression;
use crate::wire::number::write_number;

/// What is known of one probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whether its newest reading passed.
    pub pass: bool,
    /// How old that reading is.
    pub age_ms: u64,
    /// What was measured, if anything was.
    pub value: Option<Millionths>,
    /// What an HTTP server answered, if one did.
    pub status: Option<u16>,
    /// The JSON document of the answer, if it was kept.
    pub body: Option<Arc<serde_json::Value>>,
}

/// Functions and types without their macros; made once, because it is the same for all.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::default().with_stdlib()));

impl Expression {
    /// Whether it holds. What is not known is not there: using it is an error.
    ///
    /// # Errors
    /// Why nothing can be said: a missing value, two things that cannot be compared, a result that is neither true nor false.
    pub fn evaluate(&self, seen: &BTreeMap<String, Seen>) -> Result<bool, String> {
        let known: HashMap<String, Value> =
            seen.iter().map(|(name, seen)| (name.clone(), probe(seen))).collect();
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.add_variable_from_value(super::ROOT, Value::from(known));
        match Value::resolve(&self.tree, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is neither true nor false but {}", kind(&other))),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a document",
        _ => "something else",
    }
}

fn probe(seen: &Seen) -> Value {
    let Seen { pass, age_ms, value, status, body } = seen;
    let mut fields: HashMap<String, Value> = HashMap::new();
    fields.insert("pass".to_owned(), Value::Bool(*pass));
    fields.insert("age_ms".to_owned(), Value::Int(i64::try_from(*age_ms).unwrap_or(i64::MAX)));
    if let Some(value) = value {
        fields.insert("value".to_owned(), Value::Float(write_number(*value)));
    }
    if let Some(status) = status {
        fields.insert("status".to_owned(), Value::Int(i64::from(*status)));
    }
    if let Some(body) = body {
        fields.insert("body".to_owned(), document(body));
    }
    Value::from(fields)
}

/// Whole numbers signed, because a comparison of signed with unsigned fails; all others as floats.
fn document(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(whole) => Value::Int(whole),
            None => n.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(s) => Value::String(Arc::new(s.clone())),
        serde_json::Value::Array(list) => Value::List(Arc::new(list.iter().map(document).collect())),
        serde_json::Value::Object(map) => {
            let map: HashMap<String, Value> = map.iter().map(|(k, v)| (k.clone(), document(v))).collect();
            Value::from(map)
        }
    }
}
