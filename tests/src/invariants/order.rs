//! The order in which writes took effect, by the replicated audit, with what is known of their log indexes.

use std::collections::BTreeMap;

use crate::world::evidence::{End, Evidence, Write};

/// Writes in the order of their effects.
pub(super) struct Order<'a> {
    /// Them.
    pub(super) writes: Vec<&'a Write>,
    /// Least log index each can have.
    pub(super) least: Vec<u64>,
    /// Greatest log index each can have.
    pub(super) most: Vec<u64>,
    /// Place of each request.
    pub(super) place: BTreeMap<&'a str, usize>,
    /// Effects of requests that nobody sent.
    pub(super) phantoms: Vec<String>,
}

/// The log index at which a write took effect, when it is known exactly: it was sent once and acknowledged.
pub(super) fn exact(write: &Write) -> Option<u64> {
    match write.end {
        End::Acked(index) if write.attempts == 1 => Some(index),
        End::Acked(_) | End::Refused(_) | End::Unknown => None,
    }
}

impl<'a> Order<'a> {
    /// By the member that has applied most.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let sent: BTreeMap<&str, &Write> =
            evidence.writes.iter().map(|write| (write.request.as_str(), write)).collect();
        let longest = evidence.finals.values().max_by_key(|last| last.revision);
        let (mut writes, mut place, mut phantoms) = (Vec::new(), BTreeMap::new(), Vec::new());
        for effect in longest.into_iter().flat_map(|last| &last.effects) {
            let Some(request) = effect.request.as_deref().filter(|_| effect.action.contains("labels")) else {
                continue;
            };
            match sent.get(request) {
                Some(write) => {
                    place.entry(write.request.as_str()).or_insert(writes.len());
                    writes.push(*write);
                }
                None => phantoms.push(request.to_owned()),
            }
        }
        let mut least: Vec<u64> = writes.iter().map(|write| exact(write).unwrap_or(0)).collect();
        let mut most: Vec<u64> = writes
            .iter()
            .map(|write| match write.end {
                // A repeated send is answered by its own entry, which is later than the effect.
                End::Acked(index) => index,
                End::Refused(_) | End::Unknown => u64::MAX,
            })
            .collect();
        for n in 1..least.len() {
            least[n] = least[n].max(least[n - 1]);
        }
        for n in (1..most.len()).rev() {
            most[n - 1] = most[n - 1].min(most[n]);
        }
        Self { writes, least, most, place, phantoms }
    }

    /// Labels of a node after the first `count` effects.
    pub(super) fn labels(&self, node: &str, count: usize) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for write in self.writes.iter().take(count).filter(|write| write.node == node) {
            labels.extend(write.set.clone());
        }
        labels
    }
}
