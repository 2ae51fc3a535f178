//! One log that holds every command at least once and is accepted from beginning to end.

mod alarms;
mod approvals;
mod calendar;
mod leases;
mod membership;
mod rebuild;
mod rollouts;
mod rotation;
mod schedules;

use std::collections::BTreeMap;

use quorate_core::command::{
    ArtifactCommand, AuditCommand, BackupCommand, CalendarCommand, ClusterCommand, Command, DeclaredCommand,
    Entry, ExecutionCommand, IdentityCommand, InstanceChange, InstanceCommand, Join, NewCertificate,
    NodeCommand, ObligationCommand, OperationCommand, Origin, Report, StepCommand, TokenCommand,
};
use quorate_core::plan::plan;
use quorate_core::state::audit::{AuditDraft, AuditResult};
use quorate_core::state::plan::{Change, Goal, Plan, PlanRequest};
use quorate_core::state::{Settings, TokenPurpose};
use quorate_core::{Hash, Observations, State, apply};
use quorate_model::backup::{BackupPolicy, BackupReceipt, BackupState, LogRotation};
use quorate_model::service::DesiredState;
use quorate_model::window::ANNOUNCE_DEFAULT;
use quorate_model::{
    AccessRole, ActionOutcome, ArtifactSpec, BackupId, ClusterId, ConditionReason, ConfigApply, ConfigName,
    ConfigSpec, Digest, DurationMs, Epoch, ExecutionId, ExecutionState, FreezeName, FreezeSpec, GroupSpec,
    HookName, Install, InstanceId, InstanceReading, InstanceRole, InstanceState, LocalTime, MemberId,
    MemberName, Millionths, NodeStatus, ObligationId, ObligationState, Occurrence, OnFailure, OperationId,
    OperationState, PreflightSpec, Principal, ProbeName, ProbeReading, Promotion, QuorumPolicy, Reason,
    Recurrence, RequestId, Required, Revision, Selector, Serial, Share, Sync, Timestamp, TokenId, UserName,
    WavePolicy, WindowName, WindowSpec, WorkloadName, ZoneName,
};

use alarms::alarms;
use approvals::approvals;
use calendar::{freezes, windows};
use rollouts::{configured, prepared, promoted, taken_back, unknown};
use schedules::scheduled;

use crate::world::{START, admin, group, measured, node, quiet, release, service, spec};

struct Log {
    state: State,
    entries: Vec<Entry>,
}

impl Log {
    fn now(&self) -> Timestamp {
        START.plus(DurationMs(u64::try_from(self.entries.len()).unwrap() * 1_000))
    }

    fn add(&mut self, principal: Principal, command: Command) {
        let number = self.entries.len();
        let mut entry = Entry::new(self.now(), principal, None, command);
        if number.is_multiple_of(5) {
            entry.request_id = Some(RequestId::new(format!("q-{number}")).unwrap());
            entry.origin = Origin { client_ip: "10.0.0.9".into(), reason: "because".into() };
        }
        apply(&mut self.state, u64::try_from(number).unwrap() + 1, &entry);
        self.entries.push(entry);
    }

    fn user(&mut self, command: Command) {
        self.add(admin(), command);
    }

    fn operation(&mut self, command: OperationCommand) {
        self.user(Command::Operation(Box::new(command)));
    }

    fn step(&mut self, command: StepCommand) {
        self.add(Principal::System, Command::Step(command));
    }

    fn execution(&mut self, command: ExecutionCommand) {
        self.add(Principal::System, Command::Execution(Box::new(command)));
    }

    fn observations(&self) -> Observations {
        let instances = self.readings().into_iter().map(|r| (r.instance.clone(), r)).collect();
        Observations { leading_since: START, instances, ..Observations::default() }
    }

    fn readings(&self) -> Vec<InstanceReading> {
        (1..=3)
            .map(|n| InstanceReading {
                instance: instance(n),
                observed: InstanceState::Healthy,
                role: if n == 1 { InstanceRole::Leader } else { InstanceRole::Voter },
                sync: Sync::CaughtUp,
                up_since: START,
                at: self.now(),
                probes: vec![],
                failing: false,
            })
            .collect()
    }

