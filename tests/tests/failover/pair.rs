//! The fleet: three coordinators behind proxies, five agents, the sample pair on the first two.

use std::time::Duration;

use quorate_tests::cluster::{Daemon, Instance};
use quorate_tests::harness::Fixture;
use quorate_tests::preload::PRELOAD;
use quorate_tests::proxied::Proxied;
use quorate_tests::wait::{wait_for, wait_until};
use quorate_tests::writer::{self, Acknowledged, Writer};
use rustix::process::Pid;
use serde_json::Value;

/// For the role to be held again: the silence of a lease of 6 s, a promotion, and what a busy machine adds.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// For an operator to bring it back after faults: several leases, a move each, and a return.
pub(crate) const MENDED: Duration = Duration::from_secs(180);

pub(crate) struct Pair {
    pub(crate) proxied: Proxied,
}

/// Who leads, when both serve and one is the other's standby.
fn is_whole(found: &Value) -> Option<String> {
    let members = found["members"].as_array()?;
    let holder = found["lease"]["node"].as_str()?;
    let leads = members.iter().any(|m| m["node"] == holder && m["role"] == "PRIMARY");
    let follows = members.iter().any(|m| m["role"] == "STANDBY");
    let all = members.iter().all(|m| m["available"] == true && m["former"] != true);
    let sure = found["lease"]["state"] == "HELD" && found["suspicion"] == "NONE";
    (leads && follows && all && sure).then(|| holder.to_owned())
}

impl Fixture for Pair {
    fn tell(&self) {
        self.proxied.fleet.tell();
    }
}

impl Pair {
    pub(crate) fn start() -> Self {
        let dir =
            tempfile::Builder::new().prefix("quorate-failover-").tempdir().expect("a temporary directory");
        let clocks = dir.path().join("clocks");
        std::fs::create_dir(&clocks).expect("a folder");
        let clock = quorate_tests::preload::clock().expect("the clock's library");
        let variables = [(PRELOAD, clock.into_os_string()), ("QUORATE_CLOCK_DIR", clocks.into_os_string())];
        Self { proxied: Proxied::start_with(dir, &["--agents", "5", "--pair"], &variables) }
    }

    /// Turns the wall clock of one daemon by so many seconds from what it is.
    pub(crate) fn turn_clock(&self, pid: Pid, seconds: i64) {
        let link = self.proxied.fleet.dir().join("clocks").join(pid.as_raw_nonzero().to_string());
        let fresh = link.with_extension("new");
        std::os::unix::fs::symlink(seconds.to_string(), &fresh).expect("a link");
        std::fs::rename(&fresh, &link).expect("a link");
    }

    /// A client that is writing already.
    pub(crate) fn writer(&self) -> Writer {
        let writer = Writer::begin(self.proxied.fleet.pair());
        wait_until("writes to be acknowledged", LIMIT, || writer.count() > 20);
        writer
    }

    /// From now on each of the pair acknowledges alone whenever the other one does not answer.
    pub(crate) fn acknowledge_alone(&self) {
        let first = self.whole();
        let standby = self.other(&first);
        for node in [&first, &standby] {
            let file = self.proxied.fleet.dir().join("services/pair").join(format!("{node}.toml"));
            let text = std::fs::read_to_string(&file).expect("its file");
            let alone = text.replace("asynchronous = false", "asynchronous = true");
            assert_ne!(alone, text, "it says how it acknowledges");
            std::fs::write(&file, alone).expect("its file");
        }
        // The standby reads it when it is started again; the primary when it comes back as a standby.
        let words = ["service", "restart", "pair", "--node", &standby, "--wait", "--yes"];
        let _ = self.proxied.fleet.quorate(&words).expect(0);
        self.whole();
        let words = ["failover", "switchover", "pair", "--wait", "--yes", "--timeout", "60s"];
        let _ = self.proxied.fleet.quorate(&words).expect(0);
        assert_eq!(self.whole(), standby);
    }

    /// Does what an operator would do by what the status says, until both serve again: who leads then.
    pub(crate) fn mended(&self) -> String {
        let mut tried = std::time::Instant::now();
        wait_for("the pair to be whole again", MENDED, || {
            let found = self.status()?;
            if let Some(primary) = is_whole(&found) {
                return Ok(primary);
            }
            if tried.elapsed() > Duration::from_secs(2) {
                self.mend(&found);
                tried = std::time::Instant::now();
            }
            Err(found.to_string())
        })
    }

