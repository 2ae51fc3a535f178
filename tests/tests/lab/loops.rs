//! The runbooks' loops beside ours, on the same hosts: how many members serve, asked ten times a second.
//!
//! What was found in them when they were read is shown here: X1, X5, X6 and X20 of the list in `tests/README.md`.
//!
//! The loops are those of guide S2 (key rotation, lines 211-213; rolling upgrade, 413-431) and S5 (rolling update, 711-734),
//! word for word where they act. A second of a guide takes a twentieth here: `sleep` is a program on the path that divides,
//! and the sample is back after 2 s where the guide's is after 30 to 60. What the guides leave open (`sudo`, the load
//! balancer's commands) is filled in by the plainest thing that works.

use std::time::{Duration, Instant};

use quorate_tests::cluster::{Poll, Tally};
use quorate_tests::lab::{DATA, LabFleet, Sample, VOTERS};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);

/// S2: new keys are in the configuration, restart everybody.
const ROTATE_KEYS: &str = "
for node in node{1..3}; do
  ssh $node 'sudo systemctl restart scribe-node'
done
";

/// S2: one node at a time.
const UPGRADE: &str = "
for node in node{1..3}; do
  echo \"Upgrading $node...\"
  scp target/release/scribe-node $node:/tmp/
  ssh $node 'sudo systemctl stop scribe-node && \\
             sudo cp /tmp/scribe-node /usr/local/bin/ && \\
             sudo systemctl start scribe-node'
  sleep 60
  curl http://$node:8001/health
  echo \"$node upgraded successfully\"
done
";

