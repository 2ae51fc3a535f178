//! What `deploy/` ships must fit the code: rules and dashboards name metrics that exist, units name the programs and places
//! of the contract.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use quorate_tests::workspace::root;
use regex::Regex;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Names as they stand on a metrics page: a counter of the coordinator gets `_total`, a histogram three endings.
fn served() -> BTreeSet<String> {
    let coordinator = Regex::new(r#"const \w+: &str = "(quorate_coordinator_[a-z0-9_]+)";"#).expect("valid");
    let agent = Regex::new(r#"\w+ (?:Counter|Gauge) "([a-z0-9_]+)" ""#).expect("valid");
    let mut names = BTreeSet::new();
    for found in coordinator.captures_iter(&read("coordinator/src/metrics.rs")) {
        for ending in ["", "_total", "_bucket", "_sum", "_count"] {
            names.insert(format!("{}{ending}", &found[1]));
        }
    }
    for found in agent.captures_iter(&read("agent/src/facts/metrics.rs")) {
        names.insert(format!("quorate_agent_{}", &found[1]));
    }
    assert!(names.len() > 100, "only {} metrics found", names.len());
    names
}

#[test]
fn rules_and_dashboards_name_metrics_that_exist() {
    let used = Regex::new(r"\bquorate_(?:coordinator|agent)_[a-z0-9_]+").expect("valid");
    let served = served();
    let mut broken = Vec::new();
    for (file, least) in
        [("deploy/prometheus/quorate.rules.yml", 15), ("deploy/grafana/dashboards/quorate-fleet.json", 20)]
    {
        let text = read(file);
        let names: BTreeSet<&str> = used.find_iter(&text).map(|found| found.as_str()).collect();
        assert!(names.len() >= least, "{file} uses only {} metrics", names.len());
        broken.extend(
            names.iter().filter(|name| !served.contains(**name)).map(|name| format!("{file}: {name}")),
        );
    }
    assert!(broken.is_empty(), "no such metric:\n  {}", broken.join("\n  "));
}

#[test]
fn the_dashboard_is_json_with_panels_that_ask_something() {
    let text = read("deploy/grafana/dashboards/quorate-fleet.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert!(targets > 0, "{} asks nothing", panel["title"]);
    }
}

#[test]
fn units_restrict_what_the_score_rests_on() {
    let everywhere = [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateDevices=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
    ];
    let mut broken = Vec::new();
    for (unit, own) in [
        (
            "quorate-coordinator",
            &["User=quorate-coordinator", "CapabilityBoundingSet=", "PrivateUsers=yes"][..],
        ),
        (
            "quorate-coordinator-join",
            &["User=quorate-coordinator", "LoadCredential=quorate-coordinator.token"],
        ),
        (
            "quorate-agent",
            &["User=quorate-agent", "CapabilityBoundingSet=", "LoadCredential=quorate-agent.token"],
        ),
        ("quorate-helper", &["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"]),
    ] {
        let text = read(&format!("deploy/systemd/{unit}.service"));
        let lines: BTreeSet<&str> = text.lines().collect();
        broken.extend(
            everywhere.iter().chain(own).filter(|l| !lines.contains(**l)).map(|l| format!("{unit}: {l}")),
        );
    }
    // systemd answers openat2 with ENOSYS under it, and every path of the helper goes through openat2.
    let helper = read("deploy/systemd/quorate-helper.service");
    if helper.lines().any(|line| line == "RestrictSUIDSGID=yes") {
        broken.push("quorate-helper: RestrictSUIDSGID takes openat2 away".to_owned());
    }
    for daemon in ["quorate-coordinator", "quorate-agent", "quorate-helper"] {
        let text = read(&format!("deploy/systemd/{daemon}.service"));
        for wanted in ["Type=notify", "WatchdogSec=", "Restart=on-failure", "RestartPreventExitStatus=2 78"] {
            if !text.contains(wanted) {
                broken.push(format!("{daemon}: {wanted}"));
            }
        }
    }
    assert!(broken.is_empty(), "missing:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_of_a_package_exists() {
    let asset = Regex::new(r#"\["([^"]+)", "[^"]*", "[0-7]{3}"\]"#).expect("valid");
    let mut broken: Vec<PathBuf> = Vec::new();
    for package in ["cli", "agent", "coordinator"] {
        let text = read(&format!("{package}/Cargo.toml"));
        let mut files = 0;
        for found in asset.captures_iter(&text) {
            files += 1;
            // What is built or generated is not in the checkout.
            if !found[1].contains("target/") {
                let path = root().join(package).join(found[1].trim_end_matches("/*"));
                if !path.exists() {
                    broken.push(path);
                }
            }
        }
        assert!(files >= 3, "{package} installs only {files} files");
    }
    assert!(broken.is_empty(), "no such file: {broken:?}");
}
