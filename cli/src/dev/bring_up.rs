//! Bringing a fleet up, step by step, exactly as an administrator would in production.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use quorate_proto::v1::{GroupState, NodeStatus, OperationState, TokenPurpose, WorkSpec};

use super::api::{Api, until};
use super::config::{AgentConfig, CliConfig, CliContext, CoordinatorConfig, Policy, write_toml};
use super::daemon::{Daemon, Keeper, say, tail};
use super::fleet::{Coordinator, Fleet, LEDGER, PAIR, Slot};
use super::layout::{Layout, make_private, write_atomically};
use super::{sample, sample_pair};

/// Longest run of `init` or `join`.
const SETUP_LIMIT: Duration = Duration::from_secs(30);
/// Ends of one daemon by itself after which coming up is given up.
const MAX_DEATHS: u32 = 3;
/// How often the daemons are looked at meanwhile.
const WATCH: Duration = Duration::from_millis(200);

/// The daemons, found beside the `quorate` binary.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) quorate: PathBuf,
    coordinator: PathBuf,
    agent: PathBuf,
    helper: PathBuf,
}

impl Programs {
    /// # Errors
    /// Names every program that is missing and where it was looked for.
    pub(super) fn find() -> anyhow::Result<Self> {
        let quorate = std::env::current_exe().context("cannot find out where this program is")?;
        let beside = quorate.parent().context("this program has no folder")?.to_owned();
        let found = Self {
            coordinator: beside.join("quorate-coordinator"),
            agent: beside.join("quorate-agent"),
            helper: beside.join("quorate-helper"),
            quorate,
        };
        let missing: Vec<String> = [&found.coordinator, &found.agent, &found.helper]
            .into_iter()
            .filter(|path| !path.is_file())
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if !missing.is_empty() {
            let beside = beside.display();
            bail!("{} not found in {beside}: build the whole workspace (cargo build)", missing.join(", "));
        }
        Ok(found)
    }
}

/// One bring-up.
#[derive(Debug)]
pub(super) struct BringUp<'a> {
    pub(super) layout: &'a Layout,
    pub(super) keeper: &'a Keeper,
    pub(super) programs: &'a Programs,
    pub(super) deadline: Instant,
}

