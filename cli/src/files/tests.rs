//! Files as people and machines write them: every kind of mistake with its place, hostile files, and what comes back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_proto::v1;

use super::*;

mod schemas;

/// Everything that is wrong with a text, as `apply` tells it; empty when nothing is.
fn wrong(text: impl AsRef<[u8]>) -> String {
    let (mut documents, mut told) = (Vec::new(), Told::default());
    match Source::new("f.yaml", text.as_ref().to_vec()) {
        Ok(source) => from_source(source, &mut documents, &mut told),
        Err(failure) => return failure.what,
    }
    twice(&documents, &mut told);
    told.end().map_or_else(|failure| failure.what, |()| String::new())
}

fn one(text: &str) -> Document {
    let mut documents = many(text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn many(text: &str) -> Vec<Document> {
    let (mut documents, mut told) = (Vec::new(), Told::default());
    from_source(Source::new("f.yaml", text.as_bytes().to_vec()).unwrap(), &mut documents, &mut told);
    told.end().map_err(|failure| failure.what).unwrap();
    documents
}

/// A service with one line put in.
fn with(line: &str) -> String {
    format!("kind: Service\nname: x\ndriver: {{ process: x }}\nnodes: {{ all: true }}\n{line}")
}

const GROUP: &str = "kind: ServiceGroup\nname: g\nservice: x\nvoters: [node1]\npolicy: { kind: NONE }\n";

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_eq!(
        wrong(with("stopTimout: 60s\n")),
        "f.yaml:5:1: unknown key \"stopTimout\"\n\
         5 | stopTimout: 60s\n  \
           | ^^^^^^^^^^\n  \
           = did you mean \"stopTimeout\"?"
    );
    let far = wrong(with("probes:\n  - { name: p, colour: red, tcp: { address: a } }\n"));
    assert!(far.starts_with("f.yaml:6:16: unknown key \"colour\"\n"), "{far}");
    assert!(far.ends_with("^^^^^^\n  = known are name, interval, timeout, passes, fromPeer, http, tcp, exec, unitSoak, membership, metric, expression, certificate, alerts"), "{far}");
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    let probe = |line: &str| with(&format!("probes:\n  - name: p\n    {line}\n"));
    for (text, place, what, hint) in [
        (with("stopTimeout: 5\n"), "5:14", "a duration is expected here", "such as 30s, 5m or 1h 30m"),
        (probe("passes: many"), "7:13", "a whole number from 0 to 4294967295 is expected here", ""),
        (probe("passes: 4294967296"), "7:13", "a whole number from 0 to 4294967295 is expected here", ""),
        (probe("passes: -1"), "7:13", "a whole number from 0 to 4294967295 is expected here", ""),
        (
            probe("passes: \"3\""),
            "7:13",
            "a whole number from 0 to 4294967295 is expected here",
            "without quotes",
        ),
        (probe("fromPeer: yes"), "7:15", "true or false is expected here", ""),
        (
            probe("http: [1]"),
            "7:11",
            "a list where a map is expected",
            "its keys are url, status, bodyContains, json",
        ),
        (
            with("driver2: 1\n").replace("driver2: 1", "labels: [a]"),
            "5:9",
            "a list where a map is expected",
            "",
        ),
        (with("probes: all\n"), "5:9", "a single value where a list is expected", "write probes: [ … ]"),
        (
            with("name: true\n").replacen("name: x\n", "", 1),
            "4:7",
            "a text is expected here",
            "write \"true\"",
        ),
        (
            GROUP.replace("NONE", "MAJORTY"),
            "5:17",
            "one of MAJORITY, BFT, MIN_AVAILABLE, PRIMARY_STANDBY, NONE is expected here",
            "did you mean \"MAJORITY\"?",
        ),
    ] {
        let told = wrong(&text);
        assert!(told.starts_with(&format!("f.yaml:{place}: {what}\n")), "{text}\n{told}");
        let last = told.lines().last().unwrap().trim_start();
        if hint.is_empty() {
            assert!(last.ends_with('^'), "{told}");
        } else {
            assert_eq!(last, format!("= {hint}"), "{told}");
        }
    }
}

#[test]
fn what_the_conversion_refuses_has_its_place() {
    let url =
        with("probes:\n  - name: a\n    tcp: { address: a:1 }\n  - name: b\n    http:\n      url: ftp://x\n");
    assert_eq!(
        wrong(url),
        "f.yaml:10:12: probes[1].http.url: it must begin with http:// or https://\n\
         10 |       url: ftp://x\n   \
            |            ^^^^^^^"
    );
    // What is missing is told where it should stand.
    let told = wrong("kind: Service\nname: x\nnodes: { all: true }\n");
    assert!(told.starts_with("f.yaml:1:1: driver: it is missing\n1 | kind: Service\n"), "{told}");
    let told = wrong(with("probes:\n  - name: a\n"));
    assert!(told.starts_with("f.yaml:6:5: probes[0].kind: it is missing\n"), "{told}");
    let told = wrong(GROUP.replace("NONE", "MIN_AVAILABLE, count: 2"));
    assert!(told.starts_with("f.yaml:5:39: policy.count: 2 is more than the 1 voters\n"), "{told}");
}

#[test]
fn what_is_wrong_in_an_expression_has_its_place_in_the_value() {
    let told = wrong(with("probes:\n  - { name: p, expression: { expr: 'probes.q.pass' } }\n"));
    assert!(told.starts_with("f.yaml:6:44: probes[0].expression"), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[1].find("q.pass"), lines[2].find('^'), "{told}");
    // Written in another way than it is, no character of the file is the one.
    let told = wrong(with("probes:\n  - { name: p, expression: { expr: \"probes\\x2eq.pass\" } }\n"));
    assert!(told.contains("at byte 7 of \"probes.q.pass\"\n"), "{told}");
}

#[test]
fn kinds_are_checked() {
    let told = wrong("name: x\n");
    assert_eq!(
        told,
        "f.yaml:1:1: the document has no `kind`\n1 | name: x\n  | ^\n  = known are Service, ServiceGroup, Freeze, Window, Policy, Schedule, Rollout"
    );
    let told = wrong("kind: Servce\n");
    assert!(told.starts_with("f.yaml:1:7: unknown kind \"Servce\"\n"), "{told}");
    assert!(told.ends_with("= did you mean \"Service\"?"), "{told}");
    assert!(wrong("kind: [Service]\n").starts_with("f.yaml:1:1: `kind` is no word"));
    assert!(wrong("- kind: Service\n").starts_with("f.yaml:1:1: a list where a document is expected"));
    assert!(wrong("").starts_with("f.yaml:1:1: there is no document"));
    assert!(wrong("# nothing\n---\n").starts_with("f.yaml:1:1: there is no document"));
}

#[test]
fn several_documents_are_counted_and_everything_is_told() {
    let text = format!(
        "{}---\n{}---\nkind: Nothing\n",
        with("colour: 1\nage: 2\n"),
        GROUP.replace("service: x\n", "")
    );
    let told = wrong(text);
    let heads: Vec<&str> = told.lines().filter(|line| line.starts_with("f.yaml:")).collect();
    assert_eq!(
        heads,
        [
            "f.yaml:5:1: document 1 (Service): unknown key \"colour\"",
            "f.yaml:6:1: document 1 (Service): unknown key \"age\"",
            "f.yaml:8:1: document 2 (ServiceGroup): service: not a valid service name: it is empty",
            "f.yaml:13:7: document 3: unknown kind \"Nothing\"",
        ]
    );
}

#[test]
fn what_is_given_twice_is_refused() {
    let told = wrong(with("name: y\n"));
    assert!(
        told.starts_with(
            "f.yaml:5:1: the key \"name\" stands here twice; first in line 2\n5 | name: y\n  | ^^^^"
        ),
        "{told}"
    );
    let told = wrong(with("stopTimeout: 1s\nstop_timeout: 2s\n"));
    assert!(
        told.starts_with("f.yaml:6:1: \"stop_timeout\" cannot stand beside \"stopTimeout\", line 5"),
        "{told}"
    );
    let told = wrong(with("").replace("process: x", "process: x, systemdUnit: x.service"));
    assert!(
        told.starts_with("f.yaml:3:23: \"systemdUnit\" cannot stand beside \"process\", line 3"),
        "{told}"
    );
    let told = wrong(format!("{}---\n{}", with(""), with("")));
    assert!(
        told.starts_with(
            "f.yaml:7:7: document 2 (Service): the service x is declared twice; first in f.yaml:1\n"
        ),
        "{told}"
    );
    // A group may have its service's name.
    assert_eq!(wrong(format!("{}---\n{}", with(""), GROUP.replace("name: g", "name: x"))), "");
}

#[test]
fn json_is_read_with_the_same_places() {
    let good = r#"{"kind": "ServiceGroup", "name": "g", "service": "x", "voters": ["node1"], "policy": {"kind": "NONE"}}"#;
    assert_eq!(wrong(good), "");
    let pretty = "{\n\t\"kind\": \"ServiceGroup\",\n\t\"nmae\": \"g\"\n}\n";
    assert_eq!(
        wrong(pretty),
        "f.yaml:3:2: unknown key \"nmae\"\n3 |  \"nmae\": \"g\"\n  |  ^^^^^^\n  = did you mean \"name\"?"
    );
    assert!(
        wrong(good.replace("\"service\"", "\"name\""))
            .starts_with("f.yaml:1:39: the key \"name\" stands here twice")
    );
    assert!(wrong(&good[..40]).starts_with("f.yaml:1:"), "{}", wrong(&good[..40]));
    // Canonical JSON of the protocol has 64-bit numbers as texts.
    let bytes = "logRotation: { paths: [/a], sizeBytes: \"9007199254740993\" }\n";
    let spec: v1::ServiceSpec = one(&with(bytes)).spec().unwrap();
    assert_eq!(spec.log_rotation.unwrap().size_bytes, 9_007_199_254_740_993);
}

#[test]
fn syntax_errors_have_a_place() {
    for (text, place) in [
        ("kind: Service\nname: [a, b\n", "f.yaml:"),
        ("kind: Service\n\tname: x\n", "f.yaml:2:1: a tab in the indentation\n"),
        ("kind: Service\n  name: x\n", "f.yaml:2:"),
        ("kind: \"Service\n", "f.yaml:1:15:"),
        ("kind: Service\nname: *nobody\n", "f.yaml:2:"),
        ("kind: Service\nname: !secret x\n", "f.yaml:2:"),
        ("kind: Service\n? [a]\n: b\n", "f.yaml:2:"),
        ("a: &x [*x]\n", "f.yaml:1:"),
    ] {
        let told = wrong(text);
        assert!(told.starts_with(place) && told.lines().count() >= 3, "{text:?}: {told}");
        println!("{told}");
    }
}

#[test]
fn hostile_files_are_refused_in_time() {
    let begun = Instant::now();
    assert!(wrong(vec![b' '; 2 << 20]).contains("larger than 1 MiB"));
    for open in ["[", "{a: ", "- ", "a:\n "] {
        let text = if open == "a:\n " {
            (0..10_000).map(|n| format!("{}a:\n", " ".repeat(n % 1_000))).collect::<String>()
        } else {
            open.repeat(10_000)
        };
        let told = wrong(&text.as_bytes()[..text.len().min(1 << 20)]);
        assert!(told.starts_with("f.yaml:") && told.len() < 1_000, "{open:?}: {told}");
    }
    // Nine levels of nine aliases: 387 million nodes.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    assert!(wrong(bomb).contains("with its aliases written out the file is too large"));
    let long = "x".repeat(1_000_000);
    let told = wrong(format!("a: &a {long}\nb: [{}]\n", ["*a"; 20].join(", ")));
    assert!(told.contains("too large") && told.len() < 1_000, "{} bytes", told.len());
    for (bytes, what) in [
        (&b"kind: Serv\xffice\n"[..], "f.yaml:1:11: here begins what is no UTF-8"),
        (b"\xff\xfek\0i\0n\0d\0", "f.yaml:1:1: here begins what is no UTF-8"),
        (b"kind: Service\nname: a\0b\n", "f.yaml:2:8: a NUL byte"),
        (b"kind: Service\nname: \x1b[2Jx\n", "f.yaml:2:7: a control character"),
        (b"kind: Service\rname: x\n", "f.yaml:1:14: a carriage return without a line feed"),
    ] {
        let told = wrong(bytes);
        assert!(told.starts_with(what), "{told}");
    }
    let keys: String = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    let told = wrong(keys);
    assert!(told.lines().count() < 60 && told.len() < 8_192, "{}", told.len());
    let keys: String = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    let told = wrong(with(&keys));
    assert!(told.ends_with("and 49990 more") && told.len() < 8_192, "{told}");
    let told = wrong(with(&format!("? {}\n: 1\n", "k".repeat(900_000))));
    assert!(told.contains("unknown key \"kkk") && told.len() < 1_000, "{} bytes", told.len());
    let documents = "---\nkind: Service\n".repeat(5_000);
    assert!(wrong(documents).contains("and "), "only the first are told");
    let deep = format!("kind: Service\nname: {}\n", "a".repeat(900_000));
    assert!(wrong(deep).len() < 1_000);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_difference() {
    let text = with("stopTimeout: 1m 30s\n");
    let plain = one(&text);
    let windows = one(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    assert_eq!(plain.bytes, windows.bytes);
    let told = wrong(format!("\u{feff}{}", with("colour: 1\n")).replace('\n', "\r\n"));
    assert!(told.starts_with("f.yaml:5:1: unknown key \"colour\"\n5 | colour: 1\n"), "{told:?}");
}

#[test]
fn texts_stay_as_they_are_written() {
    let spec: v1::ServiceSpec = one(&with(
        "labels: { version: 1.10, octal: 0644, long: 12345678901234567890123, quoted: \"true\", tagged: !!str 7 }\n",
    ))
    .spec()
    .unwrap();
    let label = |key: &str| spec.labels.get(key).map(String::as_str);
    assert_eq!(label("version"), Some("1.10"));
    assert_eq!(label("octal"), Some("0644"));
    assert_eq!(label("long"), Some("12345678901234567890123"));
    assert_eq!(label("quoted"), Some("true"));
    assert_eq!(label("tagged"), Some("7"));
}

#[test]
fn aliases_and_merge_keys_are_read() {
    let text = with(
        "probes:\n  - &p { name: a, interval: 3s, tcp: { address: \"h:1\" } }\n  - { <<: *p, name: b }\nbackup: ~\n",
    );
    let spec: v1::ServiceSpec = one(&text).spec().unwrap();
    assert_eq!(spec.probes.len(), 2);
    assert_eq!((spec.probes[1].name.as_str(), spec.probes[1].interval.unwrap().seconds), ("b", 3));
    assert_eq!(spec.backup, None, "nothing is nothing");
}

#[test]
fn a_coordinator_s_refusal_is_shown_in_the_file() {
    let document = one("kind: Rollout\nrolling:\n  group: ledger\n  maxUnavailable: 9\n");
    let server = |what: &str| Failure { reason: "INVALID_ARGUMENT".into(), ..Failure::usage(what) };
    let told = document.placed(server("bad_field:work.rolling.max_unavailable: the group has 3 members"));
    assert_eq!(
        told.what,
        "f.yaml:4:19: rolling.maxUnavailable: the group has 3 members\n4 |   maxUnavailable: 9\n  |                   ^"
    );
    assert_eq!((told.code, told.reason.as_str()), (exit::USAGE, "INVALID_ARGUMENT"));
    let group = one(GROUP);
    let told = group.placed(server("bad_field:spec.voters[0]: it is not enrolled"));
    assert!(told.what.starts_with("f.yaml:4:10: voters[0]: it is not enrolled"), "{}", told.what);
    // The state's own refusals begin with a field.
    let told = group.placed(Failure::failed("voters: there is no node node1").with_code(exit::NOT_FOUND));
    assert!(told.what.starts_with("f.yaml:4:1: voters: there is no node node1"), "{}", told.what);
    // A refusal without a field names the document.
    let told = group.placed(Failure::failed("no service x").with_code(exit::REFUSED));
    assert_eq!(told.why, [("group g".to_owned(), "f.yaml:1".to_owned())]);
}

#[test]
fn only_declarations_are_applied_and_services_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file("a.yaml", GROUP);
    file("b.json", r#"{"kind": "Service", "name": "x", "driver": {"process": "x"}, "nodes": {"all": true}}"#);
    file("ignored.txt", "no fleet file");
    let folder = [dir.path().to_path_buf()];
    let titles: Vec<String> = declared(&folder, None).unwrap().iter().map(Document::title).collect();
    assert_eq!(titles, ["service x", "group g"]);
    let refused = declared(&folder, Some("Service")).err().unwrap();
    assert!(
        refused.what.contains("a.yaml:1:7: a ServiceGroup does not belong here, only a Service"),
        "{}",
        refused.what
    );
    file("c.yml", "kind: Rollout\nrolling: { group: g }\n");
    let refused = declared(&folder, None).err().unwrap();
    assert!(refused.what.contains("c.yml:1:7: a Rollout is started, not declared"), "{}", refused.what);
    let (work, _) = rollout(&dir.path().join("c.yml")).unwrap();
    assert!(matches!(work.kind, Some(v1::work_spec::Kind::Rolling(rolling)) if rolling.group == "g"));
    assert_eq!(rollout(&dir.path().join("a.yaml")).err().unwrap().code, exit::USAGE);
    let missing = load(&[dir.path().join("none.yaml")]).err().unwrap();
    assert_eq!(missing.code, exit::USAGE);
    let empty = tempfile::tempdir().unwrap();
    assert!(load(&[empty.path().to_path_buf()]).err().unwrap().what.contains("no .yaml, .yml or .json file"));
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    source::files(&[folder]).unwrap()
}

#[test]
fn canonical_yaml_comes_back() {
    let documents = load(&examples()).unwrap();
    assert!(documents.len() >= 10);
    for document in documents {
        let canonical = document.canonical().unwrap();
        let text = canon::yaml(document.kind, &canonical).unwrap();
        let again = one(&text);
        assert_eq!(again.bytes, canonical, "{text}");
        let (change, lines) = canon::difference(document.kind, Some(&canonical), &document.bytes).unwrap();
        assert_eq!((change, lines), (canon::Change::None, Vec::new()), "defaults are no difference");
    }
}

#[test]
fn a_difference_reads_as_a_unified_diff() {
    let (old, new) =
        (one(&with("stopTimeout: 30s\n")), one(&with("stopTimeout: 1m\nlabels: { tier: db }\n")));
    let (change, lines) = canon::difference(new.kind, Some(&old.bytes), &new.bytes).unwrap();
    let text: Vec<String> = lines.iter().map(canon::Line::text).collect();
    assert_eq!(change.word(), "UPDATE");
    assert_eq!(
        text,
        [
            "@@ -4,5 +4,7 @@",
            "   process: x",
            " nodes:",
            "   all: true",
            "-stopTimeout: 30s",
            "+stopTimeout: 60s",
            " startTimeout: 60s",
            "+labels:",
            "+  tier: db",
        ]
    );
    let (change, lines) = canon::difference(new.kind, None, &new.bytes).unwrap();
    assert_eq!(change.word(), "CREATE");
    assert!(lines.iter().skip(1).all(|line| matches!(line, canon::Line::New(_))), "{lines:?}");
}
