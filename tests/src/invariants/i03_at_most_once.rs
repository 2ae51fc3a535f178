//! I-3: an unknown outcome takes effect at most once, whole, at one index.

use std::collections::BTreeMap;

use crate::world::evidence::{End, Evidence};

/// Registers that are only ever written together.
const PAIR: [&str; 2] = ["p0", "p1"];

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut breaches = Vec::new();
    let longest = evidence.finals.values().max_by_key(|last| last.revision);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for request in longest.into_iter().flat_map(|last| &last.effects).filter_map(|e| e.request.as_deref()) {
        *seen.entry(request).or_default() += 1;
    }
    for (request, times) in seen.iter().filter(|(_, times)| **times > 1) {
        breaches.push(format!("{request} took effect {times} times"));
    }
    for write in &evidence.writes {
        if matches!(write.end, End::Refused(_)) && seen.contains_key(write.request.as_str()) {
            breaches.push(format!("{} was refused and took effect", write.request));
        }
    }
    for read in &evidence.reads {
        if read.labels.get(PAIR[0]) != read.labels.get(PAIR[1]) {
            breaches
                .push(format!("read of {} at {} saw half a write: {:?}", read.node, read.index, read.labels));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn doubles_halves_and_refused_effects_are_found() {
        let good = samples::good();
        assert_eq!(check(&good), Vec::<String>::new());
        let mut double = good.clone();
        double.finals.values_mut().for_each(|last| last.effects.push(samples::effect("w2")));
        assert_eq!(check(&double), ["w2 took effect 2 times"]);
        let mut half = good.clone();
        half.reads.push(samples::read(300, 12, &[("p0", "x")]));
        assert!(check(&half).iter().any(|b| b.contains("half a write")));
        let mut refused = good;
        refused.writes[1].end = End::Refused("no".to_owned());
        assert_eq!(check(&refused), ["w2 was refused and took effect"]);
    }
}
