//! I-20: a cancel after the effect began reports the truth, a cancel before leaves none. By the ground truth: what is
//! reported as not done was never begun on its host, what is reported as done was, and an operation decides nothing new
//! once its cancel was acknowledged.
//!
//! A restart asks for a new run. When its helper dies over it, the unit ends by itself and the machine starts it again, then
//! that new run is all the evidence there is, and it counts as done, by whoever it was.

use std::collections::BTreeMap;

use crate::world::evidence::{Act, Evidence, Round};

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut begun: BTreeMap<&str, Vec<&Act>> = BTreeMap::new();
    for act in &evidence.acts {
        if let Some(execution) = &act.execution {
            begun.entry(execution).or_default().push(act);
        }
    }
    let mut breaches = Vec::new();
    for execution in &evidence.executions {
        let acts = begun.get(execution.id.as_str()).map_or(&[][..], Vec::as_slice);
        let (id, node) = (&execution.id, &execution.node);
        match execution.state.as_str() {
            "Canceled" | "Rejected" => {
                if let Some(act) = acts.first() {
                    breaches.push(format!("{id} is {}, and {node} began its {}", execution.state, act.verb));
                }
            }
            "Succeeded"
                if execution.disruptive
                    && !was_done(evidence, id)
                    && !acts.iter().any(|act| act.done)
                    && !acts.first().is_some_and(|act| ran_anew(evidence, act)) =>
            {
                breaches.push(format!("{id} is Succeeded, and nothing was done on {node}"));
            }
            _ => {}
        }
        if execution.step.as_deref() == Some("Skipped")
            && let Some(act) = acts.first()
        {
            breaches.push(format!("the step of {id} is Skipped, and {node} began its {}", act.verb));
        }
    }
    for cancel in &evidence.cancels {
        let of = evidence.executions.iter().filter(|execution| execution.operation == cancel.operation);
        breaches.extend(of.filter(|execution| execution.created > cancel.acked).map(|execution| {
            let (id, operation) = (&execution.id, &cancel.operation);
            format!(
                "{id} was decided after the cancel of {operation} was acknowledged at {} us",
                cancel.acked
            )
        }));
    }
    breaches
}

/// Whether an execution found what it brings in use.
fn was_done(evidence: &Evidence, id: &str) -> bool {
    let of = |round: &Round| round.work.iter().any(|work| work.id == id && round.was_done(work));
    evidence.rounds.iter().any(of)
}

/// Whether the machine itself started the unit after this verb was begun on it.
fn ran_anew(evidence: &Evidence, begun: &Act) -> bool {
    evidence.falls.iter().any(|(node, at, runs)| *runs && *node == begun.node && *at >= begun.from)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{act, execution};
    use super::*;
    use crate::world::evidence::Cancel;

    fn good() -> Evidence {
        let mut executions =
            vec![execution("x1", "a", 1), execution("x2", "b", 20), execution("x3", "c", 30)];
        executions[1].state = "Canceled".to_owned();
        executions[1].step = Some("Skipped".to_owned());
        executions[2].state = "Rejected".to_owned();
        let cancels = vec![Cancel { operation: "o1".to_owned(), acked: 40 }];
        Evidence { executions, acts: vec![act("a", "x1", 2)], cancels, ..Evidence::default() }
    }

    #[test]
    fn an_effect_of_what_was_canceled_is_found() {
        assert_eq!(check(&good()), Vec::<String>::new());
        let mut run = good();
        run.acts.push(act("b", "x2", 25));
        assert_eq!(
            check(&run),
            ["x2 is Canceled, and b began its stop", "the step of x2 is Skipped, and b began its stop"]
        );
        let mut run = good();
        run.acts.push(act("c", "x3", 35));
        assert_eq!(check(&run), ["x3 is Rejected, and c began its stop"]);
    }

    #[test]
    fn a_success_without_an_effect_and_a_step_after_the_cancel_are_found() {
        let mut run = good();
        run.acts[0].done = false;
        assert_eq!(check(&run), ["x1 is Succeeded, and nothing was done on a"]);
        run.falls = vec![("a".to_owned(), 1, true), ("a".to_owned(), 3, false), ("b".to_owned(), 4, true)];
        assert_eq!(check(&run).len(), 1, "it fell, and came up before or elsewhere");
        run.falls.push(("a".to_owned(), 5, true));
        assert_eq!(check(&run), Vec::<String>::new(), "a new run is what was asked for");
        let mut run = good();
        run.executions[0].created = 41;
        assert_eq!(check(&run), ["x1 was decided after the cancel of o1 was acknowledged at 40 us"]);
    }
}
