//! What holds after a rollout in which somebody was killed, when everything stands still again (I-5, I-19, I-20): it has
//! ended, nothing is open, each execution did what it says once, what was taken back is taken back everywhere, and the
//! coordinators believe of the hosts what is so.

use crate::world::evidence::{Evidence, Round, Work};

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let each = evidence.rounds.iter().flat_map(|round| {
        let found = [ended(round), nothing_open(round), once(round), in_use(round), believed(round)].concat();
        let name = format!("round {} ({})", round.number, round.operation);
        found.into_iter().map(move |breach| format!("{name}: {breach}"))
    });
    let outside = unasked(evidence);
    each.chain(outside).collect()
}

fn ended(round: &Round) -> Vec<String> {
    if round.terminal { Vec::new() } else { vec![format!("it is {}, and no more comes", round.state)] }
}

fn nothing_open(round: &Round) -> Vec<String> {
    round.open.clone()
}

/// Each execution starts the unit once at most, and exactly once when it brought something and says that it succeeded. One
/// that takes back what never came into use has nothing to do, nor has one that brings what is in use.
fn once(round: &Round) -> Vec<String> {
    let mut breaches = Vec::new();
    for work in &round.work {
        let Work { id, node, undoes, state, done, begun } = work;
        let ok = state == "Succeeded" && !round.was_done(work);
        if *done > 1 {
            breaches.push(format!("{id} started the unit of {node} {done} times"));
        }
        if ok && !undoes && *done != 1 {
            breaches.push(format!("{id} succeeded on {node}, and started the unit {done} times"));
        }
        // One begin more for each agent that may have died over it.
        if *begun > round.killed + 1 {
            breaches.push(format!("{id} began to start the unit of {node} {begun} times"));
        }
    }
    breaches
}

/// No unit is started but for an execution of a round.
fn unasked(evidence: &Evidence) -> Vec<String> {
    if evidence.rounds.is_empty() {
        return Vec::new();
    }
    let asked: std::collections::BTreeSet<&str> =
        evidence.rounds.iter().flat_map(|round| &round.work).map(|work| work.id.as_str()).collect();
    let known = |id: &Option<String>| id.as_deref().is_some_and(|id| asked.contains(id));
    let acts = evidence.acts.iter().filter(|act| act.done && !known(&act.execution));
    acts.map(|act| format!("{} us: {} of {} for {:?}", act.from, act.verb, act.node, act.execution)).collect()
}

/// What is in use fits how the rollout ended. A node that it has no step for, because its agent was not heard when it was planned,
/// keeps what it had.
fn in_use(round: &Round) -> Vec<String> {
    let brought = |used: &Option<String>| round.brings(used.as_ref());
    let left_out = |node: &str| !round.work.iter().any(|work| work.node == node);
    let mut breaches = Vec::new();
    for (node, after) in &round.after {
        let before = round.before.get(node).unwrap_or(&None);
        let fits = match round.state.as_str() {
            "RolledBack" => after == before,
            "Succeeded" => brought(after) || (left_out(node) && after == before),
            _ => after == before || brought(after),
        };
        if !fits {
            breaches
                .push(format!("it is {}, and {node} has {after:?} in use, {before:?} before", round.state));
        }
    }
    breaches
}

/// What the coordinators believe in use is. They may not know it, where an execution did not end well.
fn believed(round: &Round) -> Vec<String> {
    let mut breaches = Vec::new();
    for (node, after) in &round.after {
        match round.believed.get(node).unwrap_or(&None) {
            Some(believed) if Some(believed) != after.as_ref() => {
                breaches.push(format!("{node} has {after:?} in use, and {believed} is believed"));
            }
            None if after.is_some() => {
                let mut mine = round.work.iter().filter(|work| work.node == *node);
                if mine.all(|work| work.state == "Succeeded") && before_known(round, node) {
                    breaches.push(format!("{node} has {after:?} in use, and nobody knows it"));
                }
            }
            Some(_) | None => {}
        }
    }
    breaches
}

/// Whether this round could know: it worked on the node at all.
fn before_known(round: &Round, node: &str) -> bool {
    round.work.iter().any(|work| work.node == node)
}

#[cfg(test)]
mod tests {
    use super::super::samples::act;
    use super::*;

    fn used(version: &str) -> Option<String> {
        Some(format!("{version}-0123456789ab"))
    }

