//! What a caller meant, apart from what its proposer minted on the way, and the names of commands for the audit.

use crate::command::{
    AlarmCommand, ArtifactCommand, Attempt, AuditCommand, BackupCommand, CalendarCommand, ClusterCommand,
    Command, DeclaredCommand, ExecutionCommand, IdentityCommand, InstanceCommand, LeaseCommand, NodeCommand,
    ObligationCommand, OperationCommand, PolicyCommand, ScheduleCommand, StepCommand, TokenCommand,
};
use crate::hash::{Hash, canonical};

impl Command {
    /// Digest of what the caller meant. Ids, secrets, serials, readings and computed steps that the proposer adds are left
    /// out: a repeated request gets new ones, and must still be known as the same request.
    #[must_use]
    pub fn intent(&self) -> Hash {
        let name = self.name();
        match self {
            Self::Token(TokenCommand::Create { purpose, .. }) => canonical(&(name, purpose)),
            Self::Token(TokenCommand::Consume { id, join, .. }) => canonical(&(name, id, join)),
            Self::Node(NodeCommand::Drain { node, reason, .. }) => canonical(&(name, node, reason)),
            Self::Operation(command) => match command.as_ref() {
                OperationCommand::StorePlan { plan } => canonical(&(name, &plan.request)),
                OperationCommand::Create { plan, hash, .. } => canonical(&(name, plan, hash)),
                OperationCommand::Start { plan, .. } => canonical(&(name, &plan.request)),
                OperationCommand::Pause { .. }
                | OperationCommand::Resume { .. }
                | OperationCommand::Cancel { .. }
                | OperationCommand::Promote { .. }
                | OperationCommand::Approve { .. }
                | OperationCommand::Reject { .. }
                | OperationCommand::Lapse { .. }
                | OperationCommand::SetCondition { .. }
                | OperationCommand::ClearCondition { .. }
                | OperationCommand::DeadlinePassed { .. }
                | OperationCommand::Settle { .. } => canonical(&(name, command)),
            },
            Self::Schedule(command) => match command.as_ref() {
                ScheduleCommand::Run { name: schedule, .. } => canonical(&(name, schedule)),
                ScheduleCommand::Apply { .. }
                | ScheduleCommand::Delete { .. }
                | ScheduleCommand::SetPaused { .. }
                | ScheduleCommand::Fire { .. } => canonical(&(name, self)),
            },
            Self::Cluster(_)
            | Self::Token(TokenCommand::Revoke { .. })
            | Self::Identity(_)
            | Self::Node(_)
            | Self::Declared(_)
            | Self::Calendar(_)
            | Self::Policy(_)
            | Self::Instance(_)
            | Self::Step(_)
            | Self::Execution(_)
            | Self::Obligation(_)
            | Self::Backup(_)
            | Self::Artifact(_)
            | Self::Audit(_)
            | Self::Alarm(_)
            | Self::Lease(_) => canonical(&(name, self)),
        }
    }

    /// Whether it begins something that was not there before: refused first when a resource runs out. Steps of operations
    /// that run, reports, undos and everything that stops or removes are not.
    #[must_use]
    pub fn takes_on_work(&self) -> bool {
        match self {
            Self::Cluster(command) => match command {
                ClusterCommand::AddMember { .. } => true,
                ClusterCommand::Init { .. }
                | ClusterCommand::SetTrust { .. }
                | ClusterCommand::SetMember { .. }
                | ClusterCommand::RemoveMember { .. }
                | ClusterCommand::PromoteMember { .. }
                | ClusterCommand::Refound { .. }
                | ClusterCommand::SetSettings { .. } => false,
            },
            Self::Token(command) => match command {
                TokenCommand::Create { .. } | TokenCommand::Consume { .. } => true,
                TokenCommand::Revoke { .. } => false,
            },
            Self::Node(command) => match command {
                NodeCommand::Drain { .. } => true,
                NodeCommand::SetStatus { .. }
                | NodeCommand::Cordon { .. }
                | NodeCommand::Uncordon { .. }
                | NodeCommand::Drained { .. }
                | NodeCommand::Undrain { .. }
                | NodeCommand::SetLabels { .. }
                | NodeCommand::UpdateLabels { .. }
                | NodeCommand::Remove { .. } => false,
            },
            Self::Declared(command) => match command.as_ref() {
                DeclaredCommand::ApplyService { .. } | DeclaredCommand::ApplyGroup { .. } => true,
                DeclaredCommand::DeleteService { .. } | DeclaredCommand::DeleteGroup { .. } => false,
            },
            // Holding work back is no work, and must be possible when the disk is full.
            Self::Calendar(command) => match command.as_ref() {
                CalendarCommand::ApplyFreeze { .. }
                | CalendarCommand::DeleteFreeze { .. }
                | CalendarCommand::ApplyWindow { .. }
                | CalendarCommand::DeleteWindow { .. }
                | CalendarCommand::SetOpenings { .. }
                | CalendarCommand::Announce { .. } => false,
            },
            // A run that is due is work when it starts; to leave it out is none.
            Self::Schedule(command) => match command.as_ref() {
                ScheduleCommand::Apply { .. } | ScheduleCommand::Run { .. } => true,
                ScheduleCommand::Fire { attempt, .. } => match attempt {
                    Some(Attempt::Start { .. }) => true,
                    Some(Attempt::Refused { .. }) | None => false,
                },
                ScheduleCommand::Delete { .. } | ScheduleCommand::SetPaused { .. } => false,
            },
            Self::Operation(command) => begins(command),
            Self::Artifact(command) => match command {
                ArtifactCommand::Register { .. } => true,
                ArtifactCommand::Hold { .. }
                | ArtifactCommand::Release { .. }
                | ArtifactCommand::Delete { .. } => false,
            },
            // As with the calendar: a rule that holds work back is no work.
            Self::Policy(_)
            | Self::Identity(_)
            | Self::Instance(_)
            | Self::Step(_)
            | Self::Execution(_)
            | Self::Obligation(_)
            | Self::Backup(_)
            | Self::Audit(_)
            | Self::Alarm(_)
            | Self::Lease(_) => false,
        }
    }

