//! Windows: what each covers, when it lets begin, what fits into it, what it never holds, its announcements, and its door.

use quorate_core::command::{CalendarCommand, Command, NodeCommand, OperationCommand, StepCommand};
use quorate_core::next::next;
use quorate_core::plan::{Change, Goal, PlanRequest, Verb, plan};
use quorate_core::safety::window::{covering, within};
use quorate_core::state::calendar::{OPENINGS_MAX, WINDOWS_MAX};
use quorate_core::{Answer, Plan};
use quorate_model::window::ANNOUNCE_DEFAULT;
use quorate_model::{
    DurationMs, ExecutionId, Occurrence, OperationId, Reason, Recurrence, Refusal, Revision, Selector,
    Timestamp, WindowName, WindowSpec, WindowState, WorkloadName, ZoneName,
};

use crate::agents::Fleet;
use crate::world::{admin, group, node, policy, service, spec};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(4);
    for name in ["ledger", "web"] {
        fleet.world.declare(spec(name));
        fleet.bring_up(name);
    }
    fleet.world.group("voters", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    fleet
}

fn secs(seconds: u64) -> DurationMs {
    DurationMs::from_secs(seconds)
}

fn name(text: &str) -> WindowName {
    WindowName::new(text).unwrap()
}

fn window(of: &str) -> WindowSpec {
    WindowSpec {
        name: name(of),
        selector: None,
        services: vec![],
        zone: ZoneName::new("UTC").unwrap(),
        when: Recurrence::Cron { expr: "0 22 * * 6".into() },
        duration: secs(120),
        owner: String::new(),
        announce: vec![],
        reason: "agreed with the exchange".into(),
    }
}

fn of(workload: &str) -> WindowSpec {
    WindowSpec { services: vec![WorkloadName::new(workload).unwrap()], ..window("w") }
}

fn on(selector: Selector) -> WindowSpec {
    WindowSpec { selector: Some(selector), ..window("w") }
}

fn put(fleet: &mut Fleet, spec: WindowSpec, expect: Option<u64>) -> Answer {
    let command = CalendarCommand::ApplyWindow { spec, expect: expect.map(Revision) };
    fleet.world.user(Command::Calendar(Box::new(command)))
}

fn delete(fleet: &mut Fleet, of: &str, expect: Option<u64>) -> Answer {
    let command = CalendarCommand::DeleteWindow { name: name(of), expect: expect.map(Revision) };
    fleet.world.user(Command::Calendar(Box::new(command)))
}

fn tell(fleet: &mut Fleet, of: &str, revision: u64, until: Timestamp, openings: &[(u64, u64)]) -> Answer {
    let now = fleet.world.now;
    let opening = |&(from, to)| Occurrence { start: now.plus(secs(from)), end: now.plus(secs(to)) };
    let command = CalendarCommand::SetOpenings {
        name: name(of),
        revision: Revision(revision),
        until,
        openings: openings.iter().map(opening).collect(),
    };
    fleet.world.system(Command::Calendar(Box::new(command)))
}

/// Declares a window with these openings, in seconds from now.
fn opens(fleet: &mut Fleet, spec: WindowSpec, openings: &[(u64, u64)]) {
    let of = spec.name.clone();
    assert_eq!(reason(&put(fleet, spec, None)), None);
    let revision = fleet.world.state.windows[&of].revision.0;
    let until = fleet.world.now.plus(secs(60 * 86_400));
    assert_eq!(reason(&tell(fleet, of.as_str(), revision, until, openings)), None);
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(Refusal::reason)
}

fn planned(fleet: &Fleet, goal: Goal) -> Result<Plan, Refusal> {
    let world = &fleet.world;
    let mut minted = 1_000;
    let request = PlanRequest { gate_deadline: Some(secs(20)), ..PlanRequest::new(goal, admin()) };
    plan(&world.state, &world.obs, &request, world.now, &mut || {
        minted += 1;
        minted
    })
}

fn restart() -> Goal {
    Goal::Rollout { group: group("voters"), change: Change::Restart }
}

fn drain(fleet: &mut Fleet, name: &str) -> Option<Reason> {
    let evidence = fleet.world.obs.instances.values().cloned().collect();
    let command = NodeCommand::Drain { node: node(name), reason: String::new(), evidence };
    reason(&fleet.world.user(Command::Node(command)))
}