    fn plan(&self, seed: u64) -> Plan {
        let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
        self.plan_of(seed, &PlanRequest::new(goal, admin()))
    }

    fn plan_of(&self, seed: u64, request: &PlanRequest) -> Plan {
        let mut seed = seed;
        plan(&self.state, &self.observations(), request, self.now(), &mut || {
            seed += 1;
            seed
        })
        .unwrap()
    }

    /// Readings of a gate's probes, a minute from now.
    fn probed(&self, id: &OperationId, step: usize, ok: bool) -> Vec<ProbeReading> {
        let spec = self.state.operations[id].steps[step].gate.clone().unwrap();
        let at = self.now().plus(DurationMs::from_secs(60));
        let reading = |probe: &quorate_core::plan::GateProbe, from: &str| ProbeReading {
            instance: spec.instance.clone(),
            from: node(from),
            probe: probe.name.clone(),
            ok,
            passes: if ok { 5 } else { 0 },
            failures: u32::from(!ok),
            detail: "200".into(),
            role: InstanceRole::Voter,
            lag: Some(1),
            value: probe.baseline.as_ref().map(|_| Millionths(120_000)),
            listed: Vec::new(),
            position: None,
            at,
        };
        let own = spec.instance.node.as_str();
        let other = if own == "node1" { "node2" } else { "node1" };
        spec.probes.iter().flat_map(|p| [reading(p, own), reading(p, other)]).collect()
    }

    /// Begins an action of a step and ends it well.
    fn act(&mut self, id: &OperationId, step: u32, execution: &str) {
        let evidence = self.readings();
        let made = ExecutionId::new(execution).unwrap();
        let operation = id.clone();
        self.step(StepCommand::Start { operation, step, execution: made.clone(), evidence });
        let epoch = self.state.executions[&made].epoch.0;
        self.report(execution, epoch, ExecutionState::Succeeded);
    }

    /// Opens a gate and passes it.
    fn pass(&mut self, id: &OperationId, step: u32) {
        self.step(StepCommand::OpenGate { operation: id.clone(), step, evidence: vec![] });
        let readings = self.probed(id, usize::try_from(step).unwrap(), true);
        let evidence = self.readings();
        self.step(StepCommand::PassGate { operation: id.clone(), step, readings, evidence });
    }

    fn report(&mut self, execution: &str, epoch: u64, state: ExecutionState) {
        let execution = ExecutionId::new(execution).unwrap();
        let node = self.state.executions[&execution].node.clone();
        let outcome =
            state.is_final().then(|| ActionOutcome { message: "done".into(), ..ActionOutcome::default() });
        let report = Report { execution, node, epoch: Epoch(epoch), state, reason: None, outcome };
        self.execution(ExecutionCommand::Report(report));
    }
}

fn instance(n: u32) -> InstanceId {
    InstanceId { node: node(&format!("node{n}")), service: service("ledger") }
}

fn operation_id(text: &str) -> OperationId {
    OperationId::new(text).unwrap()
}

fn certificate(serial: &str, principal: Principal, access: Option<AccessRole>) -> NewCertificate {
    let not_after = START.plus(DurationMs::from_secs(86_400));
    NewCertificate { serial: Serial::new(serial).unwrap(), principal, access, not_after }
}

/// Every command, in an order in which each is accepted.
pub(crate) fn samples() -> Vec<Entry> {
    let mut log = Log { state: State::default(), entries: vec![] };
    control_plane(&mut log);
    hosts(&mut log);
    declarations(&mut log);
    rollout(&mut log);
    unknown(&mut log);
    promoted(&mut log);
    taken_back(&mut log);
    configured(&mut log);
    scheduled(&mut log);
    rollouts::migrated(&mut log);
    prepared(&mut log);
    rollouts::told(&mut log);
    rollouts::handed_over(&mut log);
    rotation::rotated(&mut log);
    membership::left(&mut log);
    rebuild::canceled(&mut log);
    rest(&mut log);
    artifacts(&mut log);
    leases::leased(&mut log);
    alone(&mut log);
    log.entries
}

