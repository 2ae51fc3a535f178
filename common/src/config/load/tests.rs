use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::config::{Size, Span};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    session: Session,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Session {
    keepalive: Option<Span>,
    max_message: Option<Size>,
    peers: Vec<String>,
    port: u16,
}

fn at(text: &str) -> String {
    parse::<Raw>("agent.toml", text).unwrap_err().to_string()
}

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(*name), OsString::from(*value))).collect()
}

#[test]
fn an_unknown_key_is_shown_with_a_caret_under_it() {
    assert_eq!(
        at("name = \"node1\"\n\n[session]\nkeepalife = \"10s\"\n"),
        "unknown field `keepalife`, expected one of `keepalive`, `max_message`, `peers`, `port`\n\
         \x20--> agent.toml:4:1\n  |\n4 | keepalife = \"10s\"\n  | ^^^^^^^^^"
    );
}

#[test]
fn a_wrong_type_and_a_wrong_unit_point_at_the_value() {
    assert_eq!(
        at("name = \"é\"\nsession = { port = 70000 }\n"),
        "invalid value: integer `70000`, expected u16\n --> agent.toml:2:20\n  |\n2 | session = { port = 70000 }\n  |                    ^^^^^"
    );
    let error = at("name = \"n\"\n[session]\nkeepalive = \"10 parsecs\"\n");
    assert!(error.contains("agent.toml:3:13") && error.contains("parsecs"), "{error}");
    assert!(error.ends_with("  |             ^^^^^^^^^^^^"), "{error}");
}

#[test]
fn broken_syntax_names_the_place() {
    for (text, place) in [
        ("name = ", "agent.toml:1:"),
        ("name = \"a\"\nname = \"b\"\n", "agent.toml:2:1"),
        ("name = \"a\"\r\nx y\r\n", "agent.toml:2:"),
        ("name: yaml\n", "agent.toml:1:7"),
        ("", "agent.toml:1:1"),
    ] {
        let error = at(text);
        assert!(error.contains(place), "{text:?} gave\n{error}");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("name = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(at(&deep).contains("recurs"));
    let tables = format!("name = \"a\"\nlabels{} = 1", ".a".repeat(10_000));
    assert!(at(&tables).contains("recurs"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, " ".repeat(CONFIG_MAX_BYTES + 1)).unwrap();
    assert!(matches!(load_from::<Raw, _>(&file, "Q", []), Err(ConfigError::TooLarge { .. })));
    std::fs::write(&file, b"name = \"a\"\nlabel\xff").unwrap();
    assert!(matches!(
        load_from::<Raw, _>(&file, "Q", []),
        Err(ConfigError::NotUtf8 { line: 2, column: 6, .. })
    ));
    let missing = load_from::<Raw, _>(&dir.path().join("none"), "Q", []).unwrap_err();
    assert!(missing.to_string().contains("none"));
}

#[test]
fn drop_ins_and_the_environment_override_in_order_and_keep_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let drop_in_dir = dir.path().join("agent.toml.d");
    std::fs::create_dir(&drop_in_dir).unwrap();
    std::fs::write(&file, "name = \"base\"\n[session]\nport = 1\nkeepalive = \"20s\"\n[labels]\na = \"1\"\n")
        .unwrap();
    std::fs::write(drop_in_dir.join("20-last.toml"), "[session]\nport = 3\n").unwrap();
    std::fs::write(
        drop_in_dir.join("10-first.toml"),
        "[session]\nport = 2\npeers = [\"x\"]\n[labels]\nb = \"2\"\n",
    )
    .unwrap();
    std::fs::write(drop_in_dir.join("README"), "not toml").unwrap();
    let variables = env(&[
        ("QUORATE_AGENT_SESSION__MAX_MESSAGE", "64MiB"),
        ("QUORATE_AGENT_SESSION__PEERS", "[\"y\", \"z\"]"),
        ("QUORATE_OTHER", "1"),
    ]);
    let raw: Raw = load_from(&file, "QUORATE_AGENT", variables).unwrap();
    assert_eq!((raw.name.as_str(), raw.session.port), ("base", 3));
    assert_eq!(raw.session.keepalive.map(Duration::from), Some(Duration::from_secs(20)));
    assert_eq!(raw.session.max_message.map(|size| size.bytes()), Some(64 << 20));
    assert_eq!(raw.session.peers, ["y", "z"]);
    assert_eq!(raw.labels.len(), 2);

    std::fs::write(drop_in_dir.join("20-last.toml"), "[session]\nprot = 3\n").unwrap();
    let error = load_from::<Raw, _>(&file, "QUORATE_AGENT", []).unwrap_err().to_string();
    assert!(error.contains("20-last.toml:2:1"), "{error}");
    std::fs::remove_file(drop_in_dir.join("20-last.toml")).unwrap();
    let wrong = env(&[("QUORATE_AGENT_SESSION__PORT", "many")]);
    let error = load_from::<Raw, _>(&file, "QUORATE_AGENT", wrong).unwrap_err().to_string();
    assert!(
        error.contains("environment QUORATE_AGENT_SESSION__PORT:1:1") && error.contains("many"),
        "{error}"
    );
    let unknown = env(&[("QUORATE_AGENT_SESION__PORT", "1")]);
    let error = load_from::<Raw, _>(&file, "QUORATE_AGENT", unknown).unwrap_err().to_string();
    assert!(error.contains("QUORATE_AGENT_SESION__PORT") && error.contains("sesion"), "{error}");
}

proptest::proptest! {
    #[test]
    fn any_text_gives_a_value_or_an_error_never_a_panic(text in ".{0,200}|[a-z=\\[\\]\"\n\t{}.#é]{0,80}") {
        if let Err(error) = parse::<Raw>("f", &text) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}