/// S5: out of the load balancer, update, back in.
const UPDATE: &str = "
SERVERS=(\"node1\" \"node2\" \"node3\")
LOAD_BALANCER=\"lb.example.com\"
for server in \"${SERVERS[@]}\"; do
    echo \"Updating $server\"
    remove_from_lb $LOAD_BALANCER $server
    sleep 60
    ssh $server \"sudo systemctl stop network_service\"
    ssh $server \"sudo apt-get update && sudo apt-get upgrade network-system\"
    ssh $server \"sudo systemctl start network_service\"
    wait_for_health $server
    add_to_lb $LOAD_BALANCER $server
    sleep 120
done
";

/// What S5's functions are taken to be: a file of servers in use, and a health check with a limit.
const FUNCTIONS: &str = "
remove_from_lb() { sed -i \"/^$2\\$/d\" /root/pool; }
add_to_lb() { echo \"$2\" >> /root/pool; }
wait_for_health() { for i in $(seq 30); do curl -fsS -o /dev/null http://$1:8001/health && return 0; sleep 2; done; return 1; }
";

/// One row of the table.
struct Row {
    what: &'static str,
    code: i32,
    said: String,
    /// All that it printed.
    output: String,
    tally: Tally,
    took: Duration,
}

impl Row {
    fn print(&self) {
        println!(
            "  {:44} exit {:3}  fewest serving {}  looks below 2: {:3} of {:4}  {:5.1} s  {}",
            self.what,
            self.code,
            self.tally.fewest.unwrap_or_default(),
            self.tally.short,
            self.tally.looks,
            self.took.as_secs_f32(),
            self.said
        );
    }
}

pub(crate) fn beside_ours(fleet: &LabFleet) {
    prepare(fleet);
    let keys = theirs(fleet, "S2 key rotation", ROTATE_KEYS);
    let keys_ours = ours(fleet, "ours, the same change");
    let good = theirs(fleet, "S2 rolling upgrade, good version", UPGRADE);
    let update = theirs(fleet, "S5 rolling update, good version", UPDATE);
    break_next_start(fleet, true);
    // Nor is there anything to copy: the build before the loop has failed.
    let _ = fleet.host("coord1").run("rm /root/target/release/scribe-node").expect(0);
    let broken = theirs(fleet, "S2 rolling upgrade, bad version", UPGRADE);
    mend(fleet);
    break_next_start(fleet, true);
    let broken_update = theirs(fleet, "S5 rolling update, bad version", UPDATE);
    let pool = fleet.host("coord1").run("cat /root/pool").stdout;
    mend(fleet);
    break_next_start(fleet, true);
    let broken_ours = ours(fleet, "ours, bad version");
    mend(fleet);
    for row in [&keys, &keys_ours, &good, &update, &broken, &broken_update, &broken_ours] {
        row.print();
    }
    for row in [&keys, &broken, &broken_update] {
        assert!(!row.tally.below.is_empty(), "{} was expected to lose quorum", row.what);
        assert_eq!(row.code, 0, "{} was expected to report success", row.what);
    }
    // X6: it goes on after what failed; X5: a health check that answers 503 is a success.
    for told in ["No such file", "upgraded successfully"] {
        let count = broken.output.matches(told).count();
        assert_eq!(count, VOTERS.len(), "{told}: {}", broken.output);
    }
    // X20: a server whose health check failed is back in the pool, and the next one is taken.
    assert!(broken_update.output.contains("error: 503"), "{}", broken_update.output);
    assert_eq!(pool.lines().count(), VOTERS.len(), "{pool}");
    // X1 and all of them: ours never below two, and a failure is told.
    keys_ours.tally.assert_quorum();
    assert_eq!(keys_ours.code, 0, "{}", keys_ours.said);
    broken_ours.tally.assert_quorum();
    assert_ne!(broken_ours.code, 0, "a bad version is not reported as done: {}", broken_ours.said);
    fleet.calm();
}

/// What the guides have at hand: bash, sudo, a built program, a pool; and seconds that are a twentieth as long.
fn prepare(fleet: &LabFleet) {
    fleet.calm();
    let desk = fleet.host("coord1");
    let divided = format!(
        "#!/bin/sh\nexec /usr/bin/sleep \"$(echo \"$1\" | awk '{{ print $1 * {} / 1000 }}')\"\n",
        Sample::SCALE
    );
    desk.write("/root/bin/sleep", divided, 0o755);
    desk.write("/root/target/release/scribe-node", "#!/bin/sh\n", 0o755);
    desk.write("/root/pool", VOTERS.map(|node| format!("{node}\n")).concat(), 0o644);
    for node in VOTERS {
        fleet.host(node).write("/usr/bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755);
    }
}

fn theirs(fleet: &LabFleet, what: &'static str, script: &str) -> Row {
    fleet.calm();
    let desk = fleet.host("coord1");
    desk.write("/root/loop.sh", format!("{FUNCTIONS}{script}"), 0o755);
    let poll = Poll::begin(fleet.instances());
    let begun = Instant::now();
    let answer = desk.run("cd /root && PATH=/root/bin:$PATH bash loop.sh 2>&1");
    let took = begun.elapsed();
    let said = answer.stdout.lines().rev().find(|line| line.contains("success") || line.contains("Updating"));
    let said = said.unwrap_or_default().to_owned();
    Row { what, code: answer.code, said, output: answer.stdout, tally: poll.end(), took }
}

fn ours(fleet: &LabFleet, what: &'static str) -> Row {
    fleet.calm();
    let poll = Poll::begin(fleet.instances());
    let begun = Instant::now();
    let answer =
        fleet.quorate("rollout start --restart ledger --gate-timeout 30s --wait --yes --timeout 200s");
    let took = begun.elapsed();
    let said = answer.stderr.lines().chain(answer.stdout.lines()).next().unwrap_or_default().to_owned();
    Row { what, code: answer.code, said, output: answer.stdout, tally: poll.end(), took }
}

/// From their next start on, members answer 503 for ever: what a bad version does.
fn break_next_start(fleet: &LabFleet, broken: bool) {
    for node in VOTERS {
        Sample::misbehave(fleet.lab(), node, broken.then_some("slow_start_ms = 3600000"));
    }
}

/// The good version again, everywhere at once: the test's own hand.
fn mend(fleet: &LabFleet) {
    break_next_start(fleet, false);
    for node in VOTERS {
        let _ = fleet.host(node).run("systemctl restart ledger").expect(0);
    }
    wait_for("the sample to serve again", LIMIT, || {
        let serving = quorate_tests::cluster::serving(&fleet.instances());
        if serving.len() == VOTERS.len() { Ok(()) } else { Err(format!("{serving:?} ({DATA})")) }
    });
    fleet.calm();
}
