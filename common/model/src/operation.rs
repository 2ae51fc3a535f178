//! The states of operations, waves, steps, executions and obligations.

words! {
    /// What an operation is for.
    pub enum OperationKind {
        /// A rolling change of a group.
        Rollout = "ROLLOUT",
        /// Backups on a selector.
        Backup = "BACKUP",
        /// Log rotation on a selector.
        Rotation = "ROTATION",
        /// Actions on a selector.
        Run = "RUN",
        /// Taking load off a node.
        Drain = "DRAIN",
        /// A member joins a group, or leaves it.
        Membership = "MEMBERSHIP",
        /// The primary role of a group is moved.
        Failover = "FAILOVER",
        /// A member's data is put aside and copied anew from the others.
        Rebuild = "REBUILD",
    }
}

words! {
    /// The one life of every operation.
    pub enum OperationState {
        /// Accepted, not planned.
        Pending = "PENDING",
        /// Planned, not started.
        Planned = "PLANNED",
        /// Waits for another principal's approval.
        AwaitingApproval = "AWAITING_APPROVAL",
        /// Started, no step has begun.
        Queued = "QUEUED",
        /// Steps run, or wait with a condition.
        Running = "RUNNING",
        /// A step in flight reaches its safe point.
        Pausing = "PAUSING",
        /// Nothing runs until resumed.
        Paused = "PAUSED",
        /// Undoing.
        RollingBack = "ROLLING_BACK",
        /// A step in flight reaches its safe point, then canceled.
        Canceling = "CANCELING",
        /// Ended as wanted.
        Succeeded = "SUCCEEDED",
        /// Ended at a safe stop.
        Failed = "FAILED",
        /// Ended by request.
        Canceled = "CANCELED",
        /// Undone.
        RolledBack = "ROLLED_BACK",
    }
}

impl OperationState {
    /// Nothing happens any more; no grant and no obligation may be left.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled | Self::RolledBack)
    }
}

words! {
    /// The life of a wave.
    pub enum WaveState {
        /// Not begun.
        Pending = "PENDING",
        /// Steps run.
        Running = "RUNNING",
        /// Gates look on.
        Soaking = "SOAKING",
        /// Waits for a promote.
        Promotable = "PROMOTABLE",
        /// Done.
        Succeeded = "SUCCEEDED",
        /// A step failed beyond the budget.
        Failed = "FAILED",
        /// Not done, on purpose.
        Skipped = "SKIPPED",
    }
}

words! {
    /// What a step does.
    pub enum StepKind {
        /// `service.status`.
        Status = "STATUS",
        /// `service.start`.
        Start = "START",
        /// `service.stop`.
        Stop = "STOP",
        /// `service.restart`.
        Restart = "RESTART",
        /// `service.reload`.
        Reload = "RELOAD",
        /// `backup.create`.
        Backup = "BACKUP",
        /// `backup.verify`.
        Verify = "VERIFY",
        /// `log.rotate`.
        Rotate = "ROTATE",
        /// `host.facts`.
        Facts = "FACTS",
        /// `host.diagnose`.
        Diagnose = "DIAGNOSE",
        /// `artifact.stage`, `config.validate` or `secret.stage`.
        Stage = "STAGE",
        /// `artifact.activate`, `package.install`, `config.apply` or `secret.install`.
        Activate = "ACTIVATE",
        /// `artifact.revert`, `config.revert` or `secret.revert`.
        Revert = "REVERT",
        /// `traffic.drain`.
        Drain = "DRAIN",
        /// `traffic.restore`.
        Restore = "RESTORE",
        /// `config.confirm` or `secret.confirm`.
        Confirm = "CONFIRM",
        /// `secret.retire`.
        Retire = "RETIRE",
        /// `exec.run`, exactly once for a release.
        RunOnce = "RUN_ONCE",
        /// `exec.run`.
        Hook = "HOOK",
        /// `maintenance.enter`.
        EnterMaintenance = "ENTER_MAINTENANCE",
        /// `maintenance.exit`.
        ExitMaintenance = "EXIT_MAINTENANCE",
        /// `host.preflight`.
        Preflight = "PREFLIGHT",
        /// `exec.run`: who leads hands over, and is seen to have.
        Handover = "HANDOVER",
        /// `exec.run`: the application's own call that adds a member, on another one.
        Join = "JOIN",
        /// `exec.run`: the application's own call that removes a member, on another one.
        Leave = "LEAVE",
        /// `role.promote`: an instance becomes the primary, under a lease that is handed out for it.
        Promote = "PROMOTE",
        /// `exec.run`: clients are led to the new primary.
        Switch = "SWITCH",
        /// `exec.run`: a former primary becomes a standby of the new one, before it is started again.
        Rejoin = "REJOIN",
        /// `data.quarantine`: its data is put aside.
        Quarantine = "QUARANTINE",
        /// A condition that must hold before the next step.
        Gate = "GATE",
    }
}

