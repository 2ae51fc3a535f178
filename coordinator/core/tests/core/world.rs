//! A small world around the core: a log, a clock, observations, and every committed entry applied on two replicas.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_core::command::{
    ClusterCommand, Command, DeclaredCommand, Entry, Join, NewCertificate, TokenCommand,
};
use quorate_core::state::{ReleaseRequest, TokenPurpose};
use quorate_core::{Answer, Hash, Observations, State, apply};
use quorate_model::alert::AlertMatcher;
use quorate_model::probe::{AlertsProbe, Baseline, MembershipPaths, MetricCheck, MetricProbe};
use quorate_model::{
    AccessRole, BftRounding, ClusterId, Comparison, Digest, Driver, DurationMs, GroupName, GroupSpec,
    MemberName, Millionths, NodeName, Principal, ProbeKind, ProbeName, ProbeSpec, QuorumPolicy, Selector,
    Serial, ServiceName, ServiceSpec, Timestamp, TokenId, UserName, Version,
};

pub(crate) const START: Timestamp = Timestamp(1_795_000_000_000);

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

/// A release of that version; its digest is made of it.
pub(crate) fn release(version: &str) -> ReleaseRequest {
    let mut artifact: String = version.bytes().map(|b| format!("{b:02x}")).collect();
    artifact.extend(std::iter::repeat_n('0', 64 - artifact.len()));
    ReleaseRequest {
        version: Version::new(version).unwrap(),
        artifact: Digest::new(artifact).unwrap(),
        size: 4_096,
        signature: "untrusted comment: test".into(),
    }
}

pub(crate) fn admin() -> Principal {
    Principal::User { name: UserName::new("ann").unwrap() }
}

/// The log, the state it gives, and what the leader sees.
pub(crate) struct World {
    pub(crate) state: State,
    /// A second replica; compared after every entry.
    replica: State,
    pub(crate) obs: Observations,
    pub(crate) now: Timestamp,
    pub(crate) index: u64,
    pub(crate) minted: u64,
    /// Audit records told already.
    told: u64,
    pub(crate) lines: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            replica: State::default(),
            obs: Observations { leading_since: START, ..Observations::default() },
            now: START,
            index: 0,
            minted: 0,
            told: 0,
            lines: Vec::new(),
        };
        let certificate = NewCertificate {
            serial: Serial::new("a0").unwrap(),
            principal: admin(),
            access: Some(AccessRole::Admin),
            not_after: START.plus(DurationMs::from_secs(365 * 86_400)),
        };
        world.must(Command::Cluster(ClusterCommand::Init {
            id: ClusterId::new("c-1").unwrap(),
            name: "test".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----".into(),
            member: MemberName::new("coord1").unwrap(),
            grpc: "127.0.0.1:7443".into(),
            http: "127.0.0.1:7480".into(),
            certificates: vec![certificate],
        }));
        world
    }

    /// Commits an entry on both replicas; they must agree.
    pub(crate) fn commit(&mut self, entry: &Entry) -> Answer {
        self.index += 1;
        let answer = apply(&mut self.state, self.index, entry);
        let again = apply(&mut self.replica, self.index, entry);
        assert_eq!(answer, again, "replicas answer differently");
        answer
    }

    pub(crate) fn replicas_agree(&self) {
        assert_eq!(self.state, self.replica);
        assert_eq!(self.state.digest(), self.replica.digest());
    }

    pub(crate) fn user(&mut self, command: Command) -> Answer {
        self.commit(&Entry::new(self.now, admin(), None, command))
    }

    pub(crate) fn system(&mut self, command: Command) -> Answer {
        self.commit(&Entry::system(self.now, command))
    }

    pub(crate) fn must(&mut self, command: Command) -> Answer {
        let answer = self.user(command.clone());
        assert!(answer.refusal().is_none(), "{command:?}: {answer:?}");
        answer
    }

    /// Enrols node1 … nodeN.
    pub(crate) fn fleet(&mut self, count: u32) {
        for number in 1..=count {
            self.enrol(&format!("node{number}"));
        }
    }

    pub(crate) fn enrol(&mut self, name: &str) {
        let id = TokenId::new(format!("t-{name}-{}", self.index)).unwrap();
        self.must(Command::Token(TokenCommand::Create {
            id: id.clone(),
            secret_sha256: Hash::of(name.as_bytes()),
            purpose: TokenPurpose::Agent { node: Some(node(name)), labels: BTreeMap::new() },
            expires_at: self.now.plus(DurationMs::from_secs(600)),
        }));
        let principal = Principal::Agent { node: node(name) };
        let certificate = NewCertificate {
            serial: Serial::new(format!("{:x}", 0x1000 + self.index)).unwrap(),
            principal: principal.clone(),
            access: None,
            not_after: self.now.plus(DurationMs::from_secs(30 * 86_400)),
        };
        let join = Join::Node { name: node(name), address: "127.0.0.1".into() };
        let command = Command::Token(TokenCommand::Consume { id, join, certificate: Some(certificate) });
        let answer = self.commit(&Entry::new(self.now, principal, None, command));
        assert!(answer.refusal().is_none(), "{answer:?}");
    }

    pub(crate) fn declare(&mut self, spec: ServiceSpec) {
        self.must(Command::Declared(Box::new(DeclaredCommand::ApplyService { spec, expect: None })));
    }

    pub(crate) fn group(
        &mut self,
        name: &str,
        service_name: &str,
        policy: QuorumPolicy,
        voters: &[&str],
    ) -> Answer {
        let spec = GroupSpec {
            name: group(name),
            service: service(service_name),
            voters: voters.iter().map(|n| node(n)).collect(),
            learners: Vec::new(),
            policy,
            spare_wanted: 0,
            labels: BTreeMap::new(),
            membership: None,
            failover: None,
        };
        self.user(Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None })))
    }

    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        self.lines.push(text.as_ref().to_string());
    }

    /// Writes what the audit has gained since the last call.
    pub(crate) fn tell(&mut self) {
        let mut fresh = Vec::new();
        for record in self.state.audit.records.iter().filter(|r| r.seq > self.told) {
            let what = &record.what;
            let t = what.at.since(START).0;
            let mut line = format!("{:>7}.{:03} {:<24}", t / 1_000, t % 1_000, what.action);
            for part in [what.resource.as_str(), what.reason.as_str(), what.details.as_str()] {
                if !part.is_empty() {
                    write!(line, " {part}").unwrap();
                }
            }
            fresh.push(line);
        }
        self.told = self.state.audit.head.seq;
        self.lines.extend(fresh);
    }

    /// What was told so far needs no repeating.
    pub(crate) fn hush(&mut self) {
        self.told = self.state.audit.head.seq;
    }
}