#[test]
fn a_window_covers_what_it_names_and_holds_nothing_else() {
    // Columns: ledger on node1, ledger on node4 (in no group), web on node1, node1 as a whole, node4 as a whole.
    let cases = [
        (window("w"), [true, true, true, true, true]),
        (on(Selector::node("node1")), [true, false, true, true, false]),
        (on(Selector::node("node[4]")), [false; 5]),
        (of("ledger"), [true, true, false, true, true]),
        (of("voters"), [true, false, false, true, false]),
        (of("web"), [false, false, true, true, true]),
        (WindowSpec { selector: Some(Selector::node("node4")), ..of("voters") }, [false; 5]),
    ];
    for (spec, wanted) in cases {
        let mut fleet = fleet();
        let text = format!("{spec:?}");
        // Nothing is known of its openings: it is closed.
        assert_eq!(reason(&put(&mut fleet, spec, None)), None, "{text}");
        let (state, now) = (&fleet.world.state, fleet.world.now);
        let held = |name: &str, of: Option<&str>| {
            within(state, &node(name), of.map(service).as_ref(), DurationMs::ZERO, now).is_some()
        };
        let found = [
            held("node1", Some("ledger")),
            held("node4", Some("ledger")),
            held("node1", Some("web")),
            held("node1", None),
            held("node4", None),
        ];
        assert_eq!(found, wanted, "{text}");
        for (name, held) in [("node1", wanted[3]), ("node4", wanted[4])] {
            assert_eq!(drain(&mut fleet, name), held.then_some(Reason::WindowClosed), "{text}: {name}");
        }
    }
}

#[test]
fn a_node_that_is_not_known_counts_as_covered() {
    let mut fleet = fleet();
    put(&mut fleet, on(Selector::node("node1")), None);
    let state = &fleet.world.state;
    assert_eq!(covering(state, &node("nobody"), None).count(), 1);
    assert_eq!(covering(state, &node("node2"), None).count(), 0);
    assert!(within(state, &node("nobody"), None, DurationMs::ZERO, fleet.world.now).is_some());
}

#[test]
fn a_node_as_a_whole_needs_every_service_on_it_to_be_in_a_window() {
    let mut fleet = fleet();
    opens(&mut fleet, of("ledger"), &[(0, 100)]);
    assert_eq!(drain(&mut fleet, "node1"), None, "web is not covered");
    opens(&mut fleet, WindowSpec { name: name("webs"), ..of("web") }, &[(50, 100)]);
    assert_eq!(drain(&mut fleet, "node4"), Some(Reason::WindowClosed), "web's window is closed");
}

#[test]
fn a_step_must_fit_in_what_is_left() {
    let mut fleet = fleet();
    opens(&mut fleet, window("w"), &[(10, 100), (200, 230), (300, 400)]);
    let (state, now) = (&fleet.world.state, fleet.world.now);
    let held = |at: u64, needs: u64| within(state, &node("node1"), None, secs(needs), now.plus(secs(at)));
    for (at, needs, is_held) in [
        (9, 0, true),
        (10, 0, false),
        (10, 90, false),
        (10, 91, true),
        (99, 0, false),
        (99, 1, false),
        (99, 2, true),
        (100, 0, true),
        (200, 30, false),
        (399, 1, false),
        (400, 0, true),
    ] {
        assert_eq!(held(at, needs).is_some(), is_held, "at {at}, needs {needs}");
    }
    let start = |after: u64| now.plus(secs(after)).utc();
    let closed = held(120, 60).unwrap();
    assert_eq!(
        closed.what(),
        format!("window w is closed (opens {})", start(300)),
        "the second is too short"
    );
    assert_eq!(closed, held(121, 60).unwrap(), "the same text a second later");
    let short = held(50, 60).unwrap();
    let (end, again) = (start(100), start(300));
    assert_eq!(short.what(), format!("window w closes {end}, before 1m have passed (opens again {again})"));
    assert_eq!(short, held(51, 60).unwrap());
    assert_eq!(held(500, 0).unwrap().what(), "window w is closed (no opening is known)");
    assert_eq!(short.hint(), "quorate window show w");
}

