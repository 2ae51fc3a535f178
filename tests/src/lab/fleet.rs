//! A fleet on real hosts: three coordinators, five agents, the sample on three of them; installed by the guide.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{Answer, Ground, Guide, Host, Lab, Sample};
use crate::cluster::{Instance, leader_among};
use crate::harness::Fixture;
use crate::wait::wait_for;
use crate::workspace;

/// Hosts of the coordinators.
pub const COORDINATORS: [&str; 3] = ["coord1", "coord2", "coord3"];
/// Hosts with an agent.
pub const AGENTS: [&str; 5] = ["node1", "node2", "node3", "node4", "node5"];
/// A host that comes and goes: it has an agent only while a scenario has it.
pub const GUEST: &str = "node6";
/// The shortest life of certificates that is allowed: each is renewed several times while the lab runs. And the disks are
/// smaller than what must stay free of one.
const SETTINGS: &str = "[certificates]\nlife_secs = 300\n[artifacts]\nmin_free = \"64MiB\"\n";
/// The longest that a fleet of these hosts needs to be whole again after anything a scenario does.
pub const CALM: Duration = Duration::from_secs(120);
/// The host where people work.
const DESK: &str = "coord1";

/// The fleet.
#[derive(Debug)]
pub struct LabFleet {
    lab: Lab,
    /// The guide that it was installed by.
    pub guide: Guide,
}

impl LabFleet {
    /// Boots the hosts and types the guide's blocks up to the first rolling restart.
    ///
    /// # Errors
    /// The first command of the guide that fails.
    pub fn install(ground: &Ground) -> anyhow::Result<Self> {
        let guide = Guide::read(&workspace::root().join("deploy/guide/install.md"))?;
        let names = [&COORDINATORS[..], &AGENTS[..], &[GUEST]].concat();
        let lab = Lab::boot(ground, &names)?;
        for name in COORDINATORS {
            lab.host(name).write("/etc/quorate/coordinator.toml.d/20-lab.toml", SETTINGS, 0o644);
        }
        Sample::install(&lab);
        let fleet = Self { lab, guide };
        // What comes after the rolling restart belongs to scenarios of their own.
        let last = fleet.guide.blocks.iter().find(|block| block.script.contains("rollout start"));
        let last = last.context("the guide has no rolling restart")?.line;
        fleet.guide.type_all(&fleet.lab, |block| block.line < last)?;
        fleet.spread_identity();
        fleet.calm();
        Ok(fleet)
    }

    /// Gives the administrator's identity to the other coordinators' hosts, where each asks its own: the first one may be
    /// cut off.
    fn spread_identity(&self) {
        for host in COORDINATORS.iter().filter(|host| **host != DESK) {
            let copied = format!("ssh {host} mkdir -p .config && scp -rpq .config/quorate {host}:.config/");
            let _ = self.quorate_shell(&format!("cd && {copied}")).expect(0);
            let own = format!("s/^addresses = .*/addresses = [\"{host}:7443\"]/");
            let _ = self.host(host).run(&format!("sed -i '{own}' ~/.config/quorate/config.toml")).expect(0);
        }
    }

    /// A host.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// The hosts.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Runs the command line on a coordinator that answers, as the administrator does.
    #[track_caller]
    pub fn quorate(&self, arguments: &str) -> Answer {
        self.quorate_on(DESK, arguments)
    }

    /// The same on another host, whose own coordinator is asked: for when the first one is cut off.
    #[track_caller]
    pub fn quorate_on(&self, host: &str, arguments: &str) -> Answer {
        self.host(host).run(&format!("NO_COLOR=1 quorate {arguments}"))
    }

    /// A script of the guide where people work.
    #[track_caller]
    pub fn quorate_shell(&self, script: &str) -> Answer {
        self.host(DESK).run(script)
    }

    /// The JSON of a command that must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &str) -> Value {
        self.quorate(&format!("{arguments} -o json")).expect(0).json()
    }

    /// Starts an operation and gives its id.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn begin(&self, arguments: &str) -> String {
        let operation = self.json(&format!("{arguments} --yes --detach"));
        let name = operation["name"].as_str().expect("an operation has a name");
        name.rsplit('/').next().unwrap_or(name).to_owned()
    }

    /// The operation once it is terminal.
    #[must_use]
    pub fn ended(&self, id: &str, limit: Duration) -> Value {
        wait_for(&format!("{id} to end"), limit, || {
            let shown = self.quorate(&format!("operation show {id} -o json"));
            if shown.code != 0 {
                return Err(shown.stderr);
            }
            let operation = shown.json();
            let terminal = ["SUCCEEDED", "FAILED", "CANCELED", "ROLLED_BACK"];
            let state = operation["state"].as_str().unwrap_or_default();
            if terminal.contains(&state) { Ok(operation) } else { Err(operation.to_string()) }
        })
    }

    /// The operation as it is now.
    #[track_caller]
    pub fn operation(&self, id: &str) -> Value {
        self.json(&format!("operation show {id}"))
    }

    /// The leading coordinator, once there is one, asked on this host.
    #[must_use]
    pub fn leader(&self, host: &str) -> String {
        wait_for("a leading coordinator", CALM, || {
            let members = self.quorate_on(host, "cluster members -o json");
            if members.code != 0 {
                return Err(members.stderr);
            }
            leader_among(&members.json())
        })
    }

    /// Where the sample's instances are.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        Sample::instances(&self.lab)
    }

    /// How often each instance of the sample was started, by its own count.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<String, usize> {
        let count = |instance: Instance| {
            let text = fs::read_to_string(instance.dir.join("starts.log")).unwrap_or_default();
            (instance.node, text.lines().count())
        };
        self.instances().into_iter().map(count).collect()
    }

    /// Waits until every member votes, every node is READY and the group HEALTHY, if it is declared yet.
    pub fn calm(&self) {
        wait_for("a calm fleet", CALM, || {
            let members = self.asked("cluster members")?;
            let all = |rows: &Value, count: usize, good: &dyn Fn(&Value) -> bool| {
                rows.as_array().is_some_and(|rows| rows.len() == count && rows.iter().all(good))
            };
            let votes = |row: &Value| row["state"] != "DOWN" && row["voter"] == true;
            if !all(&members["members"], COORDINATORS.len(), &votes) {
                return Err(members.to_string());
            }
            let nodes = self.asked("node list")?;
            let ready = |name: &&str| {
                let rows = nodes["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
                rows.iter().any(|row| is_named(row, name) && row["status"] == "READY")
            };
            if !AGENTS.iter().all(ready) {
                return Err(nodes.to_string());
            }
            let groups = self.asked("group list")?;
            let rows = groups["groups"].as_array().cloned().unwrap_or_default();
            if rows.iter().all(|row| row["state"] == "HEALTHY") { Ok(()) } else { Err(groups.to_string()) }
        });
    }

    fn asked(&self, arguments: &str) -> Result<Value, String> {
        let answer = self.quorate(&format!("{arguments} -o json"));
        if answer.code == 0 { Ok(answer.json()) } else { Err(answer.stderr) }
    }
}

/// Whether a resource has this short name.
fn is_named(row: &Value, name: &str) -> bool {
    row["name"].as_str().and_then(|full| full.rsplit('/').next()) == Some(name)
}

impl Fixture for LabFleet {
    fn tell(&self) {
        self.lab.tell();
    }
}
