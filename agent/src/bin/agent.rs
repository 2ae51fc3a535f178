//! `quorate-agent`: the network half of the agent.

use std::process::ExitCode;

use clap::Parser;
use quorate_agent::config::{Config, LoadError};
use quorate_agent::options::{AgentCommand, AgentOptions as Options};
use quorate_agent::{helper, session};
use quorate_common::telemetry::{self, Whose, tell};
use quorate_common::with_causes;
use quorate_model::ServiceName;

fn main() -> ExitCode {
    quorate_common::tls::install();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print(); // nobody to tell when stderr is closed
            return ExitCode::from(code);
        }
    };
    let loaded = Config::load(&options.config);
    if let Some(AgentCommand::MayLead { service, unless_exists }) = options.command {
        return may_lead(loaded, service, unless_exists.as_deref());
    }
    let config = match loaded {
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
    match run(config, &options.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error:#}"));
            let code = error.downcast_ref::<session::Fatal>().map_or(74, session::Fatal::exit_code);
            ExitCode::from(code)
        }
    }
}

/// What is not known is a no: a configuration that does not load, a helper that does not answer.
fn may_lead(
    loaded: Result<Config, LoadError>,
    service: ServiceName,
    unless_exists: Option<&std::path::Path>,
) -> ExitCode {
    if unless_exists.is_some_and(std::path::Path::exists) {
        return ExitCode::SUCCESS;
    }
    let asked = || {
        let config = loaded.map_err(|error| with_causes(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(helper::may_lead(&config.helper_socket, service.clone()))
    };
    match asked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(format_args!("{service} may not lead here now: {why}"));
            ExitCode::from(1)
        }
    }
}

/// One thread: the agent waits nearly always, and each thread of a runtime costs memory on every host.
fn run(config: Config, file: &std::path::Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(session::run(config, file))?;
    Ok(())
}
