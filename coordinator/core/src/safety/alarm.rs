//! The alarm of a group: how near its quorum is to being lost, who is missing, and since when.
//!
//! Job: judge by the evidence the budget judges by, against the declared voters: one that is not seen is missing, and a group of
//! which nobody is seen is the worst case and not silence. Must never: decide about work; an alarm is told, and the budget judges
//! anew each time.

use alloc::vec::Vec;

use quorate_model::{AlarmLevel, InstanceId, InstanceState, MissingVoter, OutReason, Timestamp};

use super::availability::{
    Availability, Evidence, VoterStatus, availability, freshness_limit, is_disturbing,
};
use crate::state::{Group, State};

/// How a group stands, as an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumAlarm {
    /// How urgent it is. A voter of which nothing is known is missing.
    pub level: AlarmLevel,
    /// The same, if every voter that is not shown to be out served all the same: what holds whatever is not seen yet.
    pub certain: AlarmLevel,
    /// The same, of those alone that serve: what our own hand has out counts for nothing.
    pub alone: AlarmLevel,
    /// Available minus required.
    pub margin: i64,
    /// How many must be available.
    pub required: u32,
    /// How many are.
    pub available: u32,
    /// Who does not count, in declared order.
    pub missing: Vec<MissingVoter>,
}

impl QuorumAlarm {
    /// The level to hold now, of the one that is held already. Who has just begun to look has not heard everybody yet: until
    /// `settled`, an alarm is raised by what is shown only. Lowering one needs no patience: it takes voters that are seen to be up,
    /// and not that somebody has begun to work on one that is missing.
    #[must_use]
    pub fn due(&self, held: AlarmLevel, settled: bool) -> AlarmLevel {
        let raised = if settled { self.level } else { self.level.min(held.max(self.certain)) };
        raised.max(held.min(self.alone))
    }
}

/// The alarm of a group.
#[must_use]
pub fn alarm(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> QuorumAlarm {
    let stand = availability(state, group, evidence, now);
    let out = |voter: &&VoterStatus| voter.out.is_some();
    let id =
        |voter: &VoterStatus| InstanceId { node: voter.node.clone(), service: group.spec.service.clone() };
    let back = |voter: &VoterStatus| comes_back(state, &id(voter), voter, now);
    let count = |shown_only: bool| {
        // In doubt a voter is out; or up, where only what is shown counts.
        let doubted = |voter: &&VoterStatus| shown_only && !voter.spent;
        let served = stand.voters.iter().filter(|v| v.is_available() || doubted(v)).count();
        let returning = stand.voters.iter().filter(out).filter(|v| !doubted(v) && back(v)).count();
        level(&stand, served, returning)
    };
    QuorumAlarm {
        level: count(false),
        certain: count(true),
        alone: level(&stand, stand.voters.iter().filter(|v| v.is_available()).count(), 0),
        margin: stand.margin(),
        required: stand.required,
        available: stand.up,
        missing: stand.voters.iter().filter_map(|voter| missing(state, &id(voter), voter, now)).collect(),
    }
}

/// The level, of `up` voters that serve and `returning` ones that an operation has taken out for a moment.
fn level(stand: &Availability, up: usize, returning: usize) -> AlarmLevel {
    let wide = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let required = i64::from(stand.required);
    let spare = wide(up.saturating_add(returning)).saturating_sub(required);
    if wide(up) < required || (up == 0 && !stand.voters.is_empty()) {
        AlarmLevel::Critical
    } else if spare <= 0 || spare < i64::from(stand.spare_wanted) {
        AlarmLevel::Warning
    } else {
        AlarmLevel::None
    }
}

/// Whether a voter that is out is so by our own hand, and not for longer than a gate may take. A rolling restart takes the spare
/// of a small group by plan, says so in its plan, and keeps to the budget: a warning at each of its steps would teach people to
/// look away. It never hides that the quorum itself is lost, nor work that does not come to its end.
fn comes_back(state: &State, id: &InstanceId, voter: &VoterStatus, now: Timestamp) -> bool {
    match voter.out.as_ref().map(|out| out.why) {
        Some(OutReason::Granted) => {
            in_hand_since(state, id).is_some_and(|at| now.since(at) <= state.settings.gate_deadline)
        }
        // Nothing newer than the end of our work has been read: it has as long as a reading is good for.
        Some(OutReason::Stale) => {
            let disturbed = state.instances.get(id).map_or(Timestamp::ZERO, |known| known.disturbed_at);
            now.since(disturbed) <= freshness_limit(state, &id.service)
        }
        Some(
            OutReason::Unreachable
            | OutReason::Unknown
            | OutReason::Stopped
            | OutReason::Unhealthy
            | OutReason::Lagging
            | OutReason::Drained,
        )
        | None => false,
    }
}

/// Since when we work on an instance: the first grant or execution that is not over.
fn in_hand_since(state: &State, id: &InstanceId) -> Option<Timestamp> {
    let grants = state.grants.values().filter(|grant| grant.instance == *id).map(|grant| grant.issued_at);
    let works = |e: &&crate::state::Execution| is_disturbing(e) && e.instance.as_ref() == Some(id);
    grants.chain(state.all_open_executions().filter(works).map(|e| e.created_at)).min()
}

fn missing(state: &State, id: &InstanceId, voter: &VoterStatus, now: Timestamp) -> Option<MissingVoter> {
    let out = voter.out.as_ref()?;
    let told = out.lasting.map(|lasting| now.minus(lasting));
    let since = match out.why {
        OutReason::Granted => in_hand_since(state, id),
        OutReason::Unknown => told.or_else(|| recorded_since(state, id, out.why)),
        // Since when it lags is not recorded: what is, is since when it runs.
        OutReason::Lagging => None,
        OutReason::Unreachable
        | OutReason::Stale
        | OutReason::Stopped
        | OutReason::Unhealthy
        | OutReason::Drained => told,
    };
    Some(MissingVoter { node: voter.node.clone(), why: out.why, since })
}

/// Since when an instance has been recorded in a state that is such a reason.
#[must_use]
pub fn recorded_since(state: &State, id: &InstanceId, why: OutReason) -> Option<Timestamp> {
    let known = state.instances.get(id).filter(|known| known.since > Timestamp::ZERO)?;
    let shown = match known.observed {
        InstanceState::Unknown => OutReason::Unknown,
        InstanceState::Stopped | InstanceState::Stopping => OutReason::Stopped,
        InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Soaking
        | InstanceState::Unhealthy
        | InstanceState::Failed => OutReason::Unhealthy,
        InstanceState::Healthy => return None,
    };
    (shown == why).then_some(known.since)
}
