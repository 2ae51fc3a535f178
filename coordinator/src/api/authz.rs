//! Who may call what: one table, exact paths, default deny.
//!
//! A method without a row is refused for everybody, and this file does not compile with one, because the table is compared
//! with the methods of the compiled descriptor while it is built (I-24).

use quorate_model::{AccessRole, Principal};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Users with at least this role.
    Users(AccessRole),
    /// Agents only (I-25).
    Agents,
    /// Coordinators only.
    Coordinators,
    /// Nobody on the gRPC port; the HTTPS port serves it to callers without a certificate.
    Enrolment,
}

/// Where a method is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By any coordinator: it needs the replicated state only.
    Any,
    /// By the leader: it needs what only the leader's memory holds. Followers pass it on.
    Leader,
}

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads; counted in the audit in batches.
    Read,
    /// Changes something; every call is in the audit by itself.
    Change,
    /// A stream that lives long; no deadline of ours.
    Stream,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who.
    pub allow: Allow,
    /// What.
    pub effect: Effect,
    /// Where.
    pub place: Place,
}

impl Rule {
    /// `Service/Method`, as the audit and metrics show it.
    #[must_use]
    pub fn short(&self) -> &'static str {
        let path = self.path.trim_start_matches('/');
        let service = path.split('/').next().unwrap_or_default();
        let package = service.rfind('.').map_or(0, |dot| dot + 1);
        path.get(package..).unwrap_or(path)
    }

    /// Whether a caller may.
    #[must_use]
    pub fn permits(&self, principal: &Principal, access: Option<AccessRole>) -> bool {
        match (self.allow, principal) {
            (Allow::Users(least), Principal::User { .. }) => access.is_some_and(|role| role >= least),
            (Allow::Agents, Principal::Agent { .. }) => true,
            (Allow::Coordinators, Principal::Coordinator { .. }) => true,
            (
                Allow::Users(_) | Allow::Agents | Allow::Coordinators | Allow::Enrolment,
                Principal::System
                | Principal::User { .. }
                | Principal::Agent { .. }
                | Principal::Coordinator { .. }
                | Principal::Schedule { .. },
            ) => false,
        }
    }
}

const VIEWER: Allow = Allow::Users(AccessRole::Viewer);
const OPERATOR: Allow = Allow::Users(AccessRole::Operator);
const ADMIN: Allow = Allow::Users(AccessRole::Admin);

macro_rules! rules {
    ($($service:literal { $($method:literal: $allow:expr, $effect:ident, $place:ident;)+ })+) => {
        &[$($(Rule {
            path: concat!("/", $service, "/", $method),
            allow: $allow,
            effect: Effect::$effect,
            place: Place::$place,
        }),+),+]
    };
}

