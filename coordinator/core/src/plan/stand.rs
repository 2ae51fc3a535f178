//! How a group stands as a plan sees it before it begins: who counts, how wide a wave may be, what a step does to it.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;

use quorate_model::{NodeName, Refusal, StepKind};

use super::targets::{Job, Target};
use crate::apply::step::doing;
use crate::safety::availability::Availability;
use crate::state::Group;
use crate::state::plan::QuorumLine;

/// One group as the plan sees it before it begins: who counts.
pub(super) struct Stand<'a> {
    pub(super) group: &'a Group,
    pub(super) now_up: Availability,
    /// Available, or only out because another lane works on it: that one gives it back.
    pub(super) up: BTreeSet<NodeName>,
    /// Voters that are known not to serve: work on them costs nothing.
    pub(super) spent: BTreeSet<NodeName>,
}

impl Stand<'_> {
    /// A voter that serves, or may serve for all that is known.
    pub(super) fn takes(&self, node: &NodeName) -> bool {
        self.group.spec.voters.contains(node) && !self.spent.contains(node)
    }

    pub(super) fn voters(&self) -> u32 {
        u32::try_from(self.now_up.voters.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn floor(&self) -> u32 {
        self.now_up.required.saturating_add(self.now_up.spare_wanted)
    }

    pub(super) fn up(&self) -> u32 {
        u32::try_from(self.up.len()).unwrap_or(u32::MAX)
    }
}

/// The widest wave that leaves every group its floor, one at least: what is out already can always be worked on.
pub(super) fn allowed(stands: &[Stand<'_>], job: &Job, wished: u32) -> u32 {
    let room = |stand: &Stand<'_>| {
        let any_up = job.targets.iter().any(|t| stand.takes(&t.node));
        any_up.then(|| stand.up().saturating_sub(stand.floor()))
    };
    let narrowest = stands.iter().filter_map(room).min().unwrap_or(wished);
    wished.min(narrowest).max(1)
}

/// What the wave does to one group while this target is worked on.
pub(super) fn line<'t>(
    stand: &Stand<'_>,
    target: &Target,
    wave: impl Iterator<Item = &'t Target>,
    stopped: u32,
) -> Option<QuorumLine> {
    let spec = &stand.group.spec;
    if !spec.voters.contains(&target.node) && !spec.learners.contains(&target.node) {
        return None;
    }
    let up_before = stand.up().saturating_sub(stopped);
    let taken = wave.filter(|t| stand.up.contains(&t.node)).count();
    let up_during = up_before.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
    Some(QuorumLine {
        group: spec.name.clone(),
        voters: stand.voters(),
        required: stand.now_up.required,
        up_before,
        up_during,
        spare: up_during.saturating_sub(stand.now_up.required),
    })
}

/// Why a member that is up cannot be spared.
pub(super) fn no_margin(stand: &Stand<'_>, kind: StepKind, nodes: Vec<NodeName>, after: u32) -> Refusal {
    Refusal::QuorumMargin {
        doing: doing(kind).to_string(),
        nodes,
        group: stand.group.spec.name.clone(),
        voters: stand.voters(),
        up: stand.up(),
        after,
        required: stand.now_up.required,
        spare: stand.now_up.spare_wanted,
        already_out: stand.now_up.out(),
    }
}
