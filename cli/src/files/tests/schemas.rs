//! Schemas against the reader: what one takes, the other takes, by the example fleets and what they are turned into.

use std::path::Path;

use serde_json::Value;

use super::super::{kinds, schema};
use super::{examples, with, wrong};

/// Why a value does not fit a schema: the keywords that `schema` writes and no other, by the text of the standard. It is
/// written apart from the reader, so that the two judge one another.
fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let object = match schema {
        Value::Bool(true) => return None,
        Value::Object(object) => object,
        _ => return Some(format!("{at}: nothing fits")),
    };
    let fits = |schema: &Value| misfit(root, schema, value, at).is_none();
    object.iter().find_map(|(keyword, rule)| {
        let ok = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "additionalProperties" | "format" => true,
            "$ref" => {
                let target =
                    root.pointer(rule.as_str().unwrap().trim_start_matches('#')).expect("it is there");
                return misfit(root, target, value, at);
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "type" => {
                let own = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(n) if n.is_f64() => "number",
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                let same = |word: &Value| word == own || (word == "number" && own == "integer");
                rule.as_array().map_or_else(|| same(rule), |words| words.iter().any(same))
            }
            "minimum" => value.as_i64().zip(rule.as_i64()).is_none_or(|(value, least)| value >= least),
            "maximum" => value.as_u64().zip(rule.as_u64()).is_none_or(|(value, most)| value <= most),
            "pattern" => value
                .as_str()
                .is_none_or(|text| regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "required" => value.as_object().is_none_or(|own| {
                rule.as_array().unwrap().iter().all(|key| own.contains_key(key.as_str().unwrap()))
            }),
            "properties" => {
                let extra = object.get("additionalProperties").unwrap_or(&Value::Bool(true));
                let own = value.as_object()?;
                return own.iter().find_map(|(key, item)| {
                    misfit(root, rule.get(key).unwrap_or(extra), item, &format!("{at}.{key}"))
                });
            }
            "items" => {
                let own = value.as_array()?;
                return own
                    .iter()
                    .enumerate()
                    .find_map(|(i, item)| misfit(root, rule, item, &format!("{at}[{i}]")));
            }
            "oneOf" => rule.as_array().unwrap().iter().filter(|one| fits(one)).count() == 1,
            "anyOf" => rule.as_array().unwrap().iter().any(fits),
            "allOf" => rule.as_array().unwrap().iter().all(fits),
            other => panic!("this test does not know {other}"),
        };
        (!ok).then(|| format!("{at}: {keyword} {rule}"))
    })
}

/// The documents of a file as another reader gives them.
fn values(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn schema_of(value: &Value) -> Value {
    schema::schema(kinds::kind(value["kind"].as_str().unwrap()).unwrap()).unwrap()
}

/// Every object of a document with the way to it.
fn objects(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            out.push(at.to_owned());
            object.iter().for_each(|(key, item)| objects(item, &format!("{at}/{key}"), out));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| objects(item, &format!("{at}/{i}"), out));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn schemas_take_every_example_and_no_wrong_key() {
    let mut seen = 0;
    for (path, value) in examples().iter().flat_map(|path| values(path).into_iter().map(move |v| (path, v))) {
        let schema = schema_of(&value);
        assert_eq!(misfit(&schema, &schema, &value, "$"), None, "{}", path.display());
        let mut places = Vec::new();
        objects(&value, "", &mut places);
        for place in places.iter().filter(|place| !place.ends_with("labels") && !place.ends_with("vars")) {
            let mut changed = value.clone();
            changed.pointer_mut(place).unwrap()["colour"] = Value::from("red");
            assert!(misfit(&schema, &schema, &changed, "$").is_some(), "{place} of {}", path.display());
            assert_ne!(wrong(changed.to_string()), "", "the reader refuses {place}, too");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn what_a_schema_requires_the_conversion_requires() {
    // Take every field out of every object: where the schema minds, the reader minds, and with the same eyes.
    let mut missed = 0;
    for value in examples().iter().flat_map(|path| values(path)) {
        let schema = schema_of(&value);
        let mut places = Vec::new();
        objects(&value, "", &mut places);
        for place in places {
            let keys: Vec<String> =
                value.pointer(&place).unwrap().as_object().unwrap().keys().cloned().collect();
            for key in keys {
                let mut changed = value.clone();
                let _ = changed.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(&key);
                if misfit(&schema, &schema, &changed, "$").is_some() {
                    missed += 1;
                    assert_ne!(wrong(changed.to_string()), "", "{place} can do without {key}: {changed}");
                }
            }
        }
    }
    assert!(missed > 60, "{missed}");
}

#[test]
fn schemas_carry_the_comments_of_the_protocol() {
    for kind in kinds::KINDS {
        let schema = schema::schema(kind).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(
            (&schema["title"], &schema["properties"]["kind"]["const"]),
            (&kind.word.into(), &kind.word.into())
        );
        let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for object in definitions {
            assert_eq!(object["additionalProperties"], false);
            assert!(object["description"].is_string(), "{object:#}");
            for (key, property) in object["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{key} of {object:#}");
            }
        }
    }
    let service = schema::schema(kinds::kind("Service").unwrap()).unwrap();
    assert_eq!(
        service["properties"]["stopTimeout"]["description"],
        "Deadline of a graceful stop; 0 means 30 s."
    );
    assert_eq!(service["required"], serde_json::json!(["kind", "name", "driver", "nodes"]));
    // A driver is one thing, and a duration is a text.
    let driver = &service["$defs"]["Driver"];
    let fits = |value: Value| misfit(&service, driver, &value, "$").is_none();
    assert!(fits(serde_json::json!({"process": "x"})) && !fits(serde_json::json!({})));
    assert!(!fits(serde_json::json!({"process": "x", "systemdUnit": "x.service"})));
    let duration = &service["properties"]["stopTimeout"];
    for (text, good) in
        [("30s", true), ("1h 30m", true), ("1.5s", true), ("5", false), ("", false), ("s", false)]
    {
        assert_eq!(misfit(&service, duration, &Value::from(text), "$").is_none(), good, "{text:?}");
        assert_eq!(wrong(with(&format!("stopTimeout: \"{text}\"\n"))).is_empty(), good, "{text:?}");
    }
}