impl BringUp<'_> {
    /// All of it, until every node is READY and the group HEALTHY. Gives up when a daemon keeps dying.
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        tokio::select! {
            done = self.steps() => done,
            error = self.watch_deaths() => Err(error),
            () = self.keeper.stopping().cancelled() => bail!("stopped while coming up"),
        }
    }

    async fn steps(&self) -> anyhow::Result<()> {
        let fleet = self.keeper.fleet();
        let Some((first, others)) = fleet.coordinators.split_first() else { bail!("no coordinator") };
        let resumed = initialized(first);
        self.coordinator(first, None).await?;
        if resumed {
            for member in others.iter().filter(|member| initialized(member)) {
                self.coordinator(member, Some(first)).await?;
            }
        }
        // A resumed cluster needs its majority first, a new one is led by its only member.
        let addresses = fleet.coordinators.iter().filter(|member| initialized(member));
        let context = self.write_cli_config(addresses.map(|member| member.grpc.clone()).collect())?;
        let api = self.connect(&context).await?;
        for member in others.iter().filter(|member| !initialized(member)) {
            self.join(&api, member, first).await?;
        }
        let context =
            self.write_cli_config(fleet.coordinators.iter().map(|member| member.grpc.clone()).collect())?;
        let api = self.connect(&context).await?;
        self.wait_members(&api, &fleet).await?;
        say(&format!("coordinators: {} of {} up", fleet.coordinators.len(), fleet.coordinators.len()));
        self.agents(&api, &fleet).await?;
        self.group(&api, &fleet).await?;
        self.pair(&api, &fleet).await
    }

    async fn coordinator(&self, member: &Coordinator, first: Option<&Coordinator>) -> anyhow::Result<()> {
        let config = self.write_coordinator(member, first)?;
        if first.is_none() && !initialized(member) {
            remove_unfinished(member)?;
            let (admin, log) = (self.layout.admin(), member.dir.join("coordinator.log"));
            make_private(&admin)?;
            let args: [&OsStr; 5] = [
                "init".as_ref(),
                "--config".as_ref(),
                config.as_ref(),
                "--admin-out".as_ref(),
                admin.as_ref(),
            ];
            self.keeper
                .run_once("quorate-coordinator init", &self.programs.coordinator, &args, &log, SETUP_LIMIT)
                .await?;
            mark_initialized(member)?;
            say(&format!("{}: a new cluster with its own CA", member.name));
        }
        self.keep(Slot::Coordinator(member.name.clone()), &self.programs.coordinator, config, &member.dir);
        Ok(())
    }

    fn write_coordinator(
        &self,
        member: &Coordinator,
        first: Option<&Coordinator>,
    ) -> anyhow::Result<PathBuf> {
        make_private(&member.dir).with_context(|| format!("cannot create {}", member.dir.display()))?;
        let config = member.dir.join("coordinator.toml");
        let first_http = first.map(|first| first.http.as_str());
        write_toml(&config, &CoordinatorConfig::new(self.layout, member, first_http))?;
        Ok(config)
    }

    fn keep(&self, slot: Slot, program: &Path, config: PathBuf, dir: &Path) {
        let log = log_of(&slot, dir);
        self.keeper.keep(Daemon { slot, program: program.to_owned(), config, log });
    }

    async fn join(&self, api: &Api, member: &Coordinator, first: &Coordinator) -> anyhow::Result<()> {
        let config = self.write_coordinator(member, Some(first))?;
        remove_unfinished(member)?;
        let token = api
            .create_token(TokenPurpose::Coordinator, "")
            .await
            .with_context(|| format!("cannot get a join token for {}", member.name))?;
        let token_file = member.dir.join("join.token");
        write_atomically(&token_file, token.as_bytes(), 0o600)?;
        let log = member.dir.join("coordinator.log");
        let args: [&OsStr; 5] = [
            "join".as_ref(),
            "--config".as_ref(),
            config.as_ref(),
            "--token-file".as_ref(),
            token_file.as_ref(),
        ];
        let what = format!("quorate-coordinator join of {}", member.name);
        self.keeper.run_once(&what, &self.programs.coordinator, &args, &log, SETUP_LIMIT).await?;
        mark_initialized(member)?;
        std::fs::remove_file(&token_file)?;
        self.keep(Slot::Coordinator(member.name.clone()), &self.programs.coordinator, config, &member.dir);
        // One change of the membership at a time: the next may need this member's vote.
        until(&format!("{} becomes a voter", member.name), self.deadline, || async {
            let members = api.members().await?;
            if !members.iter().any(|known| known.name == member.name && known.voter) {
                bail!("{} is no voter yet", member.name);
            }
            Ok(())
        })
        .await?;
        say(&format!("{}: joined", member.name));
        Ok(())
    }

    fn write_cli_config(&self, addresses: Vec<String>) -> anyhow::Result<CliContext> {
        let config = CliConfig::new(self.layout, addresses);
        write_toml(&self.layout.cli_config(), &config)?;
        config.contexts.into_values().next().context("one context")
    }

    async fn connect(&self, context: &CliContext) -> anyhow::Result<Api> {
        until("a coordinator answers", self.deadline, || Api::connect(context)).await
    }

    async fn wait_members(&self, api: &Api, fleet: &Fleet) -> anyhow::Result<()> {
        until("every coordinator votes", self.deadline, || async {
            let voters = api.members().await?.iter().filter(|member| member.voter).count();
            if voters < fleet.coordinators.len() {
                bail!("{voters} of {} vote", fleet.coordinators.len());
            }
            Ok(())
        })
        .await
    }

    async fn agents(&self, api: &Api, fleet: &Fleet) -> anyhow::Result<()> {
        sample::write_instances(self.layout, fleet, &self.programs.quorate)?;
        sample_pair::write_instances(self.layout, fleet)?;
        let known: Vec<String> = until("the list of nodes", self.deadline, || api.nodes())
            .await?
            .into_iter()
            .filter(|node| node.status() != NodeStatus::Pending)
            .map(|node| node.name)
            .collect();
        for agent in &fleet.agents {
            make_private(&agent.dir).with_context(|| format!("cannot create {}", agent.dir.display()))?;
            let token_file = agent.dir.join("token");
            if !known.contains(&agent.node) {
                let token = api
                    .create_token(TokenPurpose::Agent, &agent.node)
                    .await
                    .with_context(|| format!("cannot get a join token for {}", agent.node))?;
                write_atomically(&token_file, token.as_bytes(), 0o600)?;
            }
            let config = agent.dir.join("agent.toml");
            write_toml(&config, &self.agent_config(fleet, &agent.node, &agent.metrics, token_file)?)?;
            self.keep(Slot::Helper(agent.node.clone()), &self.programs.helper, config.clone(), &agent.dir);
            self.keep(Slot::Agent(agent.node.clone()), &self.programs.agent, config, &agent.dir);
        }
        until("every node is READY", self.deadline, || async {
            let nodes = api.nodes().await?;
            let waiting: Vec<&str> = fleet
                .agents
                .iter()
                .map(|agent| agent.node.as_str())
                .filter(|name| {
                    !nodes.iter().any(|node| node.name == *name && node.status() == NodeStatus::Ready)
                })
                .collect();
            if !waiting.is_empty() {
                bail!("not READY yet: {}", waiting.join(", "));
            }
            Ok(())
        })
        .await
        .map_err(|error| self.with_log(error, fleet))?;
        for agent in &fleet.agents {
            // Used up; a secret that is of no use should not lie about.
            let _ = std::fs::remove_file(agent.dir.join("token"));
        }
        say(&format!("nodes: {} of {} READY", fleet.agents.len(), fleet.agents.len()));
        Ok(())
    }

    fn agent_config(
        &self,
        fleet: &Fleet,
        node: &str,
        metrics: &str,
        token_file: PathBuf,
    ) -> anyhow::Result<AgentConfig> {
        let dir = self.layout.agent(node);
        let backups = dir.join("backups");
        make_private(&backups)?;
        let actions = [
            "service.*",
            "backup.create",
            "backup.verify",
            "log.rotate",
            "artifact.*",
            "config.*",
            "secret.*",
            "data.*",
            "traffic.*",
            "maintenance.*",
            "exec.run",
            "host.*",
        ];
        let mut config = AgentConfig {
            node: node.to_owned(),
            data_dir: dir.join("data"),
            coordinators: fleet.coordinators.iter().map(|member| member.advertised().to_owned()).collect(),
            enroll: fleet.coordinators.iter().map(|member| member.http.clone()).collect(),
            token_file,
            helper_socket: self.layout.helper_socket(node)?,
            metrics_listen: metrics.to_owned(),
            labels: BTreeMap::from([("fleet".to_owned(), "dev".to_owned())]),
            policy: Policy {
                actions: actions.map(str::to_owned).to_vec(),
                services: Vec::new(),
                paths: Vec::new(),
                hooks: Vec::new(),
                run_hooks: Vec::new(),
                backup_dir: backups,
                install: Vec::new(),
                configs: Vec::new(),
                secrets: Vec::new(),
                unsigned: true,
                alertmanagers: vec!["http://127.0.0.1:*".to_owned()],
            },
            process: BTreeMap::new(),
            hook: BTreeMap::new(),
        };
        if let Some(instance) = fleet.placed().find(|instance| instance.node == node) {
            sample::declare(self.layout, instance, &self.programs.quorate, &mut config);
        }
        if let Some(instance) = fleet.pair.iter().find(|instance| instance.node == node) {
            sample_pair::declare(self.layout, instance, &self.programs.quorate, &mut config);
        }
        Ok(config)
    }

    async fn group(&self, api: &Api, fleet: &Fleet) -> anyhow::Result<()> {
        if fleet.instances.is_empty() {
            return Ok(());
        }
        let declared = until("the sample group is declared", self.deadline, || {
            api.apply(sample::service(self.layout, fleet), sample::group(fleet))
        })
        .await?;
        self.start(api, || sample::start_all(&declared.voters)).await?;
        until("the group is HEALTHY", self.deadline, || async {
            let group = api.group(LEDGER).await?;
            // Of one or two voters none can be spared: all of them up is as healthy as such a group gets.
            let whole = group.available == group.voters && group.required == group.voters;
            if group.state() != GroupState::Healthy && !whole {
                bail!("{} of {} voters available", group.available, group.voters);
            }
            Ok(())
        })
        .await?;
        say(&format!("group {LEDGER}: {} of {} serve", declared.voters.len(), declared.voters.len()));
        Ok(())
    }

    async fn start(&self, api: &Api, work: impl Fn() -> WorkSpec) -> anyhow::Result<()> {
        let started = until("the instances are started", self.deadline, || {
            api.start(work(), "first start of the local fleet")
        })
        .await?;
        until("the start of the instances ends", self.deadline, || async {
            let operation = api.operation(&started.name).await?;
            match operation.state() {
                OperationState::Succeeded => Ok(Ok(())),
                OperationState::Failed | OperationState::Canceled | OperationState::RolledBack => {
                    Ok(Err(anyhow::anyhow!("{} failed: {}", operation.title, operation.message)))
                }
                state => bail!("{} is {}", operation.name, state.as_str_name()),
            }
        })
        .await?
    }

    async fn pair(&self, api: &Api, fleet: &Fleet) -> anyhow::Result<()> {
        if fleet.pair.is_empty() {
            return Ok(());
        }
        until("the sample pair is declared", self.deadline, || {
            api.apply(sample_pair::service(fleet), sample_pair::group(fleet))
        })
        .await?;
        self.start(api, || sample_pair::start_all(fleet)).await?;
        until("both of the pair serve", self.deadline, || async {
            let group = api.group(PAIR).await?;
            if group.available < group.voters {
                bail!("{} of {} available", group.available, group.voters);
            }
            Ok(())
        })
        .await?;
        say(&format!("group {PAIR}: a primary and a standby serve"));
        Ok(())
    }

    /// Adds the end of the log of the first daemon that is not up.
    fn with_log(&self, error: anyhow::Error, fleet: &Fleet) -> anyhow::Error {
        let text = format!("{error:#}");
        let suspect = fleet.agents.iter().find(|agent| text.contains(&agent.node));
        let log = suspect.map(|agent| log_of(&Slot::Agent(agent.node.clone()), &agent.dir));
        match log {
            Some(log) => error.context(format!("the end of {}:\n{}\n", log.display(), tail(&log))),
            None => error,
        }
    }

    async fn watch_deaths(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(WATCH).await;
            let fatal = self.keeper.deaths().into_iter().find(|(_, deaths)| *deaths >= MAX_DEATHS);
            if let Some((slot, deaths)) = fatal {
                let dir = match &slot {
                    Slot::Coordinator(name) => self.layout.coordinator(name),
                    Slot::Agent(node) | Slot::Helper(node) => self.layout.agent(node),
                };
                let log = log_of(&slot, &dir);
                return anyhow::anyhow!(
                    "{slot} ended {deaths} times; the end of {}:\n{}",
                    log.display(),
                    tail(&log)
                );
            }
        }
    }
}

fn log_of(slot: &Slot, dir: &Path) -> PathBuf {
    dir.join(match slot {
        Slot::Coordinator(_) => "coordinator.log",
        Slot::Agent(_) => "agent.log",
        Slot::Helper(_) => "helper.log",
    })
}

/// Whether `init` or `join` of this member ended well.
fn initialized(member: &Coordinator) -> bool {
    member.dir.join("initialized").exists()
}

fn mark_initialized(member: &Coordinator) -> anyhow::Result<()> {
    write_atomically(&member.dir.join("initialized"), b"", 0o600)?;
    Ok(())
}

/// A first start that was cut short may have left half a state; nothing was entrusted to it yet.
fn remove_unfinished(member: &Coordinator) -> anyhow::Result<()> {
    let data = member.dir.join("data");
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", data.display()))
        }
        _ => Ok(()),
    }
}
