//! Selectors: label expressions, names and globs that choose nodes. An empty selector never means all.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest selector text in bytes.
pub const SELECTOR_MAX_BYTES: usize = 4 * 1024;

/// Chooses nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Every node; must be said on purpose.
    #[serde(default)]
    pub all: bool,
    /// Names and globs (`*`, `?`); a node that matches any is in.
    #[serde(default)]
    pub names: Vec<String>,
    /// Label requirements; a node must meet all of them.
    #[serde(default)]
    pub labels: Vec<Requirement>,
}

/// One label requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// `key=value`, `key in (a,b)`.
    In {
        /// Label key.
        key: String,
        /// Accepted values.
        values: Vec<String>,
    },
    /// `key!=value`, `key notin (a,b)`; a node without the label meets it.
    NotIn {
        /// Label key.
        key: String,
        /// Refused values.
        values: Vec<String>,
    },
    /// `key`.
    Exists {
        /// Label key.
        key: String,
    },
    /// `!key`.
    Missing {
        /// Label key.
        key: String,
    },
}

/// A selector text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// Byte offset of the place.
    pub at: usize,
    /// What was expected there.
    pub why: &'static str,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid selector at byte {}: {}", self.at, self.why)
    }
}

impl core::error::Error for SelectorError {}

impl Selector {
    /// One node by name.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self { all: false, names: alloc::vec![name.to_string()], labels: Vec::new() }
    }

    /// True when it says nothing at all; such a selector matches nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty() && self.labels.is_empty()
    }

    /// Whether a node is chosen.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.is_empty() {
            return false;
        }
        let by_name = self.names.is_empty() || self.names.iter().any(|pattern| glob(pattern, name));
        by_name && self.labels.iter().all(|requirement| requirement.holds(labels))
    }

    /// Reads label expressions: `role=validator,zone in (a,b),!spare`.
    ///
    /// # Errors
    /// [`SelectorError`] with the byte offset, when the text is empty, too long or malformed.
    pub fn parse_labels(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_MAX_BYTES {
            return Err(SelectorError { at: SELECTOR_MAX_BYTES, why: "it is longer than 4 KiB" });
        }
        let mut labels = Vec::new();
        let mut rest = text;
        loop {
            let (requirement, tail) = parse_one(rest).map_err(|why| SelectorError {
                at: text.len().saturating_sub(rest.trim_start().len()),
                why,
            })?;
            labels.push(requirement);
            match tail.trim_start() {
                "" => return Ok(Self { all: false, names: Vec::new(), labels }),
                tail if tail.starts_with(',') => rest = &tail[1..],
                tail => {
                    return Err(SelectorError {
                        at: text.len().saturating_sub(tail.len()),
                        why: "expected ',' between requirements",
                    });
                }
            }
        }
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In { key, values } => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn { key, values } => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists { key } => labels.contains_key(key),
            Self::Missing { key } => !labels.contains_key(key),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

fn word(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.trim_start();
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    if end == 0 { Err("expected a label key or value") } else { Ok((text[..end].to_string(), &text[end..])) }
}

fn parse_one(text: &str) -> Result<(Requirement, &str), &'static str> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest)?;
        return Ok((Requirement::Missing { key }, rest));
    }
    let (key, rest) = word(text)?;
    let after = rest.trim_start();
    for (sign, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some(rest) = after.strip_prefix(sign) {
            let (value, rest) = word(rest)?;
            return Ok((set(key, alloc::vec![value], negative), rest));
        }
    }
    for (keyword, negative) in [("notin", true), ("in", false)] {
        if let Some(rest) = after.strip_prefix(keyword)
            && rest.starts_with([' ', '('])
        {
            let (values, rest) = list(rest)?;
            return Ok((set(key, values, negative), rest));
        }
    }
    Ok((Requirement::Exists { key }, rest))
}

fn set(key: String, values: Vec<String>, negative: bool) -> Requirement {
    if negative { Requirement::NotIn { key, values } } else { Requirement::In { key, values } }
}

fn list(text: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut rest = text.trim_start().strip_prefix('(').ok_or("expected '('")?;
    let mut values = Vec::new();
    loop {
        let (value, tail) = word(rest)?;
        values.push(value);
        let tail = tail.trim_start();
        if let Some(done) = tail.strip_prefix(')') {
            return Ok((values, done));
        }
        rest = tail.strip_prefix(',').ok_or("expected ',' or ')'")?;
    }
}

/// `*` and `?` matching in linear space and at most quadratic time; no backtracking blow-up.
fn glob(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut pi, mut ti) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ti < t.len() {
        match p.get(pi) {
            Some(b'*') => {
                star = Some((pi, ti));
                pi += 1;
            }
            Some(&c) if c == b'?' || c == t[ti] => {
                pi += 1;
                ti += 1;
            }
            _ => match star {
                Some((sp, st)) => {
                    star = Some((sp, st + 1));
                    pi = sp + 1;
                    ti = st + 1;
                }
                None => return false,
            },
        }
    }
    p[pi..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[test]
    fn label_expressions_choose_as_kubectl_does() {
        let selector = Selector::parse_labels("role=validator,zone in (a,b),!spare,tier!=test").unwrap();
        assert!(selector.matches("n1", &labels(&[("role", "validator"), ("zone", "b")])));
        assert!(!selector.matches("n1", &labels(&[("role", "validator"), ("zone", "c")])));
        assert!(!selector.matches("n1", &labels(&[("role", "validator"), ("zone", "a"), ("spare", "1")])));
    }

    #[test]
    fn an_empty_selector_never_means_all() {
        assert!(!Selector::default().matches("n1", &labels(&[])));
        assert!(Selector::parse_labels("").is_err());
    }

    #[test]
    fn globs_match_without_blowing_up() {
        assert!(glob("node*", "node12") && glob("n?de1", "node1") && !glob("node?", "node"));
        assert!(!glob(&"*a".repeat(200), &"b".repeat(2_000)));
    }

    #[test]
    fn errors_name_the_place() {
        for bad in ["role=", "zone in (a", "a b", "in (", "a=b,,c", "é=1"] {
            assert!(Selector::parse_labels(bad).is_err(), "{bad}");
        }
    }
}
