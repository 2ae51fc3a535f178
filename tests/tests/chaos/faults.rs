//! The faults: each begins, is held for a while, and is taken back.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use quorate_tests::cluster::Daemon;
use quorate_tests::proxy::{From, Rule, Trouble};
use quorate_tests::random::Random;
use quorate_tests::wait::wait_until;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::fleet::{Chaos, SMALL_COORDINATOR, SMALL_NODE};

/// Longest a fault is held.
const HELD: Duration = Duration::from_secs(12);
/// Longest a supervisor takes to start a process again: three seconds, and what a busy machine adds.
const UP: Duration = Duration::from_secs(8);
/// Descriptors left to a process whose limit is lowered: enough to go on with what it has, too few for anything new.
const SPARE_FDS: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillLeader,
    KillFollower,
    KillAgent,
    KillHelper,
    KillInstance,
    KillAll,
    StopLeader,
    StopFollower,
    StopAgent,
    StopHelper,
    CutLeader,
    CutFollower,
    CutOneWay,
    CutAgents,
    StallLeader,
    StallAgents,
    Slow,
    Delay,
    Torn,
    Reset,
    DiskFullCoordinator,
    DiskFullAgent,
    FdLimitCoordinator,
    FdLimitAgent,
}

impl Kind {
    /// All of them: each must happen, or the run proves nothing.
    pub(crate) const ALL: [Self; 24] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillAgent,
        Self::KillHelper,
        Self::KillInstance,
        Self::KillAll,
        Self::StopLeader,
        Self::StopFollower,
        Self::StopAgent,
        Self::StopHelper,
        Self::CutLeader,
        Self::CutFollower,
        Self::CutOneWay,
        Self::CutAgents,
        Self::StallLeader,
        Self::StallAgents,
        Self::Slow,
        Self::Delay,
        Self::Torn,
        Self::Reset,
        Self::DiskFullCoordinator,
        Self::DiskFullAgent,
        Self::FdLimitCoordinator,
        Self::FdLimitAgent,
    ];

    /// Those that `QUORATE_FAULTS` names (`KillLeader,Torn`), or all of them.
    pub(crate) fn chosen() -> Vec<Self> {
        let named = std::env::var("QUORATE_FAULTS").unwrap_or_default();
        let chosen =
            Self::ALL.into_iter().filter(|kind| named.split(',').any(|name| name == format!("{kind:?}")));
        let chosen: Vec<Self> = chosen.collect();
        if chosen.is_empty() { Self::ALL.to_vec() } else { chosen }
    }
}

/// What a fault did, when it did anything.
#[derive(Debug)]
pub(crate) struct Done {
    /// Processes killed.
    pub(crate) killed: usize,
    /// In words.
    pub(crate) told: String,
}

/// Carries one fault out from beginning to end; `None` when it could not be done.
pub(crate) fn inject(
    chaos: &Chaos,
    kind: Kind,
    random: &mut Random,
    taken: &mut dyn FnMut(&str),
) -> Option<Done> {
    let leader = || chaos.fleet.leader();
    let follower = |random: &mut Random| {
        let leader = chaos.fleet.leader();
        let names = chaos.fleet.coordinators().into_iter().map(|c| c.0).filter(|name| *name != leader);
        let names: Vec<String> = names.collect();
        names[usize::try_from(random.below(names.len() as u64)).unwrap_or(0)].clone()
    };
    // Mostly hosts of the group: there is the work.
    let node = |random: &mut Random| format!("node{}", 1 + random.below(3));
    match kind {
        Kind::KillLeader => kill(chaos, &[Daemon::Coordinator(&leader())]),
        Kind::KillFollower => kill(chaos, &[Daemon::Coordinator(&follower(random))]),
        Kind::KillAgent => kill(chaos, &[Daemon::Agent(&node(random))]),
        Kind::KillHelper => kill(chaos, &[Daemon::Helper(&node(random))]),
        Kind::KillInstance => {
            let node = node(random);
            let pid = instance(chaos, &node)?;
            taken(&node);
            kill_process(pid, Signal::KILL).ok()?;
            Some(Done { killed: 1, told: format!("instance of {node}") })
        }
        Kind::KillAll => kill_all(chaos),
        Kind::StopLeader => freeze(chaos, Daemon::Coordinator(&leader()), random),
        Kind::StopFollower => freeze(chaos, Daemon::Coordinator(&follower(random)), random),
        Kind::StopAgent => freeze(chaos, Daemon::Agent(&node(random)), random),
        Kind::StopHelper => freeze(chaos, Daemon::Helper(&node(random)), random),
        Kind::CutLeader => Some(weather(chaos, random, &both_ways(&leader(), Trouble::Cut))),
        Kind::CutFollower => {
            let name = follower(random);
            Some(weather(chaos, random, &both_ways(&name, Trouble::Cut)))
        }
        Kind::CutOneWay => Some(weather(chaos, random, &[to(From::Coordinators, &leader(), Trouble::Cut)])),
        Kind::CutAgents => Some(weather(chaos, random, &[to(From::Agents, &leader(), Trouble::Cut)])),
        Kind::StallLeader => Some(weather(chaos, random, &both_ways(&leader(), Trouble::Stall))),
        Kind::StallAgents => Some(weather(chaos, random, &[any(From::Agents, Trouble::Stall)])),
        Kind::Slow => Some(weather(chaos, random, &[any(From::Anyone, Trouble::Slow(20_000))])),
        Kind::Delay => {
            let delay = random.between(10, 120);
            Some(weather(chaos, random, &[any(From::Anyone, Trouble::Delay(delay))]))
        }
        Kind::Torn => Some(weather(chaos, random, &[any(From::Anyone, Trouble::Torn)])),
        Kind::Reset => Some(weather(chaos, random, &[any(From::Anyone, Trouble::Reset)])),
        Kind::DiskFullCoordinator => fill(chaos, SMALL_COORDINATOR, random),
        Kind::DiskFullAgent => fill(chaos, SMALL_NODE, random),
        Kind::FdLimitCoordinator => starve(chaos, Daemon::Coordinator(&leader()), random),
        Kind::FdLimitAgent => starve(chaos, Daemon::Agent(&node(random)), random),
    }
}