pub(crate) fn policy(word: &str) -> QuorumPolicy {
    match word {
        "majority" => QuorumPolicy::Majority,
        "bft" => QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds },
        "bft1" => QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne },
        "none" => QuorumPolicy::None,
        "pair" => QuorumPolicy::PrimaryStandby,
        other => QuorumPolicy::MinAvailable { count: other.parse().unwrap() },
    }
}

/// A service with an HTTP probe from itself and a peer, and a membership probe.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    let probe = |name: &str, kind, from_peer| ProbeSpec {
        name: ProbeName::new(name).unwrap(),
        kind,
        interval: DurationMs(500),
        timeout: DurationMs(400),
        passes: 2,
        from_peer,
    };
    let http = ProbeKind::Http {
        url: "http://${node}:${port}/health".into(),
        status: vec![],
        body_contains: String::new(),
        json: vec![],
    };
    let membership = ProbeKind::Membership {
        url: "http://${node}:${port}/cluster/nodes".into(),
        argv: vec![],
        paths: MembershipPaths {
            members: "nodes".into(),
            key: "id".into(),
            this: "${node}".into(),
            role: "role".into(),
            serving: "serving".into(),
            lag: "lag".into(),
            max_lag: 10,
            position: String::new(),
        },
    };
    ServiceSpec {
        name: service(name),
        driver: Driver::Process { name: name.into() },
        nodes: Selector { all: true, ..Selector::default() },
        probes: vec![probe("health", http, true), probe("member", membership, false)],
        stop_timeout: DurationMs::from_secs(10),
        start_timeout: DurationMs::from_secs(10),
        backup: None,
        install: None,
        traffic: None,
        configs: Vec::new(),
        secrets: Vec::new(),
        migrate: None,
        preflight: None,
        handover: None,
        data: None,
        maintenance: None,
        log_rotation: None,
        vars: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

/// A metric that a gate compares, and an expression over it.
pub(crate) fn measured() -> [ProbeSpec; 2] {
    let probe = |name: &str, kind| ProbeSpec {
        name: ProbeName::new(name).unwrap(),
        kind,
        interval: DurationMs(500),
        timeout: DurationMs(400),
        passes: 2,
        from_peer: false,
    };
    let metric = MetricProbe {
        url: "http://${node}:${port}/metrics".into(),
        metric: "errors_total".into(),
        labels: BTreeMap::from([("node".to_string(), "${node}".to_string())]),
        rate: true,
        condition: Some(MetricCheck { op: Comparison::Lt, value: Millionths(5_000_000) }),
        baseline: Some(Baseline {
            max_increase_percent: Some(50),
            max_decrease_percent: None,
            min_absolute: Millionths(20_000),
        }),
    };
    let expr = "probes.health.pass && probes.errors.value < 5.0".to_string();
    [probe("errors", ProbeKind::Metric(metric)), probe("sense", ProbeKind::Expression { expr })]
}

/// No alert of the service fires.
pub(crate) fn quiet() -> ProbeSpec {
    let matchers = ["service=${service}", "severity=~\"crit.*\"", "instance!~\"a\\.b\""];
    let matchers = matchers.iter().map(|text| AlertMatcher::parse(text).unwrap()).collect();
    ProbeSpec {
        name: ProbeName::new("quiet").unwrap(),
        kind: ProbeKind::Alerts(AlertsProbe { url: "http://alerts:9093".into(), matchers }),
        interval: DurationMs(500),
        timeout: DurationMs(400),
        passes: 2,
        from_peer: true,
    }
}
