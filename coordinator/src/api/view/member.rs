//! Coordinators.

use quorate_core::State;
use quorate_core::state::Member;
use quorate_proto::v1;

use crate::api::backend::{MemberView, RaftRole};

fn role(role: RaftRole) -> v1::MemberState {
    match role {
        RaftRole::Leader => v1::MemberState::Leader,
        RaftRole::Follower => v1::MemberState::Follower,
        RaftRole::Candidate => v1::MemberState::Candidate,
        RaftRole::Learner => v1::MemberState::Learner,
        RaftRole::Down => v1::MemberState::Down,
    }
}

/// Every member that the state lists, with what it says of itself; one that says nothing is DOWN.
pub(crate) fn members(state: &State, views: &[MemberView]) -> Vec<v1::Member> {
    state.members.present().map(|listed| member(listed, views.iter().find(|v| v.id == listed.id))).collect()
}

fn member(listed: &Member, view: Option<&MemberView>) -> v1::Member {
    v1::Member {
        name: listed.name.as_str().to_owned(),
        state: role(view.map_or(RaftRole::Down, |v| v.role)) as i32,
        voter: view.is_some_and(|v| v.voter),
        term: view.map_or(0, |v| v.term),
        applied_index: view.map_or(0, |v| v.applied),
        member_id: listed.id.0,
        grpc_address: listed.grpc.clone(),
        http_address: listed.http.clone(),
        version: view.map(|v| v.version.clone()).unwrap_or_default(),
        last_log_index: view.map_or(0, |v| v.last_log),
        snapshot_index: view.map_or(0, |v| v.snapshot),
        sessions: view.map_or(0, |v| v.sessions),
        standby: listed.standby,
    }
}
