//! The `quorate-coordinator` binary: one member of the control plane.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use quorate_common::telemetry::{self, Format, Whose, tell};
use quorate_common::with_causes;
use quorate_coordinator::config::Config;
use quorate_coordinator::member;
use quorate_coordinator::options::{Command, Options};
use quorate_model::{MemberId, UserName};

mod offline;

/// What is logged unless the configuration says otherwise. openraft tells every replication step, and h2 every stream, at
/// INFO; a person looks for what this member decided.
const DEFAULT_FILTER: &str = "info,openraft=warn,h2=warn";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == quorate_durable::PROBE_ARGUMENT) {
        return quorate_durable::probe_main(args);
    }
    quorate_common::tls::install();
    let cli = Options::parse();
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
    if let Err(error) = telemetry::init(format, filter, Whose::Member(config.name.as_str())) {
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
            Some(Command::Join { token_file, standby }) => {
                admitted(member::join(&config, &token_file, standby).await)
            }
            Some(Command::Rejoin { token_file }) => admitted(member::rejoin(&config, &token_file).await),
            Some(Command::Position { json }) => offline::position(&config, json).await,
            Some(Command::Recover { cluster, i_lost_the_majority: _ }) => {
                offline::recover(&config, &cluster).await
            }
            Some(Command::Restore { file, ca }) => offline::restore(&config, &file, &ca).await,
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
            println!("for the command line: move this folder to ~/.config/quorate of the administrator");
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
