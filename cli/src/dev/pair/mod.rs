//! The sample pair of `quorate dev`: one primary, one standby, a log of writes that streams from one to the other over HTTP.
//!
//! It exists so that a failover can be tried on something that really can lose or fork what it accepted. It is small but honest:
//! a write is acknowledged once it is on disk here and, unless somebody said otherwise, on the standby's disk too.
//!
//! **A primary that crashed leads again once it is started, under its old epoch, as PostgreSQL does.** Nothing in here keeps two
//! primaries apart: that is what the lease is for, and what the tests look for.
//!
//! What it must never do: listen where strangers are, acknowledge what is not durable, or throw a line away that it does not
//! keep aside.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub(super) mod admin;
mod api;
pub(super) mod config;
mod node;
mod record;
mod store;

use config::PairConfig;
use node::{Node, say};
use record::Outline;
use store::Role;

/// Runs one instance.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PairArgs {
    /// The instance's TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Acknowledge a write that only this instance has, whenever the standby does not answer
    #[arg(long = "async")]
    asynchronous: bool,
}

/// What an instance says of its log.
#[derive(Debug, Serialize, Deserialize)]
struct Outlined {
    node: String,
    role: Role,
    epoch: u64,
    #[serde(flatten)]
    outline: Outline,
}

/// Runs one instance until SIGTERM or SIGINT.
///
/// # Errors
/// When its file is bad, its data is damaged or its port is taken.
pub(super) async fn run(args: PairArgs) -> anyhow::Result<ExitCode> {
    let config = PairConfig::load(&args.config)?;
    let at = config.at();
    let node = Arc::new(Node::new(config, args.asynchronous)?);
    let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
    let standing = node.standing();
    say(&format!("{:?} of epoch {} on {at}, pid {}", standing.role, standing.epoch, std::process::id()));
    tokio::spawn(Arc::clone(&node).follow());
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    // What is in flight is as if the power had gone: whoever asked does not know what became of it.
    tokio::select! {
        served = async { axum::serve(listener, api::router(node)).await } => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    say("stopped");
    Ok(ExitCode::SUCCESS)
}
