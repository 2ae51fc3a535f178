//! The pure half.

use proptest::prelude::*;
use quorate_model::probe::{Comparison, JsonCheck, MembershipPaths};
use quorate_model::service::UnitStatus;
use quorate_model::{InstanceRole, Timestamp};

use crate::host::fetch::{HttpAnswer, http_target};
use crate::probes::plan::*;
use crate::probes::{Latest, Reading};

fn answer(status: u16, body: &str) -> HttpAnswer {
    HttpAnswer { status, body: body.as_bytes().to_vec() }
}

fn check(path: &str, op: Comparison, value: &str) -> JsonCheck {
    JsonCheck { path: path.into(), op, value: value.into() }
}

#[test]
fn status_and_body_are_both_judged() {
    assert!(judge_http(&[], "", &[], &answer(200, "")).ok);
    // X5: a 503 is a failure, whatever its body says.
    assert!(!judge_http(&[], "", &[], &answer(503, "ok")).ok);
    assert!(judge_http(&[204, 429], "", &[], &answer(429, "")).ok);
    assert!(!judge_http(&[204], "", &[], &answer(200, "")).ok);
    assert!(!judge_http(&[], "", &[], &answer(302, "")).ok, "a redirect is no health");
    assert!(judge_http(&[], "ready", &[], &answer(200, "not quite ready")).ok);
    assert!(!judge_http(&[], "ready", &[], &answer(200, "read")).ok);
}

#[test]
fn every_comparison_on_every_kind_of_value() {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let body = r#"{"a":{"n":10,"f":1.5,"s":"ok","b":true,"z":null,"l":[1,{"x":-3}]},"d.o":"t","big":18446744073709551615}"#;
    let holds = [
        ("a.n", Eq, "10"),
        ("a.n", Ne, "11"),
        ("a.n", Lt, "11"),
        ("a.n", Le, "10"),
        ("a.n", Gt, "9"),
        ("a.n", Ge, "10"),
        ("a.n", Eq, "10.0"),
        ("a.f", Gt, "1"),
        ("a.s", Eq, "\"ok\""),
        ("a.s", Ne, "\"no\""),
        ("a.b", Eq, "true"),
        ("a.z", Eq, "null"),
        ("a.l.1.x", Lt, "0"),
        ("/d.o", Eq, "\"t\""),
        ("/a/l/0", Eq, "1"),
        ("a.s", Ne, "10"),
        ("big", Gt, "18446744073709551614"),
    ];
    for (path, op, value) in holds {
        let r = judge_http(&[], "", &[check(path, op, value)], &answer(200, body));
        assert!(r.ok, "{path} {op} {value}: {}", r.detail);
    }
    let fails = [
        ("a.n", Eq, "11"),
        ("a.n", Lt, "10"),
        ("a.s", Lt, "\"zz\""),
        ("a.s", Eq, "10"),
        ("a.n", Eq, "\"10\""),
        ("a.missing", Eq, "1"),
        ("a.l.9", Eq, "1"),
        ("a.l.x", Eq, "1"),
        ("a.n", Eq, "ten"),
        ("a.n", Eq, ""),
        ("a.n.deeper", Eq, "1"),
        ("a.z", Lt, "1"),
    ];
    for (path, op, value) in fails {
        assert!(
            !judge_http(&[], "", &[check(path, op, value)], &answer(200, body)).ok,
            "{path} {op} {value}"
        );
    }
    let checks = [check("a.n", Ge, "10"), check("a.s", Eq, "\"no\"")];
    let r = judge_http(&[], "", &checks, &answer(200, body));
    assert_eq!((r.ok, r.detail.as_str()), (false, "a.s = \"ok\", wanted == \"no\""));
}

fn paths() -> MembershipPaths {
    MembershipPaths {
        members: "nodes".into(),
        key: "node".into(),
        this: "node2".into(),
        role: "role".into(),
        serving: "serving".into(),
        lag: "lag".into(),
        max_lag: 10,
        position: String::new(),
    }
}

