//! Leases of primaries: never two that are not over, and nothing disturbed that one rests on.

use quorate_core::command::{Command, DeclaredCommand, LeaseCommand};
use quorate_core::safety::failover::{Suspicion, suspicion};
use quorate_core::safety::{Ask, Evidence, disturb};
use quorate_core::state::{Group, PrimaryLease};
use quorate_core::{Answer, State};
use quorate_model::{
    DurationMs, Epoch, FailoverSpec, HookName, InstanceId, InstanceRole, LeaseState, LeaseTimes, NodeName,
    OperationId, QuorumPolicy, Reason,
};

use crate::agents::Fleet;
use crate::budget::{STANDS, Stand, case};
use crate::world::{World, group, node, service, spec};

const TTL: DurationMs = DurationMs::from_secs(6);

fn failover(automatic: bool) -> FailoverSpec {
    FailoverSpec {
        ttl: TTL,
        promote: HookName::new("promote").unwrap(),
        switch: None,
        rejoin: None,
        timeout: DurationMs::from_secs(20),
        automatic,
        max_lag: 50,
        hold_down: DurationMs::from_secs(60),
    }
}

fn declared(world: &mut World) {
    world.fleet(2);
    world.declare(spec("ledger"));
    world.group("ledger", "ledger", QuorumPolicy::PrimaryStandby, &["node1", "node2"]);
    let mut spec = world.state.groups[&group("ledger")].spec.clone();
    spec.failover = Some(failover(true));
    world.must(Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None })));
}

fn steps(first: Epoch) -> Vec<LeaseCommand> {
    let name = || group("ledger");
    let enough = LeaseTimes::of(TTL).silence();
    let little = DurationMs(enough.0 - 1);
    let expire = |epoch, lead, silent_for, leads_for| LeaseCommand::Expire {
        group: name(),
        epoch,
        lead,
        silent_for,
        leads_for,
    };
    let second = Epoch(first.0 + 1);
    vec![
        LeaseCommand::Lead { lead: 1 },
        LeaseCommand::Lead { lead: 2 },
        LeaseCommand::Adopt { group: name(), node: node("node1") },
        LeaseCommand::Adopt { group: name(), node: node("node2") },
        LeaseCommand::Confirm { group: name(), epoch: first },
        LeaseCommand::Confirm { group: name(), epoch: second },
        LeaseCommand::Release { group: name(), epoch: first, message: String::new() },
        expire(first, 1, enough, enough),
        expire(first, 1, little, enough),
        expire(first, 1, enough, little),
        expire(second, 1, enough, enough),
    ]
}

/// What an entry may have made of a lease.
fn judge(before: &State, after: &State, command: &LeaseCommand, answer: &Answer) {
    let lease = |state: &State| state.groups[&group("ledger")].primary.clone();
    let (old, new) = (lease(before), lease(after));
    if answer.refusal().is_some() {
        assert_eq!(old, new, "{command:?} was refused and changed something");
    }
    let epochs = (old.as_ref().map(|l| l.epoch), new.as_ref().map(|l| l.epoch));
    if epochs.0 != epochs.1 {
        assert!(old.as_ref().is_none_or(|l| l.state.is_over()), "{command:?} made a second lease");
        assert!(epochs.0 < epochs.1, "{command:?} went back");
    }
    let (Some(old), Some(new)) = (old, new) else { return };
    assert!(!old.state.is_over() || new.state.is_over(), "{command:?} brought a lease back that was over");
    if new.state == LeaseState::Expired && old.state != LeaseState::Expired {
        let LeaseCommand::Expire { epoch, lead, silent_for, leads_for, .. } = command else { panic!() };
        let needed = LeaseTimes::of(TTL).silence();
        assert!(*silent_for >= needed && *leads_for >= needed && *lead == before.cluster.lease_lead);
        assert!(*epoch == old.epoch && (!old.adopted || old.state == LeaseState::Held));
    }
}

/// Every sequence of four entries.
#[test]
fn at_most_one_lease_of_a_group_is_not_over() {
    let mut world = World::new();
    declared(&mut world);
    let all = steps(Epoch(world.state.epoch.0 + 1));
    world.system(Command::Lease(LeaseCommand::Lead { lead: 1 }));
    let (mut expired, mut refused) = (0, 0);
    let mut front = vec![(world.state.clone(), 0)];
    while let Some((state, depth)) = front.pop() {
        if depth == 4 {
            continue;
        }
        for command in &all {
            let mut after = state.clone();
            let entry = quorate_core::command::Entry::system(world.now, Command::Lease(command.clone()));
            let answer = quorate_core::apply(&mut after, world.index + depth + 1, &entry);
            judge(&state, &after, command, &answer);
            let stands = after.groups[&group("ledger")].primary.as_ref().map(|l| l.state);
            expired += u32::from(stands == Some(LeaseState::Expired));
            refused += u32::from(answer.refusal().is_some());
            front.push((after, depth + 1));
        }
    }
    assert!(expired > 10 && refused > 10, "{expired} expired, {refused} refused");
}

