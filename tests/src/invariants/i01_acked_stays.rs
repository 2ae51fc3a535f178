//! I-1: an acknowledged write is never lost: it is there, or superseded by a later one, on every healthy member at the end.

use super::order::Order;
use crate::world::evidence::{End, Evidence};

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let order = Order::of(evidence);
    let mut breaches = Vec::new();
    for write in &evidence.writes {
        if let End::Acked(index) = write.end
            && !order.place.contains_key(write.request.as_str())
        {
            breaches.push(format!("{} was acknowledged at {index} and has no effect", write.request));
        }
    }
    for (id, last) in &evidence.finals {
        for (node, found) in &last.labels {
            let expected = order.labels(node, order.writes.len());
            let differs = expected.iter().find(|(key, value)| found.get(*key) != Some(value));
            if let Some((key, value)) = differs {
                let has = found.get(key);
                breaches
                    .push(format!("member {id} has {key} of {node} = {has:?}, the last write set {value}"));
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
    fn a_lost_write_is_found_and_a_good_history_is_not_blamed() {
        let good = samples::good();
        assert_eq!(check(&good), Vec::<String>::new());
        let mut lost = good.clone();
        lost.finals.values_mut().for_each(|last| drop(last.effects.remove(0)));
        assert!(check(&lost).iter().any(|b| b.contains("w1 was acknowledged at 10")), "{:?}", check(&lost));
        let mut overwritten = good;
        let last = overwritten.finals.get_mut(&2).unwrap();
        last.labels.get_mut("node1").unwrap().remove("b");
        assert!(check(&overwritten).iter().any(|b| b.starts_with("member 2 has b")));
    }
}
