//! The sample ledger as a process.

use std::io::Write as _;
use std::time::Instant;

use rustix::process::Signal;

use crate::group::{Group, lines, serving, wait_for};

fn leader_of(group: &Group, asked: usize) -> Option<u64> {
    group.get(asked, "/cluster/leader/info")?.json()?["leader_id"].as_u64()
}

#[test]
fn a_restarted_member_answers_503_then_lags_then_votes() {
    let mut group = Group::with(600, 600);
    (1..=3).for_each(|id| group.start(id));
    group.wait_serving(&[1, 2, 3]);
    group.signal(3, Signal::TERM);
    wait_for("node3 ends", || group.ended(3));
    group.wait_serving(&[1, 2]);
    group.start(3);
    let mut seen: Vec<(u16, String)> = Vec::new();
    wait_for("node3 serves again", || {
        let health = group.get(3, "/health")?.status;
        let view = group.get(1, "/cluster/nodes")?.json()?;
        let row = view["nodes"].as_array()?.iter().find(|row| row["node_id"] == 3)?.clone();
        let now = (health, row["status"].as_str()?.to_owned());
        assert!(row["status"] != "catching_up" || row["lag"].as_u64() > Some(0), "{row}");
        assert_eq!(row["serving"] == true, row["status"] == "serving", "{row}");
        if seen.last() != Some(&now) {
            seen.push(now.clone());
        }
        (now.1 == "serving").then_some(())
    });
    let has = |code: u16, word: &str| seen.iter().any(|(health, status)| *health == code && status == word);
    assert!(has(503, "starting"), "{seen:?}");
    assert!(has(200, "catching_up"), "health alone must not show that it lags: {seen:?}");
    group.wait_serving(&[1, 2, 3]);
    assert_eq!(lines(&group.path(3, "starts.log")), 2);
    assert_eq!(lines(&group.path(1, "starts.log")), 1);
}

#[test]
fn sigterm_ends_it_within_a_tenth_of_a_second_or_so() {
    let mut group = Group::started();
    let begun = Instant::now();
    group.signal(2, Signal::TERM);
    let end = wait_for("node2 ends", || group.ended(2));
    // 100 ms are promised; the rest is room for a machine with more processes than cores.
    assert!(end.success() && begun.elapsed().as_millis() < 600, "{end} after {:?}", begun.elapsed());
}

#[test]
fn the_lowest_takes_over_and_the_old_leader_does_not_take_back() {
    let mut group = Group::started();
    let (leader, term) = group.wait_serving(&[1, 2, 3]);
    group.kill(leader as usize);
    let rest: Vec<usize> = (1..=3).filter(|id| *id != leader as usize).collect();
    let (next, next_term) = group.wait_serving(&rest);
    assert_eq!(next, rest[0] as u64, "the lowest id that serves");
    assert!(next_term > term, "{next_term} after {term}");
    group.start(leader as usize);
    assert_eq!(group.wait_serving(&[1, 2, 3]), (next, next_term), "leadership is sticky");
}

#[test]
fn without_a_majority_there_is_no_leader_and_no_write() {
    let mut group = Group::started();
    group.kill(1);
    group.kill(2);
    wait_for("node3 knows", || (group.get(3, "/cluster/leader/info")?.status == 503).then_some(()));
    assert_eq!(group.call(3, "PUT", "/kv/a", b"1").expect("an answer").status, 503);
    // It knows that it has no majority as soon as one of the two is missed; the other may be missed a moment later.
    wait_for("node3 misses both", || {
        let view = group.get(3, "/cluster/nodes")?.json()?;
        (serving(&view) == [3] && view["leader_id"].is_null()).then_some(())
    });
}

