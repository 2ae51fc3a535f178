//! Services, groups, and the lines of the quorum screen.

use quorate_common::wire::enums::{
    write_alarm_level, write_group_state, write_instance_role, write_instance_state, write_sync,
};
use quorate_common::wire::group::{write_group, write_policy};
use quorate_common::wire::service::write_service;
use quorate_common::wire::time::write_timestamp;
use quorate_core::safety::availability::member;
use quorate_core::safety::{Availability, Evidence, alarm, availability};
use quorate_core::state::{Group, Service};
use quorate_core::{Observations, State};
use quorate_model::{
    AlarmLevel, BftRounding, GroupState, InstanceId, MissingVoter, NodeName, OutMember, OutReason,
    QuorumPolicy, Timestamp,
};
use quorate_proto::v1;

use super::node::{instance, instances_of};
use crate::api::backend::{MemberView, RaftRole};

/// A service with its instances.
pub(crate) fn service(state: &State, obs: &Observations, service: &Service, now: Timestamp) -> v1::Service {
    let instances = instances_of(state, service);
    v1::Service {
        name: service.spec.name.as_str().to_owned(),
        spec: Some(write_service(&service.spec)),
        instances: instances.iter().map(|id| instance(state, obs, id, now)).collect(),
        revision: service.revision.0,
    }
}

fn margin(stand: &Availability) -> i32 {
    i32::try_from(stand.margin()).unwrap_or(i32::MAX)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The alarm of a group: who is missing now, and the level that is recorded. A level is shown when it is decided, so that one
/// coordinator does not show what the others have not seen.
fn alarm_of(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> v1::QuorumAlarm {
    let found = alarm(state, group, evidence, now);
    v1::QuorumAlarm {
        level: write_alarm_level(group.alarm_level()) as i32,
        since: group.alarm.as_ref().and_then(|raised| write_timestamp(raised.since)),
        margin: i32::try_from(found.margin).unwrap_or(i32::MAX),
        required: found.required,
        available: found.available,
        missing: found.missing.iter().map(missing).collect(),
    }
}

fn missing(voter: &MissingVoter) -> v1::MissingVoter {
    v1::MissingVoter {
        node: voter.node.as_str().to_owned(),
        why: voter.why.as_str().to_owned(),
        since: voter.since.and_then(write_timestamp),
        unknown: voter.is_unknown(),
    }
}

/// A group and where it stands.
pub(crate) fn group(state: &State, obs: &Observations, group: &Group, now: Timestamp) -> v1::Group {
    let evidence = Evidence::from_observations(obs);
    let stand = availability(state, group, &evidence, now);
    let spec = &group.spec;
    let one = |node: &NodeName, voter: bool| {
        let id = InstanceId { node: node.clone(), service: spec.service.clone() };
        let status = member(state, &id, &evidence, now);
        let holder = state.grants.values().find(|grant| grant.instance == id);
        v1::GroupMember {
            node: node.as_str().to_owned(),
            role: write_instance_role(status.role) as i32,
            observed: write_instance_state(status.observed) as i32,
            sync: write_sync(status.sync) as i32,
            voter,
            available: status.is_available(),
            out_reason: status.out.as_ref().map(|out| out.why.as_str().to_owned()).unwrap_or_default(),
            grant_holder: holder.map(|g| g.operation.as_str().to_owned()).unwrap_or_default(),
        }
    };
    let voters = spec.voters.iter().map(|node| one(node, true));
    let learners = spec.learners.iter().map(|node| one(node, false));
    let pending = group.pending.iter().flat_map(|pending| &pending.voters);
    v1::Group {
        name: spec.name.as_str().to_owned(),
        state: write_group_state(stand.state()) as i32,
        policy: Some(write_policy(&spec.policy)),
        voters: count(spec.voters.len()),
        available: stand.up,
        required: stand.required,
        margin: margin(&stand),
        members: voters.chain(learners).collect(),
        service: spec.service.as_str().to_owned(),
        spec: Some(write_group(spec)),
        revision: group.revision.0,
        alarm: Some(alarm_of(state, group, &evidence, now)),
        pending_voters: pending.map(|node| node.as_str().to_owned()).collect(),
    }
}

/// A group's line with some of its nodes thought away.
pub(crate) fn quorum_line(
    state: &State,
    obs: &Observations,
    group: &Group,
    down: &[NodeName],
    now: Timestamp,
) -> v1::QuorumLine {
    let evidence = Evidence::from_observations(obs);
    let mut stand = availability(state, group, &evidence, now);
    for voter in stand.voters.iter_mut().filter(|v| v.out.is_none() && down.contains(&v.node)) {
        let node = voter.node.clone();
        voter.out = Some(OutMember { node, why: OutReason::Unreachable, lasting: None });
        stand.up = stand.up.saturating_sub(1);
    }
    v1::QuorumLine {
        name: group.spec.name.as_str().to_owned(),
        kind: kind_word(&group.spec.policy),
        voters: count(stand.voters.len()),
        available: stand.up,
        required: stand.required,
        margin: margin(&stand),
        ok: stand.margin() >= 0,
        state: write_group_state(stand.state()) as i32,
        out: stand.out().iter().map(|out| out_line(out, down)).collect(),
        // Of what is only thought there is no alarm.
        alarm: down.is_empty().then(|| alarm_of(state, group, &evidence, now)),
    }
}

fn out_line(out: &OutMember, down: &[NodeName]) -> String {
    if out.lasting.is_none() && out.why == OutReason::Unreachable && down.contains(&out.node) {
        return format!("{} (thought away)", out.node);
    }
    let lasting = out.lasting.map(|d| format!(" {d}")).unwrap_or_default();
    format!("{} ({}{lasting})", out.node, out.why)
}

/// The word of the quorum screen: `majority`, `2f+1`, …
fn kind_word(policy: &QuorumPolicy) -> String {
    match policy {
        QuorumPolicy::Majority => "majority".into(),
        QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds } => "2f+1".into(),
        QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne } => "2n/3+1".into(),
        QuorumPolicy::MinAvailable { count } => format!("min {count}"),
        QuorumPolicy::MinAvailablePercent { percent } => format!("min {percent}%"),
        QuorumPolicy::PrimaryStandby => "primary/standby".into(),
        QuorumPolicy::None => "none".into(),
    }
}

