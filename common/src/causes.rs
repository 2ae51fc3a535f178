//! An error and why, in one line: what a person reads at the end of a log line or of a process.

use std::error::Error;

/// The error's text with that of every cause behind it, joined by `: `.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer one")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told() {
        let error = Outer(std::io::Error::other("the inner one"));
        assert_eq!(with_causes(&error), "the outer one: the inner one");
    }
}
