//! The one call in each main: where logs go, in which form, at which level.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::fields;
use super::journal::Journal;
use super::stderr::Stderr;

/// The environment variable with the filter, for example `info,quorate_agent=debug`.
pub const FILTER_VARIABLE: &str = "QUORATE_LOG";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Journald fields when stderr is the journal, else text.
    #[default]
    Auto,
    /// Text on stderr, coloured at a terminal unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line on stderr.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The filter does not parse.
    #[error("{FILTER_VARIABLE} or the configured log filter is not valid")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A subscriber was already installed.
    #[error("logging is already set up in this process")]
    Already(#[from] tracing_subscriber::util::TryInitError),
}

/// Whose lines they are; in the journal each carries it, so that `journalctl QUORATE_NODE=node1` finds all of them also
/// where the journals of many hosts are gathered.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// The agent's or the helper's of this node.
    Node(&'a str),
    /// This coordinator member's.
    Member(&'a str),
}

impl<'a> Whose<'a> {
    const fn field(self) -> (&'static str, &'a str) {
        match self {
            Self::Node(name) => (fields::NODE, name),
            Self::Member(name) => (fields::MEMBER, name),
        }
    }
}

/// Sets up logging for the process. `QUORATE_LOG` wins over `default_filter` (from the configuration, `info` usually).
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn init(format: Format, default_filter: &str, whose: Whose<'_>) -> Result<(), SetupError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => EnvFilter::builder().parse(text)?,
        Ok(_) | Err(_) => EnvFilter::builder().parse(default_filter)?,
    };
    let registry = Registry::default().with(filter);
    if format == Format::Auto && stderr_is_the_journal() {
        match Journal::connect(&program(), whose.field()) {
            Ok(journal) => {
                registry.with(journal).try_init()?;
                return Ok(());
            }
            // The journal's socket may be out of a sandbox's reach; stderr still leads there.
            Err(_) => {
                return Ok(registry
                    .with(fmt::layer().log_internal_errors(false).with_writer(|| Stderr).with_ansi(false))
                    .try_init()?);
            }
        }
    }
    match format {
        Format::Json => {
            registry
                .with(
                    fmt::layer().log_internal_errors(false).json().flatten_event(true).with_writer(|| Stderr),
                )
                .try_init()?;
        }
        Format::Auto | Format::Text => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry
                .with(fmt::layer().log_internal_errors(false).with_writer(|| Stderr).with_ansi(colour))
                .try_init()?;
        }
    }
    Ok(())
}

fn program() -> String {
    std::env::args_os()
        .next()
        .and_then(|arg| {
            std::path::PathBuf::from(arg).file_name().map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "quorate".to_owned())
}

/// systemd sets `JOURNAL_STREAM` to `device:inode` of the stream it made; it is inherited, so only an equal stderr counts.
fn stderr_is_the_journal() -> bool {
    let Ok(claim) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| claim == format!("{}:{}", stat.st_dev, stat.st_ino))
}
