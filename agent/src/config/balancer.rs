//! `[balancer.NAME]`: how this host tells a load balancer, and whom it asks. Where it is and what is run stands here alone;
//! a coordinator only names it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use quorate_common::config::Span;
use quorate_model::{BalancerName, HookName};
use serde::Deserialize;

use super::{Wrong, absolute, wrong};
use crate::host::admin::AdminAddress;

/// How long an instance must look healthy before this host alone puts it back, when nothing is said.
const SETTLE: Duration = Duration::from_secs(5);
/// Longest such time.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// Most sockets of one balancer: a pair, or as many processes as anybody runs.
const SOCKETS_MAX: usize = 16;
/// Most words of a command.
const ARGV_MAX: usize = 64;

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBalancer {
    kind: String,
    sockets: Option<Vec<String>>,
    upstream_file: Option<PathBuf>,
    check: Option<Vec<String>>,
    reload: Option<Vec<String>>,
    drain: Option<String>,
    restore: Option<String>,
    connections: Option<String>,
    others: Option<String>,
    health: Option<String>,
    settle: Option<Span>,
}

/// How a balancer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalancerKind {
    /// HAProxy's runtime API.
    Haproxy {
        /// Every balancer that has the pool; all are told.
        sockets: Vec<AdminAddress>,
    },
    /// A file of nginx's upstream servers, and a reload.
    Nginx {
        /// One `server` line for each server.
        upstream_file: PathBuf,
        /// Proves the configuration before it is loaded.
        check: Vec<String>,
        /// Loads it.
        reload: Vec<String>,
    },
    /// Programs of the host's own.
    Hook {
        /// Takes the instance out.
        drain: HookName,
        /// Puts it back.
        restore: HookName,
        /// Prints the instance's connections, a number.
        connections: HookName,
        /// Prints how many other servers of the pool serve now.
        others: HookName,
    },
}

/// A load balancer as the host declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// How it is told.
    pub kind: BalancerKind,
    /// Ends well when the instance is healthy; for a balancer that checks nothing by itself.
    pub health: Option<HookName>,
    /// How long an instance must look healthy before this host alone puts it back.
    pub settle: Duration,
}

pub(super) fn read_balancer(name: String, raw: RawBalancer) -> Result<(BalancerName, Balancer), Wrong> {
    let field = format!("balancer.{name}");
    let name = BalancerName::new(name).map_err(|e| wrong(&field, e.to_string()))?;
    let settle = raw.settle.map_or(SETTLE, |span| span.0);
    if settle.is_zero() || settle > SETTLE_MAX {
        return Err(wrong(format!("{field}.settle"), "it must be more than 0 and at most 5m"));
    }
    let health = raw.health.map(|hook| read_hook(&field, "health", Some(hook))).transpose()?;
    let foreign = [
        ("sockets", raw.sockets.is_some(), "haproxy"),
        ("upstream_file", raw.upstream_file.is_some(), "nginx"),
        ("check", raw.check.is_some(), "nginx"),
        ("reload", raw.reload.is_some(), "nginx"),
        ("drain", raw.drain.is_some(), "hook"),
        ("restore", raw.restore.is_some(), "hook"),
        ("connections", raw.connections.is_some(), "hook"),
        ("others", raw.others.is_some(), "hook"),
    ];
    if let Some((key, _, of)) = foreign.iter().find(|(_, given, of)| *given && *of != raw.kind) {
        return Err(wrong(format!("{field}.{key}"), format!("it goes with kind = \"{of}\" only")));
    }
    let kind = match raw.kind.as_str() {
        "haproxy" => BalancerKind::Haproxy { sockets: read_sockets(&field, raw.sockets)? },
        "nginx" => BalancerKind::Nginx {
            upstream_file: absolute(
                &format!("{field}.upstream_file"),
                raw.upstream_file.ok_or_else(|| wrong(&field, "it needs upstream_file"))?,
            )?,
            check: read_argv(&field, "check", raw.check)?,
            reload: read_argv(&field, "reload", raw.reload)?,
        },
        "hook" => BalancerKind::Hook {
            drain: read_hook(&field, "drain", raw.drain)?,
            restore: read_hook(&field, "restore", raw.restore)?,
            connections: read_hook(&field, "connections", raw.connections)?,
            others: read_hook(&field, "others", raw.others)?,
        },
        _ => return Err(wrong(format!("{field}.kind"), "it must be haproxy, nginx or hook")),
    };
    let checks_itself = matches!(kind, BalancerKind::Haproxy { .. });
    if health.is_none() && !checks_itself {
        let why = "it is needed: this kind of balancer tells nobody whether a server is healthy";
        return Err(wrong(format!("{field}.health"), why));
    }
    Ok((name, Balancer { kind, health, settle }))
}

fn read_hook(field: &str, key: &str, hook: Option<String>) -> Result<HookName, Wrong> {
    let hook = hook.ok_or_else(|| wrong(field, format!("it needs {key}, the name of a hook")))?;
    HookName::new(hook).map_err(|e| wrong(format!("{field}.{key}"), e.to_string()))
}

fn read_argv(field: &str, key: &str, argv: Option<Vec<String>>) -> Result<Vec<String>, Wrong> {
    let argv = argv.ok_or_else(|| wrong(field, format!("it needs {key}, a program and its arguments")))?;
    let absolute = argv.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || argv.len() > ARGV_MAX {
        let why = format!("it must begin with an absolute path and have at most {ARGV_MAX} words");
        return Err(wrong(format!("{field}.{key}"), why));
    }
    Ok(argv)
}

fn read_sockets(field: &str, sockets: Option<Vec<String>>) -> Result<Vec<AdminAddress>, Wrong> {
    let field = format!("{field}.sockets");
    let sockets = sockets.unwrap_or_default();
    if sockets.is_empty() || sockets.len() > SOCKETS_MAX {
        return Err(wrong(field, format!("expected 1 to {SOCKETS_MAX}")));
    }
    let read = |text: String| match text.parse::<SocketAddr>() {
        Ok(address) => Ok(AdminAddress::Tcp(address)),
        Err(_) if text.starts_with('/') => absolute(&field, text.into()).map(AdminAddress::Unix),
        Err(_) => Err(wrong(&field, "it must be an absolute path, or an IP address and a port")),
    };
    sockets.into_iter().map(read).collect()
}
