//! Whether this coordinator can do its work now, and why not.

use std::fmt::Write as _;

use quorate_proto::v1;

use crate::api::Api;
use crate::api::backend::RaftRole;

/// Ready means: part of a quorum, and caught up with what it knows of the log. With `verbose`, one line per check. A member
/// that is short of disk space still serves reads, votes and ends what is under way: that is told and is no reason to be
/// taken out of service.
pub(super) fn check(api: &Api, verbose: bool) -> (bool, String) {
    let health = api.backend().health();
    let initialised = api.look(|state| state.cluster.id.is_some());
    // A member that has more on disk than it has applied is still starting; a few entries in flight are normal.
    let behind = health.last_log.saturating_sub(health.applied);
    let checks = [
        ("initialised", initialised, "the state names its cluster".to_owned()),
        ("running", health.role != RaftRole::Down, format!("role {}", health.role.as_str())),
        ("quorum", health.has_quorum, leader_text(health.leader)),
        ("applied", behind <= 1_000, format!("{behind} entries to apply")),
    ];
    let ready = checks.iter().all(|(_, ok, _)| *ok);
    if !verbose {
        return (ready, if ready { "ready\n".to_owned() } else { "not ready\n".to_owned() });
    }
    let mut text = String::new();
    for (name, ok, detail) in checks {
        let mark = if ok { '+' } else { '-' };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{mark}] {name}: {detail}");
    }
    if let Some(low) = &health.low_space {
        let _ = writeln!(text, "[!] storage: {low}; no room for new work");
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    (ready, text)
}

fn leader_text(leader: Option<quorate_model::MemberId>) -> String {
    leader.map_or_else(|| "no leader is known".to_owned(), |id| format!("member {id} leads"))
}

/// `GetStatus` as JSON, in the shape of the command line's `status -o json`.
pub(super) fn status_json(status: &v1::GetStatusResponse) -> String {
    let v1::GetStatusResponse {
        cluster_id,
        cluster_name,
        leader,
        members_up,
        members,
        nodes,
        groups,
        operations_active,
        obligations_open,
        index,
        time,
        version,
        level,
        freezes_active,
        alarms,
    } = status;
    let time = time
        .as_ref()
        .and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .map(|t| t.to_string())
        .unwrap_or_default();
    serde_json::json!({
        "clusterId": cluster_id,
        "clusterName": cluster_name,
        "leader": leader,
        "membersUp": members_up,
        "members": members,
        "nodes": nodes,
        "groups": groups,
        "operationsActive": operations_active,
        "obligationsOpen": obligations_open,
        "index": index,
        "time": time,
        "version": version,
        "level": level,
        "freezesActive": freezes_active,
        "alarms": alarms,
    })
    .to_string()
}
