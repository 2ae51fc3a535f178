//! `DIR/fleet.json`: every process of the fleet, for scripts and for `stop`.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, write_atomically};
use super::process::Identity;

/// Largest `fleet.json` read, in bytes; one of 9 coordinators and 1000 agents is under 1 MiB.
const MAX_FLEET_BYTES: u64 = 4 * 1024 * 1024;

/// The sample service's name.
pub(super) const LEDGER: &str = "ledger";
/// Voters of the sample group, on the first agents.
const LEDGER_VOTERS: usize = 3;

/// The sample pair's name.
pub(super) const PAIR: &str = "pair";
/// Instances of it, on the first agents.
const PAIR_INSTANCES: usize = 2;

/// How far the fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum FleetState {
    /// Coming up.
    Starting,
    /// Every node READY, the group HEALTHY (at that moment; `quorate status` knows the present).
    Ready,
    /// Did not come up; `message` says why.
    Failed,
    /// Stopped on purpose.
    Stopped,
}

/// The whole file. The first three lists are contract, the rest is ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fleet {
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) agents: Vec<Agent>,
    pub(super) instances: Vec<Instance>,
    /// Instances that are no members of the group yet, for tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) spares: Vec<Instance>,
    /// The instances of the sample pair, where it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pair: Vec<Instance>,
    pub(super) state: FleetState,
    #[serde(default)]
    pub(super) message: String,
    #[serde(flatten)]
    pub(super) supervisor: Supervisor,
}

/// Who watches over it. Pid 0: nobody.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Supervisor {
    pub(super) supervisor_pid: u32,
    pub(super) supervisor_start: u64,
    /// Pids and start times mean nothing after a reboot.
    pub(super) boot_id: String,
}

/// One member. Pid 0: not running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Coordinator {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) grpc: String,
    pub(super) http: String,
    /// What others call it at, when something stands in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advertise: Option<String>,
    pub(super) dir: PathBuf,
    /// Start time of the process, clock ticks since boot.
    #[serde(default)]
    pub(super) start: u64,
}

/// One host's two daemons. Pid 0: not running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) pid: u32,
    pub(super) dir: PathBuf,
    pub(super) helper_pid: u32,
    #[serde(default)]
    pub(super) start: u64,
    #[serde(default)]
    pub(super) helper_start: u64,
    /// The agent's metrics, on loopback.
    pub(super) metrics: String,
}

/// One instance of the sample service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) node: String,
    pub(super) service: String,
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    /// The same as `dir`.
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

/// Which process of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Coordinator(String),
    Agent(String),
    Helper(String),
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator(name) => f.write_str(name),
            Self::Agent(node) => write!(f, "agent of {node}"),
            Self::Helper(node) => write!(f, "helper of {node}"),
        }
    }
}

impl Coordinator {
    /// What agents and the other members call it at.
    pub(super) fn advertised(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.grpc)
    }
}

