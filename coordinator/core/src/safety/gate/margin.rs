//! The margin of a group as a gate: the next wave has to find what this one found.

use alloc::format;
use alloc::string::String;

use quorate_model::Timestamp;

use crate::safety::availability::{Evidence, availability};
use crate::state::State;
use crate::state::operation::Operation;
use crate::state::plan::GateSpec;

/// Which group of the gate's member has fewer than it needs and wants to spare, if any. The member counts as back: the rest
/// of its gate proves that. So do the others that the same wave works on: their own gates do.
#[must_use]
pub fn margin_missing(
    state: &State,
    operation: &Operation,
    index: u32,
    gate: &GateSpec,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    let wave = operation.step(index).filter(|_| gate.margin)?.wave;
    let instance = &gate.instance;
    state.groups_of(&instance.service, &instance.node).find_map(|group| {
        let stands = availability(state, group, evidence, now);
        let missing =
            |node: &quorate_model::NodeName| *node != instance.node && !operation.lane_is_open(wave, node);
        let out =
            || stands.voters.iter().filter_map(|v| v.out.as_ref()).filter(|member| missing(&member.node));
        let voters = stands.voters.len();
        let up = voters.saturating_sub(out().count());
        let wanted = u64::from(stands.required).saturating_add(u64::from(stands.spare_wanted));
        // More than there are cannot be waited for.
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(voters);
        (up < wanted).then(|| {
            let mut text = format!(
                "{} has {up} of {voters} up with {}, wanted {wanted}",
                group.spec.name, instance.node
            );
            for member in out() {
                text = format!("{text}; {} is {}", member.node, member.why);
            }
            text
        })
    })
}
