use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_model::alert::AlertMatcher;
use quorate_model::backup::{BackupPolicy, LogRotation};
use quorate_model::node::NodeCondition;
use quorate_model::service::UnitStatus;
use quorate_model::session::{
    Assignment, Capability, ExecutionReport, Heartbeat, Hello, InstanceReport, NodeInstance, NodeProbe,
    NodeWork, ObligationReport, Reading, Welcome,
};
use quorate_model::{
    ActionKind, ActionOutcome, ActionSpec, BackupId, BalancerName, ClusterId, ConfigApply, ConfigName,
    ConfigSpec, DataVerb, Digest, Driver, DurationMs, Epoch, ExecutionId, ExecutionState, GroupName,
    HookName, Install, InstanceId, InstanceRole, LeaseAnswer, LeaseHold, LeaseRenewal, MaintenanceSpec,
    NodeName, ObligationId, ObligationState, OnTimeout, OperationId, PreflightSpec, ProbeKind, ProbeName,
    ProbeSpec, QuarantineId, Reason, Release, ServiceName, SilenceSpec, Timestamp, TrafficSpec, Version,
};
use quorate_proto::agent::v1 as proto;

use super::*;

fn service() -> ServiceName {
    ServiceName::new("ledger").unwrap()
}

fn instance() -> InstanceId {
    InstanceId { node: NodeName::new("node1").unwrap(), service: service() }
}

fn actions() -> Vec<ActionSpec> {
    let backup = BackupId::new("b-1").unwrap();
    let policy = BackupPolicy {
        paths: vec!["/srv/ledger".into()],
        exclude: vec!["*.log".into()],
        pause: Some(HookName::new("pause").unwrap()),
        resume: Some(HookName::new("resume").unwrap()),
        pause_limit: DurationMs(30_000),
        level: 3,
    };
    let rotation = LogRotation {
        paths: vec!["/var/log/ledger/*.log".into()],
        size_bytes: 1,
        age: DurationMs(1_000),
        keep: 5,
        compress: true,
        delay_compress: true,
        copy_truncate: false,
        rotate_empty: false,
        missing_ok: true,
        create_mode: 0o640,
        create_owner: String::new(),
        reload: true,
    };
    let traffic = TrafficSpec {
        adapter: BalancerName::new("edge").unwrap(),
        backend: "app".into(),
        server: "node1".into(),
        drain_timeout: DurationMs(60_000),
        on_timeout: OnTimeout::Proceed,
        min_up: 2,
    };
    let release = Release {
        version: Version::new("7").unwrap(),
        artifact: Digest::new("0d".repeat(32)).unwrap(),
        size: 9,
        signature: String::new(),
        install: Install::Config(ConfigSpec {
            name: ConfigName::new("settings").unwrap(),
            path: "/etc/ledger/settings.toml".into(),
            mode: 0o640,
            check: Some(HookName::new("check").unwrap()),
            apply: ConfigApply::Restart,
            confirm: DurationMs(60_000),
            sensitive: true,
        }),
    };
    vec![
        ActionSpec::ConfigConfirm { service: service(), release },
        ActionSpec::MaintenanceEnter {
            service: service(),
            maintenance: MaintenanceSpec {
                silence: Some(SilenceSpec {
                    url: "http://alerts:9093".into(),
                    matchers: vec![AlertMatcher::parse("node=node1").unwrap()],
                    required: true,
                }),
                file: "/run/ledger/maintenance".into(),
                lease: Some(DurationMs(60_000)),
            },
            exit_within: DurationMs(600_000),
            reason: "new disk".into(),
        },
        ActionSpec::Data {
            service: service(),
            paths: vec!["/srv/ledger/store".into(), "/srv/ledger/wal".into()],
            quarantine: QuarantineId::new("q-1").unwrap(),
            verb: DataVerb::Quarantine,
        },
        ActionSpec::MaintenanceExit {
            service: service(),
            maintenance: MaintenanceSpec {
                silence: None,
                file: "/run/ledger/maintenance".into(),
                lease: Some(DurationMs(60_000)),
            },
        },
        ActionSpec::Secret {
            service: service(),
            secret: quorate_model::SecretSpec {
                name: quorate_model::SecretName::new("token").unwrap(),
                file: "/etc/ledger/token".into(),
                previous: "/etc/ledger/token.previous".into(),
                source: quorate_model::SecretSource::Candidate("/etc/ledger/token.next".into()),
                confirm: HookName::new("works").unwrap(),
                apply: ConfigApply::Restart,
                grace: DurationMs(60_000),
            },
            rotation: quorate_model::RotationId::new("k-1").unwrap(),
            verb: quorate_model::SecretVerb::Retire,
            resumes: Some(quorate_model::RotationId::new("k-0").unwrap()),
        },
        ActionSpec::HostPreflight {
            service: service(),
            preflight: PreflightSpec::default(),
            ahead_of: ActionKind::ServiceRestart,
            release: None,
            backup: true,
        },
        ActionSpec::TrafficRestore { service: service(), traffic: traffic.clone() },
        ActionSpec::TrafficDrain { service: service(), traffic, restore_within: DurationMs(600_000) },
        ActionSpec::ServiceStatus { service: service() },
        ActionSpec::ServiceStart { service: service() },
        ActionSpec::ServiceStop { service: service() },
        ActionSpec::ServiceRestart { service: service() },
        ActionSpec::ServiceReload { service: service() },
        ActionSpec::BackupCreate { service: service(), backup: backup.clone(), policy },
        ActionSpec::BackupVerify { backup, sha256: "ab".repeat(32) },
        ActionSpec::LogRotate { service: service(), policy: rotation },
        ActionSpec::ExecRun {
            service: service(),
            hook: HookName::new("migrate").unwrap(),
            once: true,
            release: Some(quorate_model::Version::new("1.1.0").unwrap()),
            targets: Vec::new(),
        },
        ActionSpec::ExecRun {
            service: service(),
            hook: HookName::new("compact").unwrap(),
            once: false,
            release: None,
            targets: ["node2", "node3"].map(|name| NodeName::new(name).unwrap()).to_vec(),
        },
        ActionSpec::RolePromote {
            service: service(),
            group: group(),
            hook: HookName::new("promote").unwrap(),
        },
        ActionSpec::HostFacts,
        ActionSpec::HostDiagnose,
    ]
}

