//! A coordinator's log is gone: what the guide says brings it back.

use std::time::Duration;

use quorate_tests::cluster::Poll;
use quorate_tests::lab::LabFleet;
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);
/// The member that the guide speaks of.
const LOST: &str = "coord3";

pub(crate) fn a_coordinators_log(fleet: &LabFleet) {
    fleet.calm();
    let host = fleet.host(LOST);
    let poll = Poll::begin(fleet.instances());
    let _ =
        host.run("systemctl stop quorate-coordinator && rm -rf /var/lib/quorate/coordinator/raft").expect(0);
    let _ = host.run("systemctl start --no-block quorate-coordinator").expect(0);
    let said = wait_for("the member to say what it lost", LIMIT, || {
        let status = host.run("systemctl show quorate-coordinator --property=ExecMainStatus --value").stdout;
        let said =
            host.run("journalctl --no-pager --output=cat --unit=quorate-coordinator --lines=30").stdout;
        if status.trim() == "74" && said.contains("rejoin") {
            Ok(said)
        } else {
            Err(format!("{status} {said}"))
        }
    });
    println!("  {}", said.lines().find(|line| line.contains("rejoin")).unwrap_or_default());
    let _ = host.run("systemctl stop quorate-coordinator").expect(0);
    let _ = fleet.quorate_shell(&fleet.guide.shown("rejoin --token-file").script).expect(0);
    fleet.calm();
    let id = fleet.begin("rollout start --restart ledger");
    assert_eq!(fleet.ended(&id, LIMIT)["state"], "SUCCEEDED");
    let tally = poll.end();
    println!("  whole again, and a restart; {} looks, fewest {:?}", tally.looks, tally.fewest);
    tally.assert_quorum();
    fleet.calm();
}
