//! What must hold of every run, one property per file. Each looks at plain data ([`crate::world::evidence`]) and says in
//! one sentence per breach what it saw; each is shown a bad history in its own tests, because a judge that cannot say no
//! proves nothing.
//!
//! Must never: excuse a run. What did not happen is [`coverage`]'s business, and makes the verdict unknown.

pub mod coverage;
pub mod i01_acked_stays;
pub mod i02_linearizable;
pub mod i03_at_most_once;
pub mod i04_raft;
pub mod i05_effects;
pub mod i05_same_answer;
pub mod i06_store;
pub mod i07_replicas;
pub mod i09_progress;
pub mod i11_budget;
pub mod i12_margin;
pub mod i15_fence;
pub mod i18_one_at_a_time;
pub mod i19_everything_ends;
pub mod i20_cancel;
pub mod i21_dark;
mod order;
pub mod rounds;

use crate::world::evidence::Evidence;

/// One property: what it says of a run.
type Check = fn(&Evidence) -> Vec<String>;

/// Every property that is judged, by its name in the catalogue.
pub const ALL: [(&str, Check); 17] = [
    ("I-1", i01_acked_stays::check),
    ("I-2", i02_linearizable::check),
    ("I-3", i03_at_most_once::check),
    ("I-4", i04_raft::check),
    ("I-5", i05_same_answer::check),
    ("I-6", i06_store::check),
    ("I-7", i07_replicas::check),
    ("I-9", i09_progress::check),
    ("I-5 (hosts)", i05_effects::check),
    ("I-11", i11_budget::check),
    ("I-12", i12_margin::check),
    ("I-15", i15_fence::check),
    ("I-18", i18_one_at_a_time::check),
    ("I-19", i19_everything_ends::check),
    ("I-20", i20_cancel::check),
    ("I-21", i21_dark::check),
    ("rounds", rounds::check),
];

/// Breaches of one kind that are shown; the first ones tell the story.
const SHOWN: usize = 5;

/// Every breach, with the name of what it breaks.
#[must_use]
pub fn broken(evidence: &Evidence) -> Vec<String> {
    let mut all = Vec::new();
    for (name, check) in ALL {
        let found = check(evidence);
        all.extend(found.iter().take(SHOWN).map(|breach| format!("{name}: {breach}")));
        if found.len() > SHOWN {
            all.push(format!("{name}: and {} more", found.len() - SHOWN));
        }
    }
    all
}

/// Histories for the checkers' own tests.
#[cfg(test)]
mod samples {
    use std::collections::BTreeMap;

    use crate::world::evidence::{Act, Effect, End, Evidence, Execution, Final, Read, Write};

    pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    pub(super) fn write(request: &str, set: &[(&str, &str)], begun: u64, end: End) -> Write {
        let (request, node) = (request.to_owned(), "node1".to_owned());
        Write { request, node, set: labels(set), begun, ended: begun + 10, attempts: 1, end }
    }

    pub(super) fn read(begun: u64, index: u64, seen: &[(&str, &str)]) -> Read {
        Read { node: "node1".to_owned(), begun, ended: begun + 10, index, labels: labels(seen) }
    }

    pub(super) fn effect(request: &str) -> Effect {
        let action = "node.change_labels".to_owned();
        Effect { request: Some(request.to_owned()), action, resource: "nodes/node1".to_owned() }
    }

    /// A stop on a node for an execution; it takes a microsecond.
    pub(super) fn act(node: &str, execution: &str, from: u64) -> Act {
        let (node, verb) = (node.to_owned(), "stop".to_owned());
        Act { node, verb, from, to: from + 1, done: true, execution: Some(execution.to_owned()) }
    }

    /// A disruptive execution of operation o1 that ended well.
    pub(super) fn execution(id: &str, node: &str, created: u64) -> Execution {
        Execution {
            id: id.to_owned(),
            node: node.to_owned(),
            state: "Succeeded".to_owned(),
            ended: true,
            disruptive: true,
            operation: "o1".to_owned(),
            step: Some("Succeeded".to_owned()),
            created,
        }
    }

    /// a = 1 at index 10, a = 2 at 12, b = 1 of unknown outcome in between; everybody agrees.
    pub(super) fn good() -> Evidence {
        let effects = vec![effect("w1"), effect("w2"), effect("w3")];
        let last = Final {
            revision: 12,
            labels: [("node1".to_owned(), labels(&[("a", "2"), ("b", "1")]))].into(),
            effects,
            ..Final::default()
        };
        Evidence {
            members: 3,
            writes: vec![
                write("w1", &[("a", "1")], 100, End::Acked(10)),
                write("w2", &[("b", "1")], 105, End::Unknown),
                write("w3", &[("a", "2")], 200, End::Acked(12)),
            ],
            reads: vec![
                read(120, 10, &[("a", "1")]),
                read(140, 11, &[("a", "1"), ("b", "1")]),
                read(220, 12, &[("a", "2"), ("b", "1")]),
            ],
            finals: (1..=3).map(|id| (id, last.clone())).collect(),
            ..Evidence::default()
        }
    }
}
