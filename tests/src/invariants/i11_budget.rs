//! I-11: never more members of a group are down because of us than its quorum allows, by what really happened on the
//! hosts, not by anybody's view of it.

use std::collections::BTreeSet;

use crate::world::evidence::Evidence;

/// Voters of the simulated group that may be out: three voters, a majority must be up.
const MAX_DOWN: usize = 1;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut changes: Vec<_> = evidence.changes.iter().collect();
    changes.sort_by_key(|(_, at, _)| *at);
    let mut down: BTreeSet<&str> = BTreeSet::new();
    let mut breaches = Vec::new();
    for (node, at, runs) in changes {
        if *runs {
            down.remove(node.as_str());
        } else {
            down.insert(node);
            if down.len() > MAX_DOWN {
                breaches.push(format!("{at} us: {down:?} are down because of us at once"));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_members_down_at_once_are_found() {
        let change = |node: &str, at, runs| (node.to_owned(), at, runs);
        let mut run = Evidence {
            changes: vec![
                change("node1", 10, false),
                change("node1", 20, true),
                change("node2", 30, false),
                change("node2", 40, true),
            ],
            ..Evidence::default()
        };
        assert!(check(&run).is_empty());
        run.changes.push(change("node3", 35, false));
        assert_eq!(check(&run).len(), 1);
    }
}