    /// Its name in the audit.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cluster(command) => cluster(command),
            Self::Token(command) => token(command),
            Self::Identity(command) => identity(command),
            Self::Node(command) => node(command),
            Self::Declared(command) => declared(command),
            Self::Calendar(command) => calendar(command),
            Self::Policy(command) => policy(command),
            Self::Schedule(command) => schedule(command),
            Self::Instance(command) => instance(command),
            Self::Operation(command) => operation(command),
            Self::Step(command) => step(command),
            Self::Execution(command) => execution(command),
            Self::Obligation(command) => match command {
                ObligationCommand::Open { .. } => "obligation.open",
                ObligationCommand::Close { .. } => "obligation.close",
                ObligationCommand::Extend { .. } => "obligation.extend",
            },
            Self::Backup(command) => match command {
                BackupCommand::Record { .. } => "backup.record",
                BackupCommand::SetState { .. } => "backup.set_state",
            },
            Self::Artifact(command) => artifact(command),
            Self::Audit(command) => match command {
                AuditCommand::Append { .. } => "audit.append",
            },
            Self::Alarm(command) => match command {
                AlarmCommand::Set { .. } => "alarm.set",
            },
            Self::Lease(command) => match command {
                LeaseCommand::Lead { .. } => "lease.lead",
                LeaseCommand::Adopt { .. } => "lease.adopt",
                LeaseCommand::Confirm { .. } => "lease.confirm",
                LeaseCommand::Release { .. } => "lease.release",
                LeaseCommand::Expire { .. } => "lease.expire",
                LeaseCommand::Acknowledge { .. } => "lease.acknowledge",
            },
        }
    }
}

const fn cluster(command: &ClusterCommand) -> &'static str {
    match command {
        ClusterCommand::Init { .. } => "cluster.init",
        ClusterCommand::SetTrust { .. } => "cluster.set_trust",
        ClusterCommand::SetMember { .. } => "member.set",
        ClusterCommand::AddMember { .. } => "member.add",
        ClusterCommand::RemoveMember { .. } => "member.remove",
        ClusterCommand::PromoteMember { .. } => "member.promote",
        ClusterCommand::Refound { .. } => "cluster.refound",
        ClusterCommand::SetSettings { .. } => "cluster.set_settings",
    }
}

const fn token(command: &TokenCommand) -> &'static str {
    match command {
        TokenCommand::Create { .. } => "token.create",
        TokenCommand::Consume { .. } => "token.consume",
        TokenCommand::Revoke { .. } => "token.revoke",
    }
}

const fn identity(command: &IdentityCommand) -> &'static str {
    match command {
        IdentityCommand::Register { .. } => "certificate.register",
        IdentityCommand::Revoke { .. } => "certificate.revoke",
        IdentityCommand::PutUser { .. } => "user.put",
        IdentityCommand::RemoveUser { .. } => "user.remove",
    }
}

const fn node(command: &NodeCommand) -> &'static str {
    match command {
        NodeCommand::SetStatus { .. } => "node.set_status",
        NodeCommand::Cordon { .. } => "node.cordon",
        NodeCommand::Uncordon { .. } => "node.uncordon",
        NodeCommand::Drain { .. } => "node.drain",
        NodeCommand::Drained { .. } => "node.drained",
        NodeCommand::Undrain { .. } => "node.undrain",
        NodeCommand::SetLabels { .. } => "node.set_labels",
        NodeCommand::UpdateLabels { .. } => "node.update_labels",
        NodeCommand::Remove { .. } => "node.remove",
    }
}

const fn declared(command: &DeclaredCommand) -> &'static str {
    match command {
        DeclaredCommand::ApplyService { .. } => "service.apply",
        DeclaredCommand::DeleteService { .. } => "service.delete",
        DeclaredCommand::ApplyGroup { .. } => "group.apply",
        DeclaredCommand::DeleteGroup { .. } => "group.delete",
    }
}

