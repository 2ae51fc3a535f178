//! The `quorate-coordinator` binary: one member of the control plane.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_common::telemetry::{self, Format, tell};
use quorate_common::with_causes;
use quorate_coordinator::config::Config;
use quorate_coordinator::member;
use quorate_model::{MemberId, UserName};

/// What is logged unless the configuration says otherwise. openraft tells every replication step, and h2 every stream, at
/// INFO; a person looks for what this member decided.
const DEFAULT_FILTER: &str = "info,openraft=warn,h2=warn";

/// One member of Quorate's Raft-replicated control plane
#[derive(Parser)]
#[command(name = "quorate-coordinator", version)]
struct Cli {
    /// Configuration file
    #[arg(long, global = true, default_value = "/etc/quorate/coordinator.toml")]
    config: PathBuf,
    /// Check the configuration and exit: 0, or 2 with file, line and caret
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the CA, the cluster and its first member; once
    Init {
        /// Directory for the first administrator's ca.pem, cert.pem and key.pem
        #[arg(long)]
        admin_out: PathBuf,
        /// Name of the first administrator
        #[arg(long, default_value = "admin")]
        admin: String,
    },
    /// Joins a cluster by token as a new member
    Join {
        /// File with the token, mode 0600
        #[arg(long)]
        token_file: PathBuf,
    },
    /// Comes back after this member lost its store: moves what is left aside and joins again under a new number
    Rejoin {
        /// File with the token, mode 0600; from `quorate token create --purpose coordinator`
        #[arg(long)]
        token_file: PathBuf,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == quorate_durable::PROBE_ARGUMENT) {
        return quorate_durable::probe_main(args);
    }
    quorate_common::tls::install();
    let cli = Cli::parse();
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            return fail(&error, if cli.check_config { 2 } else { 78 });
        }
    };
    if cli.check_config {
        println!("{}: ok", cli.config.display());
        return ExitCode::SUCCESS;
    }
    let filter = if config.log_filter.is_empty() { DEFAULT_FILTER } else { &config.log_filter };
    let format = if config.log_json { Format::Json } else { Format::Auto };
    if let Err(error) = telemetry::init(format, filter) {
        tell(format_args!("error: {error}"));
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(format_args!("error: the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match cli.command {
            None => serve(config).await,
            Some(Command::Init { admin_out, admin }) => init(&config, &admin_out, admin).await,
            Some(Command::Join { token_file }) => admitted(member::join(&config, &token_file).await),
            Some(Command::Rejoin { token_file }) => admitted(member::rejoin(&config, &token_file).await),
        }
    })
}

async fn serve(config: Config) -> ExitCode {
    match member::serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = fail(&error, error.exit_code());
            if error.needs_rejoin() {
                tell(format_args!(
                    "hint: quorate-coordinator rejoin --token-file FILE, with a token from another member"
                ));
            }
            code
        }
    }
}

async fn init(config: &Config, admin_out: &Path, admin: String) -> ExitCode {
    let admin = match UserName::new(admin) {
        Ok(admin) => admin,
        Err(error) => return fail(&error, 2),
    };
    match member::init(config, admin_out, admin).await {
        Ok(cluster) => {
            println!("cluster {cluster} is initialised; administrator's identity in {}", admin_out.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn admitted(outcome: Result<MemberId, member::BirthError>) -> ExitCode {
    match outcome {
        Ok(member) => {
            println!("admitted as member {member}; start the daemon to take part");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// One sentence with its sources, and the exit code.
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    tell(format_args!("error: {}", with_causes(error)));
    ExitCode::from(code)
}
