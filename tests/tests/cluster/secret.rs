//! A secret is rotated in two phases: somebody can write with either all the time, whoever is killed, and nothing of it is told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::restart::{LIMIT, steps};

const OLD: &str = "canary-old-5f1d0c77";
const NEW: &str = "canary-new-e2b94a18";
/// Long enough to kill somebody in it, and to see him come back.
const GRACE: Duration = Duration::from_secs(15);

fn place(fleet: &Fleet, node: &str, name: &str) -> PathBuf {
    fleet.dir().join("apps").join("ledger").join(node).join("secrets").join(name)
}

fn put(fleet: &Fleet, node: &str, name: &str, content: &str) {
    let path = place(fleet, node, name);
    fs::write(&path, content).expect("the fleet's folder is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

fn nodes(fleet: &Fleet) -> Vec<String> {
    fleet.instances().into_iter().map(|instance| instance.node).collect()
}

/// The status of a write with this token.
fn write(at: SocketAddr, token: &str) -> Option<u16> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&at, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let head = "PUT /kv/rotated HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1";
    stream.write_all(format!("{head}\r\nx-ledger-token: {token}\r\n\r\n1").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1)?.parse().ok()
}

/// Every member takes writes with this token.
fn all_take(fleet: &Fleet, token: &str) -> bool {
    fleet.instances().iter().all(|instance| write(instance.at, token) == Some(200))
}

fn apply(fleet: &Fleet, service: &Value) {
    let mut document = service.clone();
    document["kind"] = "Service".into();
    let path = fleet.dir().join("ledger-secret.json");
    fs::write(&path, document.to_string()).expect("the fleet's folder is ours");
    let _ = fleet.quorate(&["apply", "-f", &path.to_string_lossy(), "--yes"]).expect(0);
}

fn rotate(fleet: &Fleet) -> String {
    let what =
        ["rollout", "start", "ledger", "--rotate-secret", "token", "--on-failure", "rollback", "--yes"];
    fleet.begin(&what)
}

/// What is in use, and what lies beside it.
fn contents(fleet: &Fleet, node: &str) -> (String, Option<String>) {
    let read = |name: &str| fs::read_to_string(place(fleet, node, name)).ok();
    (read("token").unwrap_or_default(), read("token.previous"))
}

/// No file of the fleet holds a secret, but those in which it is kept.
fn assert_told_to_nobody(fleet: &Fleet) {
    let files = walkdir::WalkDir::new(fleet.dir()).into_iter().filter_map(Result::ok);
    for entry in files.filter(|entry| entry.file_type().is_file()) {
        let kept = entry.path().parent().and_then(|dir| dir.file_name()).is_some_and(|dir| dir == "secrets");
        let bytes = if kept { Vec::new() } else { fs::read(entry.path()).unwrap_or_default() };
        let holds = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(OLD) && !holds(NEW), "{} holds a secret", entry.path().display());
    }
}

pub(crate) fn one_that_a_member_does_not_confirm_goes_back_everywhere(fleet: &Fleet) {
    fleet.calm();
    let sample = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    for node in nodes(fleet) {
        put(fleet, &node, "token", OLD);
        // The service finds no token in what one of them is given.
        put(fleet, &node, "token.next", if node == "node2" { "\n" } else { NEW });
    }
    let mut service = sample.clone();
    service["secrets"] = json!([{ "name": "token", "file": "${app}/secrets/token",
        "previous": "${app}/secrets/token.previous", "candidate": "${app}/secrets/token.next",
        "confirm": "ledger-token", "apply": "RESTART", "grace": format!("{}s", GRACE.as_secs()) }]);
    apply(fleet, &service);
    let on = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(on["state"], "SUCCEEDED", "{on:#}");
    wait_until("writes with the token", LIMIT, || all_take(fleet, OLD));
    let leading = fleet.instances()[0].at;
    assert_eq!(write(leading, "another"), Some(401));

    let poll = Poll::begin(fleet.instances());
    let operation = fleet.ended(&rotate(fleet), LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "ROLLED_BACK", "{operation:#}");
    let refused = steps(&operation, "CONFIRM").into_iter().filter(|step| step["state"] == "FAILED").count();
    assert_eq!(refused, 1, "{operation:#}");
    assert!(steps(&operation, "RETIRE").iter().all(|step| step["state"] == "SKIPPED"), "{operation:#}");
    assert!(nodes(fleet).iter().all(|node| contents(fleet, node).0 == OLD));
    wait_until("writes with the token from before", LIMIT, || all_take(fleet, OLD));
}

