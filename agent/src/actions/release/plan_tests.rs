//! Every way a change can be found, as a table.

use super::plan::{Flow, Refused, Seen, activate, name, old, revert};
use super::record::{Before, Record, Staged, Switch};

const NEW: &str = "releases/2-b";
const OLD: &str = "releases/1-a";

fn record() -> Record {
    Record::load(std::path::Path::new("/nonexistent"), "/opt/ledger").expect("nothing yet")
}

fn seen(used: Option<&str>, up: bool, run: &str) -> Seen {
    Seen { execution: "x-2".into(), used: used.map(str::to_owned), torn: false, up, run: run.into() }
}

fn last(execution: &str, to: Option<&str>, finished: bool) -> Option<Switch> {
    Some(Switch {
        execution: execution.into(),
        release: "2-b".into(),
        to: to.map(str::to_owned),
        run: "run0".into(),
        finished,
    })
}

fn steps(flow: &Flow) -> (bool, Option<Option<&str>>, bool) {
    (flow.stop, flow.switch.as_ref().map(Option::as_deref), flow.start)
}

#[test]
fn a_name_has_the_version_and_the_first_digits() {
    assert_eq!(name("1.9.2", &"ab".repeat(32)), "1.9.2-abababababab");
}

#[test]
fn a_first_activation_does_everything_and_writes_the_way_back_first() {
    let flow = activate(&seen(Some(OLD), true, "run0"), &record(), "2-b", NEW).unwrap();
    assert_eq!(steps(&flow), (true, Some(Some(NEW)), true));
    assert_eq!(flow.before, Some(Before { used: Some(OLD.into()), running: true }));
    assert!(flow.record.is_some_and(|switch| switch.run == "run0" && !switch.finished));
    let first = activate(&seen(None, false, ""), &record(), "2-b", NEW).unwrap();
    assert_eq!(first.before, Some(Before { used: None, running: false }));
}

#[test]
fn after_a_crash_only_what_is_left_is_done() {
    let mut mine = record();
    mine.last = last("x-2", Some(NEW), false);
    for (what, now, want) in [
        ("before the stop", seen(Some(OLD), true, "run0"), (true, Some(Some(NEW)), true)),
        ("after the stop", seen(Some(OLD), false, "run0"), (true, Some(Some(NEW)), true)),
        ("after the switch", seen(Some(NEW), false, "run0"), (false, None, true)),
        ("after the start", seen(Some(NEW), true, "run1"), (false, None, false)),
        ("a run that nobody stopped", seen(Some(NEW), true, "run0"), (true, None, true)),
    ] {
        let flow = activate(&now, &mine, "2-b", NEW).unwrap();
        assert_eq!(steps(&flow), want, "{what}");
        assert!(
            flow.begun && flow.record.is_none() && flow.before.is_none(),
            "{what}: nothing is written again"
        );
        assert_eq!(flow.old_run, "run0", "{what}");
    }
}

#[test]
fn what_is_in_use_is_left_alone_only_when_it_was_seen_to_run() {
    let mut done = record();
    done.last = last("x-1", Some(NEW), true);
    assert!(activate(&seen(Some(NEW), true, "run5"), &done, "2-b", NEW).unwrap().is_nothing());
    let down = activate(&seen(Some(NEW), false, "run5"), &done, "2-b", NEW).unwrap();
    assert_eq!(steps(&down), (true, None, true));
    for other in [last("x-1", Some(NEW), false), last("x-1", Some(OLD), true), None] {
        done.last = other;
        let flow = activate(&seen(Some(NEW), true, "run5"), &done, "2-b", NEW).unwrap();
        assert_eq!(steps(&flow), (true, None, true), "which release the run is of can not be told");
        assert_eq!(flow.before, None, "the way back that was written stays");
    }
}