    /// 1.1.0 is brought to two nodes.
    fn good() -> Evidence {
        let of = |version: &str| ["a", "b"].map(|node| (node.to_owned(), used(version))).into();
        let work = |id: &str, node: &str| Work {
            id: id.to_owned(),
            node: node.to_owned(),
            state: "Succeeded".to_owned(),
            done: 1,
            begun: 1,
            undoes: false,
        };
        let round = Round {
            number: 1,
            operation: "o1".to_owned(),
            state: "Succeeded".to_owned(),
            terminal: true,
            version: Some("1.1.0".to_owned()),
            before: of("1.0.0"),
            after: of("1.1.0"),
            believed: of("1.1.0"),
            work: vec![work("x1", "a"), work("x2", "b")],
            ..Round::default()
        };
        Evidence {
            rounds: vec![round],
            acts: vec![act("a", "x1", 1), act("b", "x2", 9)],
            ..Evidence::default()
        }
    }

    fn breach(change: impl FnOnce(&mut Round)) -> String {
        let mut run = good();
        change(&mut run.rounds[0]);
        check(&run).join("; ")
    }

    #[test]
    fn an_open_end_and_what_is_left_open_are_found() {
        assert_eq!(check(&good()), Vec::<String>::new());
        assert!(breach(|round| round.terminal = false).ends_with("and no more comes"));
        assert!(breach(|round| round.open.push("a grant".to_owned())).ends_with("a grant"));
    }

    #[test]
    fn an_effect_twice_none_at_all_and_one_that_nobody_asked_for_are_found() {
        assert!(breach(|round| round.work[0].done = 2).contains("x1 started the unit of a 2 times"));
        assert!(breach(|round| round.work[1].done = 0).contains("started the unit 0 times"));
        assert!(breach(|round| round.work[1].begun = 2).contains("began to start the unit of b 2 times"));
        let idle = breach(|round| {
            (round.work[1].begun, round.work[1].done) = (0, 0);
            round.before.insert("b".to_owned(), used("1.1.0"));
        });
        assert_eq!(idle, "", "it was in use before");
        assert!(breach(|round| (round.work[1].begun, round.work[1].done) = (0, 0)).contains("0 times"));
        let again = breach(|round| (round.work[1].begun, round.killed) = (2, 1));
        assert_eq!(again, "", "its agent died over the first");
        let mut run = good();
        run.acts.push(act("b", "x9", 20));
        assert_eq!(check(&run).len(), 1);
    }

    #[test]
    fn what_is_in_use_must_fit_the_end() {
        assert!(breach(|round| drop(round.after.insert("b".to_owned(), used("1.0.0")))).contains("b has"));
        let skipped = |round: &mut Round| {
            round.work.pop();
            round.after.insert("b".to_owned(), used("1.0.0"));
            round.believed.insert("b".to_owned(), used("1.0.0"));
        };
        let mut run = good();
        skipped(&mut run.rounds[0]);
        run.acts.pop();
        assert_eq!(check(&run), Vec::<String>::new(), "it was not heard, and left out of the plan");
        let third = breach(|round| {
            skipped(round);
            round.after.insert("b".to_owned(), used("0.9.0"));
        });
        assert!(third.contains("b has"), "{third}");
        let kept = |round: &mut Round| {
            round.state = "RolledBack".to_owned();
            round.after.clone_from(&round.before);
            round.believed.clone_from(&round.before);
        };
        assert_eq!(breach(kept), "");
        assert!(breach(|round| round.state = "RolledBack".to_owned()).contains("RolledBack, and a has"));
        let third = breach(|round| {
            round.state = "Failed".to_owned();
            round.after.insert("a".to_owned(), used("0.9.0"));
            round.believed.insert("a".to_owned(), used("0.9.0"));
        });
        assert!(third.contains("Failed, and a has"), "{third}");
    }

    #[test]
    fn a_wrong_belief_is_found_and_a_lost_one_without_a_reason() {
        assert!(
            breach(|round| drop(round.believed.insert("a".to_owned(), used("1.0.0"))))
                .contains("is believed")
        );
        let lost = |round: &mut Round| drop(round.believed.insert("a".to_owned(), None));
        assert!(breach(lost).contains("nobody knows it"));
        let excused = breach(|round| {
            lost(round);
            round.state = "Failed".to_owned();
            round.work[0].state = "Unknown".to_owned();
        });
        assert_eq!(excused, "");
    }
}
