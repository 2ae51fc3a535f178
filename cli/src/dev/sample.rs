//! The sample group `ledger`: its instances' files, its host-side declaration, and its Service and ServiceGroup.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use quorate_proto::v1::{
    BackupPolicy, BinaryInstall, ConfigApply, ConfigSpec, Driver, GroupMembership, GroupSpec, HttpProbe,
    Install, InstanceVars, LogRotation, MembershipProbe, ProbeSpec, QuorumPolicy, QuorumPolicyKind, RunSpec,
    Selector, ServiceData, ServiceSpec, UnitSoakProbe, WorkSpec, driver, install, probe_spec, work_spec,
};

use super::config::{AgentConfig, Hook, Process, write_toml};
use super::fleet::{Fleet, Instance, LEDGER};
use super::layout::{Layout, make_private};
use super::ledger::{LedgerConfig, Misbehave, PeerConfig, STORE, TokenConfig};

/// Between readings: fast enough that a gate of three readings takes about a second.
const PROBE_INTERVAL_MS: u64 = 300;
/// Entries behind the leader that still count as caught up.
const MAX_LAG: u64 = 10;

pub(super) fn duration(ms: u64) -> Option<prost_types::Duration> {
    let (seconds, nanos) = (ms / 1000, ms % 1000 * 1_000_000);
    Some(prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        // Below 10^9 by the remainder above.
        nanos: i32::try_from(nanos).unwrap_or(0),
    })
}

/// The folder of the sample's configuration files, beside its releases.
const ETC: &str = "etc";
/// Its settings there.
const SETTINGS: &str = "settings.toml";
/// What they are at first.
const FIRST_SETTINGS: &str = "note = \"as it was made\"\n";
/// The folder of the tokens of those who may write, once somebody puts one there.
const SECRETS: &str = "secrets";
/// The one in use.
const TOKEN: &str = "token";
/// The one before it.
const PREVIOUS_TOKEN: &str = "token.previous";
/// The sample's upkeep.
const COMPACT: &str = "ledger-compact";
/// How the member that leads hands over; no service of the sample declares it by itself.
const HAND_OVER: &str = "ledger-hand-over";
/// How a member is taken in, and out.
const ADD: &str = "ledger-add-node";
/// As above.
const REMOVE: &str = "ledger-remove-node";
/// The release that is in use before anybody installs one: a link to the program that runs this.
const BUILT_IN: &str = "releases/1.0.0-dev";

