//! The clock of a voter's host jumps while its group is restarted.

use std::time::Duration;

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{LabFleet, VOTERS};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);
const HOUR: i64 = 3_600;

/// An hour back is before every certificate of this fleet was made, an hour ahead is after the end of all of them, a year
/// ahead is after that of the authority's current members too.
pub(crate) fn jumps_on_a_voters_host(fleet: &LabFleet) {
    let node = VOTERS[1];
    let host = fleet.host(node);
    host.loosen_clock(true);
    for seconds in [-HOUR, HOUR, 365 * 24 * HOUR] {
        fleet.calm();
        let before = fleet.starts();
        let poll = Poll::begin(fleet.instances());
        // Its agent was just started, or its clock was wrong: that it serves has to be seen first.
        let id = wait_for("the rollout to be accepted", LIMIT, || {
            let begun = fleet.quorate("rollout start --restart ledger --yes --detach -o json");
            if begun.code != 0 {
                return Err(begun.stderr);
            }
            let name = begun.json()["name"].as_str().unwrap_or_default().to_owned();
            Ok(name.rsplit('/').next().unwrap_or(&name).to_owned())
        });
        wait_for("the first restart", LIMIT, || {
            let starts = fleet.starts();
            if starts == before { Err(format!("{starts:?}")) } else { Ok(()) }
        });
        let cursor = host.journal_now("quorate-agent");
        host.turn_clock(seconds);
        // The agent has to show that it still works, or the fleet that it does not: its session is opened again.
        let _ = host.run("systemctl restart quorate-agent --no-block").expect(0);
        let meanwhile = wait_for("the fleet to see it", LIMIT, || {
            let node = fleet.json(&format!("node show {node}"));
            let operation = fleet.operation(&id);
            let state = operation["state"].as_str().unwrap_or_default().to_owned();
            let status = node["status"].as_str().unwrap_or_default().to_owned();
            if status == "DOWN" || state == "SUCCEEDED" {
                Ok((status, state))
            } else {
                Err(format!("{status} {state}"))
            }
        });
        if seconds > 0 {
            // By this clock everything has ended, and it says so: the clock is really turned.
            wait_for("the agent to see another time", LIMIT, || {
                let said = host.said_since("quorate-agent", &cursor);
                if said.contains("the certificate has ended") { Ok(()) } else { Err(said) }
            });
        }
        host.turn_clock(0);
        let ended = fleet.ended(&id, LIMIT);
        let tally = poll.end();
        println!(
            "  {seconds:+} s: {} and {} meanwhile; {} with the clock right again; {} looks, fewest {:?}",
            meanwhile.0, meanwhile.1, ended["state"], tally.looks, tally.fewest
        );
        tally.assert_quorum();
        assert!(["SUCCEEDED", "FAILED"].iter().any(|state| ended["state"] == *state), "{ended:#}");
        assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
        for (name, starts) in fleet.starts() {
            assert!(starts <= before[&name] + 1, "{name} was restarted {} times", starts - before[&name]);
        }
    }
    host.loosen_clock(false);
    fleet.calm();
}
