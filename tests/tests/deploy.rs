//! What `deploy/` ships must fit the code: rules and dashboards name metrics that exist, units name the programs and places
//! of the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use quorate_cli::files::{Document, declared};
use quorate_common::wire::calendar::read_freeze;
use quorate_common::wire::group::read_group;
use quorate_common::wire::service::read_service;
use quorate_common::wire::window::read_window;
use quorate_core::command::{
    CalendarCommand, ClusterCommand, DeclaredCommand, Join, NewCertificate, NodeCommand, TokenCommand,
};
use quorate_core::state::TokenPurpose;
use quorate_core::{Answer, Command, Entry, Hash, State, apply};
use quorate_model::{
    ClusterId, MemberId, MemberName, NodeName, NodeStatus, Principal, Serial, Timestamp, TokenId,
};
use quorate_proto::v1;
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
    // systemd answers openat2 with ENOSYS under it, and every path of the helper and of the agent's spool goes through openat2.
    for unit in ["quorate-helper", "quorate-agent"] {
        if read(&format!("deploy/systemd/{unit}.service")).lines().any(|line| line == "RestrictSUIDSGID=yes")
        {
            broken.push(format!("{unit}: RestrictSUIDSGID takes openat2 away"));
        }
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

/// The names of all files in a folder of the checkout that end so, in order.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

/// A state of one member, without nodes.
struct Fleet(State);

impl Fleet {
    fn new() -> Self {
        let mut fleet = Self(State::default());
        fleet.done(Command::Cluster(ClusterCommand::Init {
            id: ClusterId::new("c1").expect("an id"),
            name: "example".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----".into(),
            member: MemberName::new("coord1").expect("a name"),
            grpc: "coord1:7443".into(),
            http: "coord1:7480".into(),
            certificates: vec![certificate("c01", Principal::Coordinator { member: MemberId(1) })],
        }));
        fleet
    }

    fn apply(&mut self, command: Command) -> Answer {
        let index = self.0.revision.0 + 1;
        apply(&mut self.0, index, &Entry::system(NOW, command))
    }

    fn done(&mut self, command: Command) {
        let answer = self.apply(command);
        assert_eq!(answer.refusal(), None, "the test's own set-up was refused");
    }

    fn enrol(&mut self, name: &NodeName, labels: &BTreeMap<String, String>) {
        let id = TokenId::new(format!("t-{name}")).expect("an id");
        self.done(Command::Token(TokenCommand::Create {
            id: id.clone(),
            secret_sha256: Hash::default(),
            purpose: TokenPurpose::Agent { node: Some(name.clone()), labels: labels.clone() },
            expires_at: Timestamp(NOW.0 + 1_000),
        }));
        self.done(Command::Token(TokenCommand::Consume {
            id,
            join: Join::Node { name: name.clone(), address: name.to_string() },
            certificate: Some(certificate(&format!("a-{name}"), Principal::Agent { node: name.clone() })),
        }));
        self.done(Command::Node(NodeCommand::SetStatus { node: name.clone(), status: NodeStatus::Ready }));
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn certificate(serial: &str, principal: Principal) -> NewCertificate {
    let serial = Serial::new(serial).expect("a serial");
    NewCertificate { serial, principal, access: None, not_after: Timestamp(NOW.0 + 86_400_000) }
}

/// `a=b,c=d` as labels; that is what the examples select by.
fn labels(expression: &str) -> BTreeMap<String, String> {
    let pair = |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    expression.split(',').map(|text| pair(text).unwrap_or_else(|| panic!("{text} is no key=value"))).collect()
}

/// The documents of one kind.
fn specs<M: prost::Message + Default>(documents: &[Document], kind: &str) -> Vec<M> {
    let of_kind = documents.iter().filter(|document| document.kind.word == kind);
    of_kind.map(|document| document.spec().expect("its kind")).collect()
}

#[test]
fn every_example_fleet_is_accepted_on_hosts_with_its_labels() {
    let examples = files("deploy/examples", ".yaml");
    assert!(examples.len() >= 5, "only {examples:?}");
    for example in examples {
        let path = root().join("deploy/examples").join(&example);
        let documents =
            declared(&[path], None).unwrap_or_else(|failure| panic!("{example}: {}", failure.what));
        let services: Vec<v1::ServiceSpec> = specs(&documents, "Service");
        let groups: Vec<v1::GroupSpec> = specs(&documents, "ServiceGroup");
        let freezes: Vec<v1::FreezeSpec> = specs(&documents, "Freeze");
        let windows: Vec<v1::WindowSpec> = specs(&documents, "Window");
        let known = services.len() + groups.len() + freezes.len() + windows.len();
        assert_eq!(documents.len(), known, "{example} holds another kind");
        assert!(!services.is_empty() && !groups.is_empty(), "{example} declares too little");
        let mut fleet = Fleet::new();
        let mut enrolled = BTreeSet::new();
        for group in &groups {
            let service = services.iter().find(|service| service.name == group.service);
            let service = service.unwrap_or_else(|| panic!("{example}: no service {}", group.service));
            let wanted = labels(&service.nodes.as_ref().expect("nodes").labels);
            for voter in group.voters.iter().filter(|voter| enrolled.insert((*voter).clone())) {
                fleet.enrol(&NodeName::new(voter.clone()).expect("a name"), &wanted);
            }
        }
        let services = services.into_iter().map(|spec| {
            let spec = read_service(spec).unwrap_or_else(|e| panic!("{example}: {e}"));
            DeclaredCommand::ApplyService { spec, expect: None }
        });
        let groups = groups.into_iter().map(|spec| {
            let spec = read_group(spec).unwrap_or_else(|e| panic!("{example}: {e}"));
            DeclaredCommand::ApplyGroup { spec, expect: None }
        });
        let freezes = freezes.into_iter().map(|spec| {
            let spec = read_freeze(spec).unwrap_or_else(|e| panic!("{example}: {e}"));
            Command::Calendar(Box::new(CalendarCommand::ApplyFreeze { spec, expect: None }))
        });
        let windows = windows.into_iter().map(|spec| {
            let spec = read_window(spec).unwrap_or_else(|e| panic!("{example}: {e}"));
            Command::Calendar(Box::new(CalendarCommand::ApplyWindow { spec, expect: None }))
        });
        let declared = services.chain(groups).map(|command| Command::Declared(Box::new(command)));
        for command in declared.chain(freezes).chain(windows) {
            let answer = fleet.apply(command.clone());
            assert_eq!(answer.refusal(), None, "{example}: {command:?}");
        }
    }
}

#[test]
fn every_manual_page_that_a_unit_names_is_packed() {
    let page = Regex::new(r"man:([a-z-]+)\(([18])\)").expect("valid");
    let mut named = BTreeSet::new();
    for unit in files("deploy/systemd", ".service") {
        let text = read(&format!("deploy/systemd/{unit}"));
        named.extend(page.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())));
    }
    let packed = ["agent", "coordinator"].map(|package| read(&format!("{package}/Cargo.toml"))).concat();
    assert_eq!(named.len(), 3, "{named:?}");
    for (name, section) in named {
        // The generator writes one page per program: the folder is packed by the program's name.
        let asset = format!("man/{name}*.{section}.gz\", \"usr/share/man/man{section}/");
        assert!(packed.contains(&asset), "no package holds {name}({section})");
    }
}