/// A member more, its vote, and a cluster that begins again without it.
fn alone(log: &mut Log) {
    log.user(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord3").unwrap(),
        grpc: "h3:7443".into(),
        http: "h3:7480".into(),
    }));
    log.user(Command::Cluster(ClusterCommand::PromoteMember { member: MemberId(3) }));
    log.add(
        Principal::System,
        Command::Cluster(ClusterCommand::Refound {
            member: MemberId(1),
            name: MemberName::new("coord1").unwrap(),
            grpc: "h1:7443".into(),
            http: "h1:7480".into(),
            certificates: Vec::new(),
        }),
    );
}

fn control_plane(log: &mut Log) {
    log.user(Command::Cluster(ClusterCommand::Init {
        id: ClusterId::new("c-1").unwrap(),
        name: "test".into(),
        ca_pem: "CA".into(),
        member: MemberName::new("coord1").unwrap(),
        grpc: "h1:7443".into(),
        http: "h1:7480".into(),
        certificates: vec![certificate("a0", admin(), Some(AccessRole::Admin))],
    }));
    log.user(Command::Cluster(ClusterCommand::SetTrust { ca_pems: vec!["CA".into(), "CB".into()] }));
    log.user(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord2").unwrap(),
        grpc: "h2:7443".into(),
        http: "h2:7480".into(),
    }));
    log.user(Command::Cluster(ClusterCommand::SetMember {
        member: MemberId(2),
        grpc: "h3:7443".into(),
        http: "h3:7480".into(),
    }));
    let principal = Principal::Coordinator { member: MemberId(2) };
    let certificate = certificate("c2", principal, None);
    log.user(Command::Identity(IdentityCommand::Register { certificate }));
    log.user(Command::Identity(IdentityCommand::Revoke { serial: Serial::new("c2").unwrap() }));
    log.user(Command::Cluster(ClusterCommand::RemoveMember { member: MemberId(2) }));
    let settings =
        Settings { level: 1, freshness_slack: DurationMs::from_secs(3_600), ..Settings::default() };
    log.user(Command::Cluster(ClusterCommand::SetSettings { settings }));
    let name = UserName::new("bob").unwrap();
    log.user(Command::Identity(IdentityCommand::PutUser { name: name.clone(), access: AccessRole::Viewer }));
    log.user(Command::Identity(IdentityCommand::RemoveUser { name }));
}

fn token(log: &mut Log, id: &str, purpose: TokenPurpose) {
    log.user(Command::Token(TokenCommand::Create {
        id: TokenId::new(id).unwrap(),
        secret_sha256: Hash::of(id.as_bytes()),
        purpose,
        expires_at: START.plus(DurationMs::from_secs(3_600)),
    }));
}

fn hosts(log: &mut Log) {
    for n in 1..=4 {
        let name = node(&format!("node{n}"));
        let labels = BTreeMap::from([("zone".to_string(), "a".to_string())]);
        token(log, &format!("t-{n}"), TokenPurpose::Agent { node: Some(name.clone()), labels });
        let principal = Principal::Agent { node: name.clone() };
        log.add(
            principal.clone(),
            Command::Token(TokenCommand::Consume {
                id: TokenId::new(format!("t-{n}")).unwrap(),
                join: Join::Node { name: name.clone(), address: "10.0.0.1".into() },
                certificate: Some(certificate(&format!("b{n}"), principal, None)),
            }),
        );
        log.user(Command::Node(NodeCommand::SetStatus { node: name, status: NodeStatus::Ready }));
    }
    token(log, "t-c", TokenPurpose::Coordinator);
    log.user(Command::Token(TokenCommand::Revoke { id: TokenId::new("t-c").unwrap() }));
    let (node, reason) = (node("node4"), String::from("disk"));
    log.user(Command::Node(NodeCommand::Cordon { node: node.clone(), reason: reason.clone() }));
    log.user(Command::Node(NodeCommand::Uncordon { node: node.clone() }));
    let labels = BTreeMap::from([("zone".to_string(), "b".to_string())]);
    log.user(Command::Node(NodeCommand::SetLabels { node: node.clone(), labels }));
    let set = BTreeMap::from([("rack".to_string(), "7".to_string())]);
    log.user(Command::Node(NodeCommand::UpdateLabels {
        node: node.clone(),
        set,
        remove: vec!["zone".into()],
    }));
    log.user(Command::Node(NodeCommand::Drain { node: node.clone(), reason, evidence: vec![] }));
    log.user(Command::Node(NodeCommand::Drained { node: node.clone() }));
    log.user(Command::Node(NodeCommand::Undrain { node }));
}

