//! The budget against an independent, naive model: every policy, one to nine voters, any of them out for any cause.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_core::safety::{Ask, Evidence, availability, check_down, disturb};
use quorate_core::state::{Execution, Grant, Group, Node, Service, State};
use quorate_model::{
    ActionSpec, BftRounding, Drain, DurationMs, Epoch, ExecutionId, ExecutionState, GroupSpec, InstanceId,
    InstanceReading, InstanceRole, InstanceState, NodeId, NodeName, NodeStatus, OperationId, QuorumPolicy,
    Reason, Revision, Sync, Timestamp,
};

use crate::world::{START, group, node, service, spec};

/// How one voter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    Up,
    Stopped,
    Starting,
    Unhealthy,
    Failing,
    Failed,
    Soaking,
    Lagging,
    SyncUnknown,
    Learning,
    NoReading,
    OldReading,
    ReadBeforeWork,
    Disconnected,
    Down,
    Removed,
    Draining,
    Granted,
    UnknownWork,
    RunningWork,
}

pub(crate) const STANDS: [Stand; 20] = [
    Stand::Up,
    Stand::Stopped,
    Stand::Starting,
    Stand::Unhealthy,
    Stand::Failing,
    Stand::Failed,
    Stand::Soaking,
    Stand::Lagging,
    Stand::SyncUnknown,
    Stand::Learning,
    Stand::NoReading,
    Stand::OldReading,
    Stand::ReadBeforeWork,
    Stand::Disconnected,
    Stand::Down,
    Stand::Removed,
    Stand::Draining,
    Stand::Granted,
    Stand::UnknownWork,
    Stand::RunningWork,
];

fn instance(name: &NodeName) -> InstanceId {
    InstanceId { node: name.clone(), service: service("ledger") }
}

fn host(name: &NodeName, stand: Stand) -> Node {
    let status = match stand {
        Stand::Disconnected => NodeStatus::Disconnected,
        Stand::Down => NodeStatus::Down,
        Stand::Removed => NodeStatus::Removed,
        _ => NodeStatus::Ready,
    };
    Node {
        id: NodeId(1),
        name: name.clone(),
        labels: BTreeMap::new(),
        address: String::new(),
        status,
        status_since: START,
        cordon: None,
        drain: if stand == Stand::Draining { Drain::Draining } else { Drain::None },
        drain_since: START,
        enrolled_at: START,
        revision: Revision(1),
    }
}

fn reading(name: &NodeName, stand: Stand, now: Timestamp) -> Option<InstanceReading> {
    let observed = match stand {
        Stand::NoReading => return None,
        Stand::Stopped => InstanceState::Stopped,
        Stand::Starting => InstanceState::Starting,
        Stand::Unhealthy | Stand::Failing => InstanceState::Unhealthy,
        Stand::Failed => InstanceState::Failed,
        Stand::Soaking => InstanceState::Soaking,
        _ => InstanceState::Healthy,
    };
    let sync = match stand {
        Stand::Lagging => Sync::Lagging,
        Stand::SyncUnknown => Sync::Unknown,
        _ => Sync::CaughtUp,
    };
    // Two intervals of 500 ms and 5 s of slack is the limit.
    let age = if stand == Stand::OldReading { 6_001 } else { 6_000 };
    Some(InstanceReading {
        instance: instance(name),
        observed,
        role: if stand == Stand::Learning { InstanceRole::Learner } else { InstanceRole::Voter },
        sync,
        up_since: START,
        at: now.minus(DurationMs(age)),
        probes: vec![],
        failing: stand == Stand::Failing,
    })
}

fn execution(name: &NodeName, number: u64, state: ExecutionState) -> Execution {
    Execution {
        id: ExecutionId::new(format!("x-{number}")).unwrap(),
        operation: OperationId::new("r-other").unwrap(),
        step: 0,
        node: name.clone(),
        action: ActionSpec::ServiceRestart { service: service("ledger") },
        instance: Some(instance(name)),
        disruptive: true,
        epoch: Epoch(number),
        state,
        created_at: START,
        begin_before: START,
        deadline: DurationMs(1),
        updated_at: START,
        cancel: false,
        reason: None,
        outcome: None,
    }
}

pub(crate) struct Case {
    pub(crate) state: State,
    pub(crate) readings: Vec<InstanceReading>,
    pub(crate) names: Vec<NodeName>,
    pub(crate) now: Timestamp,
}