#[test]
fn what_is_not_known_is_closed() {
    let mut fleet = fleet();
    put(&mut fleet, window("w"), None);
    let revision = fleet.world.state.windows[&name("w")].revision.0;
    let until = fleet.world.now.plus(secs(50));
    assert_eq!(reason(&tell(&mut fleet, "w", revision, until, &[(0, 50)])), None);
    let found = &fleet.world.state.windows[&name("w")];
    let at = |after: u64| found.state(fleet.world.now.plus(secs(after)));
    assert_eq!((at(49), at(50)), (WindowState::Closing, WindowState::Closed));
    // Declared anew, it is closed until its openings are told again.
    put(&mut fleet, WindowSpec { owner: "the desk".into(), ..window("w") }, None);
    let found = &fleet.world.state.windows[&name("w")];
    assert_eq!((found.state(fleet.world.now), found.until), (WindowState::Closed, None));
}

#[test]
fn a_window_is_upcoming_open_closing_closed() {
    let mut fleet = fleet();
    opens(&mut fleet, window("w"), &[(1_000, 2_000), (5_000, 6_000)]);
    let found = &fleet.world.state.windows[&name("w")];
    let at = |after: u64| found.state(fleet.world.now.plus(secs(after)));
    for (after, state) in [
        (999, WindowState::Upcoming),
        (1_000, WindowState::Open),
        (1_400, WindowState::Open),
        (1_401, WindowState::Closing),
        (1_999, WindowState::Closing),
        (2_000, WindowState::Upcoming),
        (6_000, WindowState::Closed),
    ] {
        assert_eq!(at(after), state, "after {after}");
    }
}

#[test]
fn of_several_windows_each_will_do() {
    let mut fleet = fleet();
    opens(&mut fleet, window("a"), &[(100, 160)]);
    opens(&mut fleet, window("b"), &[(50, 80), (150, 300)]);
    let (state, now) = (&fleet.world.state, fleet.world.now);
    let held = |at: u64, needs: u64| within(state, &node("node1"), None, secs(needs), now.plus(secs(at)));
    assert_eq!(held(60, 20), None);
    assert_eq!(held(120, 20), None);
    let text = |at, needs| held(at, needs).unwrap().what();
    assert!(text(0, 20).starts_with("window b is closed"), "the first chance is told: {}", text(0, 20));
    assert!(text(0, 50).starts_with("window a is closed"), "{}", text(0, 50));
}

#[test]
fn what_brings_back_and_what_does_not_disturb_is_never_held() {
    let mut fleet = fleet();
    put(&mut fleet, window("w"), None);
    let run = |verb| Goal::Run { service: service("ledger"), nodes: Selector::node("node1"), verb };
    for verb in [Verb::Status, Verb::Start] {
        assert!(planned(&fleet, run(verb)).unwrap().warnings.is_empty(), "{verb:?}");
    }
    for verb in [Verb::Stop, Verb::Restart, Verb::Reload] {
        let warnings = planned(&fleet, run(verb)).unwrap().warnings;
        let told = "window w: closed, and no opening is known; 0 of 1 steps fit";
        assert!(warnings.contains(&told.to_owned()), "{verb:?}: {warnings:?}");
    }
}

#[test]
fn a_plan_tells_how_much_of_it_fits() {
    let mut fleet = fleet();
    // Each node may take 35 s and its gate 20 s.
    let warnings = |fleet: &Fleet| planned(fleet, restart()).unwrap().warnings;
    assert!(!warnings(&fleet).iter().any(|text| text.contains("window")), "{:?}", warnings(&fleet));
    let (now, told) = (fleet.world.now, |fleet: &Fleet| {
        warnings(fleet).into_iter().filter(|text| text.contains("window")).collect::<Vec<_>>()
    });
    opens(&mut fleet, window("w"), &[(0, 120)]);
    let end = now.plus(secs(120)).utc();
    assert_eq!(told(&fleet), [format!("window w: open until {end}; 2 of 3 steps fit")]);
    opens(&mut fleet, WindowSpec { duration: secs(3_600), ..window("w") }, &[(60, 3_660)]);
    let start = now.plus(secs(60)).utc();
    assert_eq!(told(&fleet), [format!("window w: closed until {start}, then open for 1h; 3 of 3 steps fit")]);
    opens(&mut fleet, WindowSpec { selector: Some(Selector::node("node2")), ..window("w") }, &[]);
    assert_eq!(told(&fleet), ["window w: closed, and no opening is known; 0 of 1 steps fit"]);
    // What never fits would wait for ever.
    opens(&mut fleet, WindowSpec { duration: secs(60), ..window("w") }, &[(0, 60)]);
    planned(&fleet, restart()).unwrap();
    let mut slow = spec("ledger");
    slow.stop_timeout = secs(16);
    fleet.world.declare(slow);
    let refusal = planned(&fleet, restart()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::WindowClosed);
    assert_eq!(refusal.what(), "restarting node2 may take 1m1s: 1s longer than window w is ever open");
}

