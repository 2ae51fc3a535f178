//! I-12: no disruptive step starts while the group is below its quorum and the step's own size, and what that rests on is
//! fresh and newer than the last step on each node. By the ground truth: when a disturbance of a unit that runs was decided,
//! every other voter really ran, nothing was under way there, and its agent had looked at it lately and after the last
//! thing that was done to it.
//!
//! Units end by themselves too, and nobody knows it at once: a unit that fell is held against a step only when it fell
//! longer ago than any look counts as fresh, and the step's own unit counts as down already if it was that within this time.

use crate::world::evidence::{Evidence, Execution};

/// Largest age of a look: two intervals of a service without probes (5 s) and the slack (5 s), as the settings have it.
const FRESH_US: u64 = 15_000_000;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut breaches = Vec::new();
    for step in evidence.executions.iter().filter(|execution| execution.disruptive) {
        // Work on a unit that is down already takes nothing from the group.
        if !runs(evidence, &step.node, step.created) || fell_lately(evidence, &step.node, step.created) {
            continue;
        }
        for voter in evidence.voters.iter().filter(|voter| **voter != step.node) {
            if let Some(why) = unfit(evidence, voter, step) {
                let Execution { id, node, created, .. } = step;
                breaches.push(format!("{id} was let disturb {node} at {created} us, and {voter} {why}"));
            }
        }
    }
    breaches
}

/// Whether the unit of a node ran at a time. All of them run when the world begins.
fn runs(evidence: &Evidence, node: &str, at: u64) -> bool {
    let changes = evidence.changes.iter().chain(&evidence.falls);
    let changes = changes.filter(|(of, when, _)| of == node && *when <= at);
    changes.max_by_key(|(_, when, _)| *when).is_none_or(|(_, _, runs)| *runs)
}

/// Whether the unit of a node was down by itself so lately that a fresh look may show it either way.
fn fell_lately(evidence: &Evidence, node: &str, at: u64) -> bool {
    let own = evidence.falls.iter().filter(|(of, when, _)| of == node && *when <= at);
    own.max_by_key(|(_, when, _)| *when).is_some_and(|(_, when, _)| when + FRESH_US >= at)
}

/// Why a voter could not be counted on when a step was decided.
fn unfit(evidence: &Evidence, voter: &str, step: &Execution) -> Option<String> {
    let now = step.created;
    if !runs(evidence, voter, now) && !fell_lately(evidence, voter, now) {
        return Some("did not run".to_owned());
    }
    let decided = |id: &str| {
        evidence.executions.iter().find(|execution| execution.id == id).map(|execution| execution.created)
    };
    let mut last = 0;
    for act in evidence.acts.iter().filter(|act| act.node == voter) {
        let before = act.execution.as_deref().and_then(decided).unwrap_or(act.from) <= now;
        if before && act.to > now {
            return Some(format!("was about to {}, or at it", act.verb));
        }
        if before {
            last = last.max(act.to);
        }
    }
    let seen = evidence.sights.iter().filter(|sight| sight.node == voter && sight.at <= now);
    match seen.max_by_key(|sight| sight.at) {
        None => Some("had never been looked at".to_owned()),
        Some(sight) if sight.at + FRESH_US < now => {
            Some(format!("had not been looked at since {} us", sight.at))
        }
        // Within one moment of the simulation a unit that runs was looked at after it came up.
        Some(sight) if sight.at < last || (sight.at == last && !sight.runs) => {
            Some(format!("had not been looked at since its step at {last} us"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{act, execution};
    use super::*;
    use crate::world::evidence::Sight;

    fn sight(node: &str, at: u64) -> Sight {
        Sight { node: node.to_owned(), at, runs: true }
    }

    /// a is restarted at 1,000 us, b at 2,000,000.
    fn good() -> Evidence {
        let stop = |node: &str, at| (node.to_owned(), at, false);
        let start = |node: &str, at| (node.to_owned(), at, true);
        Evidence {
            voters: ["a", "b", "c"].map(str::to_owned).to_vec(),
            executions: vec![execution("x1", "a", 1_000), execution("x2", "b", 2_000_000)],
            acts: vec![act("a", "x1", 1_100), act("b", "x2", 2_000_100)],
            changes: vec![stop("a", 1_101), start("a", 1_200), stop("b", 2_000_101), start("b", 2_000_200)],
            sights: ["a", "b", "c"].into_iter().flat_map(|n| [sight(n, 900), sight(n, 1_500_000)]).collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_step_while_another_voter_is_out_is_found() {
        assert_eq!(check(&good()), Vec::<String>::new());
        let mut out = good();
        out.changes.remove(1);
        assert_eq!(check(&out), ["x2 was let disturb b at 2000000 us, and a did not run"]);
        let mut busy = good();
        busy.acts[0].to = 3_000_000;
        assert!(check(&busy)[0].ends_with("a was about to stop, or at it"), "{:?}", check(&busy));
        let mut down = good();
        down.changes = vec![("a".to_owned(), 500, false)];
        down.executions.truncate(1);
        down.sights.clear();
        assert!(check(&down).is_empty(), "it was down already: nothing is taken from the group");
    }

    #[test]
    fn a_unit_that_fell_is_held_against_a_step_once_it_can_be_known() {
        let fell = |node: &str, at, runs| (node.to_owned(), at, runs);
        let mut run = good();
        run.executions[1].created = 16_000_000;
        run.sights.extend(["a", "b", "c"].map(|node| sight(node, 15_900_000)));
        assert_eq!(check(&run), Vec::<String>::new());
        run.falls = vec![fell("c", 1_000_001, false)];
        assert_eq!(check(&run), Vec::<String>::new(), "a look of before may still count as fresh");
        run.falls = vec![fell("c", 999_999, false)];
        assert_eq!(check(&run), ["x2 was let disturb b at 16000000 us, and c did not run"]);
        run.falls.push(fell("b", 15_000_000, false));
        run.falls.push(fell("b", 15_500_000, true));
        assert_eq!(check(&run), Vec::<String>::new(), "b was out itself a moment ago");
        run.falls.push(fell("c", 15_900_000, true));
        assert_eq!(check(&run), Vec::<String>::new(), "c came back");
    }

    #[test]
    fn health_that_is_old_or_older_than_the_last_step_is_found() {
        let mut never = good();
        never.sights.retain(|sight| sight.node != "c");
        assert_eq!(check(&never).len(), 2);
        let mut before = good();
        before.sights.retain(|sight| sight.node != "a" || sight.at < 1_000);
        assert!(
            check(&before)[0].contains("a had not been looked at since its step"),
            "{:?}",
            check(&before)
        );
        let mut same = good();
        same.sights.retain(|sight| sight.node != "a" || sight.at < 1_000);
        same.sights.push(sight("a", same.acts[0].to));
        assert_eq!(check(&same), Vec::<String>::new(), "looked at in the very moment it came up");
        if let Some(last) = same.sights.last_mut() {
            last.runs = false;
        }
        assert_eq!(check(&same).len(), 1, "in the very moment, and still down");
        let mut old = good();
        old.executions[1].created = 20_000_000;
        assert!(check(&old).iter().any(|b| b.ends_with("c had not been looked at since 1500000 us")));
    }
}
