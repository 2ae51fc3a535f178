//! The sample pair: two real processes that stream, fail and rejoin. What keeps two primaries apart is not here.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::group::{Answer, raw, wait_for};

/// Two instances in one temporary directory: the first leads at first.
struct Pair {
    dir: TempDir,
    ports: [u16; 2],
    children: [Option<Child>; 2],
}

impl Pair {
    fn started() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = held.each_ref().map(|socket| socket.local_addr().expect("bound").port());
        drop(held);
        for (id, own, peer) in [(1, ports[0], ports[1]), (2, ports[1], ports[0])] {
            let data = dir.path().join(format!("data{id}"));
            let text = format!(
                "node = 'node{id}'\nport = {own}\npeer_port = {peer}\ndata_dir = '{}'\nfirst = {}\n",
                data.display(),
                id == 1
            );
            std::fs::write(dir.path().join(format!("pair{id}.toml")), text).expect("write the file");
        }
        let mut pair = Self { dir, ports, children: [None, None] };
        pair.start(1);
        pair.start(2);
        pair.wait_streaming(2);
        pair
    }

    fn config(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("pair{id}.toml"))
    }

    fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("data{id}"))
    }

    fn quorate(&self, id: usize, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("dev").args(words).arg("--config").arg(self.config(id));
        command.env_remove("QUORATE_EPOCH").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&mut self, id: usize) {
        self.children[id - 1] = Some(self.quorate(id, &["pair"]).spawn().expect("start an instance"));
        wait_for("it answers", || self.status(id));
    }

    fn kill(&mut self, id: usize) {
        let mut child = self.children[id - 1].take().expect("it runs");
        child.kill().expect("kill it");
        child.wait().expect("its end");
    }

    fn admin(&self, id: usize, words: &[&str]) -> ExitStatus {
        self.quorate(id, &[&["pair-admin"], words].concat()).status().expect("it runs")
    }

    fn call(&self, id: usize, method: &str, path: &str, epoch: Option<u64>, body: &str) -> Option<Answer> {
        let epoch = epoch.map(|epoch| format!("X-Epoch: {epoch}\r\n")).unwrap_or_default();
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{epoch}Content-Length: {length}\r\n\r\n{body}"
        );
        raw(self.ports[id - 1], text.as_bytes())
    }

    fn status(&self, id: usize) -> Option<Value> {
        self.call(id, "GET", "/status", None, "")?.json()
    }

    /// Writes; the answer's status and, where it was accepted, what it says.
    fn write(&self, id: usize, epoch: Option<u64>, value: &str) -> (u16, Value) {
        let body = format!("{{\"key\":\"k\",\"value\":\"{value}\"}}");
        let answer = self.call(id, "POST", "/write", epoch, &body).expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }

    fn log(&self, id: usize) -> Vec<String> {
        let text = std::fs::read_to_string(self.data(id).join("write.log")).expect("a log");
        text.lines().map(str::to_owned).collect()
    }

    /// Until this standby is told of by its primary with nothing missing.
    fn wait_streaming(&self, standby: usize) {
        wait_for("the standby streams", || {
            let members = self.status(3 - standby)?["members"].as_array()?.clone();
            let row = members.into_iter().find(|row| row["node"] == format!("node{standby}"))?;
            (row["role"] == "STANDBY" && row["lag"] == 0).then_some(())
        });
    }

    fn values(&self, id: usize) -> Vec<String> {
        self.log(id).iter().filter_map(|line| line.split(' ').nth(3).map(str::to_owned)).collect()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_write_is_acknowledged_once_both_have_it_and_by_the_primary_alone() {
    let mut pair = Pair::started();
    for n in 1..=5 {
        let (status, answer) = pair.write(1, Some(0), &format!("v{n}"));
        assert_eq!(
            (status, answer["sequence"].as_u64(), answer["standby"].as_bool()),
            (200, Some(n), Some(true))
        );
        // No waiting here: it was acknowledged.
        assert_eq!(pair.log(1), pair.log(2));
    }
    assert_eq!(pair.write(2, None, "v").0, 503, "a standby accepts nothing");
    assert_eq!(pair.write(1, Some(1), "v").0, 409, "a newer epoch is not this primary's");
    let status = pair.status(2).expect("it answers");
    let own = &status["members"][0];
    assert_eq!((own["role"].as_str(), own["position"].as_u64()), (Some("STANDBY"), Some(5)));
    pair.kill(2);
    let (status, answer) = pair.write(1, None, "alone");
    assert_eq!(status, 503, "nobody told it to go on alone: {answer}");
    pair.start(2);
    wait_for("what nobody acknowledged follows, too", || (pair.values(2).last()? == "alone").then_some(()));
    let name = |name: &str| name.starts_with("accepted-");
    let files = std::fs::read_dir(pair.data(1)).expect("the folder").flatten();
    let accepted = files.filter(|file| file.file_name().to_str().is_some_and(name)).map(|file| file.path());
    let text: String = accepted.map(|path| std::fs::read_to_string(path).expect("read")).collect();
    assert_eq!(text.lines().count(), 5, "each accepted write is told once: {text}");
}

#[test]
fn a_standby_is_promoted_once_and_the_role_survives_a_crash() {
    let mut pair = Pair::started();
    assert_eq!(pair.write(1, None, "before").0, 200);
    pair.kill(1);
    assert!(!pair.admin(2, &["promote", "--epoch", "0"]).success(), "no epoch above the one it knows");
    assert!(pair.admin(2, &["promote", "--epoch", "7", "--async"]).success());
    pair.kill(2);
    pair.start(2);
    assert!(pair.admin(2, &["promote", "--epoch", "7"]).success(), "told again");
    assert!(!pair.admin(2, &["promote", "--epoch", "6"]).success(), "an older one");
    let (status, answer) = pair.write(2, Some(7), "after");
    assert_eq!((status, &answer["epoch"], &answer["standby"]), (200, &7.into(), &false.into()), "{answer}");
    assert_eq!(pair.write(2, Some(0), "old").0, 409, "who believes in an older primary is told");
    // On purpose: only the lease keeps a crashed primary from leading again.
    pair.start(1);
    assert_eq!(pair.status(1).expect("it answers")["members"][0]["role"], "PRIMARY");
}

#[test]
fn a_former_primary_rejoins_whenever_it_is_killed_and_keeps_what_it_had_aside() {
    let mut pair = Pair::started();
    assert_eq!(pair.write(1, None, "both").0, 200);
    pair.kill(2);
    assert_eq!(pair.write(1, None, "lost").0, 503);
    assert!(!pair.admin(1, &["rejoin"]).success(), "it runs, and nobody else leads");
    pair.kill(1);
    pair.start(2);
    assert!(pair.admin(2, &["promote", "--epoch", "3", "--async"]).success());
    assert_eq!(pair.write(2, None, "new").0, 200);
    for step in ["aside", "standing", "cut"] {
        assert_eq!(pair.admin(1, &["rejoin", "--die-after", step]).code(), None, "killed after {step}");
    }
    let primary = format!("127.0.0.1:{}", pair.ports[1]);
    assert!(pair.admin(1, &["rejoin", "--primary", &primary]).success());
    let aside = pair.data(1).join("cut-off-epoch-0-lines-2-to-2.log");
    assert!(std::fs::read_to_string(aside).expect("kept").contains(" lost "));
    pair.start(1);
    pair.wait_streaming(1);
    assert_eq!(pair.log(1), pair.log(2));
    wait_for("it is not alone any more", || (pair.status(2)?["alone"] == false).then_some(()));
    let (status, answer) = pair.write(2, Some(3), "again");
    assert_eq!((status, &answer["standby"]), (200, &true.into()));
    assert_eq!(pair.values(1), ["both", "new", "again"]);
}

#[test]
fn what_is_not_a_prefix_is_not_followed_and_not_thrown_away() {
    let mut pair = Pair::started();
    pair.kill(2);
    assert_eq!(pair.write(1, None, "lost").0, 503);
    pair.kill(1);
    pair.start(2);
    assert!(pair.admin(2, &["promote", "--epoch", "3", "--async"]).success());
    assert_eq!(pair.write(2, None, "new").0, 200);
    // Killed after it stopped being a primary, and started before its log was cut.
    assert_eq!(pair.admin(1, &["rejoin", "--die-after", "standing"]).code(), None);
    pair.start(1);
    wait_for("it says that it does not fit", || {
        (pair.status(1)?["members"][0]["serving"] == false).then_some(())
    });
    assert_eq!(pair.values(1), ["lost"]);
    assert_eq!(pair.status(2).expect("it answers")["alone"], true, "it has nothing yet");
}
