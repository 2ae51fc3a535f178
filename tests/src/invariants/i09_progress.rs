//! I-9: when nothing has been wrong for ten seconds, writes are acknowledged, with no gap that the patience of a client
//! does not explain: nobody loses a leader then.

use crate::world::evidence::{End, Evidence};

/// How long the cluster may take to come to itself, in microseconds.
const COMING_TO_US: u64 = 10_000_000;
/// Longest gap between two acknowledgements after that: nine clients work on their own, each waits 3 s at most for one
/// call. The quiet phase of a run lasts 14 s, so that a silence of all of them shows.
const GAP_US: u64 = 3_500_000;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut acked: Vec<u64> = evidence
        .writes
        .iter()
        .filter(|write| matches!(write.end, End::Acked(_)))
        .map(|write| write.ended)
        .collect();
    acked.sort_unstable();
    let mut breaches = Vec::new();
    for calm in &evidence.calms {
        let from = calm.from.saturating_add(COMING_TO_US);
        if calm.to <= from {
            continue;
        }
        let within = acked.iter().copied().filter(|at| (from..calm.to).contains(at));
        let mut before = from;
        for at in within.chain([calm.to]) {
            if at - before > GAP_US {
                breaches.push(format!(
                    "no write was acknowledged from {before} to {at} us, and nothing was wrong"
                ));
            }
            before = at;
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::world::evidence::Calm;

    #[test]
    fn silence_in_a_calm_is_found_and_silence_in_a_storm_is_not() {
        let mut run = samples::good();
        run.calms = vec![Calm { from: 0, to: 9_000_000 }];
        assert_eq!(check(&run), Vec::<String>::new(), "too short to say");
        run.calms = vec![Calm { from: 0, to: 20_000_000 }];
        assert_eq!(check(&run).len(), 1);
        for (n, at) in [12_000_000, 15_000_000, 18_000_000].into_iter().enumerate() {
            run.writes.push(samples::write(&format!("x{n}"), &[], at, End::Acked(20)));
        }
        assert_eq!(check(&run), Vec::<String>::new());
    }
}