fn member(node: &str, role: &str, rest: &str) -> String {
    format!(r#"{{"node":"{node}","role":"{role}"{rest}}}"#)
}

fn judged(members: &[String]) -> Reading {
    judge_membership(&paths(), &answer(200, &format!(r#"{{"nodes":[{}]}}"#, members.join(","))))
}

#[test]
fn a_member_is_found_with_role_lag_and_leader() {
    let leader = member("node1", "Leader", r#","serving":true,"lag":0"#);
    let r = judged(&[leader.clone(), member("node2", "VOTER", r#","serving":true,"lag":10"#)]);
    assert_eq!(
        (r.ok, r.role, r.lag, r.leader.as_str()),
        (true, InstanceRole::Voter, Some(10), "node1"),
        "{}",
        r.detail
    );
    let r = judged(&[leader.clone(), member("node2", "learner", r#","serving":true,"lag":31"#)]);
    assert_eq!((r.ok, r.role, r.lag), (false, InstanceRole::Learner, Some(31)));
    assert_eq!(r.detail, "learner, lag 31 (at most 10)");
    for bad in [
        member("node2", "voter", r#","serving":false,"lag":0"#),
        member("node2", "voter", r#","lag":0"#),
        member("node2", "voter", r#","serving":"yes","lag":0"#),
        member("node2", "voter", r#","serving":true"#),
        member("node2", "voter", r#","serving":true,"lag":-1"#),
        member("node2", "king", r#","serving":true,"lag":0"#),
        member("node20", "voter", r#","serving":true,"lag":0"#),
    ] {
        assert!(!judged(&[leader.clone(), bad.clone()]).ok, "{bad}");
    }
    let twice = member("node2", "voter", r#","serving":true,"lag":0"#);
    assert!(!judged(&[twice.clone(), twice]).ok);
    assert_eq!(judged(&[]).leader, "");
}

#[test]
fn the_members_are_told_whole_or_not_at_all() {
    let told = |members: &[String]| judged(members).listed;
    let two = told(&[member("node1", "Leader", ""), member("node3", "learner", "")]);
    let roles: Vec<_> = two.iter().map(|listed| (listed.key.as_str(), listed.role)).collect();
    assert_eq!(roles, [("node1", InstanceRole::Leader), ("node3", InstanceRole::Learner)]);
    assert!(told(&[member("node1", "Leader", ""), "{}".into()]).is_empty(), "one without a key");
    assert!(told(&[member(&"n".repeat(129), "voter", "")]).is_empty(), "half a name is another one");
    let many: Vec<String> = (0..129).map(|n| member(&format!("node{n}"), "voter", "")).collect();
    assert!(told(&many).is_empty() && told(&many[..128]).len() == 128);
}

#[test]
fn answers_that_are_no_membership_are_failures() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"nodes":{}}"#,
        r#"{"nodes":7}"#,
        "<html>",
        "{\"nodes\":[",
        &"[".repeat(100_000),
    ] {
        assert!(!judge_membership(&paths(), &answer(200, body)).ok);
        assert!(!judge_http(&[], "", &[check("a", Comparison::Eq, "1")], &answer(200, body)).ok);
    }
    assert!(!judge_membership(&paths(), &answer(503, r#"{"nodes":[]}"#)).ok);
    let numbers = MembershipPaths {
        key: "id".into(),
        this: "7".into(),
        serving: String::new(),
        lag: String::new(),
        ..paths()
    };
    let r = judge_membership(&numbers, &answer(200, r#"{"nodes":[{"id":7,"role":"follower"}]}"#));
    assert!(r.ok && r.role == InstanceRole::Voter, "{}", r.detail);
}

#[test]
fn a_soak_needs_one_run_for_long_enough() {
    let up = |restarts| UnitStatus { active: "active".into(), restarts, ..UnitStatus::default() };
    let run = |n: &str| (n.to_owned(), 1);
    let (r, first) = judge_soak(1_000, None, &up(2), run("a"), 500);
    assert!(!r.ok);
    let (r, first) = judge_soak(1_000, first.as_ref(), &up(2), run("a"), 1_500);
    assert!(r.ok, "{}", r.detail);
    let (r, _) = judge_soak(1_000, first.as_ref(), &up(3), run("a"), 2_000);
    assert!(!r.ok, "a restart by the supervisor");
    let (r, second) = judge_soak(1_000, first.as_ref(), &up(2), run("b"), 2_000);
    assert!(!r.ok, "another run");
    assert!(judge_soak(1_000, second.as_ref(), &up(2), run("b"), 2_000).0.ok);
    let down = UnitStatus {
        active: "failed".into(),
        sub: "failed".into(),
        result: "signal".into(),
        exit_status: 9,
        ..UnitStatus::default()
    };
    let (r, forgotten) = judge_soak(0, second.as_ref(), &down, run("b"), 9_000);
    assert_eq!((r.ok, forgotten), (false, None));
    assert_eq!(r.detail, "failed (failed), result signal, exit status 9");
}

#[test]
fn runs_of_passes_and_failures_are_counted() {
    let mut latest: Option<Latest> = None;
    for (ok, want) in
        [(true, (1, 0, false)), (true, (2, 0, true)), (false, (0, 1, false)), (true, (1, 0, false))]
    {
        let next = Latest::after(latest.as_ref(), Reading::new(ok, "x"), 2);
        assert_eq!((next.passes, next.failures, next.is_stable()), want);
        latest = Some(next);
    }
    assert!(
        !Latest::after(None, Reading::new(false, "x"), 0).is_stable(),
        "no wanted count makes a failure stable"
    );
}

/// A host that cannot look says nothing about the instance: neither a pass nor a failure that could become stable.
#[test]
fn who_cannot_look_counts_nothing() {
    let failed = Latest::after(None, Reading::new(false, "connection refused"), 2);
    let blind = Latest::after(Some(&failed), Reading::blind("too many open files"), 2);
    assert_eq!((blind.passes, blind.failures, blind.reading.ok), (0, 0, false));
    let passed = Latest::after(None, Reading::new(true, "x"), 2);
    assert_eq!(Latest::after(Some(&passed), Reading::blind("x"), 2).passes, 0);
}

#[test]
fn addresses_are_taken_apart_or_refused() {
    let t = http_target("http://[::1]:8001/a?b=c").expect("an address");
    assert_eq!((t.host.as_str(), t.port, t.path.as_str()), ("::1", 8001, "/a?b=c"));
    let t = http_target("http://localhost").expect("an address");
    assert_eq!((t.port, t.path.as_str()), (80, "/"));
    for bad in [
        "",
        "localhost:80",
        "https://x/",
        "http://",
        "http://u:p@x/",
        "file:///etc/passwd",
        "http://x:99999/",
        "http://x y/",
        "/x",
    ] {
        assert!(http_target(bad).is_err(), "{bad}");
    }
}

#[test]
fn hostile_text_is_one_plain_line() {
    let r = judge_exit(Some(1), "exit code 1", "a\nred \u{1b}[31m\u{202e}evil\n\n");
    assert!(
        !r.ok && !r.detail.contains('\u{1b}') && !r.detail.contains('\u{202e}') && !r.detail.contains('\n')
    );
    assert!(r.detail.starts_with("exit code 1: red"), "{}", r.detail);
    assert!(judge_exit(Some(0), "exit code 0", "").ok);
    assert!(!judge_exit(None, "killed by signal 9", "").ok);
    assert_eq!(r.at, Timestamp::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_makes_a_verdict_panic_or_a_long_detail(
        status in any::<u16>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        path in "[a-z./0-9]{0,20}",
        value in ".{0,20}",
    ) {
        let a = HttpAnswer { status, body };
        let checks = [JsonCheck { path: path.clone(), op: Comparison::Le, value }];
        let mut p = paths();
        p.members = path;
        for r in [judge_http(&[], "x", &checks, &a), judge_membership(&p, &a)] {
            // Escapes and the note on what was cut may make it longer, but only so much.
            prop_assert!(r.detail.chars().count() < 2_000);
            prop_assert!(!r.detail.chars().any(char::is_control));
        }
    }

    #[test]
    fn an_order_is_total_on_numbers(a in any::<i64>(), b in any::<i64>()) {
        let body = answer(200, &format!("{{\"a\":{a}}}"));
        let ok = |op| judge_http(&[], "", &[check("a", op, &b.to_string())], &body).ok;
        prop_assert_eq!(ok(Comparison::Lt), a < b);
        prop_assert_eq!(ok(Comparison::Le), a <= b);
        prop_assert_eq!(ok(Comparison::Gt), a > b);
        prop_assert_eq!(ok(Comparison::Ge), a >= b);
        prop_assert_eq!(ok(Comparison::Eq), a == b);
        prop_assert_eq!(ok(Comparison::Ne), a != b);
    }
}
