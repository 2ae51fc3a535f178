//! I-21: while no coordinator runs, hosts finish what is in hand and start nothing new: at most the one disruption that
//! the group allows can have been handed out before. (A start ends a disruption and is none.)

use crate::world::evidence::Evidence;

/// Disruptions that may be in hand: one of the one group.
const IN_HAND: usize = 1;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let begun = |from: u64, to: u64| {
        let within = evidence.acts.iter().filter(|act| act.verb != "start" && (from..to).contains(&act.from));
        // One that was cut off with its agent and is done again is the same work.
        let mut work: Vec<(&str, Option<&str>)> =
            within.map(|act| (act.node.as_str(), act.execution.as_deref())).collect();
        work.sort_unstable();
        work.dedup_by(|one, other| one == other && one.1.is_some());
        work.len()
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
    use super::super::samples::act;
    use super::*;
    use crate::world::evidence::Calm;

    #[test]
    fn new_work_in_the_dark_is_found() {
        let dark = vec![Calm { from: 10, to: 20 }];
        let acts = vec![act("a", "x1", 1), act("a", "x2", 11), act("a", "x2", 13), act("a", "x3", 25)];
        let mut run = Evidence { acts, dark, ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.acts.push(act("a", "x4", 15));
        assert_eq!(check(&run).len(), 1);
    }
}
