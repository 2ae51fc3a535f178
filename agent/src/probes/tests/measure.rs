//! Numbers out of pages, and rates out of numbers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_model::probe::{MetricCheck, MetricProbe};
use quorate_model::{Comparison, Millionths};

use crate::host::fetch::HttpAnswer;
use crate::probes::measure::judge_metric;
use crate::probes::page::number;

const PAGE: &str = "# HELP up Whether.\n# TYPE up gauge\nup 1\nup_since 7\n\
    req_total{code=\"200\",path=\"/a\\\"b\\\\\\n\"} 10 1395066363000\nreq_total{code=\"500\", path=\"/\",} 2.5e0\n\
    lat_bucket{le=\"+Inf\"} 3\nweird NaN\nhuge 1e300\n  spaced\t-4\n";

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn one_series_is_found() {
    for (metric, wanted, value) in [
        ("up", vec![], 1.0),
        ("up_since", vec![], 7.0),
        ("req_total", vec![("code", "500")], 2.5),
        ("req_total", vec![("path", "/a\"b\\\n")], 10.0),
        ("lat_bucket", vec![("le", "+Inf")], 3.0),
        ("spaced", vec![], -4.0),
    ] {
        assert_eq!(number(PAGE.as_bytes(), metric, &labels(&wanted)), Ok(value), "{metric}");
    }
}

#[test]
fn none_and_several_are_no_number() {
    for (metric, wanted) in
        [("u", vec![]), ("req_total", vec![]), ("up", vec![("code", "1")]), ("req", vec![])]
    {
        assert!(number(PAGE.as_bytes(), metric, &labels(&wanted)).is_err(), "{metric}");
    }
}

#[test]
fn a_line_that_cannot_be_read_is_no_number() {
    for line in [
        "up",
        "up ",
        "up one",
        "up 1 2 3",
        "up 1 now",
        "up{ 1",
        "up{a} 1",
        "up{a=b} 1",
        "up{a=\"b} 1",
        "up{a=\"b\" c=\"d\"} 1",
        "up{a=\"b\",a=\"c\"} 1",
        "up{a=\"\\x\"} 1",
        "up{=\"b\"} 1",
        "up{a=\"b\"}",
    ] {
        assert!(number(line.as_bytes(), "up", &BTreeMap::new()).is_err(), "{line}");
    }
    assert!(number(b"up \xff1", "up", &BTreeMap::new()).is_err());
    let many: String = (0..65).map(|n| format!("l{n}=\"\",")).collect();
    assert!(number(format!("up{{{many}}} 1").as_bytes(), "up", &BTreeMap::new()).is_err());
    assert!(number(format!("up 1{}", " ".repeat(20_000)).as_bytes(), "up", &BTreeMap::new()).is_err());
}

fn metric(rate: bool, condition: Option<(Comparison, i64)>) -> MetricProbe {
    MetricProbe {
        url: String::new(),
        metric: "x".into(),
        labels: BTreeMap::new(),
        rate,
        condition: condition.map(|(op, value)| MetricCheck { op, value: Millionths(value) }),
        baseline: None,
    }
}

fn page(value: &str) -> HttpAnswer {
    HttpAnswer { status: 200, body: format!("x {value}\n").into_bytes() }
}

#[test]
fn what_cannot_be_carried_fails() {
    for value in ["NaN", "+Inf", "-Inf", "1e13", "-1e13"] {
        let (reading, _) = judge_metric(&metric(false, None), &page(value), None, 0);
        assert!(!reading.ok && reading.number.is_none(), "{value}: {reading:?}");
    }
    let below = metric(false, Some((Comparison::Lt, 5_000_000)));
    assert!(judge_metric(&below, &page("4.999999"), None, 0).0.ok);
    let (over, _) = judge_metric(&below, &page("5"), None, 0);
    assert_eq!((over.ok, over.detail.as_str()), (false, "x = 5, wanted < 5"));
}

#[test]
fn a_rate_needs_two_readings_and_survives_a_reset() {
    let rate = metric(true, None);
    let (first, counted) = judge_metric(&rate, &page("1000"), None, 1_000_000);
    assert!(first.blind && first.number.is_none());
    let (second, counted) = judge_metric(&rate, &page("1004"), counted, 6_000_000);
    assert_eq!(
        (second.ok, second.number, second.detail.as_str()),
        (true, Some(Millionths(800_000)), "x = 0.8/s")
    );
    let (reset, counted) = judge_metric(&rate, &page("6"), counted, 8_000_000);
    assert_eq!(reset.number, Some(Millionths(3_000_000)), "six since it began again");
    assert_eq!(judge_metric(&rate, &page("7"), counted, 8_000_000).0.number, None, "no time has passed");
    for bad in ["-1", "NaN", "+Inf"] {
        let (reading, kept) = judge_metric(&rate, &page(bad), counted, 9_000_000);
        assert!(!reading.ok && kept.is_none(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_number_or_a_sentence(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = number(&body, "a", &labels(&[("b", "c")]));
        let named = [b"a{".as_slice(), &body].concat();
        let _ = number(&named, "a", &labels(&[("b", "c")]));
    }

    #[test]
    fn what_is_written_is_read(value in any::<f64>().prop_filter("a number", |v| v.is_finite()), text in "[^\u{0}]{0,20}") {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let line = format!("a{{b=\"{escaped}\"}} {value:?}\n");
        prop_assert_eq!(number(line.as_bytes(), "a", &labels(&[("b", &text)])), Ok(value), "{}", line);
    }
}