fn declarations(log: &mut Log) {
    let mut declared = spec("ledger");
    declared.backup = Some(BackupPolicy {
        paths: vec!["/var/lib/ledger".into()],
        exclude: vec!["*.tmp".into()],
        pause: Some(HookName::new("pause").unwrap()),
        resume: Some(HookName::new("resume").unwrap()),
        pause_limit: DurationMs::from_secs(60),
        level: 3,
    });
    declared.log_rotation = Some(LogRotation {
        paths: vec!["/var/log/ledger/*.log".into()],
        size_bytes: 1,
        age: DurationMs::from_secs(1),
        keep: 3,
        compress: true,
        delay_compress: true,
        copy_truncate: false,
        rotate_empty: false,
        missing_ok: true,
        create_mode: 0o640,
        create_owner: "a:b".into(),
        reload: true,
    });
    declared.probes.extend(measured());
    declared.vars = BTreeMap::from([(node("node1"), BTreeMap::from([("port".into(), "9001".into())]))]);
    let declare = |command| Command::Declared(Box::new(command));
    log.user(declare(DeclaredCommand::ApplyService { spec: declared, expect: None }));
    let mut other = spec("other");
    other.probes.push(quiet());
    log.user(declare(DeclaredCommand::ApplyService { spec: other, expect: None }));
    log.user(declare(DeclaredCommand::DeleteService { name: service("other") }));
    for name in ["ledger", "spare"] {
        let spec = GroupSpec {
            name: group(name),
            service: service("ledger"),
            voters: (1..=3).map(|n| node(&format!("node{n}"))).collect(),
            learners: vec![node("node4")],
            policy: QuorumPolicy::Majority,
            spare_wanted: 0,
            labels: BTreeMap::new(),
            membership: None,
            failover: None,
        };
        log.user(declare(DeclaredCommand::ApplyGroup { spec, expect: None }));
    }
    log.user(declare(DeclaredCommand::DeleteGroup { name: group("spare") }));
    let change = InstanceChange {
        instance: instance(1),
        observed: InstanceState::Healthy,
        role: InstanceRole::Leader,
        sync: Sync::CaughtUp,
        at: START,
    };
    log.user(Command::Instance(InstanceCommand::Transition { changes: vec![change] }));
    let desired = DesiredState::Stopped;
    log.user(Command::Instance(InstanceCommand::SetDesired { instance: instance(2), desired }));
}