fn lease(on: &NodeName, state: LeaseState, recalled: bool) -> PrimaryLease {
    PrimaryLease {
        node: on.clone(),
        epoch: Epoch(1),
        ttl: TTL,
        state,
        since: crate::world::START,
        granted_at: crate::world::START,
        adopted: true,
        recalled: recalled.then(|| OperationId::new("r-1").unwrap()),
        message: String::new(),
    }
}

/// However both stand: who holds the role is never disturbed, the standby only while it is held for certain by one that serves.
#[test]
fn a_standby_is_disturbed_only_under_a_primary_that_serves() {
    let mut allowed = 0;
    let states = [LeaseState::Requested, LeaseState::Held, LeaseState::Released, LeaseState::Expired];
    for (primary, standby) in STANDS.iter().flat_map(|p| STANDS.iter().map(move |s| (*p, *s))) {
        for (state, recalled, leads) in states
            .into_iter()
            .flat_map(|state| [(state, false, true), (state, true, true), (state, false, false)])
        {
            let mut case = case(&[primary, standby], &QuorumPolicy::PrimaryStandby, 0);
            let names = case.names.clone();
            let held: &mut Group = case.state.groups.get_mut(&group("ledger")).unwrap();
            held.spec.failover = Some(failover(true));
            held.primary = Some(lease(&names[0], state, recalled));
            for reading in case.readings.iter_mut().filter(|r| leads && r.instance.node == names[0]) {
                reading.role = InstanceRole::Primary;
            }
            let evidence = Evidence::from_readings(&case.readings);
            let ask = Ask { doing: "restarting", operation: None, max_unavailable: None, needs: None };
            let pair = &case.state.groups[&group("ledger")];
            let refused = |nodes: &[NodeName]| disturb(&case.state, pair, nodes, &ask, &evidence, case.now);
            for nodes in [&names[..1], &names[..]] {
                let reason = refused(nodes).map(|refusal| refusal.reason());
                assert_eq!(reason, Some(Reason::PrimaryLease), "{primary:?} {standby:?} {state} {nodes:?}");
            }
            // Whoever is told to be learning is told to lead here: nothing is left to tell it from one that is up.
            let up = matches!(primary, Stand::Up | Stand::Learning);
            let safe = state == LeaseState::Held && !recalled && leads && up;
            assert_eq!(refused(&names[1..]).is_none(), safe, "{primary:?} {standby:?} {state} {leads}");
            allowed += u32::from(safe);
        }
    }
    assert!(allowed > 0, "nothing was ever allowed");
}

/// A pair whose first node leads under a lease, in a fleet that is calm.
fn calm() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(2);
    fleet.world.declare(spec("ledger"));
    fleet.bring_up("ledger");
    fleet.leases.primaries.insert(node("node1"));
    fleet.world.group("ledger", "ledger", QuorumPolicy::PrimaryStandby, &["node1", "node2"]);
    let mut spec = fleet.world.state.groups[&group("ledger")].spec.clone();
    spec.failover = Some(failover(true));
    fleet.world.must(Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None })));
    fleet.lead();
    for _ in 0..80 {
        fleet.tick();
    }
    let held = fleet.world.state.groups[&group("ledger")].primary.as_ref().map(|l| l.state);
    assert_eq!(held, Some(LeaseState::Held));
    fleet
}

fn suspected(fleet: &Fleet) -> Suspicion {
    let world = &fleet.world;
    suspicion(&world.state, &world.obs, &world.state.groups[&group("ledger")], world.now)
}

/// Its own probe fails, and another node's.
fn failing(fleet: &mut Fleet, own: bool, peer: bool) {
    let id = InstanceId { node: node("node1"), service: service("ledger") };
    for reading in &mut fleet.world.obs.instances.get_mut(&id).unwrap().probes {
        let fails = if reading.from == node("node1") { own } else { peer };
        reading.ok = !fails;
        reading.failures = if fails { 2 } else { 0 };
    }
}

#[test]
fn one_view_is_a_suspicion_and_two_are_enough() {
    let mut fleet = calm();
    for (own, peer) in [(false, false), (true, false), (false, true), (true, true)] {
        failing(&mut fleet, own, peer);
        match suspected(&fleet) {
            Suspicion::None => assert!(!own && !peer),
            Suspicion::Suspected { .. } => assert!(own != peer),
            Suspicion::Confirmed { .. } => assert!(own && peer),
        }
    }
}

#[test]
fn a_change_of_leader_is_no_suspicion_and_an_agent_that_is_away_no_more_than_one() {
    let mut fleet = calm();
    fleet.change_leader();
    assert_eq!(suspected(&fleet), Suspicion::None);
    fleet.tick();
    assert_eq!(suspected(&fleet), Suspicion::None);
    let mut fleet = calm();
    fleet.mischief.deaf.insert(node("node1"));
    let mut seen = Vec::new();
    for _ in 0..10 {
        fleet.tick();
        seen.push(suspected(&fleet));
    }
    assert!(!seen.iter().any(|s| matches!(s, Suspicion::Confirmed { .. })), "{seen:?}");
}