/// Puts the built-in release in its place, and in use when nothing is.
fn lay_out(app: &Path, quorate: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::symlink;
    let folder = app.join(BUILT_IN);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (program, next) = (folder.join(LEDGER), folder.join(".next"));
    // Anew each time: the program may have been built elsewhere since.
    let _ = std::fs::remove_file(&next); // a leftover, or nothing
    symlink(quorate, &next)
        .and_then(|()| std::fs::rename(&next, &program))
        .with_context(|| format!("cannot link {}", program.display()))?;
    match symlink(BUILT_IN, app.join("current")) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(e).with_context(|| format!("cannot link {}/current", app.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the instances' own files and makes their folders.
pub(super) fn write_instances(layout: &Layout, fleet: &Fleet, quorate: &Path) -> anyhow::Result<()> {
    let members = if fleet.spares.is_empty() { 0 } else { fleet.instances.len() };
    for (instance, id) in fleet.placed().zip(1..) {
        let logs = instance.log.parent().context("a log has a folder")?;
        for dir in [instance.dir.as_path(), logs] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        lay_out(&layout.instance_app(LEDGER, &instance.node), quorate)?;
        let etc = layout.instance_app(LEDGER, &instance.node).join(ETC);
        std::fs::create_dir_all(&etc).with_context(|| format!("cannot create {}", etc.display()))?;
        let settings = etc.join(SETTINGS);
        if !settings.exists() {
            std::fs::write(&settings, FIRST_SETTINGS)
                .with_context(|| format!("cannot write {}", settings.display()))?;
        }
        let secrets = layout.instance_app(LEDGER, &instance.node).join(SECRETS);
        make_private(&secrets).with_context(|| format!("cannot create {}", secrets.display()))?;
        let peers = fleet.placed().zip(1..).map(|(peer, id)| PeerConfig {
            id,
            node: peer.node.clone(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: peer.port,
        });
        let config = LedgerConfig {
            node: instance.node.clone(),
            id,
            address: Ipv4Addr::LOCALHOST.into(),
            port: instance.port,
            data_dir: instance.dir.clone(),
            log_file: instance.log.clone(),
            starting_ms: 400,
            catch_up_ms: 1200,
            misbehave: Misbehave::default(),
            version: "",
            settings_file: Some(settings),
            tls: None,
            tokens: Some(TokenConfig { file: secrets.join(TOKEN), previous: secrets.join(PREVIOUS_TOKEN) }),
            peers: peers.collect(),
            members: (1..).take(members).collect(),
        };
        write_toml(&layout.instance_config(LEDGER, &instance.node), &config)?;
    }
    Ok(())
}

/// Adds to a host's file what the sample needs there: the program, its hooks, and the policy that lets them be used.
pub(super) fn declare(layout: &Layout, instance: &Instance, quorate: &Path, agent: &mut AgentConfig) {
    let program = quorate.to_string_lossy().into_owned();
    let argv = |rest: &[&str]| {
        std::iter::once(program.clone()).chain(rest.iter().map(|part| (*part).to_owned())).collect::<Vec<_>>()
    };
    let config = layout.instance_config(LEDGER, &instance.node);
    let app = layout.instance_app(LEDGER, &instance.node);
    let mut run = argv(&["dev", "ledger", "--config", &config.to_string_lossy()]);
    if let Some(program) = run.first_mut() {
        *program = app.join("current").join(LEDGER).to_string_lossy().into_owned();
    }
    let process =
        Process { argv: run, cwd: instance.dir.clone(), log: instance.log.with_file_name("output.log") };
    agent.process.insert(LEDGER.to_owned(), process);
    let port = instance.port.to_string();
    for (hook, verb) in [
        ("ledger-pause", "pause-writes"),
        ("ledger-resume", "resume-writes"),
        (COMPACT, "compact"),
        (HAND_OVER, "hand-over"),
        (ADD, "add-node"),
        (REMOVE, "remove-node"),
    ] {
        let argv = argv(&["dev", "ledger-admin", verb, "--port", &port]);
        agent.hook.insert(hook.to_owned(), Hook { argv });
        agent.policy.hooks.push(hook.to_owned());
    }
    let check = argv(&["dev", "ledger", "--check-config", "{file}"]);
    agent.hook.insert("ledger-check".to_owned(), Hook { argv: check });
    agent.policy.hooks.push("ledger-check".to_owned());
    let works = argv(&["dev", "ledger-admin", "check-token", "--port", &port, "--token", "{file}"]);
    agent.hook.insert("ledger-token".to_owned(), Hook { argv: works });
    agent.policy.hooks.push("ledger-token".to_owned());
    agent.policy.secrets.push(app.join(SECRETS));
    agent.policy.configs.push(app.join(ETC));
    agent.policy.run_hooks.extend([COMPACT, HAND_OVER, ADD, REMOVE].map(str::to_owned));
    // A probe compares the certificate that is shown with the one that lies there.
    agent.policy.paths.push(app.join(ETC));
    agent.policy.install.push(app);
    agent.policy.services.push(LEDGER.to_owned());
    let logs = instance.log.parent().map(Path::to_owned);
    agent.policy.paths.extend(std::iter::once(instance.dir.clone()).chain(logs));
}

fn voters(fleet: &Fleet) -> Vec<String> {
    fleet.instances.iter().map(|instance| instance.node.clone()).collect()
}

/// The Service: three probes, backup under a pause, log rotation, releases of one executable.
pub(super) fn service(layout: &Layout, fleet: &Fleet) -> ServiceSpec {
    let vars = fleet.placed().map(|instance| {
        let vars = BTreeMap::from([
            ("app".to_owned(), layout.instance_app(LEDGER, &instance.node).to_string_lossy().into_owned()),
            ("port".to_owned(), instance.port.to_string()),
            ("data".to_owned(), instance.dir.to_string_lossy().into_owned()),
            ("log".to_owned(), instance.log.to_string_lossy().into_owned()),
        ]);
        (instance.node.clone(), InstanceVars { vars })
    });
    ServiceSpec {
        name: LEDGER.to_owned(),
        driver: Some(Driver { kind: Some(driver::Kind::Process(LEDGER.to_owned())) }),
        nodes: Some(Selector {
            names: fleet.placed().map(|i| i.node.clone()).collect(),
            ..Default::default()
        }),
        // A fleet of one has nobody else to look.
        probes: probes(fleet.agents.len() > 1),
        stop_timeout: duration(5_000),
        start_timeout: duration(10_000),
        backup: Some(BackupPolicy {
            paths: vec!["${data}".to_owned()],
            pause_hook: "ledger-pause".to_owned(),
            resume_hook: "ledger-resume".to_owned(),
            pause_limit: duration(20_000),
            ..Default::default()
        }),
        install: Some(Install {
            kind: Some(install::Kind::Binary(BinaryInstall {
                dir: "${app}".to_owned(),
                file: LEDGER.to_owned(),
            })),
        }),
        traffic: None,
        configs: vec![ConfigSpec {
            name: "settings".to_owned(),
            path: format!("${{app}}/{ETC}/{SETTINGS}"),
            check: "ledger-check".to_owned(),
            apply: ConfigApply::Restart.into(),
            confirm: duration(60_000),
            ..Default::default()
        }],
        secrets: Vec::new(),
        migrate: None,
        preflight: None,
        handover: None,
        data: Some(ServiceData { paths: vec![format!("${{data}}/{STORE}")] }),
        maintenance: None,
        log_rotation: Some(LogRotation {
            paths: vec!["${log}".to_owned()],
            size_bytes: 1024 * 1024,
            keep: 5,
            compress: true,
            delay_compress: true,
            missing_ok: true,
            create_mode: "0644".to_owned(),
            reload: true,
            ..Default::default()
        }),
        vars: vars.collect(),
        labels: BTreeMap::from([("sample".to_owned(), "true".to_owned())]),
    }
}

fn probes(has_peers: bool) -> Vec<ProbeSpec> {
    let probe = |name: &str, from_peer: bool, kind| ProbeSpec {
        name: name.to_owned(),
        interval: duration(PROBE_INTERVAL_MS),
        timeout: duration(1_000),
        passes: 3,
        from_peer: from_peer && has_peers,
        kind: Some(kind),
    };
    let url = |path: &str| format!("http://127.0.0.1:${{port}}{path}");
    vec![
        probe(
            "health",
            true,
            probe_spec::Kind::Http(HttpProbe { url: url("/health"), ..Default::default() }),
        ),
        probe(
            "membership",
            true,
            probe_spec::Kind::Membership(MembershipProbe {
                url: url("/cluster/nodes"),
                members: "nodes".to_owned(),
                key: "node".to_owned(),
                this: "${node}".to_owned(),
                role: "role".to_owned(),
                serving: "serving".to_owned(),
                lag: "lag".to_owned(),
                max_lag: MAX_LAG,
                position: String::new(),
                argv: Vec::new(),
            }),
        ),
        probe("soak", false, probe_spec::Kind::UnitSoak(UnitSoakProbe { min_up: duration(1_000) })),
    ]
}

/// The ServiceGroup: a majority of the declared voters.
pub(super) fn group(fleet: &Fleet) -> GroupSpec {
    GroupSpec {
        name: LEDGER.to_owned(),
        service: LEDGER.to_owned(),
        voters: voters(fleet),
        policy: Some(QuorumPolicy { kind: QuorumPolicyKind::Majority.into(), ..Default::default() }),
        membership: Some(GroupMembership {
            add_hook: ADD.to_owned(),
            remove_hook: REMOVE.to_owned(),
            timeout: duration(30_000),
        }),
        ..Default::default()
    }
}

/// Starts every voter at once: none serves yet, so none can be missed.
pub(super) fn start_all(voters: &[String]) -> WorkSpec {
    let run = RunSpec {
        selector: Some(Selector { names: voters.to_vec(), ..Default::default() }),
        action: "service.start".to_owned(),
        service: LEDGER.to_owned(),
        parallelism: u32::try_from(voters.len()).unwrap_or(1),
        gate_timeout: None,
    };
    WorkSpec { kind: Some(work_spec::Kind::Run(run)), max_failures: 0 }
}