#[test]
fn a_step_that_is_due_is_refused_where_it_is_committed() {
    let mut fleet = fleet();
    let id = OperationId::new("r-1").unwrap();
    let plan = planned(&fleet, restart()).unwrap();
    fleet.world.must(Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan })));
    let start = |fleet: &mut Fleet| {
        let evidence = fleet.world.obs.instances.values().cloned().collect();
        let (operation, execution) = (id.clone(), ExecutionId::new("x-1").unwrap());
        let command = StepCommand::Start { operation, step: 0, execution, evidence };
        fleet.world.system(Command::Step(command))
    };
    // 35 s and the 20 s of its gate.
    for openings in [&[][..], &[(1, 100)][..], &[(0, 54)][..]] {
        opens(&mut fleet, window("w"), &[]);
        opens(&mut fleet, WindowSpec { owner: "again".into(), ..window("w") }, openings);
        assert_eq!(reason(&start(&mut fleet)), Some(Reason::WindowClosed), "{openings:?}");
        assert!(fleet.world.state.grants.is_empty() && fleet.world.state.executions.is_empty());
    }
    opens(&mut fleet, window("w"), &[(0, 55)]);
    assert_eq!(reason(&start(&mut fleet)), None);
}

/// What is announced next at each of these seconds from now; each is committed at once.
fn announced(fleet: &mut Fleet, at: &[u64]) -> Vec<Vec<u64>> {
    let began = fleet.world.now;
    let mut seen = Vec::new();
    for after in at {
        fleet.world.now = began.plus(secs(*after));
        let world = &fleet.world;
        let mut bits = 0;
        let due = next(&world.state, &world.obs, world.now, &mut || {
            bits += 1;
            bits
        });
        let mut now = Vec::new();
        for command in due {
            let Command::Calendar(calendar) = &command else { continue };
            let CalendarCommand::Announce { before, .. } = **calendar else { panic!("{command:?}") };
            now.push(before.0 / 1_000);
            assert_eq!(reason(&fleet.world.system(command.clone())), None);
            // Another leader may propose the same a moment later.
            assert_eq!(reason(&fleet.world.system(command)), Some(Reason::WrongState));
        }
        seen.push(now);
    }
    seen
}

#[test]
fn an_opening_is_announced_once_at_each_of_its_times() {
    const DAY: u64 = 86_400;
    let mut fleet = fleet();
    let spec = WindowSpec { announce: ANNOUNCE_DEFAULT.to_vec(), ..window("w") };
    opens(&mut fleet, spec.clone(), &[(20 * DAY, 20 * DAY + 120)]);
    let at =
        [0, 6 * DAY - 1, 6 * DAY, 6 * DAY + 1, 13 * DAY, 19 * DAY, 20 * DAY - 3_600, 20 * DAY - 1, 20 * DAY];
    let wanted: [&[u64]; 9] = [&[], &[], &[14 * DAY], &[], &[7 * DAY], &[DAY], &[3_600], &[], &[]];
    assert_eq!(announced(&mut fleet, &at), wanted);
    // A change that leaves the opening where it is says nothing anew; several that were missed are one.
    opens(&mut fleet, spec.clone(), &[(20 * DAY, 20 * DAY + 120)]);
    assert_eq!(announced(&mut fleet, &[0, 15 * DAY]), [vec![], vec![7 * DAY]]);
    let began = fleet.world.now;
    let command =
        CalendarCommand::ApplyWindow { spec: WindowSpec { owner: "x".into(), ..spec }, expect: None };
    fleet.world.must(Command::Calendar(Box::new(command)));
    let revision = fleet.world.state.windows[&name("w")].revision.0;
    tell(&mut fleet, "w", revision, began.plus(secs(60 * DAY)), &[(5 * DAY, 5 * DAY + 120)]);
    assert_eq!(announced(&mut fleet, &[0, DAY]), [vec![], vec![]]);
    assert_eq!(announced(&mut fleet, &[3 * DAY]), [vec![DAY]]);
}

