//! `quorate dev`: a whole fleet of real processes on loopback, and the sample service it runs.
//!
//! Everything goes the way it goes in production: real daemons, a fresh CA, mutual TLS, enrolment by token, the API.
//! What it must never do: listen anywhere but on loopback, touch a process it cannot prove is its own (pid *and* start
//! time), or leave one behind.

use std::path::PathBuf;
use std::process::ExitCode;

mod api;
mod bring_up;
mod config;
mod daemon;
mod demo;
mod fleet;
mod http;
mod layout;
pub mod ledger;
mod ledger_admin;
mod pair;
mod process;
mod sample;
mod sample_pair;
mod status;
mod supervise;
mod sweep;

use layout::Layout;
use supervise::Wish;

/// A local fleet on loopback, for trying things out
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevArgs {
    #[command(subcommand)]
    command: Option<DevCommand>,
    #[command(flatten)]
    up: UpArgs,
}

#[derive(Debug, Clone, clap::Args)]
struct UpArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Leave it running in the background; exit 0 once it is ready
    #[arg(long)]
    detach: bool,
    /// Then show a rolling restart with the leader killed in the middle
    #[arg(long, conflicts_with = "detach")]
    demo: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct FleetArgs {
    #[command(flatten)]
    place: DirArgs,
    /// Coordinators [default: 3, or as many as DIR has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    coordinators: Option<u8>,
    /// Agents [default: 5, or as many as DIR has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    agents: Option<u16>,
    /// What a new fleet's coordinator tells the others to call it at: something that stands in front of it, for tests
    #[arg(long, hide = true, value_name = "NAME=HOST:PORT", value_parser = advertised)]
    advertise: Vec<(String, String)>,
    /// Further agents of a new fleet with an instance that is no member of the group yet, for tests
    #[arg(long, hide = true, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=6))]
    spares: u8,
    /// A new fleet also runs the sample pair, a primary and a standby with a lease, on its first two nodes
    #[arg(long)]
    pair: bool,
}

/// `coord1=127.0.0.1:7443`.
fn advertised(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("it must be NAME=HOST:PORT")?;
    let address: std::net::SocketAddr = address.parse().map_err(|_| "it must be NAME=HOST:PORT")?;
    if address.ip().is_loopback() {
        Ok((name.to_owned(), address.to_string()))
    } else {
        Err("loopback only".into())
    }
}

#[derive(Debug, Clone, clap::Args)]
struct DirArgs {
    /// Where everything is kept [default: $XDG_STATE_HOME/quorate/dev]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl DirArgs {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        self.dir.clone().map_or_else(layout::default_dir, Ok)
    }
}

impl FleetArgs {
    fn wish(&self) -> anyhow::Result<Wish> {
        Ok(Wish {
            dir: self.place.dir()?,
            coordinators: self.coordinators.map(usize::from),
            agents: self.agents.map(usize::from),
            advertise: self.advertise.clone(),
            spares: self.spares,
            pair: self.pair,
        })
    }
}

#[derive(Debug, Clone, clap::Subcommand)]
enum DevCommand {
    /// Which processes of the fleet live
    Status {
        #[command(flatten)]
        place: DirArgs,
        /// Print `DIR/fleet.json`
        #[arg(long)]
        json: bool,
    },
    /// End all of it; its data stays
    Stop(DirArgs),
    /// The background process of `--detach`
    #[command(hide = true)]
    Supervise(FleetArgs),
    /// One instance of the sample service (started by the fleet's agents)
    #[command(hide = true)]
    Ledger(ledger::LedgerArgs),
    /// One administrative request to an instance
    #[command(hide = true)]
    LedgerAdmin(ledger_admin::AdminArgs),
    /// One instance of the sample pair (started by the fleet's agents)
    #[command(hide = true)]
    Pair(pair::PairArgs),
    /// What the hooks of the sample pair run
    #[command(hide = true)]
    PairAdmin(pair::admin::PairAdminArgs),
}

/// Runs `quorate dev`.
///
/// # Errors
/// What failed, in words for the person at the terminal.
pub async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => up(args.up).await,
        Some(DevCommand::Status { place, json }) => {
            let dir = place.dir()?;
            if !dir.is_dir() {
                eprintln!("no fleet was ever started in {}", dir.display());
                return Ok(ExitCode::FAILURE);
            }
            status::status(&Layout::open(&dir)?, json)
        }
        Some(DevCommand::Stop(place)) => stop(&place.dir()?).await,
        Some(DevCommand::Supervise(fleet)) => supervise::background(&fleet.wish()?).await,
        Some(DevCommand::Ledger(args)) => ledger::run(args, &ledger::Build::own()).await,
        Some(DevCommand::LedgerAdmin(args)) => ledger_admin::run(args).await,
        Some(DevCommand::Pair(args)) => pair::run(args).await,
        Some(DevCommand::PairAdmin(args)) => pair::admin::run(args).await,
    }
}

async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let wish = args.fleet.wish()?;
    if args.detach {
        return supervise::detach(&wish).await;
    }
    supervise::foreground(&wish, args.demo).await
}

/// Stopping what does not run is no error: the wanted end is reached.
async fn stop(dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    if !dir.is_dir() {
        eprintln!("nothing is running in {}", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let layout = Layout::open(dir)?;
    let ended = sweep::stop(&layout).await?;
    eprintln!(
        "{} in {}",
        if ended { "stopped the fleet" } else { "nothing is running" },
        layout.dir().display()
    );
    Ok(ExitCode::SUCCESS)
}
