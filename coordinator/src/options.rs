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
        /// Without a vote, for instance in another site: it follows until `quorate cluster promote`
        #[arg(long)]
        standby: bool,
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
    /// Shows what a stopped member holds, to choose whom to recover
    #[command(
        after_help = "Of several survivors the one with the greatest term, and then the greatest index, of its last entry
has everything that was ever acknowledged and can still be had. Nothing is changed, but for a log that lost something: as at any
start, that one is moved aside and named, and this member is not one to go on with.

Exit codes:
  0   shown
  1   it runs, or could not be read
  2   wrong usage, or there is no member
  74  its store

Examples:
  runuser -u quorate-coordinator -- quorate-coordinator position
  runuser -u quorate-coordinator -- quorate-coordinator position --json"
    )]
    Position {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Lets this stopped member go on alone after the majority was lost for good; the others can never come back
    #[command(
        after_help = "First stop every survivor and compare their positions. Whatever the lost members alone had is gone. They
are out: their certificates are revoked and their numbers never used again; new members join by token. The old store is kept aside.

Exit codes:
  0   recovered; start the daemon
  1   it runs, or it cannot be the one to go on
  2   wrong usage, another cluster's name, or there is no member
  74  its store

Examples:
  runuser -u quorate-coordinator -- quorate-coordinator position
  runuser -u quorate-coordinator -- quorate-coordinator recover --cluster production --i-lost-the-majority"
    )]
    Recover {
        /// Name of the cluster, typed in full
        #[arg(long, value_name = "NAME")]
        cluster: String,
        /// The other members are gone for good, and none of them runs anywhere
        #[arg(long, required = true)]
        i_lost_the_majority: bool,
    },
    /// Makes a new first member from a file of `quorate cluster snapshot save`, in an empty data directory
    #[command(
        after_help = "What was acknowledged after the file was saved is gone. No member of before can come back, and join tokens
are revoked. Certificates that the saved state lists are good; agents that have renewed theirs since (each does so every 16 hours) are
refused until they are enrolled anew: `quorate node remove`, then a new token.

Exit codes:
  0   restored; start the daemon, then let further members join
  1   it could not be made
  2   wrong usage, a file or CA that does not fit, or there is a member already
  74  its store

Examples:
  quorate cluster snapshot inspect quorate.snapshot
  runuser -u quorate-coordinator -- quorate-coordinator restore quorate.snapshot --ca /srv/backup/tls"
    )]
    Restore {
        /// The file
        file: PathBuf,
        /// Directory with ca.pem and ca.key of the cluster, copied from any member's tls directory
        #[arg(long, value_name = "DIRECTORY")]
        ca: PathBuf,
    },
}
