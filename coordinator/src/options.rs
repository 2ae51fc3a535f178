//! The command line, here so that the manual page is made from what is really parsed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// One member of Quorate's Raft-replicated control plane
#[derive(Debug, Parser)]
#[command(
    name = "quorate-coordinator",
    version,
    about,
    after_help = "Exit codes:
  0   it was told to stop (SIGTERM, SIGINT); --help, --version; --check-config of a good file
  1   it could not start or went on no longer, for any other reason, which it says
  2   wrong usage; --check-config of a bad file; this member was never made or admitted
  74  its store: a disk that is full, broken or lost; it says whether it has to rejoin
  78  configuration or certificates: a person has to mend it

Signals:
  SIGHUP   reads the configuration again
  SIGTERM  hands over leadership, flushes the store, stops

Files:
  /etc/quorate/coordinator.toml           configuration
  /etc/quorate/coordinator.toml.d/*.toml  drop-ins, read after it in order of name
  /etc/credstore/quorate-coordinator.token  the join token (root, 0600), removed once the member is admitted
  /var/lib/quorate/coordinator            log, vote, state, certificates

Environment:
  QUORATE_COORDINATOR_*  any key of the configuration, for example QUORATE_COORDINATOR_LISTEN__GRPC

Examples:
  quorate-coordinator --check-config
  runuser -u quorate-coordinator -- quorate-coordinator init --admin-out /var/lib/quorate/coordinator/admin
  systemctl enable --now quorate-coordinator"
)]
pub struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE", global = true, default_value = "/etc/quorate/coordinator.toml")]
    pub config: PathBuf,
    /// Check the configuration and exit: 0, or 2 with file, line and caret
    #[arg(long)]
    pub check_config: bool,
    /// Nothing: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is done once, before a member serves.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the CA, the cluster and its first member; once
    #[command(after_help = "Exit codes:
  0   made
  1   it could not be made
  2   wrong usage, or there is a member already
  74  its store
  78  the configuration is not good

Examples:
  runuser -u quorate-coordinator -- quorate-coordinator init --admin-out /var/lib/quorate/coordinator/admin")]
    Init {
        /// Directory for the first administrator's ca.pem, cert.pem and key.pem
        #[arg(long, value_name = "DIRECTORY")]
        admin_out: PathBuf,
        /// Name of the first administrator
        #[arg(long, value_name = "NAME", default_value = "admin")]
        admin: String,
    },
    /// Joins a cluster by token as a new member
    #[command(after_help = "Exit codes:
  0   admitted; start the daemon to take part
  1   it was refused, or nobody could be asked
  2   wrong usage, a token of another kind, or there is a member already
  74  its store
  78  the configuration is not good

Examples:
  runuser -u quorate-coordinator -- quorate-coordinator join --token-file /var/lib/quorate/join.token")]
    Join {
        /// File with the token, readable by its owner only
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Comes back after this member lost its store: moves what is left aside and joins again under a new number
    #[command(after_help = "Exit codes:
  0   admitted; start the daemon to take part
  1   it was refused, or nobody could be asked
  2   wrong usage, or a token of another kind
  74  its store
  78  the configuration is not good

Examples:
  runuser -u quorate-coordinator -- quorate-coordinator rejoin --token-file /var/lib/quorate/rejoin.token")]
    Rejoin {
        /// File with the token, readable by its owner only; from `quorate token create --purpose coordinator`
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
}
