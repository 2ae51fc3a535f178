//! I-18 on one node: its changes are serialized, by what really began and ended there.

use std::collections::BTreeMap;

use crate::world::evidence::{Act, Evidence};

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut by_node: BTreeMap<&str, Vec<&Act>> = BTreeMap::new();
    for act in &evidence.acts {
        by_node.entry(&act.node).or_default().push(act);
    }
    let mut breaches = Vec::new();
    for acts in by_node.values_mut() {
        acts.sort_by_key(|act| act.from);
        for pair in acts.windows(2) {
            if let [first, second] = pair
                && second.from < first.to
            {
                breaches.push(format!(
                    "{}: {} began at {} us while {} went on until {}",
                    first.node, second.verb, second.from, first.verb, first.to
                ));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn overlapping_changes_of_a_node_are_found() {
        let act = |node: &str, from, to| Act { to, ..samples::act(node, "x", from) };
        let mut run =
            Evidence { acts: vec![act("a", 0, 5), act("b", 2, 9), act("a", 5, 9)], ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.acts.push(act("b", 8, 12));
        assert_eq!(check(&run).len(), 1);
    }
}
