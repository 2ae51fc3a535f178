//! I-19: every accepted operation has ended when the quiet phase has.

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let finals = evidence.finals.iter();
    finals
        .flat_map(|(id, last)| last.open.iter().map(move |open| format!("member {id}: {open} is still open")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn an_open_operation_is_found() {
        let mut run = samples::good();
        assert!(check(&run).is_empty());
        run.finals.get_mut(&1).unwrap().open.push("o-1 Running".to_owned());
        assert_eq!(check(&run), ["member 1: o-1 Running is still open"]);
    }
}