    /// Whatever of it is refused now is tried again later.
    fn mend(&self, found: &Value) {
        let run = |words: &[&str]| drop(self.proxied.fleet.quorate(words));
        run(&["failover", "acknowledge", "pair", "--yes"]);
        for member in found["members"].as_array().into_iter().flatten() {
            let node = member["node"].as_str().unwrap_or_default();
            if member["former"] == true {
                run(&["failover", "rejoin", "pair", node, "--yes"]);
            } else if member["available"] != true {
                run(&["service", "start", "pair", "--node", node, "--yes"]);
            }
        }
    }

    pub(crate) fn instance(&self, node: &str) -> Instance {
        let found = self.proxied.fleet.pair().into_iter().find(|instance| instance.node == node);
        found.expect("it is one of the pair")
    }

    /// How the role stands; its exit code only says whether that is well.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let answer = self.proxied.fleet.quorate(&["failover", "status", "pair", "-o", "json"]);
        if answer.code > 1 { Err(answer.stderr) } else { Ok(answer.json()) }
    }

    /// Waits until somebody holds the role for certain and serves, and it is this node if one is named.
    pub(crate) fn led_by(&self, node: Option<&str>) -> String {
        wait_for("the role to be held", LIMIT, || {
            let found = self.status()?;
            let (holder, state) = (&found["lease"]["node"], &found["lease"]["state"]);
            let serves = found["members"].as_array().is_some_and(|members| {
                members
                    .iter()
                    .any(|m| m["node"] == *holder && m["role"] == "PRIMARY" && m["available"] == true)
            });
            let named = node.is_none_or(|node| holder == node);
            if state == "HELD" && serves && named && found["suspicion"] == "NONE" {
                Ok(holder.as_str().unwrap_or_default().to_owned())
            } else {
                Err(found.to_string())
            }
        })
    }

    /// Waits until both serve, one of them as a standby.
    pub(crate) fn whole(&self) -> String {
        let primary = wait_for("a primary and its standby", LIMIT, || {
            let found = self.status()?;
            is_whole(&found).ok_or_else(|| found.to_string())
        });
        // Refused while the last move is not over.
        let _ = self.proxied.fleet.quorate(&["failover", "acknowledge", "pair", "--yes"]);
        primary
    }

    /// The other one.
    pub(crate) fn other(&self, node: &str) -> String {
        let all = self.proxied.fleet.pair();
        all.into_iter().map(|instance| instance.node).find(|name| name != node).expect("two of them")
    }

    /// The process of an instance.
    pub(crate) fn process(&self, node: &str) -> Pid {
        self.found(node).expect("it runs")
    }

    /// The process of an instance, if there is one.
    pub(crate) fn found(&self, node: &str) -> Option<Pid> {
        let config = self.proxied.fleet.dir().join("services/pair").join(format!("{node}.toml"));
        let config = config.display().to_string();
        let all = procfs::process::all_processes().expect("/proc").filter_map(Result::ok);
        let found = all
            .filter(|p| p.cmdline().is_ok_and(|words| words.contains(&config)))
            .find(|p| p.cmdline().is_ok_and(|words| words.iter().any(|word| word == "pair")));
        found.and_then(|process| Pid::from_raw(process.pid()))
    }

    /// A former primary becomes a standby again; it is not started as it is.
    pub(crate) fn bring_back(&self, node: &str) {
        // The move may have its last looks to do yet.
        let rejoins = ["failover", "rejoin", "pair", node, "--dry-run"];
        wait_until("a former primary that may come back", LIMIT, || {
            self.proxied.fleet.quorate(&rejoins).code == 0
        });
        let words = ["service", "start", "pair", "--node", node, "--wait", "--yes"];
        let refused = self.proxied.fleet.quorate(&words).expect(3);
        assert!(refused.stderr.contains("failover rejoin pair"), "{}", refused.stderr);
        let words = ["failover", "rejoin", "pair", node, "--wait", "--yes", "--timeout", "60s"];
        let _ = self.proxied.fleet.quorate(&words).expect(0);
        self.whole();
    }

    pub(crate) fn agent(&self, node: &str) -> Pid {
        self.proxied.fleet.pid(Daemon::Agent(node)).expect("it runs")
    }

    /// What was promised to a client held, on the primary that is left.
    pub(crate) fn assert_kept(&self, acknowledged: &[Acknowledged], primary: &str) {
        let all: Vec<_> =
            self.proxied.fleet.pair().iter().flat_map(|instance| writer::accepted(&instance.dir)).collect();
        let left = writer::log(&self.instance(primary).dir);
        let broken = writer::broken(acknowledged, &all, &left);
        assert_eq!(broken, None, "{} acknowledged", acknowledged.len());
        let longest = acknowledged.windows(2).map(|w| w[1].ended.saturating_sub(w[0].ended)).max();
        println!(
            "  {} writes acknowledged, none lost; longest pause {} ms",
            acknowledged.len(),
            longest.unwrap_or(0) / 1_000
        );
    }
}