fn any(from: From, trouble: Trouble) -> Rule {
    Rule { from, to: None, trouble }
}

fn to(from: From, name: &str, trouble: Trouble) -> Rule {
    Rule { from, to: Some(name.to_owned()), trouble }
}

/// Nothing in and nothing out of a member, clients through the proxy included.
fn both_ways(name: &str, trouble: Trouble) -> [Rule; 2] {
    [to(From::Anyone, name, trouble), any(From::One(name.to_owned()), trouble)]
}

fn hold(span: Duration) {
    let begun = std::time::Instant::now();
    wait_until("a fault to have lasted", HELD, || begun.elapsed() >= span);
}

fn weather(chaos: &Chaos, random: &mut Random, rules: &[Rule]) -> Done {
    chaos.network.set(rules.to_vec());
    let span = random.between(500, 4_000);
    hold(span);
    chaos.network.set(Vec::new());
    Done { killed: 0, told: format!("{rules:?} for {span:?}") }
}

/// The process of a victim; one that an earlier fault ended is started again within seconds.
fn alive(chaos: &Chaos, victim: Daemon<'_>) -> Option<Pid> {
    let (begun, mut found) = (std::time::Instant::now(), None);
    wait_until("a victim to be up, or not", HELD + UP, || {
        found = chaos.fleet.pid(victim);
        found.is_some() || begun.elapsed() > UP
    });
    found
}

fn kill(chaos: &Chaos, victims: &[Daemon<'_>]) -> Option<Done> {
    let pids: Vec<Pid> = victims.iter().filter_map(|victim| alive(chaos, *victim)).collect();
    let killed = pids.into_iter().filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count();
    (killed > 0).then(|| Done { killed, told: format!("{victims:?}") })
}

/// Every daemon at once; the instances are not ours to kill with them, and live on.
fn kill_all(chaos: &Chaos) -> Option<Done> {
    let names: Vec<String> = chaos.fleet.coordinators().into_iter().map(|c| c.0).collect();
    let nodes: Vec<String> = (1..=5).map(|n| format!("node{n}")).collect();
    let members = names.iter().map(|name| Daemon::Coordinator(name));
    let halves = nodes.iter().flat_map(|node| [Daemon::Agent(node), Daemon::Helper(node)]);
    kill(chaos, &members.chain(halves).collect::<Vec<_>>())
}

/// SIGSTOP for 0.1 to 10 s, short ones more often, then SIGCONT.
fn freeze(chaos: &Chaos, victim: Daemon<'_>, random: &mut Random) -> Option<Done> {
    let pid = alive(chaos, victim)?;
    let part = random.below(1_000);
    let span = Duration::from_millis(100 + 9_900 * part * part / 1_000_000);
    kill_process(pid, Signal::STOP).ok()?;
    hold(span);
    kill_process(pid, Signal::CONT).ok()?;
    Some(Done { killed: 0, told: format!("{victim:?} stood still for {span:?}") })
}

/// The process of the sample service on a node.
fn instance(chaos: &Chaos, node: &str) -> Option<Pid> {
    let config = chaos.fleet.dir().canonicalize().ok()?.join("services/ledger").join(format!("{node}.toml"));
    let found = procfs::process::all_processes().ok()?.filter_map(Result::ok).find(|process| {
        let words = process.cmdline().unwrap_or_default();
        words.iter().any(|word| word == "ledger") && words.iter().any(|word| Path::new(word) == config)
    })?;
    Pid::from_raw(found.pid)
}

/// Fills the small disk of a member or a host to the last byte.
fn fill(chaos: &Chaos, name: &str, random: &mut Random) -> Option<Done> {
    let disk = chaos.disks.iter().find(|disk| disk.0.ends_with(name))?;
    let path = disk.0.join("filler");
    let mut file = File::create(&path).ok()?;
    let (mut written, mut piece) = (0_usize, 1 << 20);
    while piece > 0 {
        match file.write(&vec![0x5a; piece]) {
            Ok(0) | Err(_) => piece /= 2,
            Ok(length) => written += length,
        }
    }
    let span = random.between(1_500, 6_000);
    hold(span);
    fs::remove_file(&path).ok()?;
    Some(Done {
        killed: 0,
        told: format!("{name}: {} MiB more and the disk was full, for {span:?}", written >> 20),
    })
}

/// Lets a process open next to nothing more.
fn starve(chaos: &Chaos, victim: Daemon<'_>, random: &mut Random) -> Option<Done> {
    let pid = alive(chaos, victim)?;
    let open = procfs::process::Process::new(pid.as_raw_nonzero().get()).ok()?.fd_count().ok()?;
    let low = u64::try_from(open).ok()? + SPARE_FDS;
    let before = rustix::process::getrlimit(Resource::Nofile);
    let old =
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(low), maximum: before.maximum }).ok()?;
    // What is open stays; what comes now finds no descriptor.
    chaos.network.set(vec![any(From::Anyone, Trouble::Reset)]);
    let span = random.between(1_000, 4_000);
    hold(span);
    chaos.network.set(Vec::new());
    // It may have been started anew meanwhile: then there is nothing to give back.
    let _ = prlimit(Some(pid), Resource::Nofile, old);
    Some(Done {
        killed: 0,
        told: format!("{victim:?}: {open} descriptors open, {low} allowed, for {span:?}"),
    })
}
