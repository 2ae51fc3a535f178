//! Folding and merging.

use quorate_model::probe::AlertsProbe;
use quorate_model::service::UnitStatus;
use quorate_model::session::{Heartbeat, Hello, InstanceReport, Reading};
use quorate_model::{
    Driver, DurationMs, Epoch, InstanceId, InstanceRole, InstanceState, NodeName, ProbeKind, ProbeSpec,
    Selector, ServiceSpec, Timestamp,
};

use super::Table;
use super::fold::{UnitSeen, fold};

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn spec() -> ServiceSpec {
    let probe = |name: &str, from_peer| ProbeSpec {
        name: quorate_model::ProbeName::new(name).unwrap(),
        kind: ProbeKind::Tcp { address: "127.0.0.1:1".into() },
        interval: DurationMs(500),
        timeout: DurationMs(500),
        passes: 3,
        from_peer,
    };
    ServiceSpec {
        name: quorate_model::ServiceName::new("ledger").unwrap(),
        driver: Driver::Process { name: "ledger".into() },
        nodes: Selector { all: true, ..Selector::default() },
        probes: vec![probe("answers", true)],
        stop_timeout: DurationMs(1_000),
        start_timeout: DurationMs(1_000),
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
        vars: Default::default(),
        labels: Default::default(),
    }
}

fn instance() -> InstanceId {
    InstanceId { node: node("n1"), service: spec().name }
}

fn active(up_since: i64, at: i64) -> UnitSeen {
    let unit = UnitStatus { active: "active".into(), ..UnitStatus::default() };
    UnitSeen { unit: Some(unit), up_since: Timestamp(up_since), at: Timestamp(at) }
}

fn reading(from: &str, ok: bool, count: u32, at: i64) -> quorate_model::ProbeReading {
    quorate_model::ProbeReading {
        instance: instance(),
        from: node(from),
        probe: quorate_model::ProbeName::new("answers").unwrap(),
        ok,
        passes: if ok { count } else { 0 },
        failures: if ok { 0 } else { count },
        detail: String::new(),
        role: InstanceRole::Unknown,
        lag: None,
        listed: Vec::new(),
        position: None,
        value: None,
        at: Timestamp(at),
    }
}

#[test]
fn health_is_judged_on_the_current_run_only() {
    let state = |readings: &[_]| fold(&spec(), &instance(), &active(1_000, 5_000), readings).observed;
    assert_eq!(state(&[reading("n1", true, 9, 900)]), InstanceState::Running, "a reading of the run before");
    assert_eq!(state(&[reading("n1", true, 2, 4_000)]), InstanceState::Soaking);
    assert_eq!(state(&[reading("n1", true, 3, 4_000)]), InstanceState::Healthy);
    assert_eq!(state(&[reading("n1", false, 1, 4_000)]), InstanceState::Unhealthy);
}

/// Else the group would be without quorum in the moment in which new certificates are distributed.
#[test]
fn health_does_not_rest_on_a_certificate() {
    let mut spec = spec();
    let file = quorate_model::probe::CertificateProbe {
        address: "127.0.0.1:1".into(),
        server_name: "ledger.example".into(),
        min_remaining: DurationMs(1),
        file: "/etc/ledger/tls.pem".into(),
    };
    let name = quorate_model::ProbeName::new("shown").unwrap();
    let kind = ProbeKind::Certificate(file);
    spec.probes.push(ProbeSpec { name: name.clone(), kind, ..spec.probes[0].clone() });
    let state = |readings: &[_]| fold(&spec, &instance(), &active(1_000, 5_000), readings);
    let shown = quorate_model::ProbeReading { probe: name, ..reading("n1", false, 9, 4_000) };
    let seen = state(&[reading("n1", true, 3, 4_000), shown.clone()]);
    assert_eq!((seen.observed, seen.failing), (InstanceState::Healthy, false));
    assert_eq!(state(&[reading("n1", false, 3, 4_000), shown]).observed, InstanceState::Unhealthy);
}

