//! I-15: the highest fencing number that an agent holds never decreases, whatever crashes: it is durable before the effect.

use std::collections::BTreeMap;

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut breaches = Vec::new();
    for seen in &evidence.epochs {
        let before = highest.entry(&seen.node).or_default();
        if seen.epoch < *before {
            let at = seen.at;
            breaches.push(format!("{at} us: {} held epoch {before} and now holds {}", seen.node, seen.epoch));
        }
        *before = (*before).max(seen.epoch);
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::evidence::EpochSeen;

    #[test]
    fn an_epoch_that_goes_back_is_found() {
        let seen = |node: &str, epoch| EpochSeen { node: node.to_owned(), at: 1, epoch };
        let mut run =
            Evidence { epochs: vec![seen("a", 1), seen("b", 5), seen("a", 2)], ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.epochs.push(seen("b", 4));
        assert_eq!(check(&run), ["1 us: b held epoch 5 and now holds 4"]);
    }
}
