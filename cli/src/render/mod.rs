//! What the command line shows: data to stdout, talk to stderr.
//!
//! Job: turn an answer into a table, JSON, YAML or names; turn a failure into what, why, what to do. Must never: call the
//! API, decide anything, or write untrusted text without escaping it: names and output come from hosts.

pub mod json;
pub mod operation;
pub mod plan;
pub mod style;
pub mod table;

use std::io::{self, Write};

use prost::Message;
use serde_json::Value;

use crate::failure::Failure;

/// The form of the answer on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Columns for people; not an interface.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One JSON document a line.
    Jsonl,
    /// Names alone, one a line.
    Name,
}

impl Output {
    /// Whether a person reads it.
    #[must_use]
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Writes an answer. `list` is the JSON field that holds the things when the answer is a list.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub fn answer<M: Message>(
    output: Output,
    message: &M,
    type_name: &str,
    list: Option<&str>,
    table: impl FnOnce(bool) -> String,
) -> Result<(), Failure> {
    if output.is_table() {
        return print(&table(output == Output::Wide));
    }
    structured(output, json::to_json(message, type_name)?, list)
}

/// Writes a JSON value in the form asked for.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub fn structured(output: Output, value: Value, list: Option<&str>) -> Result<(), Failure> {
    match output {
        Output::Json | Output::Table | Output::Wide => print(&pretty(&value)),
        Output::Yaml => {
            let text = serde_saphyr::to_string(&value)
                .map_err(|e| Failure::usage(format!("the answer cannot be shown as YAML: {e}")))?;
            print(&text)
        }
        Output::Jsonl => {
            let lines: Vec<String> = items(value, list).iter().map(Value::to_string).collect();
            print(&lines.join("\n"))
        }
        Output::Name => {
            let lines: Vec<String> = items(value, list).iter().map(name_of).collect();
            print(&lines.join("\n"))
        }
    }
}

fn items(value: Value, list: Option<&str>) -> Vec<Value> {
    match list.and_then(|field| value.get(field)) {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![value],
    }
}

fn name_of(value: &Value) -> String {
    ["name", "planId", "backupId", "tokenId", "digest", "sequence"]
        .iter()
        .find_map(|key| value.get(*key))
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        .unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Writes a text and a line end to stdout; nothing for an empty text. A closed pipe ends quietly.
///
/// # Errors
/// Any other write error.
pub fn print(text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = anstream::stdout().lock();
    let written = out.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| out.write_all(b"\n"));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("stdout cannot be written: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line of talk to stderr; a closed stderr is nobody listening.
pub fn talk(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