/// The coordinators' own line.
pub(crate) fn own_line(state: &State, members: &[MemberView]) -> v1::QuorumLine {
    let voters: Vec<&MemberView> = members.iter().filter(|m| m.voter).collect();
    let up = count(voters.iter().filter(|m| m.role != RaftRole::Down).count());
    let total = count(voters.len());
    let required = total / 2 + 1;
    let margin = i64::from(up) - i64::from(required);
    let (stands, level) = match margin {
        ..=-1 => (GroupState::QuorumLost, AlarmLevel::Critical),
        0 => (GroupState::AtRisk, AlarmLevel::Warning),
        1.. => (GroupState::Healthy, AlarmLevel::None),
    };
    let name = |m: &MemberView| {
        state.members.by_id.get(&m.id).map_or_else(|| m.id.to_string(), |found| found.name.to_string())
    };
    let down: Vec<String> = voters.iter().filter(|m| m.role == RaftRole::Down).map(|m| name(m)).collect();
    let margin = i32::try_from(margin).unwrap_or(i32::MIN);
    let lost = |name: &String| v1::MissingVoter {
        node: name.clone(),
        why: OutReason::Unreachable.as_str().to_owned(),
        since: None,
        unknown: true,
    };
    v1::QuorumLine {
        name: "coordinator".into(),
        kind: "raft".into(),
        voters: total,
        available: up,
        required,
        margin,
        ok: margin >= 0,
        state: write_group_state(stands) as i32,
        out: down.iter().map(|name| format!("{name} (unreachable)")).collect(),
        alarm: Some(v1::QuorumAlarm {
            level: write_alarm_level(level) as i32,
            since: None,
            margin,
            required,
            available: up,
            missing: down.iter().map(lost).collect(),
        }),
    }
}