/// Every method there is.
pub const RULES: &[Rule] = rules! {
    "quorate.v1.FleetService" {
        "ListNodes": VIEWER, Read, Leader;
        "GetNode": VIEWER, Read, Leader;
        "CordonNode": OPERATOR, Change, Leader;
        "UncordonNode": OPERATOR, Change, Leader;
        "DrainNode": OPERATOR, Change, Leader;
        "UndrainNode": OPERATOR, Change, Leader;
        "UpdateNodeLabels": OPERATOR, Change, Leader;
        "RemoveNode": ADMIN, Change, Leader;
        "CreateToken": ADMIN, Change, Any;
        "ListTokens": ADMIN, Read, Any;
        "RevokeToken": ADMIN, Change, Any;
    }
    "quorate.v1.GroupService" {
        "ListServices": VIEWER, Read, Leader;
        "GetService": VIEWER, Read, Leader;
        "ApplyService": OPERATOR, Change, Leader;
        "DeleteService": OPERATOR, Change, Any;
        "ListGroups": VIEWER, Read, Leader;
        "GetGroup": VIEWER, Read, Leader;
        "ApplyGroup": OPERATOR, Change, Leader;
        "DeleteGroup": OPERATOR, Change, Any;
        "GetQuorum": VIEWER, Read, Leader;
        "CheckQuorum": VIEWER, Read, Leader;
    }
    "quorate.v1.OperationService" {
        "CreatePlan": OPERATOR, Change, Leader;
        "GetPlan": VIEWER, Read, Any;
        "ListPlans": VIEWER, Read, Any;
        "CreateOperation": OPERATOR, Change, Leader;
        "GetOperation": VIEWER, Read, Any;
        "ListOperations": VIEWER, Read, Any;
        "WatchOperation": VIEWER, Stream, Any;
        "PauseOperation": OPERATOR, Change, Any;
        "ResumeOperation": OPERATOR, Change, Any;
        "CancelOperation": OPERATOR, Change, Any;
        "PromoteOperation": OPERATOR, Change, Any;
        "ApproveOperation": OPERATOR, Change, Any;
        "RejectOperation": OPERATOR, Change, Any;
        "ListApprovals": VIEWER, Read, Any;
        "ListReleases": VIEWER, Read, Any;
        "ExplainOperation": VIEWER, Read, Leader;
    }
    "quorate.v1.ScheduleService" {
        "ListFreezes": VIEWER, Read, Any;
        "GetFreeze": VIEWER, Read, Any;
        "ApplyFreeze": OPERATOR, Change, Any;
        "DeleteFreeze": OPERATOR, Change, Any;
        "ListWindows": VIEWER, Read, Any;
        "GetWindow": VIEWER, Read, Any;
        "ApplyWindow": OPERATOR, Change, Any;
        "DeleteWindow": OPERATOR, Change, Any;
        "ListSchedules": VIEWER, Read, Any;
        "GetSchedule": VIEWER, Read, Any;
        "ApplySchedule": OPERATOR, Change, Leader;
        "DeleteSchedule": OPERATOR, Change, Any;
        "PauseSchedule": OPERATOR, Change, Any;
        "ResumeSchedule": OPERATOR, Change, Any;
        "RunSchedule": OPERATOR, Change, Leader;
    }
    "quorate.v1.PolicyService" {
        "ListPolicies": VIEWER, Read, Any;
        "GetPolicy": VIEWER, Read, Any;
        "ApplyPolicy": ADMIN, Change, Any;
        "DeletePolicy": ADMIN, Change, Any;
    }
    "quorate.v1.FailoverService" {
        "ListFailovers": VIEWER, Read, Leader;
        "GetFailover": VIEWER, Read, Leader;
        "AcknowledgeFailover": OPERATOR, Change, Leader;
    }
    "quorate.v1.ActionService" {
        "ListActions": VIEWER, Read, Leader;
    }
    "quorate.v1.BackupService" {
        "ListBackups": VIEWER, Read, Any;
        "GetBackup": VIEWER, Read, Any;
    }
    "quorate.v1.ArtifactService" {
        "ListArtifacts": VIEWER, Read, Any;
        "GetArtifact": VIEWER, Read, Any;
        "BeginUpload": OPERATOR, Change, Any;
        "WriteArtifact": OPERATOR, Change, Any;
        "FinishUpload": OPERATOR, Change, Any;
        "ReadArtifact": OPERATOR, Read, Any;
        "DeleteArtifact": OPERATOR, Change, Any;
    }
    "quorate.v1.AuditService" {
        "ListAuditRecords": VIEWER, Read, Any;
        "WatchAuditRecords": VIEWER, Stream, Any;
        "VerifyAudit": VIEWER, Read, Any;
    }
    "quorate.v1.AdminService" {
        "ListMembers": VIEWER, Read, Any;
        "TransferLeader": ADMIN, Change, Leader;
        "RemoveMember": ADMIN, Change, Leader;
        "PromoteMember": ADMIN, Change, Leader;
        "SaveSnapshot": ADMIN, Stream, Any;
        "CompareState": ADMIN, Read, Leader;
        "TriggerSnapshot": ADMIN, Change, Any;
        "GetStatus": VIEWER, Read, Any;
        "GetCaller": VIEWER, Read, Any;
    }
    "quorate.v1.EnrollService" {
        "Enroll": Allow::Enrolment, Change, Any;
    }
    "quorate.agent.v1.AgentService" {
        "Session": Allow::Agents, Stream, Any;
        "RenewCertificate": Allow::Agents, Change, Any;
        "FetchArtifact": Allow::Agents, Read, Any;
    }
    "quorate.peer.v1.PeerService" {
        "AppendEntries": Allow::Coordinators, Stream, Any;
        "RequestVote": Allow::Coordinators, Stream, Any;
        "InstallSnapshot": Allow::Coordinators, Stream, Any;
        "Propose": Allow::Coordinators, Stream, Any;
        "ReadIndex": Allow::Coordinators, Stream, Any;
        "ReportObservations": Allow::Coordinators, Stream, Any;
        "RenewLeases": Allow::Coordinators, Stream, Any;
        "GetPeerStatus": Allow::Coordinators, Stream, Any;
        "GetStateDigest": Allow::Coordinators, Stream, Any;
        "StandForElection": Allow::Coordinators, Stream, Any;
    }
    "quorate.peer.v1.ArtifactPeerService" {
        "ReadArtifact": Allow::Coordinators, Read, Any;
        "SuspectArtifact": Allow::Coordinators, Read, Any;
    }
    "grpc.health.v1.Health" {
        "Check": VIEWER, Read, Any;
        "Watch": VIEWER, Stream, Any;
    }
    "grpc.reflection.v1.ServerReflection" {
        "ServerReflectionInfo": VIEWER, Stream, Any;
    }
};

