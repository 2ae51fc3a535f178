//! I-21: while no coordinator runs, hosts finish what is in hand and start nothing new: at most the one disruption that
//! the group allows can have been handed out before. (A start ends a disruption and is none.)

use crate::world::evidence::Evidence;

/// Disruptions that may be in hand: one of the one group.
const IN_HAND: usize = 1;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let begun = |from: u64, to: u64| {
        evidence.acts.iter().filter(|act| act.verb != "start" && (from..to).contains(&act.from)).count()
    };
    evidence
        .dark
        .iter()
        .filter(|dark| begun(dark.from, dark.to) > IN_HAND)
        .map(|dark| {
            format!(
                "{} changes began from {} to {} us, and no coordinator ran",
                begun(dark.from, dark.to),
                dark.from,
                dark.to
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::evidence::{Act, Calm};

    #[test]
    fn new_work_in_the_dark_is_found() {
        let act = |from| Act { node: "a".to_owned(), verb: "restart".to_owned(), from, to: from + 1 };
        let dark = vec![Calm { from: 10, to: 20 }];
        let mut run = Evidence { acts: vec![act(1), act(11), act(25)], dark, ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.acts.push(act(15));
        assert_eq!(check(&run).len(), 1);
    }
}