words! {
    /// The life of a step.
    pub enum StepState {
        /// Not begun.
        Pending = "PENDING",
        /// May not begin yet; the operation's condition says why.
        Blocked = "BLOCKED",
        /// In flight.
        Running = "RUNNING",
        /// Done.
        Succeeded = "SUCCEEDED",
        /// Ended badly.
        Failed = "FAILED",
        /// Not done, on purpose.
        Skipped = "SKIPPED",
        /// Its undo runs.
        Compensating = "COMPENSATING",
        /// Its undo is done.
        Compensated = "COMPENSATED",
    }
}

words! {
    /// The life of one action on one node.
    pub enum ExecutionState {
        /// Decided, not sent.
        Pending = "PENDING",
        /// Sent to the agent.
        Dispatched = "DISPATCHED",
        /// Journaled on the node.
        Accepted = "ACCEPTED",
        /// At work.
        Running = "RUNNING",
        /// Ended well.
        Succeeded = "SUCCEEDED",
        /// Ended badly.
        Failed = "FAILED",
        /// Its deadline passed; its processes were ended.
        TimedOut = "TIMED_OUT",
        /// Stopped by request.
        Canceled = "CANCELED",
        /// The agent refused it: policy, stale epoch, expired grant, validation. Nothing was done.
        Rejected = "REJECTED",
        /// Nobody can tell whether it had its effect; never counts as success and is never run again by itself.
        Unknown = "UNKNOWN",
        /// Unknown for good: its node was removed.
        Lost = "LOST",
    }
}

impl ExecutionState {
    /// No further report changes it. `Unknown` is not final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Canceled | Self::Rejected | Self::Lost
        )
    }
}

words! {
    /// The life of an undo that is owed.
    pub enum ObligationState {
        /// Owed.
        Open = "OPEN",
        /// Done in the normal course.
        Discharged = "DISCHARGED",
        /// Done by the agent's own hand at its deadline or after a crash.
        ExpiredDischarged = "EXPIRED_DISCHARGED",
        /// Tried and not done; alarms, and is tried again.
        Failed = "FAILED",
    }
}

words! {
    /// Why an operation waits, or what is notable about it.
    pub enum ConditionReason {
        /// The group has no spare for this step now.
        QuorumMargin = "QUORUM_MARGIN",
        /// Another operation works on the node.
        NodeLease = "NODE_LEASE",
        /// Outside its window.
        WindowClosed = "WINDOW_CLOSED",
        /// A freeze is on.
        Freeze = "FREEZE",
        /// Not approved.
        Approval = "APPROVAL",
        /// A gate has not passed yet.
        Gate = "GATE",
        /// The agent is not heard.
        AgentDisconnected = "AGENT_DISCONNECTED",
        /// An earlier step is not done.
        Dependency = "DEPENDENCY",
        /// Health readings are missing or too old to rest a decision on.
        EvidenceStale = "EVIDENCE_STALE",
        /// The node is cordoned.
        NodeCordoned = "NODE_CORDONED",
        /// An action's outcome is not known.
        ExecutionUnknown = "EXECUTION_UNKNOWN",
        /// A wave is done and waits for a person to promote it.
        Promotion = "PROMOTION",
        /// More has failed than is tolerated; a person resumes or cancels.
        Failure = "FAILURE",
    }
}
