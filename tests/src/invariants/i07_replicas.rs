//! I-7: all replicas at the same index have the same state.

use std::collections::BTreeMap;

use quorate_core::hash::Hash;

use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let last = evidence.finals.iter().map(|(id, last)| (*id, last.revision, last.digest));
    let mut known: BTreeMap<u64, (u64, Hash)> = BTreeMap::new();
    let mut breaches = Vec::new();
    for (member, index, digest) in evidence.digests.iter().copied().chain(last) {
        let (by, first) = *known.entry(index).or_insert((member, digest));
        if first != digest {
            breaches.push(format!("members {by} and {member} differ at index {index}"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_difference_during_the_run_or_at_its_end_is_found() {
        let mut run = samples::good();
        run.digests = vec![(1, 5, Hash::of(b"5")), (2, 5, Hash::of(b"5")), (1, 6, Hash::of(b"6"))];
        assert_eq!(check(&run), Vec::<String>::new());
        run.digests.push((3, 5, Hash::of(b"x")));
        assert_eq!(check(&run), ["members 1 and 3 differ at index 5"]);
        run.digests.clear();
        run.finals.get_mut(&3).unwrap().digest = Hash::of(b"other");
        assert_eq!(check(&run), ["members 1 and 3 differ at index 12"]);
    }
}
