//! `quorate dev ledger-admin`: one administrative request to an instance, for the sample's hooks.
//!
//! The fleet must need no other program, `curl` included; and unlike the guide's `curl` without `-f` this fails when the
//! answer is not 200.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};

use super::http::Call;
use super::ledger::token;

/// Longer than the instance itself waits for its peers.
const LIMIT: Duration = Duration::from_secs(4);

/// One administrative request to an instance
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArgs {
    /// What to ask for
    verb: Verb,
    /// Where the instance listens
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Its port there
    #[arg(long)]
    port: u16,
    /// The token to show, from its file
    #[arg(long, value_name = "FILE")]
    token: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Verb {
    PauseWrites,
    ResumeWrites,
    Compact,
    /// Hand the leadership to one of the members that QUORATE_TARGETS names
    HandOver,
    /// Take in the first of the nodes that QUORATE_TARGETS names
    AddNode,
    /// Take out the first of the nodes that QUORATE_TARGETS names
    RemoveNode,
    CheckToken,
}

pub(super) async fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    let path = match args.verb {
        Verb::PauseWrites => "/admin/pause-writes",
        Verb::ResumeWrites => "/admin/resume-writes",
        Verb::Compact => "/admin/compact",
        Verb::HandOver => "/admin/hand-over",
        Verb::AddNode => "/cluster/nodes/add",
        Verb::RemoveNode => "/cluster/nodes/remove",
        Verb::CheckToken => "/admin/check-token",
    };
    let body = match args.verb {
        Verb::HandOver => serde_json::to_vec(&targets())?,
        Verb::AddNode | Verb::RemoveNode => {
            serde_json::to_vec(&serde_json::json!({ "node": targets().first() }))?
        }
        Verb::PauseWrites | Verb::ResumeWrites | Verb::Compact | Verb::CheckToken => Vec::new(),
    };
    let mut call = Call::new(Method::POST, (args.address, args.port).into(), path, LIMIT).body(body);
    if let Some(file) = &args.token {
        let token = token::read(file)?.with_context(|| format!("{} holds no token", file.display()))?;
        call = call.header(token::TOKEN, token);
    }
    let (status, body) = call.send().await.with_context(|| format!("POST {path}"))?;
    let text = String::from_utf8_lossy(&body);
    if status != StatusCode::OK {
        bail!("POST {path}: {status}: {text}");
    }
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// The members that may take over, as the agent tells a hook.
fn targets() -> Vec<String> {
    let named = std::env::var("QUORATE_TARGETS").unwrap_or_default();
    named.split_whitespace().map(str::to_owned).collect()
}
