//! Every state of a unit, and every lack, folded.

use alloc::collections::BTreeMap;
use alloc::vec;

use quorate_model::probe::MembershipPaths;
use quorate_model::{Driver, DurationMs, NodeName, ProbeName, Selector, ServiceName};

use super::*;

fn spec() -> ServiceSpec {
    let probe = |name: &str, kind| ProbeSpec {
        name: ProbeName::new(name).unwrap(),
        kind,
        interval: DurationMs(1_000),
        timeout: DurationMs(500),
        passes: 2,
        from_peer: false,
    };
    let paths = MembershipPaths {
        members: "m".into(),
        key: "k".into(),
        this: "n".into(),
        role: "r".into(),
        serving: "".into(),
        lag: "l".into(),
        max_lag: 10,
    };
    ServiceSpec {
        name: ServiceName::new("ledger").unwrap(),
        driver: Driver::Process { name: "ledger".into() },
        nodes: Selector { all: true, ..Selector::default() },
        probes: vec![
            probe("health", ProbeKind::Tcp { address: "a:1".into() }),
            probe("member", ProbeKind::Membership { url: "http://a".into(), paths }),
            probe("soak", ProbeKind::UnitSoak { min_up: DurationMs(5_000) }),
        ],
        stop_timeout: DurationMs(1),
        start_timeout: DurationMs(1),
        backup: None,
        log_rotation: None,
        vars: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn id() -> InstanceId {
    InstanceId { node: NodeName::new("node1").unwrap(), service: ServiceName::new("ledger").unwrap() }
}

fn reading(probe: &str, ok: bool, passes: u32, at: i64) -> ProbeReading {
    ProbeReading {
        instance: id(),
        from: id().node,
        probe: ProbeName::new(probe).unwrap(),
        ok,
        passes,
        failures: u32::from(!ok),
        detail: "".into(),
        role: InstanceRole::Voter,
        lag: Some(3),
        at: Timestamp(at),
    }
}

fn good() -> Vec<ProbeReading> {
    vec![reading("health", true, 2, 900), reading("member", true, 5, 800), reading("soak", true, 2, 950)]
}

fn folded(active: &str, probes: Vec<ProbeReading>) -> InstanceReading {
    let status = UnitStatus { active: active.into(), since: Timestamp(100), ..UnitStatus::default() };
    fold(&spec(), &id(), Some((&status, Timestamp(1_000))), probes)
}

#[test]
fn healthy_needs_every_probe_and_is_as_old_as_the_oldest() {
    let seen = folded("active", good());
    assert_eq!(
        (seen.observed, seen.sync, seen.role),
        (InstanceState::Healthy, Sync::CaughtUp, InstanceRole::Voter)
    );
    assert_eq!((seen.at, seen.up_since), (Timestamp(800), Timestamp(100)));
}

#[test]
fn whatever_is_missing_makes_it_less() {
    for (index, probe, ok, passes, expected) in [
        (0, "health", false, 0, InstanceState::Unhealthy),
        (0, "health", true, 1, InstanceState::Soaking),
        (2, "soak", false, 0, InstanceState::Soaking),
        (1, "member", false, 0, InstanceState::Unhealthy),
    ] {
        let mut probes = good();
        probes[index] = reading(probe, ok, passes, 900);
        assert_eq!(folded("active", probes).observed, expected, "{probe} {ok} {passes}");
    }
    for missing in 0..3 {
        let mut probes = good();
        probes.remove(missing);
        assert_eq!(folded("active", probes).observed, InstanceState::Running);
    }
    let mut lagging = good();
    lagging[1].lag = Some(11);
    assert_eq!(folded("active", lagging).sync, Sync::Lagging);
    let mut foreign = good();
    foreign[0].from = NodeName::new("node2").unwrap();
    assert_eq!(folded("active", foreign).observed, InstanceState::Running, "a peer's word is not its own");
}

#[test]
fn a_unit_that_does_not_run_is_judged_by_itself() {
    for (active, expected) in [
        ("inactive", InstanceState::Stopped),
        ("failed", InstanceState::Failed),
        ("activating", InstanceState::Starting),
        ("deactivating", InstanceState::Stopping),
        ("", InstanceState::Unknown),
        ("nonsense", InstanceState::Unknown),
    ] {
        let seen = folded(active, good());
        assert_eq!((seen.observed, seen.at, seen.up_since), (expected, Timestamp(1_000), Timestamp::ZERO));
    }
    let nothing = fold(&spec(), &id(), None, vec![]);
    assert_eq!((nothing.observed, nothing.at), (InstanceState::Unknown, Timestamp::ZERO));
}
