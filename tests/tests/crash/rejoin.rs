//! R4 on a real cluster: a member whose store is damaged does not start, says one sentence, and comes back under a new
//! number by one command.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, wait_gone};
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;
use serde_json::Value;

/// A learner is healthy for 10 s before it votes; everything else takes moments, on two busy cores.
const LIMIT: Duration = Duration::from_secs(120);

fn member(fleet: &Fleet, name: &str) -> Option<Value> {
    let members = fleet.quorate(&["cluster", "members", "-o", "json"]);
    if members.code != 0 {
        return None;
    }
    members.json()["members"].as_array()?.iter().find(|row| row["name"] == name).cloned()
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("the log's file");
    let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(0);
    for byte in bytes.iter_mut().take(used).skip(64) {
        *byte ^= 0x55;
    }
    fs::write(path, bytes).expect("it is ours");
}

pub(crate) fn one_command_brings_a_member_back() {
    let fleet = Fleet::start(3, 3);
    let leader = fleet.leader();
    let (name, ..) = fleet.coordinators().into_iter().find(|(name, ..)| *name != leader).expect("a follower");
    let before = member(&fleet, &name).expect("it is listed");
    let dir = fleet.dir().join("coordinators").join(&name);
    let config = dir.join("coordinator.toml");
    let program = workspace::binaries().join("quorate-coordinator");
    let token = || {
        let made = fleet.json(&["token", "create", "--purpose", "coordinator"]);
        let path = dir.join("rejoin.token");
        fs::write(&path, made["token"].as_str().expect("a token")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).expect("private");
        path
    };
    let rejoin = |token: &Path| {
        let mut command = Command::new(&program);
        command.arg("rejoin").arg("--config").arg(&config).arg("--token-file").arg(token);
        command.output().expect("it can be run")
    };

    // A member that runs is not replaced, and nothing of it is touched.
    let refused = rejoin(&token());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is in use"), "{said}");

    // The supervisor starts it again after three seconds; each start is refused with 74.
    let pid = fleet.pid(Daemon::Coordinator(&name)).expect("it runs");
    fleet.kill(Daemon::Coordinator(&name));
    wait_gone(pid);
    let db = walkdir::WalkDir::new(&dir).into_iter().filter_map(Result::ok);
    let db = db.map(walkdir::DirEntry::into_path).find(|p| p.ends_with("raft/log/db")).expect("its log");
    damage(&db);
    let output = Command::new(&program).arg("--config").arg(&config).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let place = db.parent().expect("it lies in a folder").display().to_string();
    println!("  {}", said.trim().replace('\n', "\n  "));
    assert_eq!(output.status.code(), Some(74), "{said}");
    let sentence = said.lines().find(|line| line.starts_with("error: ")).expect("one sentence");
    assert!(sentence.contains(&place), "{sentence}");
    assert!(said.contains("quorate-coordinator rejoin"), "{said}");

    // One command. The supervisor may hold the lock for a moment in one of its attempts.
    let token = token();
    let joined = wait_for("the rejoin", LIMIT, || {
        let output = rejoin(&token);
        if output.status.success() {
            Ok(output)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    println!("  {}", String::from_utf8_lossy(&joined.stdout).trim());
    let learner = wait_for("the member to be back", LIMIT, || {
        member(&fleet, &name)
            .filter(|m| m["memberId"] != before["memberId"] && m["state"] != "DOWN")
            .ok_or("not yet")
    });
    println!("  back as number {}: {} voter={}", learner["memberId"], learner["state"], learner["voter"]);
    let voter = wait_for("the member to vote", LIMIT, || {
        member(&fleet, &name)
            .filter(|m| m["voter"] == true)
            .ok_or_else(|| format!("{:?}", member(&fleet, &name)))
    });
    println!("  {} was number {}, votes as number {}", name, before["memberId"], voter["memberId"]);
    assert_ne!(before["memberId"], voter["memberId"], "an id is never used again");
    fleet.calm();
}
