//! The writing client against the sample pair itself, without a lease: it finds nothing where one primary follows the other, and
//! finds two that accept at once. What keeps them apart is tested elsewhere; here is proved that it would be seen.

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use quorate_tests::cluster::{Fleet, Instance, http, loopback};
use quorate_tests::wait::wait_until;
use quorate_tests::workspace::binaries;
use quorate_tests::writer::{Writer, accepted, broken, log, overlap};
use serde_json::Value;

/// Longest that a state may take to come about on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

struct Pair {
    dir: tempfile::TempDir,
    instances: Vec<Instance>,
    children: Vec<Option<Child>>,
}

impl Pair {
    fn started() -> Self {
        let dir = tempfile::Builder::new().prefix("quorate-").tempdir().expect("a temporary directory");
        let held = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = held.map(|held| held.local_addr().expect("an address").port());
        let instance = |(n, port): (usize, u16)| Instance {
            node: format!("node{n}"),
            at: loopback(port),
            dir: dir.path().join(format!("node{n}")),
        };
        let instances: Vec<Instance> = (1..).zip(ports).map(instance).collect();
        let mut pair = Self { dir, instances, children: vec![None, None] };
        for (n, peer) in [(0, 1), (1, 0)] {
            let (own, peer) = (&pair.instances[n], &pair.instances[peer]);
            let text = format!(
                "node = '{}'\nport = {}\npeer_port = {}\ndata_dir = '{}'\nfirst = {}\n",
                own.node,
                own.at.port(),
                peer.at.port(),
                own.dir.display(),
                n == 0
            );
            std::fs::write(pair.dir.path().join(format!("{n}.toml")), text).expect("a writable folder");
        }
        pair.start(0);
        pair.start(1);
        pair
    }

    fn quorate(&self, n: usize, words: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("quorate"));
        command.arg("dev").args(words).arg("--config").arg(self.dir.path().join(format!("{n}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&mut self, n: usize) {
        self.children[n] = Some(self.quorate(n, &["pair"]).spawn().expect("it starts"));
        wait_until("it answers", LIMIT, || self.status(n).is_some());
    }

    fn kill(&mut self, n: usize) {
        let mut child = self.children[n].take().expect("it runs");
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }

    fn admin(&self, n: usize, words: &[&str]) -> ExitStatus {
        self.quorate(n, &[&["pair-admin"], words].concat()).status().expect("it runs")
    }

    fn status(&self, n: usize) -> Option<Value> {
        let (_, body) = http("GET", self.instances[n].at, "/status", "", Duration::from_secs(2)).ok()?;
        serde_json::from_str(&body).ok()
    }

    fn position(&self, n: usize) -> u64 {
        self.status(n).and_then(|status| status["members"][0]["position"].as_u64()).unwrap_or(0)
    }

    /// Until so many writes more are there.
    fn wait_writes(&self, n: usize, more: u64) {
        let before = self.position(n);
        wait_until("writes go on", LIMIT, || self.position(n) >= before + more);
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

pub(crate) fn the_writer_finds_nothing_where_one_follows_the_other_and_two_at_once(_fleet: &Fleet) {
    let mut pair = Pair::started();
    let writer = Writer::begin(pair.instances.clone());
    pair.wait_writes(1, 20);
    pair.kill(0);
    assert!(pair.admin(1, &["promote", "--epoch", "5", "--async"]).success());
    pair.wait_writes(1, 20);
    assert!(pair.admin(0, &["rejoin"]).success());
    pair.start(0);
    pair.wait_writes(0, 20);
    let acknowledged = writer.end();
    let epochs: Vec<u64> = acknowledged.iter().map(|ack| ack.epoch).collect();
    assert!(epochs.contains(&0) && epochs.last() == Some(&5), "{epochs:?}");
    let took = |pair: &Pair| pair.instances.iter().flat_map(|i| accepted(&i.dir)).collect::<Vec<_>>();
    assert_eq!(broken(&acknowledged, &took(&pair), &log(&pair.instances[1].dir)), None);

    // The other one is promoted beside a primary that lives and was told to go on alone: two epochs at once.
    assert!(pair.admin(1, &["promote", "--epoch", "5", "--async"]).success());
    assert!(pair.admin(0, &["promote", "--epoch", "9", "--async"]).success());
    let [one, other] = [0, 1].map(|n| Writer::begin(vec![pair.instances[n].clone()]));
    pair.wait_writes(0, 5);
    pair.wait_writes(1, 5);
    let (_, lost) = (one.end(), other.end());
    assert!(overlap(&took(&pair)).is_some());
    assert!(broken(&lost, &[], &log(&pair.instances[0].dir)).is_some_and(|why| why.contains("lost")));
}
