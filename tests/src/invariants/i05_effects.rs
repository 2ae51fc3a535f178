//! I-5 on the hosts: no execution has its effect twice, whatever is retried, delayed or restarted. By the ground truth: each
//! verb comes to its end at most once for one execution, and on each node at most as often as executions were handed out
//! for it (a restart is one stop and one start). A verb that was cut off with its agent had no effect and may be done again.

use std::collections::BTreeMap;

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut handed: BTreeMap<&str, usize> = BTreeMap::new();
    for execution in &evidence.executions {
        *handed.entry(&execution.node).or_default() += 1;
    }
    let mut on_node: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut of_one: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for act in evidence.acts.iter().filter(|act| act.done) {
        *on_node.entry((&act.node, &act.verb)).or_default() += 1;
        if let Some(execution) = &act.execution {
            *of_one.entry((execution, &act.verb)).or_default() += 1;
        }
    }
    let twice = of_one.iter().filter(|(_, count)| **count > 1);
    let twice = twice.map(|((id, verb), count)| format!("{verb} of {id} had its effect {count} times"));
    let allowed = |node: &str| handed.get(node).copied().unwrap_or(0);
    let more = on_node.iter().filter(|((node, _), count)| **count > allowed(node));
    let more = more.map(|((node, verb), count)| {
        format!("{node}: {verb} was done {count} times for {} executions", allowed(node))
    });
    twice.chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{act, execution};
    use super::*;

    #[test]
    fn an_execution_done_twice_is_found() {
        let executions = vec![execution("x1", "a", 0), execution("x2", "a", 4)];
        let acts = vec![act("a", "x1", 1), act("a", "x2", 5)];
        let mut run = Evidence { acts, executions, ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.acts.push(act("a", "x2", 9));
        assert_eq!(
            check(&run),
            ["stop of x2 had its effect 2 times", "a: stop was done 3 times for 2 executions"]
        );
        run.acts[1].done = false;
        assert!(check(&run).is_empty(), "the first was cut off");
        run.acts.push(act("a", "x1", 12));
        run.acts[3].execution = None;
        assert_eq!(check(&run), ["a: stop was done 3 times for 2 executions"]);
    }
}
