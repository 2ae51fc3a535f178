//! The code rules that a test can check. Each says what it protects; none of them has an exception list longer than its
//! reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_tests::workspace::root;

/// Rust sources of ours, relative to the root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for top in ["proto", "common", "coordinator", "agent", "cli", "tests"] {
        for entry in walkdir::WalkDir::new(root().join(top)).sort_by_file_name() {
            let entry = entry.expect("the checkout is readable");
            let path = entry.path();
            let inside_target = path.components().any(|c| c.as_os_str() == "target");
            if path.extension().is_some_and(|e| e == "rs") && !inside_target {
                let text = fs::read_to_string(path).expect("sources are UTF-8");
                found.push((path.strip_prefix(root()).expect("below the root").to_path_buf(), text));
            }
        }
    }
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

/// Code without comments and doc comments, line by line.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
        .filter(|(_, line)| !line.trim().is_empty())
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn crates_are_used_in_one_direction() {
    // From the design: an agent must not be able to decide, a client must ask; core and model stay free of IO.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("proto", &[] as &[&str]),
        ("common/model", &[]),
        ("common/durable", &[]),
        ("common", &["quorate-model", "quorate-proto"]),
        ("coordinator/core", &["quorate-model"]),
        (
            "coordinator",
            &["quorate-model", "quorate-proto", "quorate-common", "quorate-core", "quorate-durable"],
        ),
        ("agent", &["quorate-model", "quorate-proto", "quorate-common", "quorate-durable"]),
        ("cli", &["quorate-model", "quorate-proto", "quorate-common"]),
    ]);
    let mut broken = Vec::new();
    for (dir, allowed) in &allowed {
        let text =
            fs::read_to_string(root().join(dir).join("Cargo.toml")).expect("every crate has a manifest");
        let manifest: toml::Table = text.parse().expect("manifests are TOML");
        let dependencies =
            manifest.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
        for name in dependencies.keys().filter(|n| n.starts_with("quorate-")) {
            if !allowed.contains(&name.as_str()) {
                broken.push(format!("{dir} uses {name}"));
            }
        }
        if matches!(*dir, "common/model" | "coordinator/core") {
            for name in dependencies.keys() {
                if !matches!(name.as_str(), "quorate-model" | "serde" | "sha2") {
                    broken.push(format!("{dir} uses {name}; it stays pure"));
                }
            }
        }
    }
    report("direction of use", &broken);
}

#[test]
fn rooms_are_used_in_one_direction() {
    // (where, what must not stand there, why)
    let rules: &[(&str, &[&str], &str)] = &[
        ("coordinator/core/src/apply/", &["crate::plan", "crate::next"], "apply verifies, it never plans"),
        (
            "coordinator/core/src/safety/",
            &["crate::plan", "crate::next", "crate::apply"],
            "guards stand alone",
        ),
        (
            "coordinator/core/src/",
            &["std::", "HashMap", "SystemTime", "Instant", " f64", " f32"],
            "the heart is pure",
        ),
        ("agent/src/runner/machine", &["tokio", "crate::host", "std::fs", "std::net"], "the machine is pure"),
        ("cli/src/", &["quorate_core", "quorate_coordinator", "quorate_agent"], "a client must ask"),
        ("agent/src/", &["quorate_core", "quorate_coordinator"], "an agent must not be able to decide"),
    ];
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        let test_code = name.ends_with("tests.rs") || name.contains("/tests/");
        // The canonical encoder names float types only to refuse them.
        let refuses_floats = name == "coordinator/core/src/hash/canonical.rs";
        for (place, words, why) in rules {
            if !name.starts_with(place) || test_code {
                continue;
            }
            let body = text.split("#[cfg(test)]").next().unwrap_or("");
            for (line, code) in code_lines(body) {
                for word in words.iter().filter(|w| code.contains(**w)) {
                    if refuses_floats && matches!(*word, " f64" | " f32") {
                        continue;
                    }
                    broken.push(format!("{name}:{line} uses {word}: {why}"));
                }
            }
        }
        if name.starts_with("agent/src/actions/") && name.ends_with("/plan.rs") {
            let body = text.split("#[cfg(test)]").next().unwrap_or("");
            for (line, code) in code_lines(body) {
                for word in ["tokio", "host::", "std::fs::"].iter().filter(|w| code.contains(**w)) {
                    broken.push(format!("{name}:{line} uses {word}: planning beside execution, never in it"));
                }
            }
        }
    }
    report("rooms", &broken);
}

#[test]
fn sled_stays_behind_its_wrapper() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        if path.starts_with("common/durable") || path.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        for (line, code) in code_lines(&text) {
            if code.contains("sled::") {
                broken.push(format!("{}:{line}", path.display()));
            }
        }
    }
    report("sled outside common/durable", &broken);
}