pub(crate) fn case(stands: &[Stand], policy: &QuorumPolicy, spare: u32) -> Case {
    let now = START.plus(DurationMs::from_secs(100));
    let mut state = State { clock: now, ..State::default() };
    let declared = Service {
        spec: spec("ledger"),
        created_at: START,
        revision: Revision(1),
        releases: vec![],
        configs: std::collections::BTreeMap::new(),
        migrations: vec![],
    };
    state.services.insert(service("ledger"), declared);
    let names: Vec<NodeName> = (1..=stands.len()).map(|n| node(&format!("node{n}"))).collect();
    let mut readings = Vec::new();
    for (number, (name, stand)) in (1_u64..).zip(names.iter().zip(stands)) {
        state.nodes.by_name.insert(name.clone(), host(name, *stand));
        readings.extend(reading(name, *stand, now));
        let work = match stand {
            Stand::UnknownWork => Some(ExecutionState::Unknown),
            Stand::RunningWork => Some(ExecutionState::Running),
            _ => None,
        };
        if let Some(reached) = work {
            let made = execution(name, number, reached);
            state.open.insert(made.id.clone());
            state.executions.insert(made.id.clone(), made);
        }
        if *stand == Stand::ReadBeforeWork {
            state.instances.entry(&instance(name)).disturbed_at = now.minus(DurationMs(6_000));
        }
        if *stand == Stand::Granted {
            let grant = Grant {
                epoch: Epoch(number),
                operation: OperationId::new("r-other").unwrap(),
                step: 0,
                execution: ExecutionId::new("x-g").unwrap(),
                instance: instance(name),
                groups: vec![group("ledger")],
                issued_at: START,
                expires_at: START,
            };
            state.grants.insert(grant.epoch, grant);
        }
    }
    let declared = GroupSpec {
        name: group("ledger"),
        service: service("ledger"),
        voters: names.clone(),
        learners: vec![],
        policy: policy.clone(),
        spare_wanted: spare,
        labels: BTreeMap::new(),
        membership: None,
        failover: None,
    };
    let declared = Group {
        spec: declared,
        created_at: START,
        revision: Revision(1),
        alarm: None,
        pending: None,
        primary: None,
        failovers: vec![],
    };
    state.groups.insert(group("ledger"), declared);
    Case { state, readings, names, now }
}

/// Required, said in another way than the code says it: the smallest number that satisfies the definition.
pub(crate) fn naive_required(policy: &QuorumPolicy, voters: u32) -> u32 {
    (0..=voters + 10)
        .find(|k| match policy {
            QuorumPolicy::Majority => 2 * k > voters,
            QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds } => 3 * k >= 2 * voters,
            QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne } => 3 * k > 2 * voters,
            QuorumPolicy::MinAvailable { count } => k >= count,
            QuorumPolicy::MinAvailablePercent { percent } => 100 * k >= percent * voters,
            QuorumPolicy::PrimaryStandby => *k == 1,
            QuorumPolicy::None => true,
        })
        .unwrap()
}

fn policies() -> impl Strategy<Value = QuorumPolicy> {
    prop_oneof![
        Just(QuorumPolicy::Majority),
        Just(QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds }),
        Just(QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne }),
        (1_u32..=9).prop_map(|count| QuorumPolicy::MinAvailable { count }),
        (1_u32..=100).prop_map(|percent| QuorumPolicy::MinAvailablePercent { percent }),
        Just(QuorumPolicy::PrimaryStandby),
        Just(QuorumPolicy::None),
    ]
}

fn stands() -> impl Strategy<Value = Vec<Stand>> {
    // Half of them up, or hardly any case would be allowed.
    let one = prop_oneof![Just(Stand::Up), proptest::sample::select(STANDS.to_vec())];
    proptest::collection::vec(one, 1..=9)
}

/// A fresh reading shows that it does not serve or has no vote, or its budget is paid. What only lacks a proof of its health
/// may serve all the same.
fn is_spent(stand: Stand) -> bool {
    use Stand::{Failed, Failing, Granted, Learning, Starting, Stopped};
    matches!(stand, Failed | Failing | Granted | Learning | Starting | Stopped)
}

