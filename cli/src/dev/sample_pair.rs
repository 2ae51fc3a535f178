//! The sample group `pair`: its instances' files, its host-side declaration, and its Service and ServiceGroup.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use quorate_proto::v1::{
    Driver, GroupFailover, GroupSpec, HttpProbe, InstanceVars, MembershipProbe, ProbeSpec, QuorumPolicy,
    QuorumPolicyKind, RunSpec, Selector, ServiceSpec, WorkSpec, driver, probe_spec, work_spec,
};

use super::config::{AgentConfig, Hook, Process, write_toml};
use super::fleet::{Fleet, Instance, PAIR};
use super::layout::Layout;
use super::pair::config::PairConfig;
use super::sample::duration;

/// Between readings.
const PROBE_INTERVAL_MS: u64 = 300;
/// How long a renewal is good for: short, so that a failover can be watched; long enough for a busy machine.
const TTL_MS: u64 = 6_000;
/// Lines that a standby may lack. What was acknowledged it has, unless the primary was alone.
const MAX_LAG: u64 = 0;
/// Lines behind the primary that still count as caught up.
const CAUGHT_UP_LAG: u64 = 100;
/// Makes an instance the primary.
const PROMOTE: &str = "pair-promote";
/// Makes a former primary a standby.
const REJOIN: &str = "pair-rejoin";

/// Writes the instances' own files and makes their folders. The first one leads at first.
pub(super) fn write_instances(layout: &Layout, fleet: &Fleet) -> anyhow::Result<()> {
    let [one, two] = fleet.pair.as_slice() else { return Ok(()) };
    for (instance, peer, first) in [(one, two, true), (two, one, false)] {
        let logs = instance.log.parent().context("a log has a folder")?;
        for dir in [instance.dir.as_path(), logs] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let config = PairConfig {
            node: instance.node.clone(),
            port: instance.port,
            peer_port: peer.port,
            data_dir: instance.dir.clone(),
            first,
        };
        write_toml(&layout.instance_config(PAIR, &instance.node), &config)?;
    }
    Ok(())
}

/// Adds to a host's file what the sample needs there: the program, its hooks, and the policy that lets them be used.
pub(super) fn declare(layout: &Layout, instance: &Instance, quorate: &Path, agent: &mut AgentConfig) {
    let config = layout.instance_config(PAIR, &instance.node);
    let argv = |words: &[&str]| {
        let words = [&["dev"], words, &["--config"]].concat();
        std::iter::once(quorate.to_string_lossy().into_owned())
            .chain(words.into_iter().map(str::to_owned))
            .chain(std::iter::once(config.to_string_lossy().into_owned()))
            .collect::<Vec<_>>()
    };
    let process = Process { argv: argv(&["pair"]), cwd: instance.dir.clone(), log: instance.log.clone() };
    agent.process.insert(PAIR.to_owned(), process);
    // Who takes over has no standby at first: it goes on alone until the other one is back and has everything.
    let promote = argv(&["pair-admin", "promote", "--async"]);
    for (hook, argv) in [(PROMOTE, promote), (REJOIN, argv(&["pair-admin", "rejoin"]))] {
        agent.hook.insert(hook.to_owned(), Hook { argv });
        agent.policy.hooks.push(hook.to_owned());
        agent.policy.run_hooks.push(hook.to_owned());
    }
    agent.policy.services.push(PAIR.to_owned());
    agent.policy.actions.push("role.*".to_owned());
    let logs = instance.log.parent().map(Path::to_owned);
    agent.policy.paths.extend(std::iter::once(instance.dir.clone()).chain(logs));
}

fn nodes(fleet: &Fleet) -> Vec<String> {
    fleet.pair.iter().map(|instance| instance.node.clone()).collect()
}

fn selector(fleet: &Fleet) -> Option<Selector> {
    Some(Selector { names: nodes(fleet), ..Default::default() })
}

/// The Service: whether it answers, and what it says of itself.
pub(super) fn service(fleet: &Fleet) -> ServiceSpec {
    let vars = fleet.pair.iter().map(|instance| {
        let vars = BTreeMap::from([("port".to_owned(), instance.port.to_string())]);
        (instance.node.clone(), InstanceVars { vars })
    });
    ServiceSpec {
        name: PAIR.to_owned(),
        driver: Some(Driver { kind: Some(driver::Kind::Process(PAIR.to_owned())) }),
        nodes: selector(fleet),
        probes: probes(),
        stop_timeout: duration(5_000),
        start_timeout: duration(10_000),
        vars: vars.collect(),
        labels: BTreeMap::from([("sample".to_owned(), "true".to_owned())]),
        ..Default::default()
    }
}

fn probes() -> Vec<ProbeSpec> {
    let probe = |name: &str, kind| ProbeSpec {
        name: name.to_owned(),
        interval: duration(PROBE_INTERVAL_MS),
        timeout: duration(1_000),
        passes: 3,
        from_peer: true,
        kind: Some(kind),
    };
    let url = |path: &str| format!("http://127.0.0.1:${{port}}{path}");
    let health = HttpProbe { url: url("/healthz"), ..Default::default() };
    let membership = MembershipProbe {
        url: url("/status"),
        members: "members".to_owned(),
        key: "node".to_owned(),
        this: "${node}".to_owned(),
        role: "role".to_owned(),
        serving: "serving".to_owned(),
        lag: "lag".to_owned(),
        max_lag: CAUGHT_UP_LAG,
        position: "position".to_owned(),
        argv: Vec::new(),
    };
    vec![
        probe("health", probe_spec::Kind::Http(health)),
        probe("membership", probe_spec::Kind::Membership(membership)),
    ]
}

/// The ServiceGroup: one leads, under a lease.
pub(super) fn group(fleet: &Fleet) -> GroupSpec {
    let kind = QuorumPolicyKind::PrimaryStandby.into();
    GroupSpec {
        name: PAIR.to_owned(),
        service: PAIR.to_owned(),
        voters: nodes(fleet),
        policy: Some(QuorumPolicy { kind, ..Default::default() }),
        failover: Some(GroupFailover {
            promote_hook: PROMOTE.to_owned(),
            rejoin_hook: REJOIN.to_owned(),
            timeout: duration(30_000),
            ttl: duration(TTL_MS),
            max_lag: MAX_LAG,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Starts both at once: none serves yet, so none can be missed.
pub(super) fn start_all(fleet: &Fleet) -> WorkSpec {
    let run = RunSpec {
        selector: selector(fleet),
        action: "service.start".to_owned(),
        service: PAIR.to_owned(),
        parallelism: u32::try_from(fleet.pair.len()).unwrap_or(1),
        gate_timeout: None,
    };
    WorkSpec { kind: Some(work_spec::Kind::Run(run)), max_failures: 0 }
}