/// A name that the table has not exactly once: a method of the descriptor, or a row (but for health and reflection, whose
/// descriptors are not ours).
const fn out_of_step(methods: &[&'static str], rules: &[Rule]) -> Option<&'static str> {
    let mut at = 0;
    while at < methods.len() {
        let mut rows = 0;
        let mut row = 0;
        while row < rules.len() {
            if same(methods[at], rules[row].path) {
                rows += 1;
            }
            row += 1;
        }
        if rows != 1 {
            return Some(methods[at]);
        }
        at += 1;
    }
    let mut row = 0;
    while row < rules.len() {
        let path = rules[row].path;
        let mut known = begins_with(path, "/grpc.");
        let mut at = 0;
        while at < methods.len() {
            known = known || same(methods[at], path);
            at += 1;
        }
        if !known {
            return Some(path);
        }
        row += 1;
    }
    None
}

const fn begins_with(text: &str, start: &str) -> bool {
    let (text, start) = (text.as_bytes(), start.as_bytes());
    if text.len() < start.len() {
        return false;
    }
    let mut at = 0;
    while at < start.len() {
        if text[at] != start[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && begins_with(one, other)
}

/// The build stops here for a method without a row, a second row, or a row without a method, and says which.
const EVERY_METHOD_HAS_ONE_ROW: () = {
    if let Some(path) = out_of_step(quorate_proto::METHODS, RULES) {
        panic!("{}", path);
    }
};
const _: () = EVERY_METHOD_HAS_ONE_ROW;

/// The row of a path. Compared whole: no prefix, no wildcard, no case folding (class C6).
#[must_use]
pub fn rule(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

/// Paths of the methods that stream, for the listener: it puts no deadline on them.
pub fn streaming_paths() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|rule| rule.effect == Effect::Stream).map(|rule| rule.path)
}

#[cfg(test)]
mod tests {
    use quorate_model::{MemberId, NodeName, UserName};

    use super::*;

    #[test]
    fn a_method_without_a_row_does_not_build() {
        let methods = quorate_proto::METHODS;
        assert!(methods.len() > 45, "the descriptor holds all services");
        assert_eq!(out_of_step(methods, RULES), None);
        for (at, rule) in RULES.iter().enumerate().filter(|(_, rule)| !rule.path.starts_with("/grpc.")) {
            let without = [&RULES[..at], &RULES[at + 1..]].concat();
            assert_eq!(out_of_step(methods, &without), Some(rule.path), "no row");
            assert_eq!(out_of_step(methods, &[RULES, &[*rule]].concat()), Some(rule.path), "two rows");
        }
        let gone = Rule { path: "/quorate.v1.FleetService/Explode", ..RULES[0] };
        assert_eq!(out_of_step(methods, &[RULES, &[gone]].concat()), Some(gone.path), "no method");
    }

    fn callers() -> Vec<(&'static str, Principal, Option<AccessRole>)> {
        let user = Principal::User { name: UserName::new("u").unwrap() };
        let mut all = vec![
            ("system", Principal::System, None),
            ("coordinator", Principal::Coordinator { member: MemberId(1) }, None),
            ("agent", Principal::Agent { node: NodeName::new("n").unwrap() }, None),
            ("user without a role", user.clone(), None),
        ];
        all.extend(AccessRole::ALL.iter().map(|role| (role.as_str(), user.clone(), Some(*role))));
        all
    }

    #[test]
    fn the_role_matrix_is_default_deny() {
        for rule in RULES {
            for (word, principal, access) in callers() {
                let expected = match rule.allow {
                    Allow::Agents => word == "agent",
                    Allow::Coordinators => word == "coordinator",
                    Allow::Enrolment => false,
                    Allow::Users(least) => access.is_some_and(|role| role >= least),
                };
                assert_eq!(rule.permits(&principal, access), expected, "{} as {word}", rule.path);
            }
        }
        // A role on a certificate that is not a user's gives nothing.
        let agent = Principal::Agent { node: NodeName::new("n").unwrap() };
        assert!(
            !rule("/quorate.v1.FleetService/ListNodes").unwrap().permits(&agent, Some(AccessRole::Admin))
        );
    }

    #[test]
    fn agents_reach_agent_methods_only_and_coordinators_peer_methods_only() {
        for rule in RULES {
            let package = rule.path.split('.').nth(1).unwrap();
            assert_eq!(rule.allow == Allow::Agents, package == "agent", "{}", rule.path);
            assert_eq!(rule.allow == Allow::Coordinators, package == "peer", "{}", rule.path);
        }
    }

    #[test]
    fn changes_need_more_than_a_viewer() {
        for rule in RULES.iter().filter(|r| r.effect == Effect::Change) {
            assert_ne!(rule.allow, VIEWER, "{}", rule.path);
        }
    }

    #[test]
    fn only_the_exact_path_has_a_row() {
        for path in [
            "",
            "/",
            "/quorate.v1.FleetService/",
            "/quorate.v1.FleetService/listnodes",
            "/quorate.v1.FleetService/ListNodes/",
            "//quorate.v1.FleetService/ListNodes",
            "/quorate.v1.FleetService/ListNodes/../CreateToken",
            "/quorate.v1.FleetService/List%4eodes",
        ] {
            assert_eq!(rule(path), None, "{path}");
        }
        assert_eq!(rule("/quorate.v1.FleetService/ListNodes").unwrap().short(), "FleetService/ListNodes");
    }
}