#[test]
fn a_revert_goes_back_where_it_came_from() {
    let mut known = record();
    known.previous.insert("2-b".into(), Before { used: Some(OLD.into()), running: true });
    known.last = last("x-1", Some(NEW), false);
    for up in [true, false] {
        let flow = revert(&seen(Some(NEW), up, "run1"), &known, "2-b", NEW).unwrap();
        assert_eq!(steps(&flow), (true, Some(Some(OLD)), true), "also when it does not start");
        assert_eq!(flow.record.and_then(|switch| switch.to).as_deref(), Some(OLD));
    }
    let left = revert(&seen(Some(OLD), true, "run2"), &known, "2-b", NEW).unwrap();
    assert!(left.is_nothing(), "it is not in use");
    let down = revert(&seen(Some(OLD), false, "run2"), &known, "2-b", NEW).unwrap();
    assert_eq!(steps(&down), (false, None, true), "only made sure that it runs");
    known.last = last("x-2", Some(OLD), false);
    let crashed = revert(&seen(Some(OLD), false, "run0"), &known, "2-b", NEW).unwrap();
    assert_eq!(steps(&crashed), (false, None, true));
    let done = revert(&seen(Some(OLD), true, "run1"), &known, "2-b", NEW).unwrap();
    assert!(done.is_nothing());
}

#[test]
fn a_first_release_is_left_for_nothing_and_an_unknown_one_not_at_all() {
    let mut known = record();
    assert_eq!(revert(&seen(Some(NEW), true, "r"), &known, "2-b", NEW), Err(Refused::NoRecord));
    known.previous.insert("2-b".into(), Before { used: None, running: false });
    let flow = revert(&seen(Some(NEW), true, "r"), &known, "2-b", NEW).unwrap();
    assert_eq!(steps(&flow), (true, Some(None), false), "nothing ran before it");
    known.previous.insert("2-b".into(), Before { used: None, running: true });
    let flow = revert(&seen(Some(NEW), true, "r"), &known, "2-b", NEW).unwrap();
    assert_eq!(steps(&flow), (true, Some(None), true), "something else ran before it");
}

#[test]
fn half_a_package_is_touched_only_by_who_began_it() {
    let torn = |used: &str| Seen { torn: true, ..seen(Some(used), false, "run0") };
    let mut known = record();
    assert_eq!(activate(&torn("2"), &known, "2-b", "2"), Err(Refused::Torn));
    assert_eq!(revert(&torn("2"), &known, "2-b", "2"), Err(Refused::NoRecord));
    assert_eq!(revert(&torn("3"), &known, "2-b", "2"), Err(Refused::Torn), "somebody else tore it");
    known.last = last("x-2", Some("2"), false);
    let flow = activate(&torn("2"), &known, "2-b", "2").unwrap();
    assert_eq!(steps(&flow), (true, Some(Some("2")), true), "installed once more");
    known.last = last("x-1", Some("2"), false);
    known.previous.insert("2-b".into(), Before { used: Some("1".into()), running: true });
    let flow = revert(&torn("2"), &known, "2-b", "2").unwrap();
    assert_eq!(steps(&flow), (true, Some(Some("1")), true));
}

#[test]
fn the_newest_the_one_in_use_and_the_way_back_are_kept() {
    let mut known = record();
    for at in 1..=6 {
        let staged = Staged {
            version: at.to_string(),
            artifact: String::new(),
            signed_by: String::new(),
            key: String::new(),
            content: String::new(),
            at_ms: at,
        };
        known.staged.insert(format!("{at}-x"), staged);
    }
    let text = |name: &str| format!("releases/{name}");
    known.previous.insert("2-x".into(), Before { used: Some("releases/1-x".into()), running: true });
    assert_eq!(old(&known, Some("releases/2-x"), text), ["3-x"]);
    assert_eq!(old(&known, Some("releases/6-x"), text), ["3-x", "2-x", "1-x"]);
    assert_eq!(old(&known, None, text), ["3-x", "2-x", "1-x"]);
}
