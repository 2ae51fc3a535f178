//! Reading the texts: file, drop-ins, environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::ConfigError;
use super::merge::Sources;

/// Largest configuration file: ours are a few KiB; this only stops a wrong path from filling memory (B-10).
pub const CONFIG_MAX_BYTES: usize = 1024 * 1024;
/// Most drop-ins of one file: packages and operators add a handful.
pub const DROP_INS_MAX: usize = 100;

/// Loads `path`, its drop-ins and the environment variables that begin with `env_prefix` and an underscore.
///
/// The file itself must exist; the drop-in directory need not.
///
/// # Errors
/// [`ConfigError`], ready to print.
pub fn load<Raw: DeserializeOwned>(path: &Path, env_prefix: &str) -> Result<Raw, ConfigError> {
    load_from(path, env_prefix, std::env::vars_os())
}

/// As [`load`], with the environment handed in.
///
/// # Errors
/// [`ConfigError`], ready to print.
pub fn load_from<Raw, Env>(path: &Path, env_prefix: &str, environment: Env) -> Result<Raw, ConfigError>
where
    Raw: DeserializeOwned,
    Env: IntoIterator<Item = (OsString, OsString)>,
{
    let mut sources = Sources::default();
    sources.add(path.display().to_string(), read_text(path)?);
    for drop_in in drop_ins(path)? {
        sources.add(drop_in.display().to_string(), read_text(&drop_in)?);
    }
    add_environment(&mut sources, env_prefix, environment)?;
    sources.into_raw()
}

/// Parses one text, for tests and for configuration that is not a file. `origin` is what errors name.
///
/// # Errors
/// [`ConfigError::Invalid`] with the place.
pub fn parse<Raw: DeserializeOwned>(origin: &str, text: &str) -> Result<Raw, ConfigError> {
    if text.len() > CONFIG_MAX_BYTES {
        return Err(ConfigError::TooLarge { path: origin.into(), limit_bytes: CONFIG_MAX_BYTES });
    }
    let mut sources = Sources::default();
    sources.add(origin.to_owned(), text.to_owned());
    sources.into_raw()
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(CONFIG_MAX_BYTES).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > CONFIG_MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit_bytes: CONFIG_MAX_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        ConfigError::NotUtf8 {
            path: path.to_owned(),
            line: good.iter().filter(|b| **b == b'\n').count() + 1,
            column: good.len() - line_start + 1,
        }
    })
}

/// `FILE.d/*.toml`, sorted by name; names that begin with a dot are editors' leftovers.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut dir = path.as_os_str().to_owned();
    dir.push(".d");
    let dir = PathBuf::from(dir);
    let read = |source| ConfigError::Read { path: dir.clone(), source };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(read)?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if found.len() == DROP_INS_MAX {
            return Err(ConfigError::TooMany { path: dir, limit: DROP_INS_MAX });
        }
        found.push(file);
    }
    found.sort();
    Ok(found)
}

/// `QUORATE_AGENT_SESSION__KEEPALIVE=20s` sets `keepalive` in `[session]`. Sorted by name, so the order of the process
/// environment decides nothing.
fn add_environment<Env>(sources: &mut Sources, prefix: &str, environment: Env) -> Result<(), ConfigError>
where
    Env: IntoIterator<Item = (OsString, OsString)>,
{
    let lead = format!("{prefix}_");
    let mut found = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(&lead) else { continue };
        let origin = format!("environment {name}");
        let Some(value) = value.to_str() else {
            return Err(ConfigError::NotUtf8 { path: origin.into(), line: 1, column: 1 });
        };
        if value.len() > CONFIG_MAX_BYTES {
            return Err(ConfigError::TooLarge { path: origin.into(), limit_bytes: CONFIG_MAX_BYTES });
        }
        let path = rest.split("__").map(str::to_ascii_lowercase).collect();
        found.push((origin, value.to_owned(), path));
    }
    found.sort();
    for (origin, value, path) in found {
        sources.add_value(origin, value, path);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
