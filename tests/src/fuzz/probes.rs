//! 10: what a probed service answers, and what an owner writes as an expression. A page gives one finite or infinite number, or a
//! sentence; the oracle is a page made of what was read. An expression is refused or gives true, false or a sentence, soon.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_agent::probes::page;
use quorate_common::expression::{Expression, Field, Seen};
use quorate_model::Millionths;

pub(super) fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        numbers(bytes);
    } else {
        expression(bytes);
    }
}

fn numbers(bytes: &[u8]) {
    let labels = BTreeMap::from([("code".to_owned(), "500".to_owned())]);
    for wanted in [BTreeMap::new(), labels] {
        let Ok(number) = page::number(bytes, "errors_total", &wanted) else { continue };
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains("errors_total"), "a number out of nothing");
        // What was read can be written and read again.
        let again =
            page::number(format!("errors_total {number:?}").as_bytes(), "errors_total", &BTreeMap::new());
        let again = again.expect("a number as we write it");
        assert!(again == number || (again.is_nan() && number.is_nan()), "{number} is not {again}");
        // A second one of the same name and labels makes it nobody's.
        let twice = [bytes, b"\nerrors_total{code=\"500\"} 1\n"].concat();
        assert!(page::number(&twice, "errors_total", &wanted).is_err(), "chosen among two");
    }
}

fn expression(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Expression::parse(source) else { return };
    assert!(!read.uses().is_empty() && source.len() <= 1_024, "{source:?}");
    let body = serde_json::json!({ "a": [1, -1, 1.5, "x", null, true], "b": { "c": 9_223_372_036_854_775_807_i64 } });
    let full = Seen {
        pass: true,
        age_ms: u64::MAX,
        value: Some(Millionths(i64::MIN)),
        status: Some(200),
        body: Some(Arc::new(body)),
    };
    let named = |seen: &Seen| read.uses().iter().map(|(name, _)| (name.clone(), seen.clone())).collect();
    let _ = read.evaluate(&named(&full));
    let _ = read.evaluate(&named(&Seen::default()));
    // Nothing is known at all: it must not matter which field it asks for.
    assert!(read.evaluate(&BTreeMap::new()) != Ok(true) || absorbs(source), "{source:?} holds of nothing");
    assert!(read.uses().iter().all(|(_, field)| *field <= Field::Body));
}

/// `true || error`, `has(…)` and a choice are the ways of CEL around what is not there.
fn absorbs(source: &str) -> bool {
    ["||", "&&", "?", "has"].iter().any(|sign| source.contains(sign))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let pages = [
        "# TYPE errors_total counter\nerrors_total 3\n",
        "errors_total{code=\"500\",path=\"/a\\\"b\\\\\\n\"} 10 1395066363000\n",
        "errors_total{code=\"404\"} 1\nerrors_total{code=\"500\"} 2.5e-3\n",
        "errors_total NaN\n",
        "errors_total +Inf\n",
        "errors_total{code=\"500\"",
        "errors_totally 1\nerrors_total\t-4",
        "errors_total{,} 1",
    ];
    let expressions = [
        "probes.health.pass && probes.errors.value < 5.0",
        "has(probes.errors.value) ? probes.errors.value * 2.0 <= 1e3 : false",
        "probes[\"stays-up\"].age_ms < 5000 || probes.a.status in [200, 204]",
        "size(probes.a.body.a) == 6 && probes.a.body.a[1] < 0",
        "probes.a.body.b.c + 1 > 0",
        "!probes.a.pass == -1 % 0",
        "[1, 2].map(x, x * 2).size() == 2 && probes.a.pass",
        "probes.a.body.a[3].startsWith(\"\\u0078\")",
        "((((((((((((((((((((((((((probes.a.pass))))))))))))))))))))))))))",
    ];
    let with = |which: u8, text: &&str| [&[which], text.as_bytes()].concat();
    pages.iter().map(|text| with(0, text)).chain(expressions.iter().map(|text| with(1, text))).collect()
}
