//! Whether enough happened to judge a run at all: load, faults with the leader in them and out of them, lost writes.

use crate::world::evidence::Evidence;

/// Acknowledged writes of a run that counts.
const ACKED_MIN: usize = 100;
/// Linearizable reads.
const READS_MIN: usize = 60;
/// Faults.
const FAULTS_MIN: u64 = 4;
/// Times that somebody began to lead: an election that nothing forced proves little.
const LEADERS_MIN: usize = 2;

/// What is missing; the verdict is unknown then.
#[must_use]
pub fn missing(evidence: &Evidence) -> Vec<String> {
    let mut missing = Vec::new();
    let mut least = |what: &str, found: u64, wanted: u64| {
        if found < wanted {
            missing.push(format!("unknown: {found} {what}, {wanted} are needed"));
        }
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    least("acknowledged writes", count(evidence.acked()), count(ACKED_MIN));
    least("reads", count(evidence.reads.len()), count(READS_MIN));
    least("faults", evidence.faults.values().sum(), FAULTS_MIN);
    let terms: std::collections::BTreeSet<u64> = evidence
        .looks
        .iter()
        .filter(|(_, look)| look.status.is_leader())
        .map(|(_, look)| look.status.term)
        .collect();
    least("terms with a leader", count(terms.len()), count(LEADERS_MIN));
    least("members at the end", count(evidence.finals.len()), evidence.members);
    for name in &evidence.required {
        least(&format!("faults {name}"), evidence.faults.get(name).copied().unwrap_or(0), 1);
    }
    if evidence.finals.values().any(|last| last.trimmed) {
        missing.push("unknown: the audit was trimmed, so it does not tell everything".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_run_without_load_or_without_a_required_fault_is_unknown() {
        let mut run = samples::good();
        run.required = vec!["crash-leader".to_owned()];
        let missing = missing(&run);
        for what in ["acknowledged writes", "reads", "faults,", "terms with a leader", "faults crash-leader"]
        {
            assert!(missing.iter().any(|line| line.contains(what)), "{what}: {missing:?}");
        }
    }
}
