//! The fleet: three coordinators behind proxies, five agents, the sample pair on the first two.

use std::time::Duration;

use quorate_tests::cluster::{Daemon, Instance};
use quorate_tests::harness::Fixture;
use quorate_tests::proxied::Proxied;
use quorate_tests::wait::wait_for;
use quorate_tests::writer::{self, Acknowledged};
use rustix::process::Pid;
use serde_json::Value;

/// For the role to be held again: the silence of a lease of 6 s, a promotion, and what a busy machine adds.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Pair {
    pub(crate) proxied: Proxied,
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
        Self { proxied: Proxied::start_in(dir, &["--agents", "5", "--pair"]) }
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
        let primary = self.led_by(None);
        wait_for("a standby", LIMIT, || {
            let found = self.status()?;
            let all = found["members"].as_array().is_some_and(|members| {
                members.iter().all(|m| m["available"] == true)
                    && members.iter().any(|m| m["role"] == "STANDBY")
            });
            if all { Ok(()) } else { Err(found.to_string()) }
        });
        // Refused while there is nothing to acknowledge.
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
        let config = self.proxied.fleet.dir().join("services/pair").join(format!("{node}.toml"));
        let config = config.display().to_string();
        let all = procfs::process::all_processes().expect("/proc").filter_map(Result::ok);
        let found = all
            .filter(|p| p.cmdline().is_ok_and(|words| words.contains(&config)))
            .find(|p| p.cmdline().is_ok_and(|words| words.iter().any(|word| word == "pair")));
        found.and_then(|process| Pid::from_raw(process.pid())).expect("it runs")
    }

    /// A former primary becomes a standby again, by the host's own hook.
    pub(crate) fn bring_back(&self, node: &str) {
        let quorate = quorate_tests::workspace::binaries().join("quorate");
        let config = self.proxied.fleet.dir().join("services/pair").join(format!("{node}.toml"));
        let mut hook = std::process::Command::new(quorate);
        hook.args(["dev", "pair-admin", "rejoin", "--config"]).arg(config);
        let ended = hook.output().expect("it runs");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let words = ["service", "start", "pair", "--node", node, "--wait", "--yes"];
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
