//! `quorate dev pair-admin`: what the sample's hooks run. `promote` asks the instance, which must run; `rejoin` works on the files
//! of one that must not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use rustix::process::{Signal, getpid, kill_process};

use super::Outlined;
use super::api::Promote;
use super::config::PairConfig;
use super::node::HELD;
use super::store::{Role, Standing, Store};
use crate::dev::http::Call;

/// Longer than a write holds up everything else.
const LIMIT: Duration = Duration::from_secs(5);

/// What a hook of the pair does
#[derive(Debug, Clone, clap::Args)]
pub(in crate::dev) struct PairAdminArgs {
    /// The instance's TOML file
    #[arg(long, value_name = "FILE", global = true, default_value = "pair.toml")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Verb {
    /// Makes the instance the primary of an epoch; told again it changes nothing
    Promote {
        /// The epoch of the lease
        #[arg(long, env = "QUORATE_EPOCH")]
        epoch: u64,
        /// It acknowledges alone until a standby has everything
        #[arg(long = "async")]
        asynchronous: bool,
    },
    /// Makes a former primary, which must not run, a standby; what the new one does not have is kept aside
    Rejoin {
        /// The new primary [default: the peer]
        #[arg(long, value_name = "HOST:PORT")]
        primary: Option<SocketAddr>,
        /// Is killed after this step, for tests
        #[arg(long, hide = true)]
        die_after: Option<Step>,
    },
}

/// What is durable, in this order, when a former primary rejoins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// What is cut off is kept aside.
    Aside,
    /// It will never lead again by being started.
    Standing,
    /// Its log is the new primary's.
    Cut,
}

pub(in crate::dev) async fn run(args: PairAdminArgs) -> anyhow::Result<ExitCode> {
    let config = PairConfig::load(&args.config)?;
    match args.verb {
        Verb::Promote { epoch, asynchronous } => {
            let body = serde_json::to_vec(&Promote { epoch, alone: asynchronous })?;
            let call = Call::new(Method::POST, config.at(), "/admin/promote", LIMIT).body(body);
            let (status, body) = call.send().await.context("the instance must run")?;
            let text = String::from_utf8_lossy(&body);
            if status != StatusCode::OK {
                bail!("{status}: {text}");
            }
            println!("{text}");
        }
        Verb::Rejoin { primary, die_after } => rejoin(&config, primary, die_after).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Killed between any two steps and told again, it ends the same.
async fn rejoin(
    config: &PairConfig,
    primary: Option<SocketAddr>,
    die_after: Option<Step>,
) -> anyhow::Result<()> {
    let done = |step| {
        if die_after == Some(step) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    };
    let first = if config.first { Role::Primary } else { Role::Standby };
    let mut store = Store::open(&config.data_dir, first).context("the instance must not run")?;
    let to = primary.unwrap_or_else(|| config.peer());
    let (status, body) = Call::new(Method::GET, to, "/outline", HELD * 4).send().await?;
    if status != StatusCode::OK {
        bail!("{to}: {status}");
    }
    let theirs: Outlined = serde_json::from_slice(&body).context("this is no outline")?;
    let own = store.standing().clone();
    if theirs.role != Role::Primary {
        bail!("{to} is no primary");
    }
    if theirs.epoch < own.epoch || (own.role == Role::Primary && theirs.epoch == own.epoch) {
        bail!("{to} leads under epoch {}, this one knows {}", theirs.epoch, own.epoch);
    }
    let common = store.outline().common(&theirs.outline);
    let lost = store.last() - common;
    let aside = store.put_aside(common)?;
    done(Step::Aside);
    let standby = Standing { role: Role::Standby, epoch: theirs.epoch, alone: false, follows: primary };
    store.set_standing(standby)?;
    done(Step::Standing);
    store.cut(common)?;
    done(Step::Cut);
    match aside {
        Some(aside) => println!("cut {lost} lines off after line {common}; kept in {}", aside.display()),
        None => println!("nothing was cut off; line {common} is the last in common"),
    }
    Ok(())
}
