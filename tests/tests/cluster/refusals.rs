//! One voter is out already: what would take another one is refused before anything changes.

use quorate_tests::cluster::Fleet;

pub(crate) fn a_stopped_voter_blocks_the_others(fleet: &Fleet) {
    fleet.calm();
    let _ = fleet.quorate(&["service", "stop", "ledger", "--node", "node2", "--wait", "--yes"]).expect(0);
    let starts = fleet.starts();
    let operations = fleet.json(&["operation", "list"])["operations"].as_array().map_or(0, Vec::len);
    let rolling: &[&str] = &["rollout", "start", "--restart", "ledger", "--wait", "--yes"];
    let single: &[&str] = &["service", "restart", "ledger", "--node", "node1", "--wait", "--yes"];
    let stop: &[&str] = &["service", "stop", "ledger", "--node", "node3", "--wait", "--yes"];
    for (args, verb) in [(rolling, "restarting"), (single, "restarting"), (stop, "stopping")] {
        let refused = fleet.quorate(args).expect(3);
        let lines: Vec<&str> = refused.stderr.lines().collect();
        let has = |wanted: &str| lines.iter().any(|line| line.contains(wanted));
        assert!(has(&format!("refused: {verb} ledger on ")), "{}", refused.stderr);
        assert!(has("would leave the group without quorum"), "{}", refused.stderr);
        assert!(has("group ledger   3 voters, 2 up, 1 up after this step, needs 2"), "{}", refused.stderr);
        assert!(has("already out    node2 (stopped "), "{}", refused.stderr);
        assert!(has("hint: quorate quorum check --down "), "{}", refused.stderr);
        assert!(has("reason: QUORUM_MARGIN  request: "), "{}", refused.stderr);
        assert_eq!(refused.stdout, "", "a refusal has no answer");
    }
    let after = fleet.json(&["operation", "list"])["operations"].as_array().map_or(0, Vec::len);
    assert_eq!((fleet.starts(), after), (starts.clone(), operations), "nothing was changed");

    // The one that is out costs nothing.
    let _ = fleet.quorate(&["service", "restart", "ledger", "--node", "node2", "--wait", "--yes"]).expect(0);
    assert_eq!(fleet.starts()["node2"], starts["node2"] + 1);
    fleet.calm();

    let _ = fleet.quorate(&["service", "stop", "ledger", "--node", "node2", "--wait", "--yes"]).expect(0);
    let _ = fleet.quorate(&["service", "start", "ledger", "--node", "node2", "--wait", "--yes"]).expect(0);
    assert_eq!(fleet.starts()["node2"], starts["node2"] + 2);
    fleet.calm();
}