fn group() -> GroupName {
    GroupName::new("db").unwrap()
}

fn work() -> NodeWork {
    let assign = |(n, action): (usize, ActionSpec)| Assignment {
        execution: ExecutionId::new(format!("x-{n}")).unwrap(),
        operation: OperationId::new("r-1").unwrap(),
        epoch: Epoch(n as u64 + 1),
        grant_remaining: DurationMs(5_000),
        deadline: DurationMs(60_000),
        disruptive: action.kind() == ActionKind::ServiceRestart,
        action,
    };
    NodeWork {
        generation: u64::MAX,
        assignments: actions().into_iter().enumerate().map(assign).collect(),
        instances: vec![NodeInstance {
            service: service(),
            driver: Driver::Process { name: "ledger".into() },
            running: true,
            stop_timeout: DurationMs(10_000),
            start_timeout: DurationMs(10_000),
        }],
        probes: vec![NodeProbe {
            instance: instance(),
            probe: ProbeSpec {
                name: ProbeName::new("tcp").unwrap(),
                kind: ProbeKind::Tcp { address: "127.0.0.1:1".into() },
                interval: DurationMs(1_000),
                timeout: DurationMs(500),
                passes: 2,
                from_peer: true,
            },
        }],
        cancels: vec![ExecutionId::new("x-9").unwrap()],
        discharges: vec![ObligationId::new("o-9").unwrap()],
        left_out: vec![ObligationId::new("o-8").unwrap()],
        extended: vec![(ObligationId::new("o-7").unwrap(), DurationMs(60_000))],
        confirmed: vec![ExecutionId::new("x-8").unwrap()],
        leases: vec![quorate_model::HeldLease {
            group: group(),
            service: service(),
            epoch: Epoch(7),
            ttl: DurationMs(15_000),
            recalled: true,
        }],
    }
}

fn renewal() -> LeaseRenewal {
    LeaseRenewal {
        group: group(),
        epoch: Epoch(7),
        nonce: u64::MAX,
        hold: LeaseHold::Released,
        answered: true,
        message: "stopped".into(),
    }
}

fn said() -> Vec<FromAgent> {
    let hello = Hello {
        node: instance().node,
        agent_version: "0.1.0".into(),
        boot_id: "b".into(),
        incarnation: "i.1".into(),
        capabilities: vec![Capability { action: ActionKind::ServiceRestart, version: 1 }],
        highest_epoch: Epoch(7),
        unconfirmed: vec![ExecutionId::new("x-1").unwrap()],
        generation: 3,
        installation: "n".into(),
    };
    let beat = Heartbeat {
        sent: Timestamp(1_763_700_000_000),
        clock_offset_ms: -12,
        round_trip_us: 321,
        conditions: BTreeMap::from([(NodeCondition::DiskPressure, "/ has 3 % left".into())]),
        generation: 3,
    };
    let reading = Reading {
        instance: instance(),
        probe: ProbeName::new("http").unwrap(),
        ok: true,
        passes: 3,
        failures: 0,
        detail: "200".into(),
        role: InstanceRole::Voter,
        lag: Some(0),
        position: Some(7),
        listed: vec![quorate_model::Listed { key: "node1".into(), role: InstanceRole::Voter }],
        value: Some(quorate_model::Millionths(-1)),
        age: DurationMs(12),
    };
    let unit = UnitStatus { active: "active".into(), invocation_id: "t".into(), ..UnitStatus::default() };
    let report = InstanceReport {
        service: service(),
        unit: Some(unit),
        error: String::new(),
        age: DurationMs(1),
        up: DurationMs(2),
    };
    let execution = ExecutionReport {
        execution: ExecutionId::new("x-1").unwrap(),
        state: ExecutionState::Rejected,
        reason: Some(Reason::EpochStale),
        outcome: Some(ActionOutcome { message: "no".into(), ..ActionOutcome::default() }),
        at: Timestamp(5),
        epoch: Epoch(6),
    };
    let obligation = ObligationReport {
        obligation: ObligationId::new("o-1").unwrap(),
        execution: ExecutionId::new("x-1").unwrap(),
        state: ObligationState::ExpiredDischarged,
        description: "hook resume for ledger@node1".into(),
        deadline: Timestamp(9),
        message: "done".into(),
    };
    let metric =
        Metric { name: "load1".into(), labels: BTreeMap::from([("cpu".into(), "0".into())]), value: 0.5 };
    vec![
        FromAgent::Hello(Box::new(hello)),
        FromAgent::Heartbeat(beat),
        FromAgent::Facts(Box::default()),
        FromAgent::Metrics(vec![metric]),
        FromAgent::Readings(vec![reading]),
        FromAgent::Instances(vec![report]),
        FromAgent::Execution(Box::new(execution)),
        FromAgent::Obligation(obligation),
        FromAgent::Lease(renewal()),
    ]
}

