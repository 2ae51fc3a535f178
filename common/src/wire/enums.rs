//! The closed enums, in both directions. A value that this release does not know is refused, never guessed.

use quorate_model::backup::BackupState;
use quorate_model::{
    AccessRole, AlarmLevel, ApprovalState, DataVerb, Drain, ExecutionState, FailoverState, FreezeState,
    GroupState, InstanceRole, InstanceState, LeaseState, MembershipVerb, MigrateWhen, MigrationChoice,
    MissedPolicy, NodeStatus, ObligationState, OnFailure, OperationKind, OperationState, Overlap, Promotion,
    RunResult, Scheduling, SecretVerb, StepKind, StepState, Sync, WaveState, WindowState,
};
use quorate_proto::{agent, v1};

use super::Invalid;

macro_rules! pairs {
    ($($(#[$meta:meta])* $read:ident / $write:ident: $model:ty = $proto:ty { $($name:ident),+ $(,)? })+) => { $(
        $(#[$meta])*
        ///
        /// # Errors
        /// [`Invalid`] when the value is unset or not known.
        pub fn $read(field: &str, value: i32) -> Result<$model, Invalid> {
            match <$proto>::try_from(value) {
                $(Ok(<$proto>::$name) => Ok(<$model>::$name),)+
                Ok(<$proto>::Unspecified) => Err(Invalid::missing(field)),
                Err(_) => Err(Invalid::new(field, format!("{value} is not one of its values"))),
            }
        }

        /// As a message.
        #[must_use]
        pub const fn $write(value: $model) -> $proto {
            match value { $(<$model>::$name => <$proto>::$name),+ }
        }
    )+ };
}

pairs! {
    /// Connection axis of a node.
    read_node_status / write_node_status: NodeStatus = v1::NodeStatus {
        Pending, Ready, Disconnected, Down, Removed,
    }
    /// Scheduling axis of a node.
    read_scheduling / write_scheduling: Scheduling = v1::NodeScheduling { Eligible, Cordoned }
    /// Drain axis of a node.
    read_drain / write_drain: Drain = v1::NodeDrain { None, Draining, Drained }
    /// What is seen of an instance.
    read_instance_state / write_instance_state: InstanceState = v1::InstanceState {
        Unknown, Starting, Running, Soaking, Healthy, Unhealthy, Stopping, Stopped, Failed,
    }
    /// Role as the application sees it.
    read_instance_role / write_instance_role: InstanceRole = v1::InstanceRole {
        Unknown, Leader, Voter, Learner, Primary, Standby, Observer,
    }
    /// Caught up or not.
    read_sync / write_sync: Sync = v1::InstanceSync { Unknown, CaughtUp, Lagging }
    /// How a group stands.
    read_group_state / write_group_state: GroupState = v1::GroupState {
        Unknown, Healthy, AtRisk, QuorumLost, Maintenance,
    }
    /// How urgent an alarm is.
    read_alarm_level / write_alarm_level: AlarmLevel = v1::AlarmLevel { None, Warning, Critical }
    /// How a lease stands.
    read_lease_state / write_lease_state: LeaseState = v1::LeaseState { Requested, Held, Released, Expired, Killed }
    /// Where a failover stands.
    read_failover_state / write_failover_state: FailoverState = v1::FailoverState {
        Suspected, Confirmed, Fencing, Fenced, Promoting, TrafficSwitching, Verifying, Completed, Aborted, HoldDown,
    }
    /// Where a freeze stands.
    read_freeze_state / write_freeze_state: FreezeState = v1::FreezeState { Upcoming, Active, Ended }
    /// Where a window stands.
    read_window_state / write_window_state: WindowState = v1::WindowState { Upcoming, Open, Closing, Closed }
    /// What happens when runs of a schedule overlap.
    read_overlap / write_overlap: Overlap = v1::ScheduleOverlap { Skip, BufferOne, CancelOther, AllowAll }
    /// What happens with a run that was missed.
    read_missed / write_missed: MissedPolicy = v1::ScheduleMissed { Skip, RunOnce }
    /// What became of a run.
    read_run_result / write_run_result: RunResult = v1::ScheduleResult { Started, Refused, Skipped, Missed }
    /// What an operation is for.
    read_operation_kind / write_operation_kind: OperationKind = v1::OperationKind {
    Rollout, Backup, Rotation, Run, Drain, Membership, Rebuild, Failover,
    }
    /// The life of an operation.
    read_operation_state / write_operation_state: OperationState = v1::OperationState {
        Pending, Planned, AwaitingApproval, Queued, Running, Pausing, Paused, RollingBack, Canceling, Succeeded,
        Failed, Canceled, RolledBack,
    }
    /// Where an approval stands.
    read_approval_state / write_approval_state: ApprovalState = v1::ApprovalState {
        Pending, Approved, Rejected, Expired,
    }
    /// What a step does.
    read_step_kind / write_step_kind: StepKind = v1::StepKind {
        Status, Start, Stop, Restart, Reload, Backup, Verify, Rotate, Facts, Diagnose, Gate, Stage,
        Activate, Confirm, Drain, EnterMaintenance, ExitMaintenance, Handover, Hook, Join, Leave, Preflight, Restore,
    Retire, Revert, RunOnce, Quarantine, Promote, Switch, Rejoin,
    }
    /// How a node's membership of a group is changed.
    read_membership_verb / write_membership_verb: MembershipVerb = v1::MembershipVerb { Add, Remove }
    /// Which part of a rotation.
    read_secret_verb / write_secret_verb: SecretVerb = agent::v1::SecretVerb {
        Stage, Install, Confirm, Retire, Revert,
    }
    /// What is done with the folders of an instance.
    read_data_verb / write_data_verb: DataVerb = agent::v1::DataVerb { Quarantine, Revert }
    /// When the run-once hook of a release is run.
    read_migrate_when / write_migrate_when: MigrateWhen = v1::MigrateWhen { Before, After }
    /// What becomes of the run-once hook of a release.
    read_migration_choice / write_migration_choice: MigrationChoice = v1::MigrationChoice { Auto, Skip, Again }
    /// Which waves wait for a person.
    read_promotion / write_promotion: Promotion = v1::Promotion { Automatic, Canary, Every }
    /// What happens when more has failed than is tolerated.
    read_on_failure / write_on_failure: OnFailure = v1::OnFailure { Abort, Pause, Rollback }
    /// The life of a wave.
    read_wave_state / write_wave_state: WaveState = v1::WaveState {
        Pending, Running, Soaking, Promotable, Succeeded, Failed, Skipped,
    }
    /// The life of a step.
    read_step_state / write_step_state: StepState = v1::StepState {
        Pending, Blocked, Running, Succeeded, Failed, Skipped, Compensating, Compensated,
    }
    /// The life of a backup.
    read_backup_state / write_backup_state: BackupState = v1::BackupState {
        Pending, Running, Written, Verified, Drilled, Failed, PartiallyFailed, Expired, Deleted,
    }
    /// The life of an execution.
    read_execution_state / write_execution_state: ExecutionState = agent::v1::ExecutionState {
        Pending, Dispatched, Accepted, Running, Succeeded, Failed, TimedOut, Canceled, Rejected, Unknown, Lost,
    }
    /// The life of an obligation.
    read_obligation_state / write_obligation_state: ObligationState = agent::v1::ObligationState {
        Open, Discharged, ExpiredDischarged, Failed,
    }
}

/// What a user may do: `VIEWER`, `OPERATOR` or `ADMIN`.
///
/// # Errors
/// [`Invalid`] for any other text.
pub fn read_access_role(field: &str, word: &str) -> Result<AccessRole, Invalid> {
    AccessRole::parse(word).ok_or_else(|| Invalid::new(field, "it must be VIEWER, OPERATOR or ADMIN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_json_are_the_words_of_the_model() {
        // The contract shows enum names without their prefix: they must be the words of tables, audit and metrics.
        for state in OperationState::ALL {
            let name = write_operation_state(*state).as_str_name();
            assert_eq!(name.strip_prefix("OPERATION_STATE_"), Some(state.as_str()));
        }
        for status in NodeStatus::ALL {
            let name = write_node_status(*status).as_str_name();
            assert_eq!(name.strip_prefix("NODE_STATUS_"), Some(status.as_str()));
        }
        for state in GroupState::ALL {
            let name = write_group_state(*state).as_str_name();
            assert_eq!(name.strip_prefix("GROUP_STATE_"), Some(state.as_str()));
        }
        for level in AlarmLevel::ALL {
            let name = write_alarm_level(*level).as_str_name();
            assert_eq!(name.strip_prefix("ALARM_LEVEL_"), Some(level.as_str()));
        }
        for kind in StepKind::ALL {
            assert_eq!(write_step_kind(*kind).as_str_name().strip_prefix("STEP_KIND_"), Some(kind.as_str()));
        }
    }

    #[test]
    fn unset_and_unknown_values_are_refused_by_name() {
        for value in [0, 99, -1, i32::MAX, i32::MIN] {
            assert_eq!(read_node_status("status", value).unwrap_err().field, "status");
            assert!(read_execution_state("state", value).is_err());
        }
        for status in NodeStatus::ALL {
            assert_eq!(read_node_status("status", write_node_status(*status) as i32), Ok(*status));
        }
        assert!(read_access_role("access_role", "ROOT").is_err());
    }
}
