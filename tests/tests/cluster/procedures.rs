//! The guides' own procedures beside ours, on the same processes and under the same fault: where theirs fail in the way that was
//! found when they were read, and ours hold. Those that need systemd and dpkg are in the lab.
//!
//! The commands stand as they are written. Hosts and paths are ours, a second of a guide takes a fortieth, and what a guide
//! leaves open (`sudo`, the load balancer's commands) is filled in by the plainest thing that works.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use quorate_tests::cluster::{Answer, Fleet};
use quorate_tests::wait::wait_for;

use crate::restart::{LIMIT, steps};
use crate::traffic::{Behind, Load};

/// What every shell of a guide has here.
const SHELL: &str = "
sleep() { command sleep \"$(awk \"BEGIN { print $1 / 40 }\")\"; }
sudo() { \"$@\"; }
";

/// S5, 711-720: out of the load balancer, a fixed time, stop. What comes after says nothing of the drain.
const DRAIN: &str = "
SERVERS=(\"node1\")
LOAD_BALANCER=\"lb.example.com\"
for server in \"${SERVERS[@]}\"; do
    echo \"Updating $server\"

    # Remove from load balancer
    remove_from_lb $LOAD_BALANCER $server

    # Wait for connections to drain
    sleep 60

    # Update server
    ssh $server \"sudo systemctl stop network_service\"
done
";

/// The commands that it leaves open: HAProxy's runtime API, and a unit's stop as systemd does it.
const DRAIN_COMMANDS: &str = "
remove_from_lb() { exec 3<>/dev/tcp/$EDGE; echo \"set server ledger/$2 state maint\" >&3; cat <&3; }
ssh() { bash -c \"$2\"; }
systemctl() {
    pid=$(sed -n 's/.* start pid=\\([0-9]*\\) .*/\\1/p' \"$LEDGER_LOG\" | tail -n 1)
    kill -TERM \"$pid\"
    for look in {1..100}; do kill -0 \"$pid\" 2>/dev/null || return 0; command sleep 0.05; done
    return 1
}
export -f sudo systemctl
";

/// S5, 684-700, word for word but for the folder.
const MAINTENANCE: &str = "
# Enable maintenance mode
echo \"true\" > $RUN/maintenance

# Wait for active connections to drain
sleep 30

# Perform maintenance tasks
backup_configuration
update_software
run_migrations
verify_configuration

# Disable maintenance mode
echo \"false\" > $RUN/maintenance

# Verify service health
check_service_health
";

/// Tasks of which one fails and leaves the service down. Each writes down what the application could read then.
const TASKS: &str = "
told() { echo \"$1 $(cat $RUN/maintenance)\" >> $RUN/tasks; }
backup_configuration() { told backup; }
update_software() { told update; return 100; }
run_migrations() { told migrations; }
verify_configuration() { told verify; }
check_service_health() { told health; return 1; }
";

/// Runs a guide's commands to their end.
fn shell(flags: &[&str], script: &str, variables: &[(&str, String)]) -> Answer {
    let mut bash = Command::new("bash");
    bash.args(flags).arg("-c").arg(format!("{SHELL}{script}")).stdin(Stdio::null());
    bash.envs(variables.iter().map(|(name, value)| (name, value)));
    Answer::of(&bash.output().expect("bash runs"))
}

pub(crate) fn x21_a_fixed_wait_cuts_what_is_open_and_a_drain_does_not(_: &Fleet) {
    let behind = Behind::start();
    let (fleet, edge) = (&behind.fleet, &behind.edge);
    let uploads = || {
        let load = Load::slow(edge);
        wait_for("every member to have an upload", LIMIT, || {
            let open = edge.column(4);
            if open.iter().any(|open| open == "0") { Err(open.join(", ")) } else { Ok(()) }
        });
        load
    };
    let load = uploads();
    let edge_at = format!("{}/{}", edge.admin.ip(), edge.admin.port());
    let log = fleet.record()["instances"][0]["log"].as_str().expect("a log").to_owned();
    let variables = [("EDGE", edge_at), ("LEDGER_LOG", log)];
    let guide = shell(&[], &format!("{DRAIN_COMMANDS}{DRAIN}"), &variables).expect(0);
    let (theirs_good, theirs_bad) = load.end();
    assert!(theirs_bad > 0, "the guide's drain was expected to cut what is open: {guide:?}");

    let _ = edge.told("set server ledger/node1 state ready");
    let _ = fleet.quorate(&["service", "start", "ledger", "--node", "node1", "--wait", "--yes"]).expect(0);
    fleet.calm();
    edge.wait_whole();
    let load = uploads();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    let (good, bad) = load.end();
    println!(
        "  uploads cut: {theirs_bad} of {} by the guide, {bad} of {} by ours",
        theirs_good + theirs_bad,
        good + bad
    );
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(steps(&operation, "DRAIN").len(), 3, "{operation:#}");
    assert_eq!(bad, 0, "of {good}");
    assert!(good > 0, "nothing was ever open");
}

fn maintained(flags: &[&str], run: &Path) -> (Answer, Vec<String>, String) {
    let variables = [("RUN", run.display().to_string())];
    let answer = shell(flags, &format!("{TASKS}{MAINTENANCE}"), &variables);
    let read = |name: &str| fs::read_to_string(run.join(name)).expect("the script writes it");
    (answer, read("tasks").lines().map(str::to_owned).collect(), read("maintenance").trim().to_owned())
}

pub(crate) fn x23_maintenance_ends_before_anybody_looks(_: &Fleet) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // As it is written: migrations on what failed to update, and traffic on it before anybody has looked.
    let (answer, tasks, flag) = maintained(&[], dir.path());
    println!("  exit {}, flag {flag}: {}", answer.code, tasks.join(", "));
    assert!(tasks.contains(&"migrations true".to_owned()), "{tasks:?}");
    assert_eq!(tasks.last().map(String::as_str), Some("health false"), "{tasks:?}");
    assert_eq!((answer.code, flag.as_str()), (1, "false"), "in service, and known to be ill");

    // Stopped at the first failure, as careful people run it: nobody is left to end the maintenance.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (answer, tasks, flag) = maintained(&["-e"], dir.path());
    println!("  exit {}, flag {flag}: {}", answer.code, tasks.join(", "));
    assert_eq!((answer.code, flag.as_str()), (100, "true"));
    assert_eq!(tasks, ["backup true", "update true"]);
}
