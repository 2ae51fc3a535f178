//! Texts, names and labels: what may be in them, and how they are shown when they come from somebody else.

use std::collections::BTreeMap;

use quorate_model::RequestId;
use quorate_model::id::InvalidName;

use super::Invalid;
use super::invalid::at_most;
use super::limits::{LABEL_MAX_BYTES, LABELS_MAX};

/// Characters that change what a reader sees: controls (with ANSI escapes and NUL) and text direction overrides.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with deceptive characters replaced, cut at `max` bytes: for texts that are shown or logged.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if is_deceptive(c) { '\u{fffd}' } else { c };
        if clean.len() + c.len_utf8() > max {
            break;
        }
        clean.push(c);
    }
    clean
}

/// A free text of one line.
///
/// # Errors
/// [`Invalid`] when it is longer than `max` bytes or holds control or text direction characters.
pub fn read_text(field: &str, text: String, max: usize) -> Result<String, Invalid> {
    if text.len() > max {
        return Err(Invalid::new(field, format!("{} bytes, {max} is the limit", text.len())));
    }
    if text.chars().any(is_deceptive) {
        return Err(Invalid::new(field, "it holds a control or text direction character"));
    }
    Ok(text)
}

/// A text that must not be empty.
///
/// # Errors
/// As [`read_text`], or when it is empty.
pub fn read_filled(field: &str, text: String, max: usize) -> Result<String, Invalid> {
    if text.is_empty() {
        return Err(Invalid::missing(field));
    }
    read_text(field, text, max)
}

/// A name or id of any type of `quorate_model::id`.
///
/// # Errors
/// [`Invalid`] with what is wrong with it.
pub fn read_name<T>(field: &str, text: String) -> Result<T, Invalid>
where
    T: TryFrom<String, Error = InvalidName>,
{
    T::try_from(text).map_err(|error| Invalid::new(field, error.to_string()))
}

/// A name or id that may be left out.
///
/// # Errors
/// As [`read_name`].
pub fn read_optional_name<T>(field: &str, text: String) -> Result<Option<T>, Invalid>
where
    T: TryFrom<String, Error = InvalidName>,
{
    if text.is_empty() { Ok(None) } else { read_name(field, text).map(Some) }
}

/// A caller's own id of a request. It need not be a UUID: a script may name its runs as it likes. The nil UUID is refused,
/// because it is what a caller sends that forgot to make an id: all of its requests would be one.
///
/// # Errors
/// As [`read_name`], or when it is the nil UUID.
pub fn read_request_id(field: &str, text: String) -> Result<RequestId, Invalid> {
    if !text.is_empty() && text.bytes().all(|b| matches!(b, b'0' | b'-')) {
        return Err(Invalid::new(field, "it is all zeros: make an id for each request"));
    }
    read_name(field, text)
}

/// A label's key: what selectors can express.
///
/// # Errors
/// [`Invalid`] when it is empty, too long, or holds other than letters, digits, `-`, `_`, `.`, `/`.
pub fn read_label_key(field: &str, key: &str) -> Result<(), Invalid> {
    if key.is_empty() {
        return Err(Invalid::new(field, "a key is empty"));
    }
    read_label_text(field, key)
}

fn read_label_text(field: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > LABEL_MAX_BYTES {
        let why = format!("a key or value has {} bytes, {LABEL_MAX_BYTES} is the limit", text.len());
        return Err(Invalid::new(field, why));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/')) {
        return Err(Invalid::new(field, "only letters, digits, '-', '_', '.' and '/' are allowed"));
    }
    Ok(())
}

/// Labels of a thing.
///
/// # Errors
/// [`Invalid`] when there are too many, or a key or value is not allowed.
pub fn read_labels(
    field: &str,
    labels: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Invalid> {
    at_most(field, labels.len(), LABELS_MAX)?;
    for (key, value) in &labels {
        read_label_key(field, key)?;
        read_label_text(field, value)?;
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use quorate_model::NodeName;

    use super::*;

    #[test]
    fn hostile_labels_are_refused_and_the_field_is_named() {
        for (key, value) in [
            ("", "x"),
            ("k\n", "x"),
            ("k", "\u{1b}[31m"),
            ("k", "\u{202e}gpj"),
            ("k", "a\0b"),
            ("k", "\u{1f600}"),
            ("k y", "x"),
            (&"k".repeat(129), "x"),
            ("k", &"v".repeat(10 << 20)),
        ] {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let invalid = read_labels("labels", labels).unwrap_err();
            assert_eq!(invalid.field, "labels");
            assert!(invalid.to_string().starts_with("bad_field:labels: "));
            assert!(!invalid.to_string().chars().any(is_deceptive), "the value leaked into {invalid:?}");
        }
        let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(read_labels("labels", many).is_err());
        let good = BTreeMap::from([("role".into(), "validator".into()), ("a.b/c".into(), String::new())]);
        assert!(read_labels("labels", good).is_ok());
    }

    #[test]
    fn shown_texts_hold_nothing_that_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c", 99), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(printable("ééé", 5), "éé", "it is cut at a character");
        assert!(read_text("reason", "two\nlines".into(), 512).is_err());
        assert!(read_text("reason", "ok \u{1f600}".into(), 512).is_ok());
    }

    #[test]
    fn hostile_request_ids_are_refused() {
        let nil = "00000000-0000-0000-0000-000000000000";
        let long = "a".repeat(65);
        for bad in ["", nil, "0", "a b", "a\nb", "a\0", "-a", "\u{1b}[2J", "é", &long, "$(id)", "a;b", "../a"]
        {
            let invalid = read_request_id("options.request_id", bad.into()).unwrap_err();
            assert_eq!(invalid.field, "options.request_id");
            assert!(!invalid.to_string().chars().any(is_deceptive), "{invalid:?}");
        }
        for good in
            ["0192f3a4-7b1c-7d2e-8f30-a1b2c3d4e5f6", "nightly:2026-11-21@node1", "0192f3.start", &long[1..]]
        {
            assert_eq!(read_request_id("x", good.into()).unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_say_what_is_wrong() {
        let invalid = read_name::<NodeName>("name", "../etc".into()).unwrap_err();
        assert_eq!(invalid.field, "name");
        assert!(invalid.why.contains("node name"), "{invalid}");
        assert_eq!(read_optional_name::<NodeName>("name", String::new()), Ok(None));
    }
}
