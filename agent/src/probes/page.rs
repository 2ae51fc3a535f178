//! Prometheus text pages: one number out of many lines. Pure.
//!
//! Must never: take a line that it does not understand for another one, or choose among several series. A sum of quantiles, or of
//! a counter and its copy, is a number that means nothing; whoever wants another series names its labels.

use std::collections::BTreeMap;

/// Longest line that is read, in bytes; a series with long labels has some hundred.
const LINE_MAX_BYTES: usize = 16 * 1024;
/// Most labels of a line.
const LABELS_MAX: usize = 64;

/// The number of the one series that has this name and these labels; it may have other labels.
///
/// # Errors
/// A sentence: none or several match, or a line of this name cannot be read.
pub fn number(page: &[u8], metric: &str, labels: &BTreeMap<String, String>) -> Result<f64, String> {
    let mut found = None;
    for (index, line) in page.split(|b| *b == b'\n').enumerate() {
        let Some(rest) = line.trim_ascii_start().strip_prefix(metric.as_bytes()) else { continue };
        // Another name that only begins so.
        if !matches!(rest.first(), Some(b'{' | b' ' | b'\t')) {
            continue;
        }
        let line = index.saturating_add(1);
        let (own, value) = sample(rest).ok_or_else(|| format!("line {line} of {metric} cannot be read"))?;
        if labels.iter().any(|(key, wanted)| own.get(key) != Some(wanted)) {
            continue;
        }
        if found.is_some() {
            return Err(format!("more than one series of {metric} matches; its labels must tell them apart"));
        }
        found = Some(value);
    }
    found.ok_or_else(|| format!("there is no series of {metric} with these labels"))
}

/// What stands behind a name: labels, value, and a time that is of no interest.
fn sample(rest: &[u8]) -> Option<(BTreeMap<String, String>, f64)> {
    if rest.len() > LINE_MAX_BYTES {
        return None;
    }
    let rest = std::str::from_utf8(rest).ok()?.trim();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => read_labels(inner)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => Some((labels, value)),
        (Some(time), None) => time.parse::<f64>().ok().map(|_| (labels, value)),
        (Some(_), Some(_)) => None,
    }
}

/// Labels up to the closing brace, and what follows it.
fn read_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_end();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':') {
            return None;
        }
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        if labels.len() >= LABELS_MAX || labels.insert(key.to_owned(), value).is_some() {
            return None;
        }
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// A text up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at.saturating_add(1)..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}
