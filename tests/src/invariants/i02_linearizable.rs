//! I-2: histories of the API are linearizable. The log index in every answer gives the order, so this is checked in
//! near-linear time: index order respects real time, every read equals the replay at its index, nothing is a phantom.

use super::order::{Order, exact};
use crate::world::evidence::{End, Evidence, Read};

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let order = Order::of(evidence);
    let mut breaches: Vec<String> =
        order.phantoms.iter().map(|request| format!("{request} took effect and nobody sent it")).collect();
    for (n, write) in order.writes.iter().enumerate() {
        if let Some(index) = exact(write)
            && (order.least[n] > index || order.most[n] < index)
        {
            breaches.push(format!("{} says index {index}, its place in the audit another", write.request));
        }
    }
    real_time(evidence, &mut breaches);
    breaches.extend(evidence.reads.iter().filter_map(|read| replay(&order, read)));
    breaches
}

/// What began after something had ended has an index that is not smaller; a write's is greater.
fn real_time(evidence: &Evidence, breaches: &mut Vec<String>) {
    struct Call {
        begun: u64,
        ended: u64,
        index: u64,
        /// The index at which it took effect, not one at which it was answered again.
        exact: bool,
        write: bool,
        name: String,
    }
    let writes = evidence.writes.iter().filter_map(|write| match write.end {
        End::Acked(index) => Some(Call {
            begun: write.begun,
            ended: write.ended,
            index,
            exact: exact(write).is_some(),
            write: true,
            name: write.request.clone(),
        }),
        End::Refused(_) | End::Unknown => None,
    });
    let reads = evidence.reads.iter().map(|read| Call {
        begun: read.begun,
        ended: read.ended,
        index: read.index,
        exact: true,
        write: false,
        name: format!("read of {} at {} us", read.node, read.begun),
    });
    let mut calls: Vec<Call> = writes.chain(reads).collect();
    calls.sort_by_key(|call| call.begun);
    // What had ended when a call began, by its end. A write answered again had its effect at some index up to its own,
    // and a read after it must see it; its own index was applied before it was answered, so it bounds reads as well.
    let mut ended: Vec<(u64, u64, usize)> =
        calls.iter().enumerate().map(|(n, call)| (call.ended, call.index, n)).collect();
    ended.sort_unstable();
    let (mut next, mut highest) = (0, (0, None));
    for call in &calls {
        while let Some((end, index, n)) = ended.get(next).copied().filter(|(end, ..)| *end < call.begun) {
            debug_assert!(end < call.begun);
            if index > highest.0 {
                highest = (index, Some(n));
            }
            next += 1;
        }
        let late = if call.write { call.index <= highest.0 } else { call.index < highest.0 };
        if call.exact
            && late
            && let Some(before) = highest.1.and_then(|n| calls.get(n))
        {
            breaches.push(format!(
                "{} at index {} began after {} at index {} had ended",
                call.name, call.index, before.name, before.index
            ));
        }
    }
}

/// A read must equal the replay at its index, as far as the indexes of the writes are known.
fn replay(order: &Order<'_>, read: &Read) -> Option<String> {
    let surely = order.most.partition_point(|index| *index <= read.index);
    let perhaps = order.least.partition_point(|index| *index <= read.index);
    let fits = (surely..=perhaps.max(surely)).any(|count| order.labels(&read.node, count) == read.labels);
    (!fits).then(|| {
        let expected = order.labels(&read.node, surely);
        format!(
            "read of {} at index {} saw {:?}, the replay is {expected:?} ({surely} to {perhaps} effects)",
            read.node, read.index, read.labels
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_good_history_is_not_blamed() {
        assert_eq!(check(&samples::good()), Vec::<String>::new());
    }

    #[test]
    fn a_stale_read_is_found_by_time_and_by_replay() {
        let mut stale = samples::good();
        stale.reads.push(samples::read(300, 10, &[("a", "1")]));
        assert!(check(&stale).iter().any(|b| b.contains("began after")), "{:?}", check(&stale));
        let mut wrong = samples::good();
        wrong.reads.push(samples::read(300, 12, &[("a", "1"), ("b", "1")]));
        assert!(check(&wrong).iter().any(|b| b.contains("the replay is")));
        let mut torn = samples::good();
        torn.reads.push(samples::read(120, 10, &[]));
        assert_eq!(check(&torn).len(), 1);
    }

    #[test]
    fn phantoms_and_indexes_out_of_order_are_found() {
        let mut phantom = samples::good();
        phantom.finals.values_mut().for_each(|last| last.effects.push(samples::effect("w9")));
        assert!(check(&phantom).iter().any(|b| b.starts_with("w9 took effect")));
        let mut swapped = samples::good();
        swapped.finals.values_mut().for_each(|last| last.effects.swap(0, 2));
        assert!(check(&swapped).iter().any(|b| b.contains("its place in the audit")));
        let mut late = samples::good();
        late.writes.push(samples::write("w4", &[("a", "3")], 900, End::Acked(11)));
        assert!(check(&late).iter().any(|b| b.starts_with("w4 at index 11 began after")));
    }
}
