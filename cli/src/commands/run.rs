//! Builds the planner's input from flags; shared by `service`, `action`, `backup`, `log` and `rollout`.

use std::time::Duration;

use quorate_proto::v1;
use quorate_proto::v1::work_spec::Kind;

use crate::args::Select;
use crate::failure::Failure;

/// One action on a selector.
///
/// # Errors
/// When no node was chosen.
pub fn run_spec(
    action: &str,
    service: Option<&str>,
    select: &Select,
    parallel: u32,
    gate_timeout: Option<Duration>,
) -> Result<v1::WorkSpec, Failure> {
    let run = v1::RunSpec {
        selector: Some(select.required()?),
        action: action.to_owned(),
        service: service.unwrap_or_default().to_owned(),
        parallelism: parallel,
        gate_timeout: read_gate_timeout(gate_timeout)?,
    };
    Ok(v1::WorkSpec { kind: Some(Kind::Run(run)), max_failures: 0 })
}

/// `--gate-timeout` as a message.
///
/// # Errors
/// When it is longer than a message can hold.
pub fn read_gate_timeout(timeout: Option<Duration>) -> Result<Option<prost_types::Duration>, Failure> {
    let read = timeout.map(prost_types::Duration::try_from).transpose();
    read.map_err(|error| Failure::usage(format!("--gate-timeout: {error}")))
}

/// Backups of a service's instances.
///
/// # Errors
/// When the selector cannot be read.
pub fn backup_spec(service: &str, select: &Select, parallel: u32) -> Result<v1::WorkSpec, Failure> {
    let backup = v1::BackupAllSpec {
        service: service.to_owned(),
        selector: select.selector()?,
        parallelism: parallel,
    };
    Ok(v1::WorkSpec { kind: Some(Kind::Backup(backup)), max_failures: 0 })
}

/// A member joins a group, or leaves it.
#[must_use]
pub fn membership_spec(
    group: &str,
    node: &str,
    change: v1::MembershipVerb,
    spare: Option<u32>,
) -> v1::WorkSpec {
    let membership = v1::MembershipChangeSpec {
        group: group.to_owned(),
        node: node.to_owned(),
        change: change as i32,
        spare,
    };
    v1::WorkSpec { kind: Some(Kind::Membership(membership)), max_failures: 0 }
}

/// The primary role of a group is moved.
#[must_use]
pub fn failover_spec(group: &str, to: Option<&str>, lost: bool) -> v1::WorkSpec {
    let failover = v1::FailoverWorkSpec {
        group: group.to_owned(),
        to: to.unwrap_or_default().to_owned(),
        planned: !lost,
    };
    v1::WorkSpec { kind: Some(Kind::Failover(failover)), max_failures: 0 }
}

/// A former primary comes back as a standby.
#[must_use]
pub fn rejoin_spec(group: &str, node: &str) -> v1::WorkSpec {
    let rejoin = v1::RejoinSpec { group: group.to_owned(), node: node.to_owned() };
    v1::WorkSpec { kind: Some(Kind::Rejoin(rejoin)), max_failures: 0 }
}

/// A member's data is put aside and copied anew from the others.
///
/// # Errors
/// When the time is longer than a message can hold.
pub fn rebuild_spec(
    group: &str,
    node: &str,
    gate_timeout: Option<Duration>,
) -> Result<v1::WorkSpec, Failure> {
    let rebuild = v1::RebuildSpec {
        group: group.to_owned(),
        node: node.to_owned(),
        gate_timeout: read_gate_timeout(gate_timeout)?,
    };
    Ok(v1::WorkSpec { kind: Some(Kind::Rebuild(rebuild)), max_failures: 0 })
}

/// Log rotation of a service's instances.
///
/// # Errors
/// When the selector cannot be read.
pub fn rotate_spec(service: &str, select: &Select, parallel: u32) -> Result<v1::WorkSpec, Failure> {
    let rotate = v1::RotateAllSpec {
        service: service.to_owned(),
        selector: select.selector()?,
        parallelism: parallel,
    };
    Ok(v1::WorkSpec { kind: Some(Kind::Rotate(rotate)), max_failures: 0 })
}