#[test]
fn a_write_through_any_member_is_on_all_and_survives_restarts() {
    let mut group = Group::started();
    let value = b"\xff\x00 not text";
    for id in 1..=3 {
        let answer = group.call(id, "PUT", &format!("/kv/key%20{id}%2F"), value).expect("an answer");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(group.call(2, "DELETE", "/kv/key%202%2F", b"").expect("an answer").status, 200);
    group.kill(3);
    group.wait_serving(&[1, 2]);
    assert_eq!(group.call(2, "PUT", "/kv/while-away", value).expect("an answer").status, 200);
    group.start(3);
    group.wait_serving(&[1, 2, 3]);
    for id in 1..=3 {
        let read = |key: &str| group.get(id, key).expect("an answer");
        assert_eq!((read("/kv/key%201%2F").status, read("/kv/key%201%2F").body), (200, value.to_vec()));
        assert_eq!(read("/kv/key%202%2F").status, 404);
        assert_eq!(read("/kv/while-away").status, 200, "node{id}");
        assert_eq!(read("/verify/while-away").json().expect("verified")["verified"], true);
    }
}

#[test]
fn a_pause_has_no_expiry_and_survives_the_leader_and_a_restart() {
    let mut group = Group::started();
    let (leader, _) = group.wait_serving(&[1, 2, 3]);
    let other = (1..=3).find(|id| *id != leader as usize).expect("another one");
    assert_eq!(group.call(other, "POST", "/admin/pause-writes", b"").expect("an answer").status, 200);
    for id in 1..=3 {
        assert_eq!(group.call(id, "PUT", "/kv/a", b"1").expect("an answer").status, 503, "node{id}");
    }
    group.kill(leader as usize);
    let rest: Vec<usize> = (1..=3).filter(|id| *id != leader as usize).collect();
    group.wait_serving(&rest);
    for id in &rest {
        assert_eq!(group.call(*id, "PUT", "/kv/a", b"1").expect("an answer").status, 503, "node{id}");
    }
    group.start(leader as usize);
    group.wait_serving(&[1, 2, 3]);
    let info =
        group.get(leader as usize, "/cluster/info").and_then(|answer| answer.json()).expect("its info");
    assert_eq!(info["writes_paused"], true);
    assert_eq!(group.call(rest[1], "POST", "/admin/resume-writes", b"{}").expect("an answer").status, 200);
    for id in 1..=3 {
        assert_eq!(group.call(id, "PUT", "/kv/a", b"1").expect("an answer").status, 200, "node{id}");
    }
}

#[test]
fn misbehaviour_can_be_asked_for_while_it_runs() {
    let mut group = Group::started();
    let ask = |group: &Group, id: usize, text: &str| {
        std::fs::write(group.path(id, "misbehave"), text).expect("write the file");
    };
    ask(&group, 1, "unhealthy_after_ms = 0");
    wait_for("node1 turns unhealthy", || (group.get(1, "/health")?.status == 503).then_some(()));
    wait_for("node2 sees it", || (serving(&group.get(2, "/cluster/nodes")?.json()?) == [2, 3]).then_some(()));
    std::fs::remove_file(group.path(1, "misbehave")).expect("remove the file");
    group.wait_serving(&[1, 2, 3]);

    ask(&group, 1, "ignore_sigterm = true");
    group.signal(1, Signal::TERM);
    wait_for("it is told and ignores", || {
        std::fs::read_to_string(group.path(1, "ledger.log")).ok()?.contains("ignore SIGTERM").then_some(())
    });
    assert!(group.ended(1).is_none() && leader_of(&group, 1).is_some());

    ask(&group, 2, "hang_on_stop = true\n");
    group.signal(2, Signal::TERM);
    wait_for("it serves no more", || (group.get(2, "/health")?.status == 503).then_some(()));
    wait_for("node3 sees it", || {
        (!serving(&group.get(3, "/cluster/nodes")?.json()?).contains(&2)).then_some(())
    });
    assert!(group.ended(2).is_none(), "it hangs");
    group.kill(2);

    ask(&group, 2, "crash_at_start = true");
    group.start(2);
    assert_eq!(wait_for("it crashes", || group.ended(2)).code(), Some(1));
    assert_eq!(lines(&group.path(2, "starts.log")), 2, "a crash is a start too");

    ask(&group, 2, "never_catch_up = true");
    group.start(2);
    let stuck = |lag: u64| lag == 1000;
    wait_for("it is a learner, far behind, and healthy all the same", || {
        let nodes = group.get(3, "/cluster/nodes")?.json()?;
        let row = nodes["nodes"].as_array()?[1].clone();
        (row["role"] == "learner" && stuck(row["lag"].as_u64()?) && group.get(2, "/health")?.status == 200)
            .then_some(())
    });
}

#[test]
fn a_rotated_log_goes_on_under_its_name_after_sighup() {
    let group = Group::started();
    let (log, old) = (group.path(1, "ledger.log"), group.path(1, "ledger.log.1"));
    std::fs::rename(&log, &old).expect("rotate");
    group.signal(1, Signal::HUP);
    wait_for("the log is there again", || {
        std::fs::read_to_string(&log).ok()?.contains("reloaded").then_some(())
    });
    assert!(std::fs::read_to_string(&old).expect("the old log").contains("start pid="));
    wait_for("the reload is counted", || (lines(&group.path(1, "reloads.log")) == 1).then_some(()));
    assert_eq!(group.get(1, "/health").expect("it goes on").status, 200);
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_refused() {
    let mut group = Group::started();
    for key in ["a", "b"] {
        assert_eq!(group.call(1, "PUT", &format!("/kv/{key}"), b"value").expect("an answer").status, 200);
    }
    group.kill(1);
    let path = group.path(1, "store/ledger.kv");
    let whole = std::fs::read(&path).expect("the data file");
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&whole[..17]))
        .expect("half a record");
    group.start(1);
    group.wait_serving(&[1, 2, 3]);
    assert_eq!(group.get(1, "/kv/b").expect("an answer").body, b"value");
    assert!(std::fs::read_to_string(group.path(1, "ledger.log")).expect("the log").contains("cut 17 bytes"));

    group.kill(1);
    let mut damaged = whole.clone();
    damaged[30] ^= 0x40;
    std::fs::write(&path, &damaged).expect("damage it");
    group.start(1);
    assert_eq!(wait_for("it refuses", || group.ended(1)).code(), Some(1));
    assert!(
        std::fs::read_to_string(group.path(1, "ledger.log")).expect("the log").contains("damaged at byte")
    );
    std::fs::rename(&path, group.path(1, "store/ledger.kv.damaged"))
        .expect("move it away, as the message says");
    group.start(1);
    group.wait_serving(&[1, 2, 3]);
    assert_eq!(group.get(1, "/kv/b").expect("copied from the others").body, b"value");
}

