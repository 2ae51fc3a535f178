//! Selectors.

use quorate_model::Selector;
use quorate_model::selector::Requirement;
use quorate_proto::v1;

use super::Invalid;
use super::invalid::each;
use super::limits::{GLOB_MAX_BYTES, SELECTOR_NAMES_MAX};

/// A selector that must choose something.
///
/// # Errors
/// [`Invalid`] with `EMPTY_SELECTOR` when it is absent or says nothing, else when it is malformed.
pub fn read_selector(field: &str, selector: Option<v1::Selector>) -> Result<Selector, Invalid> {
    read_optional_selector(field, selector)?.ok_or_else(|| Invalid::empty_selector(field))
}

/// A selector that may be absent. One that is present must choose something: an empty selector never means all.
///
/// # Errors
/// [`Invalid`] when it is present and empty or malformed.
pub fn read_optional_selector(
    field: &str,
    selector: Option<v1::Selector>,
) -> Result<Option<Selector>, Invalid> {
    let Some(v1::Selector { all, names, labels }) = selector else { return Ok(None) };
    let names = each("names", names, SELECTOR_NAMES_MAX, read_glob).map_err(|i| i.within(field))?;
    let labels = if labels.is_empty() {
        Vec::new()
    } else {
        Selector::parse_labels(&labels)
            .map_err(|error| Invalid::new(format!("{field}.labels"), error.to_string()))?
            .labels
    };
    let selector = Selector { all, names, labels };
    if selector.is_empty() {
        return Err(Invalid::empty_selector(field));
    }
    Ok(Some(selector))
}

fn read_glob(glob: String) -> Result<String, Invalid> {
    if glob.is_empty() {
        return Err(Invalid::new("", "it is empty"));
    }
    if glob.len() > GLOB_MAX_BYTES {
        return Err(Invalid::new("", format!("{} bytes, {GLOB_MAX_BYTES} is the limit", glob.len())));
    }
    let fits =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'*' | b'?');
    if !glob.bytes().all(fits) {
        return Err(Invalid::new("", "only names with '*' and '?' are allowed"));
    }
    Ok(glob)
}

/// As a message; the labels are written in the form that `Selector::parse_labels` reads.
#[must_use]
pub fn write_selector(selector: &Selector) -> v1::Selector {
    let Selector { all, names, labels } = selector;
    let labels: Vec<String> = labels.iter().map(write_requirement).collect();
    v1::Selector { all: *all, names: names.clone(), labels: labels.join(",") }
}

fn write_requirement(requirement: &Requirement) -> String {
    let set = |key: &str, values: &[String], one: &str, many: &str| match values {
        [value] => format!("{key}{one}{value}"),
        values => format!("{key} {many} ({})", values.join(",")),
    };
    match requirement {
        Requirement::In { key, values } => set(key, values, "=", "in"),
        Requirement::NotIn { key, values } => set(key, values, "!=", "notin"),
        Requirement::Exists { key } => key.clone(),
        Requirement::Missing { key } => format!("!{key}"),
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::Reason;

    use super::*;

    #[test]
    fn an_empty_selector_has_its_own_code() {
        for empty in [None, Some(v1::Selector::default())] {
            let invalid = read_selector("selector", empty).unwrap_err();
            assert_eq!((invalid.reason, invalid.field.as_str()), (Reason::EmptySelector, "selector"));
        }
        assert!(read_optional_selector("selector", Some(v1::Selector::default())).is_err());
    }

    #[test]
    fn selectors_come_back() {
        let labels = "role=validator,zone in (a,b),!spare,x,tier!=test,y notin (1,2)";
        let message = v1::Selector { all: false, names: vec!["node*".into()], labels: labels.into() };
        let selector = read_selector("s", Some(message)).unwrap();
        assert_eq!(read_selector("s", Some(write_selector(&selector))), Ok(selector));
    }

    #[test]
    fn hostile_selectors_name_the_place() {
        let names = |names: Vec<String>| v1::Selector { all: false, names, labels: String::new() };
        for bad in ["", "a/b", "A", "x\n", "-é", &"a".repeat(129)] {
            let invalid = read_selector("s", Some(names(vec!["ok".into(), bad.to_owned()]))).unwrap_err();
            assert_eq!(invalid.field, "s.names[1]");
        }
        assert!(read_selector("s", Some(names(vec!["a".into(); 1_001]))).is_err());
        let broken = v1::Selector { all: false, names: vec![], labels: "zone in (a".into() };
        assert_eq!(read_selector("s", Some(broken)).unwrap_err().field, "s.labels");
    }
}