fn rollout(log: &mut Log) {
    let plan = log.plan(100);
    let id = operation_id("r-1");
    log.operation(OperationCommand::StorePlan { plan: plan.clone() });
    log.operation(OperationCommand::Create { id: id.clone(), plan: plan.id.clone(), hash: Some(plan.hash) });
    log.operation(OperationCommand::Pause { id: id.clone() });
    log.operation(OperationCommand::Resume { id: id.clone() });
    let (reason, message) = (ConditionReason::QuorumMargin, String::from("node2 is out"));
    log.operation(OperationCommand::SetCondition { id: id.clone(), reason, message });
    log.operation(OperationCommand::ClearCondition { id: id.clone() });
    // The learner goes first.
    let mut evidence = log.readings();
    let errors = ProbeReading {
        instance: instance(4),
        from: node("node4"),
        probe: ProbeName::new("errors").unwrap(),
        ok: true,
        passes: 9,
        failures: 0,
        detail: String::new(),
        role: InstanceRole::Unknown,
        lag: None,
        value: Some(Millionths(100_000)),
        listed: Vec::new(),
        position: None,
        at: log.now(),
    };
    let learner = InstanceReading { instance: instance(4), probes: vec![errors], ..evidence[1].clone() };
    evidence.push(learner);
    let execution = ExecutionId::new("x-1").unwrap();
    log.step(StepCommand::Start { operation: id.clone(), step: 0, execution: execution.clone(), evidence });
    log.report("x-1", 1, ExecutionState::Accepted);
    let owed = ObligationId::new("o-1").unwrap();
    let at = log.now();
    log.user(Command::Obligation(ObligationCommand::Open {
        id: owed.clone(),
        node: node("node4"),
        execution,
        what: "resume writes".into(),
        due_at: at,
    }));
    log.report("x-1", 1, ExecutionState::Succeeded);
    let (node4, state) = (node("node4"), ObligationState::Discharged);
    log.user(Command::Obligation(ObligationCommand::Close { id: owed, node: node4.clone(), state }));
    log.step(StepCommand::OpenGate { operation: id.clone(), step: 1, evidence: vec![] });
    let spec = log.state.operations[&id].steps[1].gate.clone().unwrap();
    let later = log.now().plus(DurationMs::from_secs(60));
    let reading = |probe: &quorate_core::plan::GateProbe, from: &str| ProbeReading {
        instance: spec.instance.clone(),
        from: node(from),
        probe: probe.name.clone(),
        ok: true,
        passes: 5,
        failures: 0,
        detail: "200".into(),
        role: InstanceRole::Voter,
        lag: Some(1),
        value: probe.baseline.as_ref().map(|_| Millionths(120_000)),
        listed: Vec::new(),
        position: None,
        at: later,
    };
    let readings = spec.probes.iter().flat_map(|p| [reading(p, "node4"), reading(p, "node1")]).collect();
    let evidence = log.readings();
    log.step(StepCommand::PassGate { operation: id.clone(), step: 1, readings, evidence });
    log.operation(OperationCommand::Cancel { id: id.clone() });
    log.operation(OperationCommand::Settle { id, state: OperationState::Canceled });
}

fn rest(log: &mut Log) {
    let id = BackupId::new("b-1").unwrap();
    let receipt = BackupReceipt { path: "/b/1".into(), sha256: "00".into(), ..BackupReceipt::default() };
    log.user(Command::Backup(BackupCommand::Record { id: id.clone(), instance: instance(1), receipt }));
    let state = BackupState::Verified;
    log.user(Command::Backup(BackupCommand::SetState { id, state, message: "read again".into() }));
    approvals(log);
    freezes(log);
    windows(log);
    alarms(log);
    let record = AuditDraft {
        at: log.now(),
        event_type: "read".into(),
        client_ip: "10.0.0.9".into(),
        principal: admin(),
        action: "ListNodes".into(),
        resource: "nodes".into(),
        result: AuditResult::Ok,
        reason: String::new(),
        details: "3 calls\nand a forged line".into(),
        request_id: None,
        operation: None,
    };
    log.user(Command::Audit(AuditCommand::Append { records: vec![record] }));
    log.user(Command::Node(NodeCommand::Remove { node: node("node4") }));
}

fn artifacts(log: &mut Log) {
    let kept = Digest::new("0f".repeat(32)).unwrap();
    let gone = Digest::new("f0".repeat(32)).unwrap();
    let register = |digest: &Digest, signature: Option<&str>| {
        let (digest, signature) = (digest.clone(), signature.map(str::to_owned));
        let file_name = "ledger-1.9.2.tar.zst".to_owned();
        Command::Artifact(ArtifactCommand::Register {
            spec: ArtifactSpec { digest, size: 3 << 20, file_name, signature },
        })
    };
    log.user(register(&kept, Some("untrusted comment: signature\nRUQ=\n")));
    log.user(register(&gone, None));
    let member = MemberId(1);
    let artifact =
        |log: &mut Log, command| log.add(Principal::Coordinator { member }, Command::Artifact(command));
    artifact(log, ArtifactCommand::Hold { digest: kept, member });
    artifact(log, ArtifactCommand::Hold { digest: gone.clone(), member });
    artifact(log, ArtifactCommand::Release { digest: gone.clone(), member });
    log.user(Command::Artifact(ArtifactCommand::Delete { digest: gone }));
}