/// Whether a command about an operation begins work.
const fn begins(command: &OperationCommand) -> bool {
    match command {
        OperationCommand::StorePlan { .. }
        | OperationCommand::Create { .. }
        | OperationCommand::Start { .. }
        | OperationCommand::Resume { .. }
        | OperationCommand::Promote { .. }
        | OperationCommand::Approve { .. } => true,
        OperationCommand::Pause { .. }
        | OperationCommand::Reject { .. }
        | OperationCommand::Lapse { .. }
        | OperationCommand::Cancel { .. }
        | OperationCommand::SetCondition { .. }
        | OperationCommand::ClearCondition { .. }
        | OperationCommand::DeadlinePassed { .. }
        | OperationCommand::Settle { .. } => false,
    }
}

const fn calendar(command: &CalendarCommand) -> &'static str {
    match command {
        CalendarCommand::ApplyFreeze { .. } => "freeze.apply",
        CalendarCommand::DeleteFreeze { .. } => "freeze.delete",
        CalendarCommand::ApplyWindow { .. } => "window.apply",
        CalendarCommand::DeleteWindow { .. } => "window.delete",
        CalendarCommand::SetOpenings { .. } => "window.set_openings",
        CalendarCommand::Announce { .. } => "window.announced",
    }
}

const fn policy(command: &PolicyCommand) -> &'static str {
    match command {
        PolicyCommand::Apply { .. } => "policy.apply",
        PolicyCommand::Delete { .. } => "policy.delete",
    }
}

const fn schedule(command: &ScheduleCommand) -> &'static str {
    match command {
        ScheduleCommand::Apply { .. } => "schedule.apply",
        ScheduleCommand::Delete { .. } => "schedule.delete",
        ScheduleCommand::SetPaused { .. } => "schedule.set_paused",
        ScheduleCommand::Run { .. } => "schedule.run",
        ScheduleCommand::Fire { .. } => "schedule.fire",
    }
}

const fn instance(command: &InstanceCommand) -> &'static str {
    match command {
        InstanceCommand::Transition { .. } => "instance.transition",
        InstanceCommand::SetDesired { .. } => "instance.set_desired",
    }
}

const fn operation(command: &OperationCommand) -> &'static str {
    match command {
        OperationCommand::StorePlan { .. } => "plan.store",
        OperationCommand::Create { .. } => "operation.create",
        OperationCommand::Start { .. } => "operation.start",
        OperationCommand::Pause { .. } => "operation.pause",
        OperationCommand::Resume { .. } => "operation.resume",
        OperationCommand::Cancel { .. } => "operation.cancel",
        OperationCommand::Promote { .. } => "operation.promote",
        OperationCommand::Approve { .. } => "operation.approve",
        OperationCommand::Reject { .. } => "operation.reject",
        OperationCommand::Lapse { .. } => "operation.lapse",
        OperationCommand::SetCondition { .. } => "operation.set_condition",
        OperationCommand::ClearCondition { .. } => "operation.clear_condition",
        OperationCommand::DeadlinePassed { .. } => "operation.deadline_passed",
        OperationCommand::Settle { .. } => "operation.settle",
    }
}

const fn step(command: &StepCommand) -> &'static str {
    match command {
        StepCommand::Start { .. } => "step.start",
        StepCommand::OpenGate { .. } => "gate.open",
        StepCommand::PassGate { .. } => "gate.pass",
        StepCommand::FailGate { .. } => "gate.fail",
        StepCommand::DeadlinePassed { .. } => "step.deadline_passed",
    }
}

const fn execution(command: &ExecutionCommand) -> &'static str {
    match command {
        ExecutionCommand::Report(_) => "execution.report",
        ExecutionCommand::MarkUnknown { .. } => "execution.mark_unknown",
        ExecutionCommand::Cancel { .. } => "execution.cancel",
        ExecutionCommand::Resolve { .. } => "execution.resolve",
    }
}

const fn artifact(command: &ArtifactCommand) -> &'static str {
    match command {
        ArtifactCommand::Register { .. } => "artifact.register",
        ArtifactCommand::Hold { .. } => "artifact.hold",
        ArtifactCommand::Release { .. } => "artifact.release",
        ArtifactCommand::Delete { .. } => "artifact.delete",
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use quorate_model::{ExecutionId, NodeName, OperationId};

    use super::*;

    /// On a disk that runs full, what ends work must get through: it was begun with the promise to end.
    #[test]
    fn what_ends_work_is_never_new_work() {
        let operation = OperationId::new("op-3f9a").unwrap();
        let ends = [
            Command::Operation(Box::new(OperationCommand::Cancel { id: operation.clone() })),
            Command::Operation(Box::new(OperationCommand::Pause { id: operation.clone() })),
            Command::Execution(Box::new(ExecutionCommand::Cancel {
                execution: ExecutionId::new("ex-3f9a").unwrap(),
            })),
            Command::Node(NodeCommand::Uncordon { node: NodeName::new("n1").unwrap() }),
        ];
        for command in ends {
            assert!(!command.takes_on_work(), "{}", command.name());
        }
        let begins = Command::Operation(Box::new(OperationCommand::Resume { id: operation }));
        assert!(begins.takes_on_work());
    }
}
