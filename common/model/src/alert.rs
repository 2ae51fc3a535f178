//! Which alerts are meant: matchers, as Alertmanager writes them.

use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

/// Most matchers of one selection; all of them must hold, and nobody names one alert by more.
pub const ALERT_MATCHERS_MAX: usize = 16;

words! {
    /// How a label is compared with a matcher's value.
    pub enum MatchOp {
        /// Equal.
        Equal = "=",
        /// Not equal.
        NotEqual = "!=",
        /// The whole value fits a regular expression.
        Like = "=~",
        /// The whole value does not fit a regular expression.
        Unlike = "!~",
    }
}

/// What is asked of one label of an alert. A label that is not there is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertMatcher {
    /// The label's name.
    pub label: String,
    /// How it is compared.
    pub op: MatchOp,
    /// With what: a text, or an RE2 expression, which only Alertmanager itself reads.
    pub value: String,
}

impl AlertMatcher {
    /// Reads `label=value`, `!=`, `=~`, `!~`; the value with or without quotes.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (label, rest) = text.split_at(end);
        if !is_label(label) {
            return Err("it must begin with the name of a label");
        }
        let rest = rest.trim_start();
        // The longer ones first: each begins as a shorter one does.
        let ops = [MatchOp::Like, MatchOp::Unlike, MatchOp::NotEqual, MatchOp::Equal];
        let found = ops.iter().find_map(|op| Some((*op, rest.strip_prefix(op.as_str())?)));
        let (op, value) = found.ok_or("one of = != =~ !~ must follow the label")?;
        Ok(Self { label: label.to_string(), op, value: unquoted(value.trim())? })
    }

    /// Whether an alert without this label does not meet it, as far as that is told without reading an expression: Alertmanager,
    /// which reads it, has the last word. A silence needs one such matcher.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        match self.op {
            MatchOp::Equal => !self.value.is_empty(),
            MatchOp::Like => !matches!(self.value.as_str(), "" | ".*"),
            MatchOp::NotEqual | MatchOp::Unlike => self.value.is_empty(),
        }
    }

    /// Whether its label is one, as [`AlertMatcher::parse`] asks.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        is_label(&self.label)
    }
}

/// As Alertmanager reads it back: always in quotes, so that nothing in the value ends it.
impl fmt::Display for AlertMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"", self.label, self.op.as_str())?;
        for c in self.value.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}

fn is_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// Without its quotes and escapes. A backslash before anything but a quote, a backslash or an `n` stands for itself, as in
/// Alertmanager, so that `a\.b` is the expression that it looks like.
fn unquoted(text: &str) -> Result<String, &'static str> {
    let inner = match text.strip_prefix('"') {
        Some(open) => open.strip_suffix('"').ok_or("the value's closing quote is missing")?,
        None => text,
    };
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err("a quote in the value needs a backslash"),
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(other) => value.extend(['\\', other]),
                None => return Err("the value ends with a backslash"),
            },
            other => value.push(other),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alertmanager_writes_is_read_and_written() {
        let cases = [
            ("severity=critical", "severity=\"critical\""),
            (" instance =~ \"${node}:.*\" ", "instance=~\"${node}:.*\""),
            ("job!=", "job!=\"\""),
            (r"host!~a\.b", r#"host!~"a\\.b""#),
            (r#"say="a \"b\" \\ c, {d}""#, r#"say="a \"b\" \\ c, {d}""#),
            ("_x1==y", "_x1=\"=y\""),
        ];
        for (text, written) in cases {
            let matcher = AlertMatcher::parse(text).unwrap();
            assert_eq!(matcher.to_string(), written);
            assert_eq!(AlertMatcher::parse(written), Ok(matcher));
        }
    }

    #[test]
    fn what_is_no_matcher_is_refused() {
        for text in
            ["", "=x", "1a=x", "a", "a>1", "a-b=c", "a=\"x", "a=\"", "a=b\"c", "a=b\\", "ä=x", "{a=b}"]
        {
            assert!(AlertMatcher::parse(text).is_err(), "{text}");
        }
    }
}
