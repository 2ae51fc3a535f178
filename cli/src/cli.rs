//! The tree of commands.

use clap::{Parser, Subcommand};

use crate::args::Global;
use crate::commands::{self, Ctx, Outcome};
use crate::dev;
use crate::failure::{Failure, exit};
use crate::render;

/// Fleet operations that never tip a quorum
#[derive(Parser, Clone, Debug)]
#[command(
    name = "quorate",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 refused (nothing changed), 4 unreachable, 5 timed out (goes on),\n            6 not found, 7 not allowed, 8 pending, 130 detached\n\nExamples:\n  quorate dev --detach                        # a whole fleet on this machine\n  quorate quorum status\n  quorate rollout start --restart ledger --wait --yes\n  quorate explain QUORUM_MARGIN"
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// The whole in one screen, or whatever an id is
    #[command(after_help = "Examples:\n  quorate status\n  quorate status r-7f3a   # 8 while it goes on")]
    Status {
        /// Any id or name
        id: Option<String>,
    },
    #[command(subcommand, alias = "nodes")]
    Node(commands::node::NodeCommand),
    #[command(subcommand, alias = "services")]
    Service(commands::service::ServiceCommand),
    #[command(subcommand, alias = "groups")]
    Group(commands::group::GroupCommand),
    #[command(subcommand, alias = "failovers")]
    Failover(commands::failover::FailoverCommand),
    #[command(subcommand)]
    Quorum(commands::quorum::QuorumCommand),
    #[command(subcommand, alias = "rollouts")]
    Rollout(Box<commands::rollout::RolloutCommand>),
    #[command(subcommand, alias = "operations")]
    Operation(commands::operation::OperationCommand),
    #[command(subcommand, alias = "actions")]
    Action(commands::action::ActionCommand),
    #[command(subcommand, alias = "backups")]
    Backup(commands::backup::BackupCommand),
    #[command(subcommand, alias = "artifacts")]
    Artifact(commands::artifact::ArtifactCommand),
    #[command(subcommand, alias = "logs")]
    Log(commands::log::LogCommand),
    #[command(subcommand, alias = "freezes")]
    Freeze(commands::freeze::FreezeCommand),
    #[command(subcommand, alias = "configs")]
    Config(commands::config::ConfigCommand),
    #[command(subcommand, alias = "windows")]
    Window(commands::window::WindowCommand),
    #[command(subcommand, alias = "policies")]
    Policy(commands::policy::PolicyCommand),
    #[command(subcommand, alias = "approvals")]
    Approval(commands::approval::ApprovalCommand),
    #[command(subcommand, alias = "schedules")]
    Schedule(commands::schedule::ScheduleCommand),
    #[command(subcommand)]
    Cluster(commands::cluster::ClusterCommand),
    #[command(subcommand, alias = "tokens")]
    Token(commands::token::TokenCommand),
    #[command(subcommand)]
    Audit(commands::audit::AuditCommand),
    /// Declares what fleet files hold: services, groups, freezes, windows, policies, schedules
    Apply(commands::apply::ApplyArgs),
    /// What fleet files would change; changes nothing
    Diff(commands::diff::DiffArgs),
    /// What a fleet file can hold, as JSON Schema
    Schema(commands::schema::SchemaArgs),
    /// Why it was refused, why it waits, what to do
    #[command(after_help = "Examples:\n  quorate explain QUORUM_MARGIN\n  quorate explain r-7f3a")]
    Explain {
        /// A reason code or an operation id
        what: String,
    },
    #[command(subcommand, alias = "contexts")]
    Context(commands::context::ContextCommand),
    Dev(dev::DevArgs),
    /// Prints a completion script
    Completion {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Version of this command line
    Version,
}

/// Runs a command.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run(cli: Cli) -> Outcome {
    let ctx = Ctx { global: cli.global };
    match cli.command {
        Command::Status { id } => commands::status::run(&ctx, id).await,
        Command::Node(command) => commands::node::run(&ctx, command).await,
        Command::Service(command) => commands::service::run(&ctx, command).await,
        Command::Group(command) => commands::group::run(&ctx, command).await,
        Command::Failover(command) => commands::failover::run(&ctx, command).await,
        Command::Quorum(command) => commands::quorum::run(&ctx, command).await,
        Command::Rollout(command) => commands::rollout::run(&ctx, *command).await,
        Command::Operation(command) => commands::operation::run(&ctx, command).await,
        Command::Action(command) => commands::action::run(&ctx, command).await,
        Command::Backup(command) => commands::backup::run(&ctx, command).await,
        Command::Artifact(command) => commands::artifact::run(&ctx, command).await,
        Command::Log(command) => commands::log::run(&ctx, command).await,
        Command::Freeze(command) => commands::freeze::run(&ctx, command).await,
        Command::Config(command) => commands::config::run(&ctx, command).await,
        Command::Window(command) => commands::window::run(&ctx, command).await,
        Command::Policy(command) => commands::policy::run(&ctx, command).await,
        Command::Approval(command) => commands::approval::run(&ctx, command).await,
        Command::Schedule(command) => commands::schedule::run(&ctx, command).await,
        Command::Cluster(command) => commands::cluster::run(&ctx, command).await,
        Command::Token(command) => commands::token::run(&ctx, command).await,
        Command::Audit(command) => commands::audit::run(&ctx, command).await,
        Command::Apply(args) => commands::apply::run(&ctx, args, None).await,
        Command::Diff(args) => commands::diff::run(&ctx, args).await,
        Command::Schema(args) => commands::schema::run(&ctx, &args),
        Command::Explain { what } => commands::explain::run(&ctx, what).await,
        Command::Context(command) => commands::context::run(&ctx, command),
        Command::Completion { shell } => completion(shell),
        Command::Version => {
            match ctx.global.output {
                render::Output::Table | render::Output::Wide => {
                    render::print(concat!("quorate ", env!("CARGO_PKG_VERSION")))?;
                }
                output => {
                    let version =
                        serde_json::json!({"name": "quorate", "version": env!("CARGO_PKG_VERSION")});
                    render::structured(output, version, None)?;
                }
            }
            Ok(exit::DONE)
        }
        // Handled in main: it has exit codes of its own.
        Command::Dev(_) => Err(Failure::usage("dev is not a command of a fleet")),
    }
}

fn completion(shell: clap_complete::Shell) -> Outcome {
    let mut text = Vec::new();
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "quorate", &mut text);
    render::print(&String::from_utf8_lossy(&text))?;
    Ok(exit::DONE)
}