fn is_ours(stand: Stand) -> bool {
    matches!(stand, Stand::Granted | Stand::UnknownWork | Stand::RunningWork)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn disturb_allows_exactly_what_the_naive_model_allows(
        policy in policies(), stands in stands(), picks in 0_u32..512, spare in 0_u32..3, limit in 0_u32..10,
    ) {
        let case = case(&stands, &policy, spare);
        let picked = |i: usize| picks >> i & 1 == 1;
        let nodes: Vec<NodeName> =
            case.names.iter().enumerate().filter(|(i, _)| picked(*i)).map(|(_, n)| n.clone()).collect();
        let limit = (limit > 0).then_some(limit);
        let ask = Ask { doing: "restarting", operation: None, max_unavailable: limit, needs: None };
        let evidence = Evidence::from_readings(&case.readings);
        let declared = &case.state.groups[&group("ledger")];
        let refusal = disturb(&case.state, declared, &nodes, &ask, &evidence, case.now);

        let voters = u32::try_from(stands.len()).unwrap();
        let up: Vec<usize> = (0..stands.len()).filter(|i| stands[*i] == Stand::Up).collect();
        let left = up.iter().filter(|i| !picked(**i)).count();
        let touches_up = (0..stands.len()).any(|i| picked(i) && !is_spent(stands[i]));
        let needed = usize::try_from(naive_required(&policy, voters) + spare).unwrap();
        let ours = (0..stands.len()).filter(|i| is_ours(stands[*i])).count();
        let fresh = (0..stands.len()).filter(|i| picked(*i) && !is_ours(stands[*i])).count();
        let over = limit.is_some_and(|limit| fresh > 0 && ours + fresh > usize::try_from(limit).unwrap());
        let margin = touches_up && left < needed;
        let pair = policy == QuorumPolicy::PrimaryStandby;

        let reason = refusal.as_ref().map(quorate_model::Refusal::reason);
        if over {
            prop_assert_eq!(reason, Some(Reason::MaxUnavailable));
        } else if pair {
            prop_assert_eq!(reason, Some(Reason::PrimaryLease));
        } else if margin {
            prop_assert!(matches!(reason, Some(Reason::QuorumMargin | Reason::EvidenceStale)), "{:?}", refusal);
        } else {
            prop_assert_eq!(reason, None);
        }

        let stand = availability(&case.state, declared, &evidence, case.now);
        prop_assert_eq!(usize::try_from(stand.up).unwrap(), up.len());
        prop_assert_eq!(stand.required, naive_required(&policy, voters));
        let check = &check_down(&case.state, &nodes, &evidence, case.now)[0];
        prop_assert_eq!(usize::try_from(check.available).unwrap(), left);
    }

    #[test]
    fn two_grants_one_after_the_other_never_cost_more_than_both_at_once(
        policy in policies(), stands in stands(), first in 0_usize..9, second in 0_usize..9,
    ) {
        let mut case = case(&stands, &policy, 0);
        let (first, second) = (first % stands.len(), second % stands.len());
        let ask = Ask { doing: "restarting", operation: None, max_unavailable: None, needs: None };
        let readings = case.readings.clone();
        let evidence = Evidence::from_readings(&readings);
        for pick in [first, second] {
            let name = case.names[pick].clone();
            let declared = case.state.groups[&group("ledger")].clone();
            let before = availability(&case.state, &declared, &evidence, case.now);
            let nodes = [name.clone()];
            if disturb(&case.state, &declared, &nodes, &ask, &evidence, case.now).is_none() {
                let made = execution(&name, 100 + u64::try_from(pick).unwrap(), ExecutionState::Pending);
                case.state.open.insert(made.id.clone());
                case.state.executions.insert(made.id.clone(), made);
                let after = availability(&case.state, &declared, &evidence, case.now);
                // By our hand nothing falls below what is required.
                prop_assert!(after.up >= after.required || after.up == before.up);
            }
        }
    }
}

#[test]
fn every_voter_out_for_every_single_cause_is_told_apart() {
    for stand in STANDS {
        let case = case(&[Stand::Up, stand, Stand::Up], &QuorumPolicy::Majority, 0);
        let evidence = Evidence::from_readings(&case.readings);
        let found = availability(&case.state, &case.state.groups[&group("ledger")], &evidence, case.now);
        assert_eq!(found.voters[1].is_available(), stand == Stand::Up, "{stand:?}");
        assert_eq!(found.voters[1].ours, is_ours(stand), "{stand:?}");
        assert_eq!(found.voters[1].spent, is_spent(stand), "{stand:?}");
    }
}
