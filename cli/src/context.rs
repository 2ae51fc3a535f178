//! Where the coordinators are and who we are. Order: flag, environment, context, `/etc/quorate/cli.toml`.
//!
//! Secrets come from files only: there is no flag and no variable that holds a key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::failure::Failure;

/// Largest configuration file.
const MAX_BYTES: u64 = 1024 * 1024;

/// The command line's configuration file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context in use.
    #[serde(default)]
    pub current_context: String,
    /// Every context by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One fleet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// gRPC addresses of the coordinators, host:port.
    pub addresses: Vec<String>,
    /// CA certificates, PEM file. This path and the next two begin at the configuration file, when they are relative.
    pub ca: PathBuf,
    /// Client certificate, PEM file.
    pub cert: PathBuf,
    /// Client key, PEM file, mode 0600.
    pub key: PathBuf,
}

impl Context {
    /// A relative path begins at the file that names it: its folder can be moved and copied as a whole.
    fn beside(mut self, config: &Path) -> Self {
        let folder = config.parent().unwrap_or_else(|| Path::new(""));
        for file in [&mut self.ca, &mut self.cert, &mut self.key] {
            if !file.as_os_str().is_empty() {
                *file = folder.join(&*file);
            }
        }
        self
    }
}

/// Where the configuration is looked for, first found wins.
#[must_use]
pub fn paths() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_CONFIG") {
        return vec![PathBuf::from(path)];
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let mut paths: Vec<PathBuf> = home.into_iter().map(|dir| dir.join("quorate/config.toml")).collect();
    paths.push(PathBuf::from("/etc/quorate/cli.toml"));
    paths
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read, is too large or malformed.
pub fn read(path: &Path) -> Result<Config, Failure> {
    let fail = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if meta.len() > MAX_BYTES {
        return Err(fail("larger than 1 MiB".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| fail("not UTF-8".to_owned()))?;
    toml::from_str(&text).map_err(|e| fail(e.to_string()))
}

/// The configuration in force and where it stands; none when there is no file.
///
/// # Errors
/// When the file named by `QUORATE_CONFIG` or found first cannot be read.
pub fn load() -> Result<Option<(PathBuf, Config)>, Failure> {
    let named = std::env::var_os("QUORATE_CONFIG").is_some();
    for path in paths() {
        if named || path.is_file() {
            let config = read(&path)?;
            return Ok(Some((path, config)));
        }
    }
    Ok(None)
}

/// The context that a command uses, with flags and environment laid over it.
///
/// # Errors
/// When none is configured or a named one does not exist.
pub fn resolve(global: &Global) -> Result<Context, Failure> {
    let mut context = match load()? {
        None => Context::default(),
        Some((path, config)) => pick(global, &path, config)?.beside(&path),
    };
    if !global.addr.is_empty() {
        context.addresses.clone_from(&global.addr);
    }
    for (flag, field) in [
        (&global.cacert, &mut context.ca),
        (&global.client_cert, &mut context.cert),
        (&global.client_key, &mut context.key),
    ] {
        if let Some(path) = flag {
            field.clone_from(path);
        }
    }
    if context.addresses.is_empty() {
        return Err(Failure::usage("no coordinator is configured").with_hint(
            "set QUORATE_CONFIG or QUORATE_ADDR, or start a local fleet with `quorate dev --detach`",
        ));
    }
    for (what, path, flag) in [
        ("CA certificates", &context.ca, "--cacert"),
        ("a client certificate", &context.cert, "--client-cert"),
        ("a client key", &context.key, "--client-key"),
    ] {
        if path.as_os_str().is_empty() {
            return Err(Failure::usage(format!("{what} are needed to talk to the coordinators"))
                .with_hint(format!("give {flag} FILE, or use a context that names it")));
        }
    }
    Ok(context)
}

fn pick(global: &Global, path: &Path, config: Config) -> Result<Context, Failure> {
    let name = global.context.clone().unwrap_or_else(|| config.current_context.clone());
    let mut contexts = config.contexts;
    if name.is_empty() && global.context.is_none() {
        return Ok(if contexts.len() == 1 {
            contexts.pop_first().map(|(_, context)| context).unwrap_or_default()
        } else {
            Context::default()
        });
    }
    contexts.remove(&name).ok_or_else(|| {
        Failure::usage(format!("{}: there is no context {name:?}", path.display()))
            .with_hint("quorate context list")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_begin_at_the_file_that_names_them() {
        let context = Context {
            addresses: vec!["a:1".to_owned()],
            ca: "ca.pem".into(),
            cert: "/elsewhere/cert.pem".into(),
            key: PathBuf::new(),
        };
        let context = context.beside(Path::new("/root/.config/quorate/config.toml"));
        assert_eq!(context.ca, Path::new("/root/.config/quorate/ca.pem"));
        assert_eq!(context.cert, Path::new("/elsewhere/cert.pem"));
        assert_eq!(context.key, Path::new(""), "not given is not the folder");
    }
}
