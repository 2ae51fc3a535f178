use super::*;

fn step(node: &str, wave: u32, index: u32, kind: v1::StepKind, state: v1::StepState) -> v1::Step {
    let at =
        |seconds| (state != v1::StepState::Pending).then_some(prost_types::Timestamp { seconds, nanos: 0 });
    let ended = if state == v1::StepState::Succeeded { at(40) } else { None };
    v1::Step {
        node: node.into(),
        wave,
        index,
        kind: kind.into(),
        state: state.into(),
        started: at(8),
        ended,
        ..v1::Step::default()
    }
}

fn reading(ok: bool, detail: &str) -> v1::GateReading {
    v1::GateReading {
        probe: "lag".into(),
        from: "node2".into(),
        ok,
        detail: detail.into(),
        ..Default::default()
    }
}

fn half_way() -> v1::Operation {
    use v1::StepKind::{Gate, Restart};
    use v1::StepState::{Pending, Running, Succeeded};
    let mut steps = vec![
        step("node3", 1, 0, Restart, Succeeded),
        step("node3", 1, 1, Gate, Succeeded),
        step("node1", 2, 2, Restart, Succeeded),
        step("node1", 2, 3, Gate, Running),
        step("node2", 3, 4, Restart, Pending),
        step("node2", 3, 5, Gate, Pending),
    ];
    steps[1].readings = vec![reading(true, ""), reading(true, "")];
    steps[3].readings = vec![reading(true, ""), reading(false, "lag 31")];
    let mut operation = v1::Operation {
        name: "operations/r-7f3a".into(),
        title: "rolling restart of ledger".into(),
        group: "ledger".into(),
        waves: 3,
        current_wave: 2,
        steps,
        ..Default::default()
    };
    operation.set_state(v1::OperationState::Running);
    operation
}

fn group() -> v1::Group {
    let mut leader = v1::GroupMember { node: "node2".into(), ..Default::default() };
    leader.set_role(v1::InstanceRole::Leader);
    v1::Group {
        name: "ledger".into(),
        voters: 3,
        available: 2,
        required: 2,
        margin: 0,
        members: vec![leader],
        ..Default::default()
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Without the widths of columns, which times that go on change.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_watch_has_the_quorum_and_one_row_a_node() {
    let text = plain(&detail(&half_way(), Some(&group()), false));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("r-7f3a  Rolling restart of ledger   ● Running   wave 2 of 3"), "{text}");
    assert_eq!(lines[1], "ledger  ●●○  2 of 3 up, needs 2, spare 0");
    assert_eq!(words(lines[3]), "node3 1 ✔ Done - 32s 2 of 2 gates passed");
    assert!(words(lines[4]).starts_with("node1 2 ● Running gates (2 of 2) "), "{text}");
    assert!(lines[4].ends_with("1 of 2 pass; lag from node2: lag 31"), "{text}");
    assert_eq!(words(lines[5]), "node2 3 ○ Waiting - - leader, goes last");
    assert_eq!(lines.len(), 6, "{text}");
}

#[test]
fn a_failed_step_is_what_its_node_shows() {
    let mut operation = half_way();
    operation.steps[3].set_state(v1::StepState::Failed);
    operation.steps[3].message = "not serving after 5m".into();
    operation.set_state(v1::OperationState::Failed);
    let text = plain(&detail(&operation, None, false));
    assert!(words(&text).contains("node1 2 ✘ Failed gates (2 of 2)"), "{text}");
    assert!(words(&text).contains("not serving after 5m node2 3 ○ Not done - - -"), "{text}");
}

#[test]
fn why_it_waits_stands_under_the_head() {
    let mut operation = half_way();
    operation.conditions = vec![v1::Condition {
        r#type: "Blocked".into(),
        reason: "QUORUM_MARGIN".into(),
        message: "node3 is out".into(),
        ..Default::default()
    }];
    let text = plain(&detail(&operation, None, false));
    assert_eq!(text.lines().nth(1), Some("! Blocked QUORUM_MARGIN: node3 is out"));
    assert!(plain(&log_line(&operation)).ends_with("! Blocked QUORUM_MARGIN: node3 is out"));
}

#[test]
fn text_from_a_host_cannot_drive_the_terminal() {
    let mut operation = half_way();
    operation.steps[3].readings[1].detail = "\u{1b}[2Jlag".into();
    assert!(!plain(&detail(&operation, None, true)).contains('\u{1b}'));
}

#[test]
fn a_gate_without_readings_says_how_its_member_stands() {
    let mut operation = half_way();
    operation.steps[3].readings.clear();
    let mut lagging = v1::GroupMember { node: "node1".into(), ..Default::default() };
    lagging.set_observed(v1::InstanceState::Soaking);
    lagging.set_sync(v1::InstanceSync::Lagging);
    let group = v1::Group { members: vec![lagging], ..group() };
    assert!(plain(&detail(&operation, Some(&group), false)).contains("soaking, lagging"));
}
