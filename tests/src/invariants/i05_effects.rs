//! I-5 on the hosts: no execution has its effect twice, whatever is retried, delayed or restarted. By the ground truth: on
//! each node every verb is begun at most as often as the coordinators ever handed out executions for it (a restart is one
//! stop and one start).

use std::collections::BTreeMap;

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut handed: BTreeMap<&str, usize> = BTreeMap::new();
    for execution in &evidence.executions {
        *handed.entry(&execution.node).or_default() += 1;
    }
    let mut begun: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for act in &evidence.acts {
        *begun.entry((&act.node, &act.verb)).or_default() += 1;
    }
    let more = begun.iter().filter(|((node, _), count)| **count > handed.get(*node).copied().unwrap_or(0));
    more.map(|((node, verb), count)| {
        format!(
            "{node}: {verb} was begun {count} times for {} executions",
            handed.get(node).copied().unwrap_or(0)
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::evidence::{Act, Execution};

    #[test]
    fn an_execution_done_twice_is_found() {
        let act = |from| Act { node: "a".to_owned(), verb: "restart".to_owned(), from, to: from + 1 };
        let execution = |id: &str| Execution {
            id: id.to_owned(),
            node: "a".to_owned(),
            state: "SUCCEEDED".to_owned(),
            ended: true,
        };
        let executions = vec![execution("1"), execution("2")];
        let mut run = Evidence { acts: vec![act(1), act(5)], executions, ..Evidence::default() };
        assert!(check(&run).is_empty());
        run.acts.push(act(9));
        assert_eq!(check(&run), ["a: restart was begun 3 times for 2 executions"]);
    }
}