#[test]
fn the_door_checks_first() {
    let mut fleet = fleet();
    for (spec, expect, wanted) in [
        (of("lodger"), None, Reason::NotFound),
        (on(Selector::default()), None, Reason::EmptySelector),
        (WindowSpec { reason: String::new(), ..window("w") }, None, Reason::InvalidArgument),
        (window("w"), Some(7), Reason::StalePlan),
    ] {
        assert_eq!(reason(&put(&mut fleet, spec, expect)), Some(wanted));
        assert!(fleet.world.state.windows.is_empty(), "a refusal leaves no trace");
    }
    assert_eq!(reason(&delete(&mut fleet, "w", None)), Some(Reason::NotFound));
    assert_eq!(reason(&put(&mut fleet, window("w"), Some(0))), None);
    assert_eq!(reason(&put(&mut fleet, of("voters"), Some(0))), Some(Reason::StalePlan), "it exists");
    let first = fleet.world.state.windows[&name("w")].clone();
    assert_eq!(reason(&put(&mut fleet, window("w"), None)), None);
    assert_eq!(fleet.world.state.windows[&name("w")], first, "the same again is no change");
    fleet.tick();
    assert_eq!(reason(&put(&mut fleet, of("voters"), Some(first.revision.0))), None);
    let second = fleet.world.state.windows[&name("w")].clone();
    assert!(second.revision > first.revision && second.created_at == first.created_at);
    assert_eq!(reason(&delete(&mut fleet, "w", Some(first.revision.0))), Some(Reason::StalePlan));
    assert_eq!(reason(&delete(&mut fleet, "w", Some(second.revision.0))), None);
    assert!(fleet.world.state.windows.is_empty());
}

#[test]
fn openings_are_checked_before_they_are_believed() {
    let mut fleet = fleet();
    put(&mut fleet, window("w"), None);
    let revision = fleet.world.state.windows[&name("w")].revision.0;
    let before = fleet.world.state.windows.clone();
    let until = fleet.world.now.plus(secs(1_000_000));
    let many: Vec<(u64, u64)> = (0..=OPENINGS_MAX as u64).map(|n| (n * 100, n * 100 + 50)).collect();
    for (of, revision, openings, wanted) in [
        ("v", revision, &[(0, 10)][..], Reason::NotFound),
        ("w", revision - 1, &[(0, 10)][..], Reason::WrongState),
        ("w", revision + 1, &[(0, 10)][..], Reason::WrongState),
        ("w", revision, &[(10, 10)][..], Reason::InvalidArgument),
        ("w", revision, &[(20, 10)][..], Reason::InvalidArgument),
        ("w", revision, &[(20, 30), (0, 10)][..], Reason::InvalidArgument),
        ("w", revision, &[(0, 10), (10, 20)][..], Reason::InvalidArgument),
        ("w", revision, &[(0, 10), (5, 20)][..], Reason::InvalidArgument),
        ("w", revision, &[(0, 1_000_001)][..], Reason::InvalidArgument),
        ("w", revision, &many[..], Reason::LimitReached),
    ] {
        assert_eq!(reason(&tell(&mut fleet, of, revision, until, openings)), Some(wanted), "{openings:?}");
        assert_eq!(fleet.world.state.windows, before, "a refusal leaves no trace");
    }
    assert_eq!(reason(&tell(&mut fleet, "w", revision, until, &many[1..])), None);
}

#[test]
fn there_is_a_limit_and_a_way_out_of_it() {
    let mut fleet = fleet();
    for number in 0..WINDOWS_MAX {
        assert_eq!(reason(&put(&mut fleet, window(&format!("w{number}")), None)), None);
    }
    assert_eq!(reason(&put(&mut fleet, window("one-more"), None)), Some(Reason::LimitReached));
    assert_eq!(reason(&put(&mut fleet, WindowSpec { reason: "x".into(), ..window("w7") }, None)), None);
    assert_eq!(reason(&delete(&mut fleet, "w7", None)), None);
    assert_eq!(reason(&put(&mut fleet, window("one-more"), None)), None);
}
