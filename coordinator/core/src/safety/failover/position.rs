//! How far a standby has come, held against the last that is known of its primary. What is not known is too far.

use alloc::format;
use alloc::string::{String, ToString};

use quorate_model::{FailoverSpec, InstanceId, NodeName, ProbeKind, Reason, Refusal, Timestamp};

use super::super::availability::{Evidence, member, probe_limit};
use super::{Move, instance};
use crate::state::{Group, State};

/// The position that an instance's own probe told last, however long ago.
#[must_use]
pub fn last_position(evidence: &Evidence<'_>, id: &InstanceId) -> Option<u64> {
    told_position(evidence, id).map(|(_, position)| position)
}

fn told_position(evidence: &Evidence<'_>, id: &InstanceId) -> Option<(Timestamp, u64)> {
    let own = evidence.get(id)?.probes.iter().filter(|r| r.from == id.node && r.instance == *id);
    own.filter_map(|reading| Some((reading.at, reading.position?))).max()
}

/// The position of an instance, if it was told just now.
#[must_use]
pub fn fresh_position(
    state: &State,
    evidence: &Evidence<'_>,
    id: &InstanceId,
    now: Timestamp,
) -> Option<u64> {
    let spec = &state.services.get(&id.service)?.spec;
    let probe = spec.probes.iter().find(|probe| matches!(probe.kind, ProbeKind::Membership { .. }))?;
    let (at, position) = told_position(evidence, id)?;
    (now.since(at) <= probe_limit(state, &id.service, &probe.name, probe.interval)).then_some(position)
}

/// How far one position is behind another; none when either is not known.
#[must_use]
pub fn behind(last: Option<u64>, own: Option<u64>) -> Option<u64> {
    Some(last?.saturating_sub(own?))
}

/// Why a standby is too far behind the last that is known of the primary.
#[must_use]
pub fn too_far(
    spec: &FailoverSpec,
    asked: Move<'_>,
    node: &NodeName,
    last: Option<u64>,
    own: Option<u64>,
) -> Option<Refusal> {
    let lag = behind(last, own);
    let what = match lag {
        Some(lag) if lag <= spec.max_lag => return None,
        Some(_) => format!("{node} is too far behind the primary"),
        None if asked.accepts_unknown() => return None,
        None => format!("how far {node} is behind the primary is not known"),
    };
    let shown = |position: Option<u64>| position.map_or_else(|| String::from("not known"), |p| p.to_string());
    Some(
        Refusal::new(Reason::StandbyBehind, what)
            .with_detail("primary", shown(last))
            .with_detail(node.as_str(), shown(own))
            .with_detail("behind by", shown(lag))
            .with_detail("max_lag", spec.max_lag.to_string()),
    )
}

/// Why a standby is not one that will soon have all of what a primary has that goes on until it is stopped: by its own word, and
/// by both positions where some lag is allowed. Of two readings that are not of one instant none can be asked for; that nothing is
/// missing is asked for once nobody writes any more.
#[must_use]
pub fn not_caught_up(
    state: &State,
    group: &Group,
    (from, to): (&NodeName, &NodeName),
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let told = |node| fresh_position(state, evidence, &instance(group, node), now);
    let (last, own) = (told(from), told(to));
    let lags = member(state, &instance(group, to), evidence, now).out.is_some();
    let max_lag = group.spec.failover.as_ref().map_or(0, |spec| spec.max_lag);
    let far = max_lag > 0 && behind(last, own).is_some_and(|lag| lag > max_lag);
    let what = match (last, own) {
        (Some(_), Some(_)) if !lags && !far => return None,
        (Some(_), Some(_)) => format!("{to} has not caught up with the primary"),
        (None, _) | (_, None) => format!("how far {to} is behind the primary is not known"),
    };
    let shown = |position: Option<u64>| position.map_or_else(|| String::from("not known"), |p| p.to_string());
    Some(
        Refusal::new(Reason::StandbyBehind, what)
            .with_detail("primary", shown(last))
            .with_detail(to.as_str(), shown(own))
            .with_detail("behind by", shown(behind(last, own)))
            .with_detail("max_lag", max_lag.to_string()),
    )
}
