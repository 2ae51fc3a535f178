//! The command lines of both programs, here so that manual pages are made from what is really parsed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use quorate_model::ServiceName;

use crate::config::DEFAULT_PATH;

/// Keeps a session with a coordinator and passes its work to quorate-helper. Needs no privileges.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-agent",
    version,
    about,
    after_help = "Exit codes:
  0   it was told to stop (SIGTERM, SIGINT); --help, --version; --check-config of a good file
  2   wrong usage; --check-config of a bad file
  74  a folder, file or socket of its own failed
  78  configuration, certificate, or a token that was refused: a person has to mend it

Signals:
  SIGHUP   reads the configuration again; a bad one is told and changes nothing
  SIGTERM  stops; work goes on in quorate-helper and is told later

Files:
  /etc/quorate/agent.toml           configuration, shared with quorate-helper
  /etc/quorate/agent.toml.d/*.toml  drop-ins, read after it in order of name
  /etc/credstore/quorate-agent.token  the join token (root, 0600), removed once the node is enrolled
  /var/lib/quorate/agent            certificate, key, known coordinators; spool/artifacts: what the helper is to install
  /run/quorate/helper.sock          where quorate-helper listens

Environment:
  QUORATE_AGENT_*  any key of the configuration, for example QUORATE_AGENT_NODE

Examples:
  quorate-agent --check-config
  systemctl enable --now quorate-helper quorate-agent
  quorate-agent may-lead postgresql --unless-exists /var/lib/postgresql/16/main/standby.signal
  curl -fsS http://127.0.0.1:7481/metrics"
)]
pub struct AgentOptions {
    /// Configuration file, shared with quorate-helper.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    pub config: PathBuf,
    /// Check the configuration and exit: 0 when it is good, 2 when it is not.
    #[arg(long)]
    pub check_config: bool,
    /// Nothing: run the agent.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
}

/// What the agent can be asked on the command line.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Say whether a service may lead on this host now: for ExecCondition= of its unit. No answer is a no.
    #[command(after_help = "Exit codes:
  0   its lease is live, or the file of --unless-exists is there
  1   it may not lead, or nobody knows; why is said on standard error
  2   wrong usage

Examples:
  quorate-agent may-lead postgresql
  # In a unit; the plus sign lets it ask the helper, whatever user the unit has:
  ExecCondition=+/usr/bin/quorate-agent may-lead postgresql --unless-exists /var/lib/postgresql/16/main/standby.signal")]
    MayLead {
        /// The service, as the fleet names it.
        service: ServiceName,
        /// A file with which it does not lead, whatever its lease.
        #[arg(long, value_name = "FILE")]
        unless_exists: Option<PathBuf>,
    },
}

/// Carries out what coordinators ask, within this host's own policy. Needs no network.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-helper",
    version,
    about,
    after_help = "Exit codes:
  0   it was told to stop (SIGTERM, SIGINT); --help, --version; --check-config of a good file
  2   wrong usage; --check-config of a bad file
  74  its journal, socket or another file of its own failed
  78  configuration: a person has to mend it

Signals:
  SIGHUP   reads the configuration again; a bad one is told and changes nothing
  SIGTERM  stops; what is in hand is found in the journal and goes on at the next start

Files:
  /etc/quorate/agent.toml           configuration and [policy], shared with quorate-agent
  /etc/quorate/agent.toml.d/*.toml  drop-ins, read after it in order of name
  /var/lib/quorate/helper           the journal; releases: what is staged, and what was in use before
  /var/lib/quorate/backups          backups, unless [policy] backup_dir names another folder
  /run/quorate/helper.sock          where it listens

Environment:
  QUORATE_AGENT_*  any key of the configuration, for example QUORATE_AGENT_NODE

Examples:
  quorate-helper --check-config
  systemd-analyze security quorate-helper
  quorate-helper reset-journal --yes"
)]
pub struct HelperOptions {
    /// Configuration file, shared with quorate-agent.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    pub config: PathBuf,
    /// Check the configuration and exit: 0 when it is good, 2 when it is not.
    #[arg(long)]
    pub check_config: bool,
    /// Nothing: run the helper.
    #[command(subcommand)]
    pub command: Option<HelperCommand>,
}

/// What the helper can be asked on the command line.
#[derive(Debug, Subcommand)]
pub enum HelperCommand {
    /// Begin a new journal after the old one was lost. Look at the host first: what was done before is forgotten.
    #[command(after_help = "Exit codes:
  0   a new journal was begun; the old one was moved aside
  2   wrong usage, or --yes was not said
  74  it could not be done
  78  the configuration is not good

Examples:
  systemctl stop quorate-helper
  quorate-helper reset-journal --yes
  systemctl start quorate-helper")]
    ResetJournal {
        /// Yes, forget it.
        #[arg(long)]
        yes: bool,
    },
}
