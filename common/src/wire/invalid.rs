//! What is wrong with a message, and where.

use quorate_model::Reason;

/// A field that cannot be accepted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad_field:{field}: {why}")]
pub struct Invalid {
    /// Stable code: `INVALID_ARGUMENT` but for a few that have their own.
    pub reason: Reason,
    /// Path of the field in the message, in proto spelling: `spec.probes[2].http.url`.
    pub field: String,
    /// What is wrong with it, without its value: a hostile value must not travel into logs and terminals.
    pub why: String,
    /// The line it stands in and the byte where, for a text that its author must be shown. Printable and bounded.
    pub place: Option<Box<(String, usize)>>,
}

impl Invalid {
    /// A field and what is wrong with it.
    #[must_use]
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidArgument, field: field.into(), why: why.into(), place: None }
    }

    /// A field that must be there and is not.
    #[must_use]
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "it is missing")
    }

    /// A selector that chooses nothing.
    #[must_use]
    pub fn empty_selector(field: impl Into<String>) -> Self {
        Self {
            reason: Reason::EmptySelector,
            field: field.into(),
            why: "it chooses nothing; an empty selector never means all".into(),
            place: None,
        }
    }

    /// The same, with the place in the line. What may hold anything but plain characters is not shown.
    #[must_use]
    pub fn in_line(mut self, line: &str, at: usize) -> Self {
        /// Around the place: what fits a screen.
        const AROUND: usize = 48;
        if line.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let from = at.saturating_sub(AROUND);
            let shown = line.chars().skip(from).take(AROUND.saturating_mul(2)).collect();
            self.place = Some(Box::new((shown, at.saturating_sub(from))));
        }
        self
    }

    /// The lines of the place, the second with a caret under it; none when there is no place.
    #[must_use]
    pub fn caret(&self) -> Vec<String> {
        self.place.iter().flat_map(|place| [place.0.clone(), format!("{}^", " ".repeat(place.1))]).collect()
    }

    /// The same, seen from one level above.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = if self.field.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.field) };
        self
    }

    /// The same, in an element of a list.
    #[must_use]
    pub fn at(self, list: &str, index: usize) -> Self {
        self.within(&format!("{list}[{index}]"))
    }
}

/// Checks a list's length.
///
/// # Errors
/// [`Invalid`] when it is longer than `max`.
pub fn at_most(field: &str, length: usize, max: usize) -> Result<(), Invalid> {
    if length > max {
        return Err(Invalid::new(field, format!("{length} entries, {max} is the limit")));
    }
    Ok(())
}

/// Reads every element of a list with its index.
///
/// # Errors
/// [`Invalid`] when the list is longer than `max`, or of the first element that is wrong.
pub fn each<T, U>(
    field: &str,
    list: Vec<T>,
    max: usize,
    read: impl Fn(T) -> Result<U, Invalid>,
) -> Result<Vec<U>, Invalid> {
    at_most(field, list.len(), max)?;
    list.into_iter()
        .enumerate()
        .map(|(index, element)| read(element).map_err(|invalid| invalid.at(field, index)))
        .collect()
}
