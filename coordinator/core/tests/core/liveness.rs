//! How soon a dead node is noticed, by how its limits are set, and that a change of leader is no death.

use quorate_core::command::{ClusterCommand, Command};
use quorate_model::{DurationMs, NodeStatus, Timestamp};

use crate::agents::{Fleet, TICK_MS};
use crate::world::{node, policy, spec};

fn fleet(disconnected_after: DurationMs, down_after: DurationMs) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(3);
    fleet.world.declare(spec("ledger"));
    fleet.bring_up("ledger");
    let mut settings = fleet.world.state.settings.clone();
    settings.disconnected_after = disconnected_after;
    settings.down_after = down_after;
    fleet.world.must(Command::Cluster(ClusterCommand::SetSettings { settings }));
    fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    fleet
}

fn status(fleet: &Fleet) -> NodeStatus {
    fleet.world.state.nodes.by_name[&node("node2")].status
}

/// Every status of the node from its last heartbeat on, and how long after it.
fn noticed(fleet: &mut Fleet, span: DurationMs) -> Vec<(NodeStatus, DurationMs)> {
    let silent: Timestamp = fleet.world.now;
    fleet.mischief.deaf.insert(node("node2"));
    let mut seen = vec![(status(fleet), DurationMs::ZERO)];
    for _ in 0..span.0 / TICK_MS {
        fleet.tick();
        let now = status(fleet);
        if seen.last().is_some_and(|(last, _)| *last != now) {
            seen.push((now, fleet.world.now.since(silent)));
        }
    }
    seen
}

#[test]
fn a_dead_node_is_noticed_in_ten_seconds() {
    let mut fleet = fleet(DurationMs(3_000), DurationMs(10_000));
    assert_eq!(
        noticed(&mut fleet, DurationMs::from_secs(30)),
        [
            (NodeStatus::Ready, DurationMs::ZERO),
            (NodeStatus::Disconnected, DurationMs(3_000)),
            (NodeStatus::Down, DurationMs(10_000)),
        ]
    );
}

#[test]
fn tuned_it_is_noticed_in_three() {
    let mut fleet = fleet(DurationMs(1_500), DurationMs(3_000));
    assert_eq!(
        noticed(&mut fleet, DurationMs::from_secs(30)),
        [
            (NodeStatus::Ready, DurationMs::ZERO),
            (NodeStatus::Disconnected, DurationMs(1_500)),
            (NodeStatus::Down, DurationMs(3_000)),
        ]
    );
}

/// Each new leader hears nobody for almost as long as a node may be silent, one after another.
#[test]
fn leaders_that_change_again_and_again_miss_nobody() {
    for (disconnected, down) in [(3_000, 10_000), (1_500, 3_000)] {
        let mut fleet = fleet(DurationMs(disconnected), DurationMs(down));
        let before = fleet.world.state.audit.head.seq;
        for _ in 0..10 {
            fleet.change_leader();
            let everybody = ["node1", "node2", "node3"].map(node);
            fleet.mischief.deaf.extend(everybody);
            for _ in 0..(disconnected - 1) / TICK_MS {
                fleet.tick();
                assert_eq!(status(&fleet), NodeStatus::Ready);
            }
            fleet.mischief.deaf.clear();
            fleet.tick();
        }
        let told = fleet.world.state.audit.records.iter().filter(|r| r.seq > before);
        let told: Vec<&str> = told.map(|r| r.what.action.as_str()).collect();
        let noticed = ["node.set_status", "alarm.set", "instance.transition"];
        assert!(!told.iter().any(|action| noticed.contains(action)), "{told:?}");
    }
}