#[test]
fn files_stay_small() {
    let mut broken = Vec::new();
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        lengths.push(lines);
        if lines > 500 {
            broken.push(format!("{} has {lines} lines", path.display()));
        }
    }
    lengths.sort_unstable();
    println!("{} files, median {} lines", lengths.len(), lengths[lengths.len() / 2]);
    report("files beyond 500 lines: split by room", &broken);
}

#[test]
fn every_folder_says_its_job_at_the_door() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let name = path.file_name().unwrap_or_default();
        if (name == "mod.rs" || name == "lib.rs") && !text.trim_start().starts_with("//!") {
            broken.push(path.display().to_string());
        }
    }
    report("no job at the door", &broken);
}

#[test]
fn silenced_lints_have_a_reason() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        for attribute in ["allow(", "expect("] {
            for opening in ["#[", "#!["] {
                let needle = format!("{opening}{attribute}");
                for (at, _) in text.match_indices(&needle) {
                    let end = text[at..].find(")]").map_or(text.len(), |e| at + e);
                    if !text[at..end].contains("reason") {
                        let line = text[..at].lines().count() + 1;
                        broken.push(format!("{}:{line}", path.display()));
                    }
                }
            }
        }
    }
    report("a silenced lint without a reason", &broken);
}

#[test]
fn tests_wait_for_predicates_and_skip_nothing() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        if name.ends_with("tests/tidy.rs") || name == "tests/src/wait.rs" {
            continue;
        }
        let test_part =
            if name.ends_with("tests.rs") || name.starts_with("tests/") || name.contains("/tests/") {
                text.as_str()
            } else {
                text.split_once("#[cfg(test)]").map_or("", |(_, tail)| tail)
            };
        for (line, code) in code_lines(test_part) {
            if code.contains("#[ignore") {
                broken.push(format!("{name}: test line {line} is ignored"));
            }
            if code.contains("thread::sleep") {
                broken.push(format!("{name}: test line {line} sleeps"));
            }
        }
        for (line, code) in code_lines(&text) {
            if code.contains("todo!(") || code.contains("unimplemented!(") {
                broken.push(format!("{name}:{line} is unfinished"));
            }
        }
    }
    report("tests", &broken);
}

/// `NAME: &str = "…"` constants of a metrics file with the comment above each.
fn metric_names(path: &Path) -> Vec<(String, bool)> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut found = Vec::new();
    let mut documented = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("///") {
            documented = true;
        } else if let [_, name, _, help, ";"] = line.split('"').collect::<Vec<_>>().as_slice() {
            // A line of the agent's table: ID Kind "name" "help";
            found.push((format!("quorate_agent_{name}"), !help.trim().is_empty()));
        } else if let Some((_, value)) = line.split_once(": &str = \"").filter(|_| line.contains("const ")) {
            let value = value.trim_end_matches("\";").to_owned();
            if value.starts_with("quorate_") {
                found.push((value, documented));
            }
            documented = false;
        } else if !line.starts_with("#[") {
            documented = false;
        }
    }
    found
}

#[test]
fn metric_names_are_unique_and_documented() {
    let mut seen = BTreeSet::new();
    let mut broken = Vec::new();
    for file in ["coordinator/src/metrics.rs", "agent/src/facts/metrics.rs"] {
        let names = metric_names(&root().join(file));
        assert!(names.len() >= 10, "{file} names only {} metrics", names.len());
        for (name, documented) in names {
            if !documented {
                broken.push(format!("{file}: {name} has no help"));
            }
            if !seen.insert(name.clone()) {
                broken.push(format!("{file}: {name} is named twice"));
            }
        }
    }
    report("metric names", &broken);
}

#[test]
fn nothing_forbidden_is_in_the_build() {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--workspace", "--locked", "--prefix", "none", "-e", "normal,build,dev"])
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(names.contains("tonic") && names.contains("openraft"), "the tree was not read");
    for banned in
        ["ring", "openssl", "native-tls", "serde_yaml", "rustls-pemfile", "bincode", "tokio-tar", "backoff"]
    {
        assert!(!names.contains(banned), "{banned} is in the build");
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is committed");
    for source in lock.lines().filter(|l| l.starts_with("source = ")) {
        assert!(source.contains("github.com/rust-lang/crates.io-index"), "unknown source: {source}");
    }
}

#[test]
fn nothing_of_a_machine_is_committed() {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().expect("git runs");
    let files = String::from_utf8(output.stdout).expect("file names are UTF-8");
    // Written apart, so that this file does not hold what it looks for.
    let needles = [
        concat!("/wo", "rk/"),
        concat!("/home/", "user"),
        concat!("artifac", "tory"),
        concat!("/tmp/bash", "_jobs"),
    ];
    let mut broken = Vec::new();
    for file in files.split('\0').filter(|f| !f.is_empty()) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for needle in needles {
            if text.contains(needle) {
                broken.push(format!("{file} holds {needle}"));
            }
        }
    }
    report("machine paths or hosts", &broken);
}