/// Else whoever makes an alert fire, or stops Alertmanager, takes every group below its quorum.
#[test]
fn health_does_not_rest_on_alerts() {
    let mut spec = spec();
    let matchers = vec![quorate_model::alert::AlertMatcher::parse("severity=critical").unwrap()];
    let kind =
        ProbeKind::Alerts(quorate_model::probe::AlertsProbe { url: "http://127.0.0.1:1".into(), matchers });
    let name = quorate_model::ProbeName::new("quiet").unwrap();
    spec.probes.push(ProbeSpec { name: name.clone(), kind, from_peer: true, ..spec.probes[0].clone() });
    for from in ["n1", "n2"] {
        let fires = quorate_model::ProbeReading { probe: name.clone(), ..reading(from, false, 9, 4_000) };
        let seen = fold(&spec, &instance(), &active(1_000, 5_000), &[reading("n1", true, 3, 4_000), fires]);
        assert_eq!((seen.observed, seen.failing), (InstanceState::Healthy, false), "{from}");
    }
}

#[test]
fn a_peer_that_stably_fails_outweighs_the_node_itself() {
    let own = reading("n1", true, 9, 4_000);
    let fold = |peer| fold(&spec(), &instance(), &active(1_000, 5_000), &[own.clone(), peer]).observed;
    assert_eq!(fold(reading("n2", false, 3, 4_000)), InstanceState::Unhealthy);
    assert_eq!(fold(reading("n2", false, 1, 4_000)), InstanceState::Healthy, "one failure is not stable");
}

/// What it is not yet shown to do it may do all the same: agents that were just restarted have no passes to show.
#[test]
fn only_its_own_node_stably_failing_shows_that_an_instance_does_not_serve() {
    let folded = |readings: &[_]| fold(&spec(), &instance(), &active(1_000, 5_000), readings);
    let (passes, fails) = (reading("n1", true, 9, 4_000), reading("n1", false, 3, 4_000));
    assert!(folded(std::slice::from_ref(&fails)).failing);
    assert!(!folded(&[reading("n1", false, 2, 4_000)]).failing, "not stable yet, or nobody could look");
    assert!(!folded(&[passes, reading("n2", false, 9, 4_000)]).failing, "out of a peer's sight");
    assert!(!folded(&[reading("n1", false, 9, 900)]).failing, "of the run before");
    assert!(!folded(&[]).failing);
    let mut soak = spec();
    soak.probes[0].kind = ProbeKind::UnitSoak { min_up: DurationMs(60_000) };
    assert!(
        !fold(&soak, &instance(), &active(1_000, 5_000), &[fails]).failing,
        "up too short a time, and serving"
    );
}

#[test]
fn the_last_word_of_a_former_peer_does_not_stand() {
    let own = reading("n1", true, 9, 99_000);
    // Three turns of 500 ms and 500 ms each are 3 s.
    let fold = |at| {
        let peer = reading("n2", false, 9, at);
        fold(&spec(), &instance(), &active(1_000, 100_000), &[own.clone(), peer]).observed
    };
    assert_eq!(fold(97_500), InstanceState::Unhealthy);
    assert_eq!(fold(96_000), InstanceState::Healthy);
}

#[test]
fn a_verdict_is_as_old_as_its_weakest_evidence() {
    let verdict = fold(&spec(), &instance(), &active(1_000, 5_000), &[reading("n1", true, 9, 3_000)]);
    assert_eq!(verdict.at, Timestamp(3_000));
    // What tells no health is no evidence of it, and may be looked at as seldom as its owner likes.
    let mut with = spec();
    let (name, kind) = ("quiet", ProbeKind::Alerts(AlertsProbe { url: String::new(), matchers: Vec::new() }));
    let quiet = quorate_model::ProbeName::new(name).unwrap();
    with.probes.push(quorate_model::ProbeSpec { name: quiet.clone(), kind, ..with.probes[0].clone() });
    let seldom = quorate_model::ProbeReading { probe: quiet, ..reading("n1", true, 9, 1_500) };
    let verdict = fold(&with, &instance(), &active(1_000, 5_000), &[reading("n1", true, 9, 3_000), seldom]);
    assert_eq!((verdict.at, verdict.probes.len()), (Timestamp(3_000), 2));
    let unseen = UnitSeen { unit: None, up_since: Timestamp::ZERO, at: Timestamp(5_000) };
    let verdict = fold(&spec(), &instance(), &unseen, &[reading("n1", true, 9, 3_000)]);
    assert_eq!(verdict.observed, InstanceState::Unknown);
}

