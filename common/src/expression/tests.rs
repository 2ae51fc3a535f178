//! What an expression may say, and what no expression may do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_model::Millionths;

use super::*;

fn seen() -> BTreeMap<String, Seen> {
    let body = serde_json::json!({ "writes_paused": false, "raft": { "lag": 3, "ratio": 0.5 }, "peers": ["a", "b"] });
    let health =
        Seen { pass: true, age_ms: 120, status: Some(200), body: Some(body.into()), ..Seen::default() };
    let errors = Seen { pass: true, age_ms: 80, value: Some(Millionths(800_000)), ..Seen::default() };
    let soak = Seen { pass: false, age_ms: 5, ..Seen::default() };
    BTreeMap::from([("health".into(), health), ("errors".into(), errors), ("stays-up".into(), soak)])
}

fn value(source: &str) -> Result<bool, String> {
    Expression::parse(source).map_err(|wrong| wrong.to_string())?.evaluate(&seen())
}

#[test]
fn readings_are_compared_as_people_write_them() {
    for (source, holds) in [
        ("probes.health.pass", true),
        ("!probes.health.pass", false),
        ("probes.errors.value < 1.0", true),
        ("probes.errors.value < 1", true),
        ("probes.errors.value * 2.0 > 1.5 && probes.errors.age_ms < 1000", true),
        ("probes.health.status == 200", true),
        ("probes.health.status in [200, 204]", true),
        ("probes[\"stays-up\"].pass || probes.health.age_ms == 120", true),
        ("probes.health.body.raft.lag <= 10", true),
        ("probes.health.body.raft.ratio < 0.4", false),
        ("!probes.health.body.writes_paused", true),
        ("size(probes.health.body.peers) == 2 && \"a\" in probes.health.body.peers", true),
        ("probes.health.body.peers[1].startsWith(\"b\")", true),
        ("has(probes.errors.value) ? probes.errors.value < 0.5 : false", false),
        ("has(probes.health.value)", false),
    ] {
        assert_eq!(value(source), Ok(holds), "{source}");
    }
}

#[test]
fn what_is_not_known_is_an_error_and_never_true() {
    for source in [
        "probes.health.value < 1.0",
        "probes.errors.value",
        "probes.errors.value + 1.0",
        "probes.nobody.pass",
        "probes.errors.value > 0.5 && probes.nobody.pass",
        "probes.health.body.raft.nothing == 1",
        "probes.health.body.peers[7] == \"a\"",
        "probes.health.body < 3",
        "1 / (probes.health.status - 200) == 1",
        "9223372036854775807 + probes.health.status > 0",
        "probes.health.body.raft",
    ] {
        assert!(value(source).is_err(), "{source}: {:?}", value(source));
    }
}

#[test]
fn what_is_wrong_has_a_place() {
    let at = |source: &str| Expression::parse(source).unwrap_err().at;
    assert_eq!(at("probes.health.pass &&& true"), Some(21));
    assert_eq!(at("probes.health.pass && tru"), Some(22));
    assert_eq!(at("probes.health.passes"), Some(14));
    assert_eq!(at("probes.health.pass == matches(\"a\")"), Some(22));
    assert_eq!(at("probes.health"), Some(0));
    assert_eq!(at("probes.a.pass\n"), Some(13));
}

#[test]
fn hostile_expressions_end_at_once_and_small() {
    let nested = |open: &str, close: &str, times: usize| {
        format!("{}probes.a.pass{}", open.repeat(times), close.repeat(times))
    };
    let sources = [
        nested("(", ")", 500),
        nested("[", "]", 500),
        nested("(1+", ")", 240),
        nested("!", "", 1_000),
        nested("-!", "", 500),
        nested("true?true:", "", 100),
        nested("size([", "])", 125),
        nested("has(", ")", 200),
        "probes.a.pass".to_owned() + &"[0]".repeat(330),
        "probes.a.pass".to_owned() + &".a".repeat(500),
        "probes.a.pass".to_owned() + &" && probes.a.pass".repeat(59),
        "probes.a.value".to_owned() + &" + probes.a.value".repeat(58),
        "[1,2,3].map(a, [1,2,3].map(b, [1,2,3].map(c, [1,2,3].map(d, a+b+c+d)))).size() > probes.a.value"
            .to_owned(),
        "probes.a.body.all(x, probes.a.body.all(y, probes.a.body.all(z, x == y || y == z)))".to_owned(),
        "probes.a.body.exists(x, x) ".repeat(37),
        "{".repeat(1_000),
        "\"".repeat(1_001),
        "probes.a.pass && '''".to_owned(),
        "a.b{c: 1}".to_owned(),
        "1e999999999 > probes.a.value".to_owned(),
        "x".repeat(EXPRESSION_MAX_BYTES + 1),
    ];
    let large = serde_json::json!(vec![1; 10_000]);
    let a =
        Seen { pass: true, value: Some(Millionths(i64::MAX)), body: Some(large.into()), ..Seen::default() };
    let known = BTreeMap::from([("a".to_owned(), a)]);
    let began = Instant::now();
    // The stack of a worker thread.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for source in sources {
            if let Ok(read) = Expression::parse(&source) {
                let _ = read.evaluate(&known);
            }
        }
        let most = "size(probes.a.body".to_owned() + &" + probes.a.body".repeat(ADDITIONS_MAX) + ") > 0";
        assert_eq!(Expression::parse(&most).unwrap().evaluate(&known), Ok(true));
    });
    thread.unwrap().join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn everything_that_loops_is_refused() {
    for source in [
        "[1].all(x, probes.a.pass)",
        "[1].exists(x, probes.a.pass)",
        "[1].exists_one(x, probes.a.pass)",
        "[1].map(x, x).size() > probes.a.value",
        "[1].filter(x, probes.a.pass).size() > 0",
        "probes.map(x, x).size() > 0",
        "probes.a.body.matches(\"(a+)+$\")",
    ] {
        assert!(Expression::parse(source).is_err(), "{source}");
    }
}

#[test]
fn it_says_what_it_needs() {
    let read =
        Expression::parse("probes.a.pass && has(probes[\"b-c\"].body.x) && probes.a.value > 1").unwrap();
    let wanted = [("a", Field::Pass), ("a", Field::Value), ("b-c", Field::Body)];
    assert_eq!(read.uses(), &wanted.map(|(name, field)| (name.to_owned(), field)).into());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(source in "[ -~]{0,200}") {
        if let Ok(read) = Expression::parse(&source) {
            let _ = read.evaluate(&seen());
        }
    }

    #[test]
    fn any_pieces_are_read_or_refused(pieces in proptest::collection::vec(prop_oneof![
        Just("probes.errors.value"), Just("probes.health.pass"), Just("probes.health.body"), Just("(" ), Just(")"),
        Just("["), Just("]"), Just("&&"), Just("||"), Just("!"), Just("-"), Just("+"), Just("/"), Just("%"), Just("1"),
        Just("0"), Just("9223372036854775807"), Just("-9223372036854775808"), Just("0.0"), Just("1u"), Just("\"a\""),
        Just("b\"\\xff\""), Just("null"), Just(" in "), Just("=="), Just("<"), Just("?"), Just(":"), Just("size("),
        Just("int("), Just("double("), Just(".x"), Just("[0]"), Just(",")
    ], 1..12)) {
        if let Ok(read) = Expression::parse(&pieces.concat()) {
            let _ = read.evaluate(&seen());
        }
    }
}