impl Fleet {
    /// A new fleet with free ports, all picked while the sockets of the others are held.
    pub(super) fn plan(
        layout: &Layout,
        coordinators: usize,
        agents: usize,
        spares: usize,
    ) -> anyhow::Result<Self> {
        let mut ports = Ports::new();
        let coordinators = (1..=coordinators)
            .map(|number| {
                let name = format!("coord{number}");
                let (grpc, http) = (ports.pick(None)?, ports.pick(None)?);
                let dir = layout.coordinator(&name);
                let (grpc, http) = (loopback(grpc), loopback(http));
                Ok(Coordinator { name, pid: 0, grpc, http, advertise: None, dir, start: 0 })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot find free ports")?;
        let nodes: Vec<String> = (1..=agents).map(|number| format!("node{number}")).collect();
        let mut instances = nodes
            .iter()
            .take(LEDGER_VOTERS.saturating_add(spares))
            .map(|node| {
                let dir = layout.instance(LEDGER, node);
                let log = layout.instance_logs(LEDGER, node).join("ledger.log");
                let (node, port) = (node.clone(), ports.pick(None)?);
                Ok(Instance { node, service: LEDGER.to_owned(), data: dir.clone(), dir, port, log })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot find free ports")?;
        let spares = instances.split_off(LEDGER_VOTERS.min(instances.len()));
        let agents = nodes
            .iter()
            .map(|node| {
                let metrics = loopback(ports.pick(None)?);
                let (node, dir) = (node.clone(), layout.agent(node));
                Ok(Agent { node, pid: 0, dir, helper_pid: 0, start: 0, helper_start: 0, metrics })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot find free ports")?;
        let (state, supervisor) = (FleetState::Starting, Supervisor::default());
        let (pair, message) = (Vec::new(), String::new());
        Ok(Self { coordinators, agents, instances, spares, pair, state, message, supervisor })
    }

    /// Adds the sample pair to a new fleet. Whoever takes one of its ports meanwhile is found by [`Self::repick`].
    pub(super) fn plan_pair(&mut self, layout: &Layout) -> anyhow::Result<()> {
        if self.agents.len() < PAIR_INSTANCES {
            anyhow::bail!("a pair needs {PAIR_INSTANCES} agents");
        }
        let instance = |agent: &Agent| {
            let node = agent.node.clone();
            let dir = layout.instance(PAIR, &node);
            let log = layout.instance_logs(PAIR, &node).join("pair.log");
            Instance { node, service: PAIR.to_owned(), data: dir.clone(), dir, port: 0, log }
        };
        self.pair = self.agents.iter().take(PAIR_INSTANCES).map(instance).collect();
        self.repick()
    }

    /// Every instance that has a place, a member or not.
    pub(super) fn placed(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().chain(&self.spares)
    }

    /// Ports that somebody else took meanwhile. A coordinator's address is part of the cluster's membership, so it is
    /// not exchanged: the taken ones are named and nothing is started.
    pub(super) fn repick(&mut self) -> anyhow::Result<()> {
        let mut ports = Ports::new();
        for member in &self.coordinators {
            for address in [&member.grpc, &member.http] {
                let port = port_of(address)?;
                ports.pick(Some(port)).ok().filter(|got| *got == port).with_context(|| {
                    format!("{address} of {} is in use by another process; end that one first", member.name)
                })?;
            }
        }
        for instance in self.instances.iter_mut().chain(&mut self.spares).chain(&mut self.pair) {
            let wish = Some(instance.port).filter(|port| *port != 0);
            instance.port = ports.pick(wish).context("cannot find a free port")?;
        }
        for agent in &mut self.agents {
            let port = port_of(&agent.metrics)?;
            agent.metrics = loopback(ports.pick(Some(port)).context("cannot find a free port")?);
        }
        Ok(())
    }

    /// Reads the file. `None`: there is none.
    pub(super) fn load(layout: &Layout) -> anyhow::Result<Option<Self>> {
        use std::io::Read as _;
        let path = layout.fleet_file();
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FLEET_BYTES).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("{} is damaged; remove the whole folder to begin anew", path.display()))
    }

    /// Writes the file whole.
    pub(super) fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = layout.fleet_file();
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_atomically(&path, &text, 0o600).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Notes a process that began, or (`None`) one that ended.
    pub(super) fn note(&mut self, slot: &Slot, identity: Option<Identity>) {
        let (new_pid, new_start) = identity.map_or((0, 0), |identity| (identity.pid, identity.start));
        let place = match slot {
            Slot::Coordinator(name) => self
                .coordinators
                .iter_mut()
                .find(|member| member.name == *name)
                .map(|member| (&mut member.pid, &mut member.start)),
            Slot::Agent(node) => self
                .agents
                .iter_mut()
                .find(|agent| agent.node == *node)
                .map(|agent| (&mut agent.pid, &mut agent.start)),
            Slot::Helper(node) => self
                .agents
                .iter_mut()
                .find(|agent| agent.node == *node)
                .map(|agent| (&mut agent.helper_pid, &mut agent.helper_start)),
        };
        if let Some((pid, start)) = place {
            (*pid, *start) = (new_pid, new_start);
        }
    }

    /// Every recorded daemon of this boot with its process.
    pub(super) fn daemons(&self) -> Vec<(Slot, Identity)> {
        if self.supervisor.boot_id != super::process::boot_id() {
            return Vec::new();
        }
        let members = self.coordinators.iter().map(|member| {
            (Slot::Coordinator(member.name.clone()), Identity { pid: member.pid, start: member.start })
        });
        let agents = self.agents.iter().flat_map(|agent| {
            [
                (Slot::Agent(agent.node.clone()), Identity { pid: agent.pid, start: agent.start }),
                (
                    Slot::Helper(agent.node.clone()),
                    Identity { pid: agent.helper_pid, start: agent.helper_start },
                ),
            ]
        });
        members.chain(agents).filter(|(_, identity)| identity.pid != 0).collect()
    }

    /// The recorded supervisor, if it lives.
    pub(super) fn live_supervisor(&self) -> Option<Identity> {
        let identity =
            Identity { pid: self.supervisor.supervisor_pid, start: self.supervisor.supervisor_start };
        (self.supervisor.boot_id == super::process::boot_id() && identity.alive()).then_some(identity)
    }
}

fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn port_of(address: &str) -> anyhow::Result<u16> {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse());
    port.and_then(Result::ok).with_context(|| format!("fleet.json: {address:?} is no address"))
}

/// Lowest port picked: below are the ports that people give their own services.
const LOWEST_PORT: u16 = 15_000;
/// Ports tried before the kernel is asked for any: far more than a fleet and its neighbours use.
const MAX_TRIES: u16 = 2_000;

/// Free ports, none given out twice: the sockets are held until all are picked.
///
/// They are taken from below the range of outgoing connections. A port inside of it could be taken by any connection
/// while its owner is being restarted, and a poll of it could connect to itself.
#[derive(Debug)]
struct Ports {
    held: Vec<TcpListener>,
    next: u16,
    end: u16,
}

impl Ports {
    fn new() -> Self {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
        let end = u16::max(end, LOWEST_PORT + 1);
        // Fleets that start at the same time should not try the same ports.
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let offset = u16::try_from(random % u64::from(end - LOWEST_PORT)).unwrap_or(0);
        Self { held: Vec::new(), next: LOWEST_PORT + offset, end }
    }

    /// The wished port if it is free, else any.
    fn pick(&mut self, wish: Option<u16>) -> std::io::Result<u16> {
        let wished = wish.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let socket = match wished.or_else(|| self.any()) {
            Some(socket) => socket,
            None => TcpListener::bind(("127.0.0.1", 0))?,
        };
        let port = socket.local_addr()?.port();
        self.held.push(socket);
        Ok(port)
    }

    fn any(&mut self) -> Option<TcpListener> {
        for _ in 0..MAX_TRIES.min(self.end - LOWEST_PORT) {
            let port = self.next;
            self.next = if port + 1 >= self.end { LOWEST_PORT } else { port + 1 };
            if let Ok(socket) = TcpListener::bind(("127.0.0.1", port)) {
                return Some(socket);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_has_distinct_ports_and_the_contracts_shape() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::create(base.path()).expect("create");
        let mut fleet = Fleet::plan(&layout, 3, 5, 0).expect("a plan");
        fleet.note(&Slot::Helper("node2".to_owned()), Some(Identity { pid: 7, start: 9 }));
        fleet.save(&layout).expect("save");
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.fleet_file()).expect("read")).expect("JSON");
        for (list, count, keys) in [
            ("coordinators", 3, vec!["name", "pid", "grpc", "http", "dir"]),
            ("agents", 5, vec!["node", "pid", "dir", "helper_pid"]),
            ("instances", 3, vec!["node", "service", "dir", "port"]),
        ] {
            let rows = json[list].as_array().expect("a list");
            assert_eq!(rows.len(), count);
            assert!(keys.iter().all(|key| rows[0].get(key).is_some()), "{list}: {}", rows[0]);
        }
        assert_eq!(json["agents"][1]["helper_pid"], 7);
        let mut ports: Vec<u16> = fleet.instances.iter().map(|instance| instance.port).collect();
        for address in fleet.coordinators.iter().flat_map(|member| [&member.grpc, &member.http]) {
            ports.push(port_of(address).expect("a port"));
        }
        ports.extend(fleet.agents.iter().map(|agent| port_of(&agent.metrics).expect("a port")));
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 3 + 6 + 5);
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("Linux has it");
        let low: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).expect("a number");
        assert!(low <= LOWEST_PORT || ports.iter().all(|port| *port < low), "{ports:?} below {low}");
    }

    #[test]
    fn a_taken_port_is_exchanged_for_an_instance_and_refused_for_a_coordinator() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::create(base.path()).expect("create");
        let mut fleet = Fleet::plan(&layout, 1, 1, 0).expect("a plan");
        let before = fleet.instances[0].port;
        let _taken = TcpListener::bind(("127.0.0.1", before)).expect("it is free");
        fleet.repick().expect("exchanged");
        assert_ne!(fleet.instances[0].port, before);
        let grpc = port_of(&fleet.coordinators[0].grpc).expect("a port");
        let _taken = TcpListener::bind(("127.0.0.1", grpc)).expect("it is free");
        let error = format!("{:#}", fleet.repick().expect_err("refused"));
        assert!(error.contains("coord1") && error.contains("in use"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_none_is_none() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::create(base.path()).expect("create");
        assert!(Fleet::load(&layout).expect("none").is_none());
        for bytes in [&b""[..], b"{", b"[]", b"\xff\xff", b"{\"coordinators\":1}"] {
            std::fs::write(layout.fleet_file(), bytes).expect("write");
            let error = Fleet::load(&layout).expect_err("refused");
            assert!(format!("{error:#}").contains("damaged"));
        }
    }

    #[test]
    fn pids_of_another_boot_are_nobody() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::create(base.path()).expect("create");
        let mut fleet = Fleet::plan(&layout, 1, 0, 0).expect("a plan");
        let own = Identity::of(std::process::id()).expect("this process");
        fleet.note(&Slot::Coordinator("coord1".to_owned()), Some(own));
        assert!(fleet.daemons().is_empty());
        fleet.supervisor.boot_id = crate::dev::process::boot_id();
        assert_eq!(fleet.daemons().len(), 1);
    }
}
