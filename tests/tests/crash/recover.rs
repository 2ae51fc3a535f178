//! A majority lost for good, on real processes: the survivor is recovered, two new members join, and everything that was
//! acknowledged is there. The same state, saved to a file before, makes a new cluster of one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, wait_gone};
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;
use serde_json::Value;

/// A learner is healthy for 10 s before it votes; everything else takes moments, on two busy cores.
const LIMIT: Duration = Duration::from_secs(150);

fn home(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.dir().join("coordinators").join(name)
}

/// The supervisor starts whoever was killed again; without its configuration a daemon does not come up.
fn put_away(fleet: &Fleet, name: &str) -> PathBuf {
    let config = home(fleet, name).join("coordinator.toml");
    let aside = home(fleet, name).join("aside.toml");
    fs::rename(&config, &aside).expect("its configuration");
    let pid = fleet.pid(Daemon::Coordinator(name)).expect("it runs");
    fleet.kill(Daemon::Coordinator(name));
    wait_gone(pid);
    aside
}

fn bring_back(fleet: &Fleet, name: &str) {
    let dir = home(fleet, name);
    fs::rename(dir.join("aside.toml"), dir.join("coordinator.toml")).expect("its configuration");
}

fn coordinator(config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(workspace::binaries().join("quorate-coordinator"));
    command.args(args).arg("--config").arg(config);
    command.output().expect("it can be run")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The data directory that a configuration names.
fn data_dir(config: &Path) -> PathBuf {
    let text = fs::read_to_string(config).expect("the configuration");
    let table: toml::Table = toml::from_str(&text).expect("TOML");
    PathBuf::from(table["data_dir"].as_str().expect("a data directory"))
}

fn tokens(fleet: &Fleet) -> BTreeSet<String> {
    let listed = fleet.json(&["token", "list"]);
    let rows = listed["tokens"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| row["tokenId"].as_str().map(str::to_owned)).collect()
}

fn write(fleet: &Fleet) -> String {
    let made = fleet.json(&["token", "create", "--ttl", "1h", "--yes"]);
    made["enrollmentToken"]["tokenId"].as_str().expect("an id").to_owned()
}

pub(crate) fn one_survivor_carries_everything_on() {
    let fleet = Fleet::start(3, 3);
    fleet.calm();
    let names: Vec<String> = fleet.coordinators().into_iter().map(|(name, ..)| name).collect();
    let written: BTreeSet<String> = (0..12).map(|_| write(&fleet)).collect();
    let same = fleet.json(&["cluster", "snapshot", "verify"]);
    assert_eq!(same["ok"], true, "{same:#}");
    let file = fleet.dir().join("saved.snapshot");
    let path = file.to_str().expect("a path");
    let saved = fleet.json(&["cluster", "snapshot", "save", path]);
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(fleet.quorate(&["cluster", "snapshot", "save", path]).code, 2, "never over another file");
    assert_eq!(fleet.json(&["cluster", "snapshot", "inspect", path]), saved);
    let late = write(&fleet);

    let survivor = &names[2];
    recover(&fleet, &names, &saved, &file);
    bring_back(&fleet, survivor);
    wait_for("the survivor to serve", LIMIT, || {
        let members = fleet.quorate(&["cluster", "members", "-o", "json"]);
        let one = members.code == 0 && members.json()["members"].as_array().is_some_and(|m| m.len() == 1);
        if one && members.json()["members"][0]["state"] == "LEADER" { Ok(()) } else { Err(members.stdout) }
    });
    let now = tokens(&fleet);
    assert!(written.is_subset(&now) && now.contains(&late), "a write that was acknowledged is lost");

    let_in(&fleet, &names[0], &[]);
    votes(&fleet, &names[0]);
    let_in(&fleet, &names[1], &["--standby"]);
    wait_for("the standby to follow", LIMIT, || {
        let standby = listed(&fleet, &names[1]);
        if standby["state"] == "LEARNER" { Ok(()) } else { Err(standby.to_string()) }
    });
    // Others would have had their vote half a second later.
    let more: BTreeSet<String> = (0..8).map(|_| write(&fleet)).collect();
    let standby = listed(&fleet, &names[1]);
    assert_eq!(
        (&standby["voter"], &standby["standby"]),
        (&Value::from(false), &Value::from(true)),
        "{standby:#}"
    );
    fleet.json(&["cluster", "promote", &names[1], "--reason", "a test", "--yes"]);
    votes(&fleet, &names[1]);
    assert!(more.is_subset(&tokens(&fleet)));
    // Agents took the new beginning for what it is: they are back, and work goes on.
    fleet.calm();
    let id = fleet.begin(&["service", "restart", "ledger", "--node", "node1", "--yes"]);
    assert_eq!(fleet.ended(&id, LIMIT)["state"], "SUCCEEDED");
    let same = fleet.json(&["cluster", "snapshot", "verify"]);
    assert_eq!(same["ok"], true, "{same:#}");
}

/// Two of three are destroyed, and the third goes on alone.
fn recover(fleet: &Fleet, names: &[String], saved: &Value, file: &Path) {
    // The survivor is one that may not even have led. It runs: nothing of it is touched.
    let survivor = &names[2];
    let config = home(fleet, survivor).join("coordinator.toml");
    let cluster = saved["clusterName"].as_str().expect("a name").to_owned();
    let sure = ["recover", "--cluster", cluster.as_str(), "--i-lost-the-majority"];
    let running = coordinator(&config, &sure);
    assert_eq!(running.status.code(), Some(1), "{}", said(&running));
    for name in &names[..2] {
        let aside = put_away(fleet, name);
        fs::remove_dir_all(data_dir(&aside)).expect("its data");
    }
    let config = put_away(fleet, survivor);

    let shown = wait_for("the survivor to be at rest", LIMIT, || {
        let shown = coordinator(&config, &["position", "--json"]);
        if shown.status.success() { Ok(shown) } else { Err(said(&shown)) }
    });
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    println!("  survivor: {shown}");
    assert!(shown["lastIndex"].as_u64() >= saved["index"].as_u64(), "{shown}");
    // Not without the word, and not with another cluster's name.
    let unsure = coordinator(&config, &["recover", "--cluster", &cluster]);
    assert_eq!(unsure.status.code(), Some(2), "{}", said(&unsure));
    let other = coordinator(&config, &["recover", "--cluster", "another", "--i-lost-the-majority"]);
    assert_eq!(other.status.code(), Some(2), "{}", said(&other));
    let recovered = coordinator(&config, &sure);
    println!("  {}", said(&recovered).trim().replace('\n', "\n  "));
    assert_eq!(recovered.status.code(), Some(0), "{}", said(&recovered));

    // The file makes a cluster of one, too: in an empty directory, with the same CA.
    let elsewhere = fleet.dir().join("restored");
    let restored = coordinator_elsewhere(&config, &elsewhere, file);
    println!("  {}", said(&restored).trim().replace('\n', "\n  "));
    assert_eq!(restored.status.code(), Some(0), "{}", said(&restored));
    let again = coordinator_elsewhere(&config, &elsewhere, file);
    assert_eq!(
        again.status.code(),
        Some(2),
        "a directory that holds a member is left alone: {}",
        said(&again)
    );
}

fn listed(fleet: &Fleet, name: &str) -> Value {
    let members = fleet.quorate(&["cluster", "members", "-o", "json"]);
    let rows = if members.code == 0 { members.json() } else { Value::Null };
    let rows = rows["members"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|member| member["name"] == name).unwrap_or_default()
}

fn votes(fleet: &Fleet, name: &str) {
    wait_for("the new member to vote", LIMIT, || {
        let member = listed(fleet, name);
        if member["voter"] == true { Ok(()) } else { Err(member.to_string()) }
    });
}

/// Joins under its old name, from nothing, and is started.
fn let_in(fleet: &Fleet, name: &str, flags: &[&str]) {
    let token = home(fleet, name).join("join.token");
    let made = fleet.json(&["cluster", "join"]);
    fs::write(&token, made["token"].as_str().expect("a token")).expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("private");
    let aside = home(fleet, name).join("aside.toml");
    let args = [&["join", "--token-file", token.to_str().expect("a path")], flags].concat();
    let joined = coordinator(&aside, &args);
    assert_eq!(joined.status.code(), Some(0), "{}", said(&joined));
    bring_back(fleet, name);
}

/// `restore` with the survivor's configuration, but for the directory.
fn coordinator_elsewhere(config: &Path, elsewhere: &Path, file: &Path) -> Output {
    let text = fs::read_to_string(config).expect("the configuration");
    let mut table: toml::Table = toml::from_str(&text).expect("TOML");
    let ca = data_dir(config).join("tls");
    table.insert("data_dir".to_owned(), elsewhere.to_str().expect("a path").into());
    let own = config.with_file_name("elsewhere.toml");
    fs::write(&own, table.to_string()).expect("written");
    let (file, ca) = (file.to_str().expect("a path"), ca.to_str().expect("a path").to_owned());
    coordinator(&own, &["restore", file, "--ca", &ca])
}
