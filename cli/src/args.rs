//! Flags that several commands share.

use std::time::Duration;

use clap::Args;
use quorate_proto::v1;

use crate::failure::Failure;
use crate::render::Output;
use crate::render::style::Color;

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Context of the configuration to use
    #[arg(long, env = "QUORATE_CONTEXT", global = true, help_heading = "Connection")]
    pub context: Option<String>,
    /// Coordinators, host:port, comma separated
    #[arg(long, env = "QUORATE_ADDR", value_delimiter = ',', global = true, help_heading = "Connection")]
    pub addr: Vec<String>,
    /// CA certificates, PEM file
    #[arg(long, env = "QUORATE_CACERT", global = true, help_heading = "Connection")]
    pub cacert: Option<std::path::PathBuf>,
    /// Client certificate, PEM file
    #[arg(long, env = "QUORATE_CLIENT_CERT", global = true, help_heading = "Connection")]
    pub client_cert: Option<std::path::PathBuf>,
    /// Client key, PEM file
    #[arg(long, env = "QUORATE_CLIENT_KEY", global = true, help_heading = "Connection")]
    pub client_key: Option<std::path::PathBuf>,
    /// Form of the answer
    #[arg(short, long, env = "QUORATE_OUTPUT", value_enum, default_value_t, global = true)]
    pub output: Output,
    /// When to colour
    #[arg(long, value_enum, default_value_t, global = true)]
    pub color: Color,
    /// Never ask; fail with exit code 2 where an answer would be needed
    #[arg(long, env = "QUORATE_NO_INPUT", global = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_input: bool,
    /// Answer from whatever the member has, without asking a quorum
    #[arg(long, global = true)]
    pub stale: bool,
}

impl Global {
    /// The freshness asked for, as the protocol's number.
    #[must_use]
    pub fn consistency(&self) -> i32 {
        if self.stale { v1::Consistency::Stale.into() } else { v1::Consistency::Linearizable.into() }
    }
}

/// Flags of everything that changes something.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Change")]
pub struct Change {
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Id of this request; the same id gives the same answer for 24 hours
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

impl Change {
    /// The frame of the request; an id is minted here, so that a retry after a lost answer is the same request.
    #[must_use]
    pub fn options(&self) -> v1::ChangeOptions {
        v1::ChangeOptions {
            request_id: self.request_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            reason: self.reason.clone().unwrap_or_default(),
            validate_only: self.dry_run,
        }
    }
}

/// Flags of everything that starts an operation.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Waiting")]
pub struct Waiting {
    /// Wait until the operation ended (the default at a terminal)
    #[arg(long, conflicts_with = "detach")]
    pub wait: bool,
    /// Return once it is started
    #[arg(long)]
    pub detach: bool,
    /// Give up waiting after this time, exit code 5; the operation goes on
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

impl Waiting {
    /// Whether to wait: said so, or a person watches.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.detach && (self.wait || self.timeout.is_some() || crate::render::style::is_live())
    }
}

/// Which nodes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Selection")]
pub struct Select {
    /// Node name or glob; may be given several times
    #[arg(long = "node", value_name = "NODE", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Label expression: role=validator,zone in (a,b)
    #[arg(short = 'l', long = "selector", value_name = "EXPRESSION")]
    pub labels: Option<String>,
    /// Every node
    #[arg(long)]
    pub all: bool,
}

impl Select {
    /// True when nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.nodes.is_empty() && self.labels.is_none()
    }

    /// The selector, or `None` when nothing was said.
    ///
    /// # Errors
    /// When the label expression cannot be read.
    pub fn selector(&self) -> Result<Option<v1::Selector>, Failure> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(text) = &self.labels {
            quorate_model::Selector::parse_labels(text)
                .map_err(|e| Failure::usage(format!("-l {text:?}: {e}")))?;
        }
        Ok(Some(v1::Selector {
            all: self.all,
            names: self.nodes.clone(),
            labels: self.labels.clone().unwrap_or_default(),
        }))
    }

    /// The selector; an empty one is refused.
    ///
    /// # Errors
    /// When nothing was said, or the expression cannot be read.
    pub fn required(&self) -> Result<v1::Selector, Failure> {
        self.selector()?.ok_or_else(|| {
            Failure::usage("no node was chosen; an empty selector never means all")
                .with_hint("give --node NODE, -l EXPRESSION, or --all")
        })
    }
}

/// How much of a list.
#[derive(Args, Clone, Debug, Default)]
pub struct Page {
    /// At most this many; all when it is not given
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
}
