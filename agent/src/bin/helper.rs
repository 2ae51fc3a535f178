//! `quorate-helper`: the root half of the agent.

use std::process::ExitCode;

use clap::Parser;
use quorate_agent::config::Config;
use quorate_agent::helper;
use quorate_agent::options::{HelperCommand, HelperOptions as Options};
use quorate_common::telemetry::{self, Whose, tell};
use quorate_common::with_causes;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == quorate_durable::PROBE_ARGUMENT) {
        return quorate_durable::probe_main(arguments);
    }
    quorate_common::tls::install();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print(); // nobody to tell when stderr is closed
            return ExitCode::from(code);
        }
    };
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => {
            tell(format_args!("error: {}", with_causes(&error)));
            return ExitCode::from(if options.check_config { 2 } else { 78 });
        }
    };
    if options.check_config {
        return ExitCode::SUCCESS;
    }
    let whose = Whose::Node(config.node.as_str());
    if let Err(error) = telemetry::init(config.log_format, &config.log_level, whose) {
        tell(format_args!("error: {error}"));
        return ExitCode::from(78);
    }
    if let Some(HelperCommand::ResetJournal { yes }) = options.command {
        return reset(&config, yes);
    }
    match run(config, &options.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error:#}"));
            let code = error.downcast_ref::<helper::Fatal>().map_or(74, helper::Fatal::exit_code);
            ExitCode::from(code)
        }
    }
}

fn reset(config: &Config, yes: bool) -> ExitCode {
    if !yes {
        tell(format_args!(
            "error: this forgets what was done on this host; look at it first, then say `reset-journal --yes`"
        ));
        return ExitCode::from(2);
    }
    match helper::reset_journal(config) {
        Ok(aside) => {
            println!("a new journal was begun; {aside}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(format_args!("error: {:#}", anyhow::Error::from(error)));
            ExitCode::from(74)
        }
    }
}

/// One thread: the helper waits nearly always, and each thread of a runtime costs memory on every host.
fn run(config: Config, file: &std::path::Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(helper::run(config, file))?;
    Ok(())
}