fn hello() -> Hello {
    Hello {
        node: node("n1"),
        agent_version: "1".into(),
        boot_id: String::new(),
        incarnation: String::new(),
        capabilities: Vec::new(),
        highest_epoch: Epoch(0),
        unconfirmed: Vec::new(),
        generation: 0,
        installation: String::new(),
    }
}

#[test]
fn a_follower_tells_ages_and_the_leader_uses_its_own_clock() {
    let (follower, leader) = (Table::new(), Table::new());
    follower.opened(&node("n1"), "c2", &hello(), Timestamp(50_000));
    follower.heartbeat(&node("n1"), Heartbeat::default(), Timestamp(51_000));
    let unit = UnitStatus { active: "active".into(), ..UnitStatus::default() };
    let report = InstanceReport {
        service: spec().name,
        unit: Some(unit),
        error: String::new(),
        age: DurationMs(100),
        up: DurationMs(2_000),
    };
    follower.instances(&node("n1"), vec![report], Timestamp(51_000));
    let seen = Reading {
        instance: instance(),
        probe: quorate_model::ProbeName::new("answers").unwrap(),
        ok: true,
        passes: 3,
        failures: 0,
        detail: String::new(),
        role: InstanceRole::Unknown,
        lag: None,
        listed: Vec::new(),
        position: None,
        value: None,
        age: DurationMs(50),
    };
    follower.readings(&node("n1"), vec![seen], Timestamp(51_000));
    // The leader's clock is an hour ahead.
    leader.set_leading(Some(Timestamp(3_600_000)));
    leader.merge(follower.report("c2", Timestamp(51_500)), Timestamp(3_651_500));
    let known = leader.node(&node("n1")).unwrap();
    assert_eq!(known.heard, Timestamp(3_651_000));
    assert_eq!(known.coordinator, "c2");
    assert!(follower.report("c2", Timestamp(51_500)).nodes[0].facts.is_none());
}

#[test]
fn a_new_leader_forgets_what_others_told() {
    let table = Table::new();
    let follower = Table::new();
    follower.opened(&node("n1"), "c2", &hello(), Timestamp(1));
    table.merge(follower.report("c2", Timestamp(1)), Timestamp(1));
    table.opened(&node("n2"), "c1", &hello(), Timestamp(1));
    table.set_leading(Some(Timestamp(9)));
    assert!(table.node(&node("n1")).is_none());
    assert!(table.node(&node("n2")).is_some());
}

#[test]
fn a_run_that_was_seen_before_it_was_up_counts_from_when_it_is() {
    let table = Table::new();
    table.opened(&node("n1"), "c1", &hello(), Timestamp(1));
    let tell = |active: &str, up, now| {
        // One run from its first moment on: systemd gives it its id before it is active.
        let unit = UnitStatus { active: active.into(), invocation_id: "a".into(), ..UnitStatus::default() };
        let (service, error) = (spec().name, String::new());
        let report =
            InstanceReport { service, unit: Some(unit), error, age: DurationMs::ZERO, up: DurationMs(up) };
        table.instances(&node("n1"), vec![report], Timestamp(now));
        table.report("c1", Timestamp(now)).nodes[0].instances[0].up
    };
    assert_eq!(tell("activating", 0, 1_000), DurationMs::ZERO);
    assert_eq!(tell("active", 0, 1_200), DurationMs::ZERO, "up for less than a millisecond");
    assert_eq!(tell("active", 300, 1_500), DurationMs(300));
    // A first value does not jitter with later ones.
    assert_eq!(tell("active", 790, 2_000), DurationMs(800));
}