#[test]
fn everything_an_agent_says_comes_back() {
    for (n, said) in said().into_iter().enumerate() {
        let sequence = n as u64 + 1;
        assert_eq!(read_from_agent(write_from_agent(sequence, &said)), Ok((sequence, said)));
    }
}

#[test]
fn everything_an_agent_is_told_comes_back() {
    let welcome = Welcome {
        coordinator: "coord1".into(),
        heartbeat_interval: DurationMs(500),
        silence_limit: DurationMs(3_000),
        metrics_interval: DurationMs(15_000),
        coordinators: vec!["127.0.0.1:7443".into()],
        cluster: ClusterId::new("c-1").unwrap(),
    };
    for said in [
        ToAgent::Welcome(welcome),
        ToAgent::HeartbeatAck { sequence: 4, time: Timestamp(1_763_700_000_123) },
        ToAgent::Work(work()),
        ToAgent::Work(NodeWork::default()),
        ToAgent::ReportAck { sequence: 9, subject: "x-1".into() },
        ToAgent::Close { reason: "SHUTDOWN".into(), message: "bye".into(), retry_after: DurationMs(250) },
        ToAgent::Lease(LeaseAnswer { group: group(), epoch: Epoch(7), nonce: 1, granted: true }),
    ] {
        assert_eq!(read_to_agent(write_to_agent(&said)), Ok(said));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut message = write_work(&work());
    message.assignments[1].action = None;
    assert_eq!(read_work(message).unwrap_err().field, "assignments[1].action");
    let mut message = write_work(&work());
    message.assignments[0].deadline = None;
    assert_eq!(read_work(message).unwrap_err().field, "assignments[0].deadline");
    let mut message = write_work(&work());
    message.cancels.push("../x".into());
    assert_eq!(read_work(message).unwrap_err().field, "cancels[1]");
    let mut message = write_work(&work());
    message.leases[0].ttl = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    assert_eq!(read_work(message).unwrap_err().field, "leases[0].ttl");
    let unsaid = proto::LeaseRenewal { group: "db".into(), ..Default::default() };
    assert_eq!(read_renewal(unsaid).unwrap_err().field, "hold");
    let nan = quorate_proto::v1::Metric { name: "x".into(), value: f64::NAN, ..Default::default() };
    assert_eq!(read_metric(nan).unwrap_err().field, "value");
    assert!(read_from_agent(proto::SessionRequest { sequence: 0, body: None }).is_err());
    assert!(read_from_agent(proto::SessionRequest { sequence: 1, body: None }).is_err());
    assert!(read_to_agent(proto::SessionResponse { body: None }).is_err());
    let many = proto::Desired { confirmed: vec!["x".into(); EXECUTIONS_MAX + 1], ..Default::default() };
    assert_eq!(read_work(many).unwrap_err().field, "confirmed");
}

#[test]
fn a_newer_agent_is_understood_as_far_as_possible() {
    let FromAgent::Hello(hello) = &said()[0] else { unreachable!("the first is a Hello") };
    let mut message = write_hello(hello);
    message.capabilities.push(proto::Capability { action: "moon.land".into(), version: 1 });
    assert_eq!(read_hello(message).unwrap(), **hello);
    let message = proto::ExecutionReport {
        execution: "x-1".into(),
        state: proto::ExecutionState::Failed as i32,
        reason: "NOT_KNOWN_YET".into(),
        ..Default::default()
    };
    assert_eq!(read_execution(message).unwrap().reason, Some(Reason::ActionFailed));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        use prost::Message;
        if let Ok(message) = proto::SessionRequest::decode(bytes.as_slice()) {
            let _ = read_from_agent(message);
        }
        if let Ok(message) = proto::SessionResponse::decode(bytes.as_slice()) {
            let _ = read_to_agent(message);
        }
    }
}
