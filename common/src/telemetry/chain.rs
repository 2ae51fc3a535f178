//! Errors with their causes, for a line of a log.

/// An error and what caused it, in one line. What a text already ends with is not said twice.
#[must_use]
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::error_text;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn causes_follow_and_nothing_is_said_twice() {
        let full = Outer { text: "cannot write key.pem", source: io::Error::other("no space") };
        assert_eq!(error_text(&full), "cannot write key.pem: no space");
        let told = Outer { text: "cannot write key.pem: no space", source: io::Error::other("no space") };
        assert_eq!(error_text(&told), "cannot write key.pem: no space");
    }
}