/// The token from before comes back as the next one; nobody goes on after the first member has given up the other.
fn what_stopped_after_the_first_removal_is_gone_on_with(fleet: &Fleet) {
    for node in nodes(fleet) {
        put(fleet, &node, "token.next", OLD);
    }
    let rotate = || {
        fleet.calm();
        fleet.begin(&["rollout", "start", "ledger", "--rotate-secret", "token", "--yes"])
    };
    let done = |id: &str, kind: &str| {
        let operation = fleet.operation(id);
        steps(&operation, kind).into_iter().filter(|step| step["state"] == "SUCCEEDED").count()
    };
    let id = rotate();
    wait_until("a first removal", LIMIT, || done(&id, "RETIRE") > 0);
    let _ = fleet.quorate(&["rollout", "abort", &id, "--yes"]).expect(0);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "CANCELED", "{operation:#}");
    let beside = || nodes(fleet).iter().filter(|node| contents(fleet, node).1.is_some()).count();
    assert!((1..3).contains(&beside()), "it stopped in between");

    let poll = Poll::begin(fleet.instances());
    let operation = fleet.ended(&rotate(), LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    let told = operation.to_string();
    assert!(told.contains("in use here since"), "{told}");
    assert!(nodes(fleet).iter().all(|node| contents(fleet, node) == (OLD.to_owned(), None)));
    wait_until("writes with it", LIMIT, || all_take(fleet, OLD));
    // It is finished: once more is refused by whoever is asked first, before anybody is touched.
    let again = fleet.ended(&rotate(), LIMIT);
    assert_eq!(again["state"], "FAILED", "{again:#}");
    assert!(again.to_string().contains("is the one in use"), "{again:#}");
    assert_told_to_nobody(fleet);
}

/// Goes on from the fleet that the test before has left: the token that was taken back is tried again.
pub(crate) fn a_new_one_everywhere_before_the_old_one_goes(fleet: &Fleet) {
    fleet.calm();
    for node in nodes(fleet) {
        put(fleet, &node, "token.next", NEW);
    }
    let poll = Poll::begin(fleet.instances());
    let id = rotate(fleet);
    wait_for("every member to have confirmed", LIMIT, || {
        assert!(fleet.instances().iter().all(|instance| write(instance.at, OLD) != Some(401)));
        let operation = fleet.operation(&id);
        let waits = operation["conditions"].to_string().contains("both are valid until");
        if waits { Ok(()) } else { Err(operation.to_string()) }
    });
    assert!(all_take(fleet, OLD) && all_take(fleet, NEW), "both are valid in the grace");
    fleet.kill(Daemon::Coordinator(&fleet.leader()));
    fleet.kill(Daemon::Agent("node2"));
    fleet.kill(Daemon::Helper("node2"));
    let beside = |node: &String| contents(fleet, node) == (NEW.to_owned(), Some(OLD.to_owned()));
    assert!(nodes(fleet).iter().all(beside), "nothing is removed in the grace");
    let operation = fleet.ended(&id, LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(steps(&operation, "RETIRE").len(), 3, "{operation:#}");
    let moment = |step: &Value, field: &str| {
        let text = step[field].as_str().expect("a moment").to_owned();
        let at: prost_types::Timestamp = text.parse().expect("a moment");
        at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000
    };
    let last = steps(&operation, "CONFIRM").into_iter().map(|step| moment(step, "ended")).max();
    let first = steps(&operation, "RETIRE").into_iter().map(|step| moment(step, "started")).min();
    let grace = first.expect("retired") - last.expect("confirmed");
    assert!(grace >= i64::try_from(GRACE.as_millis()).expect("short"), "{grace} ms");
    wait_until("writes with the new token", LIMIT, || all_take(fleet, NEW));
    assert!(fleet.instances().iter().all(|instance| write(instance.at, OLD) == Some(401)));
    assert!(nodes(fleet).iter().all(|node| contents(fleet, node) == (NEW.to_owned(), None)));
    assert_told_to_nobody(fleet);
    what_stopped_after_the_first_removal_is_gone_on_with(fleet);

    for node in nodes(fleet) {
        for name in ["token", "token.next"] {
            fs::remove_file(place(fleet, &node, name)).expect("it was there");
        }
    }
    let mut sample = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    sample["secrets"] = json!([]);
    apply(fleet, &sample);
    let off = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(off["state"], "SUCCEEDED", "{off:#}");
    fleet.calm();
}