#[test]
fn bad_input_is_answered_and_harms_nothing() {
    let group = Group::started();
    let status =
        |method: &str, path: &str, body: &[u8]| group.call(1, method, path, body).map(|answer| answer.status);
    let largest = vec![7; 64 * 1024];
    assert_eq!(status("PUT", "/kv/big", &largest), Some(200));
    assert_eq!(status("PUT", "/kv/big", &vec![7; 64 * 1024 + 1]), Some(413));
    assert_eq!(status("PUT", "/kv/huge", &vec![7; 300 * 1024]), Some(413));
    assert_eq!(status("PUT", &format!("/kv/{}", "k".repeat(256)), b""), Some(200));
    assert_eq!(status("PUT", &format!("/kv/{}", "k".repeat(257)), b""), Some(400));
    assert!(matches!(status("PUT", &format!("/kv/{}", "k".repeat(40_000)), b""), Some(400..=499) | None));
    assert_eq!(status("PUT", "/kv/%ff%fe", b"1"), Some(400), "a key that is not UTF-8");
    assert_eq!(status("PUT", "/kv/a%0Ab", b"1"), Some(400), "a key with a control character");
    assert_eq!(status("PUT", "/kv/", b"1"), Some(404));
    assert_eq!(status("GET", "/kv/none", b""), Some(404));
    assert_eq!(status("POST", "/admin/pause-writes", b"{"), Some(400));
    assert_eq!(status("POST", "/admin/pause-writes", b"\xff"), Some(400));
    assert_eq!(status("GET", "/admin/pause-writes", b""), Some(405));
    assert_eq!(status("POST", "/cluster/announce", b"{\"node_id\":2}"), Some(422));
    assert_eq!(status("PUT", "/replica/record", b"junk"), Some(400));
    assert_eq!(status("GET", "/replica/log?term=x&seq=1", b""), Some(400));
    assert_eq!(status("GET", "/no/such", b""), Some(404));
    assert_eq!(group.raw(1, b"\x16\x03\x01 this is TLS\r\n\r\n").map(|answer| answer.status), Some(400));
    assert_eq!(status("PUT", "/kv/after", b"1"), Some(200), "still serving, still not paused");
}

#[test]
fn compaction_and_metrics_speak_the_guides_words() {
    let group = Group::started();
    for round in 0..20 {
        let answer = group.call(1, "PUT", "/kv/same", format!("{round}").as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let done =
        group.call(1, "POST", "/admin/compact", b"").and_then(|answer| answer.json()).expect("compacted");
    assert!(done["after_bytes"].as_u64() < done["before_bytes"].as_u64(), "{done}");
    assert_eq!(group.get(1, "/kv/same").expect("an answer").body, b"19");
    let json = group.get(1, "/metrics").and_then(|answer| answer.json()).expect("metrics");
    assert_eq!((&json["storage"]["keys"], &json["storage"]["bytes"]), (&1.into(), &done["after_bytes"]));
    let text = String::from_utf8(group.get(1, "/metrics/prometheus").expect("metrics").body).expect("text");
    for name in [
        "scribe_ops_total",
        "scribe_request_latency_p99",
        "scribe_errors_total",
        "scribe_storage_keys_total",
        "scribe_raft_term",
        "scribe_node_health",
    ] {
        assert!(text.contains(&format!("\n{name}{{node=\"node1\"}} ")), "{name} is missing in\n{text}");
    }
}

#[test]
fn a_restart_one_by_one_is_seen_as_two_of_three_by_everybody() {
    let mut group = Group::started();
    let watched = group.watcher();
    for id in [3, 1, 2, 2, 3, 1] {
        group.signal(id, Signal::TERM);
        wait_for("it ends", || group.ended(id));
        group.start(id);
        // The weakest honest gate: the restarted member's own word, once.
        wait_for("it says that all serve", || {
            (serving(&group.get(id, "/cluster/nodes")?.json()?).len() == 3).then_some(())
        });
    }
    let (samples, worst) = watched.stop();
    assert!(samples > 50, "{samples} samples");
    assert!(worst >= 2, "an answering member saw only {worst} of 3 serving ({samples} samples)");
    assert!((1..=3).all(|id| lines(&group.path(id, "starts.log")) == 3));
}
