//! I-6: after a power cut at any instant the store opens again with what it promised; nothing stops by itself, nothing
//! panics. (That no vote is given twice in a term shows as I-4's one leader per term and terms that do not go back.)

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    evidence.broken.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stopped_by_itself_is_found() {
        let stopped =
            Evidence { broken: vec!["member 2 stopped by itself".to_owned()], ..Evidence::default() };
        assert_eq!(check(&stopped).len(), 1);
        assert!(check(&Evidence::default()).is_empty());
    }
}
