//! The process driver: supervises programs without an init system, the embedded default.
//!
//! Job: run each declared program in its own process group, know it again after a restart of the helper by pid and start
//! time, and leave nothing behind when it stops. Must never: start a second copy, start or restart anything on its own
//! account (what should run is the coordinator's decision), trust a pid without its start time, or signal by a number
//! that may belong to somebody else by now (pidfds only).
//!
//! How a crash at any instruction is survived: an INTENT record with a fresh token is durable before the spawn, the
//! token travels in the child's environment, and the record with pid and start time is durable before the start counts.
//! At [`ProcessDriver::open`] a record that says less than `/proc` is completed from `/proc`.
//!
//! Under systemd the helper's unit needs `KillMode=process`, or systemd ends the supervised programs with it.

mod log;
mod record;
mod spawn;
mod unit;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::unit::Unit;
use super::{BoxFuture, Effect, HostError, ServiceDriver, UnitReading, clock};

/// Variable that marks every process of a unit: `<hash of the run folder>/<name>/<token>`.
pub const INSTANCE_VARIABLE: &str = "QUORATE_INSTANCE";

/// Most declared programs on one host; each costs a record file and a lock.
pub const UNITS_MAX: usize = 256;

/// One program, as the host's own `agent.toml` declares it under `[process.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Program (absolute path) and its arguments; never a shell line.
    pub argv: Vec<String>,
    /// Working folder.
    pub cwd: PathBuf,
    /// The whole environment; nothing else is passed on but [`INSTANCE_VARIABLE`].
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// File that standard output and error are appended to.
    pub log: PathBuf,
    /// How long it must stay alive after the spawn to count as started, in milliseconds.
    #[serde(default = "default_settle_ms")]
    pub settle_ms: u64,
}

/// Long enough to see a program that can not read its configuration, short beside any probe.
const fn default_settle_ms() -> u64 {
    500
}

/// The driver. Cheap to share; all state is per unit.
pub struct ProcessDriver {
    run_dir: PathBuf,
    boot_id: String,
    /// First part of [`INSTANCE_VARIABLE`]: several agents on one host (`quorate dev`) must not adopt from each other.
    scope: String,
    units: RwLock<BTreeMap<String, Arc<Unit>>>,
    /// Locked as long as this driver lives: two drivers on one folder would start two copies.
    _lock: std::fs::File,
}

impl Drop for ProcessDriver {
    /// The programs live on and are adopted by the next driver; only the watching ends.
    fn drop(&mut self) {
        for unit in self.all() {
            unit.abandon();
        }
    }
}

impl ProcessDriver {
    /// Opens the run folder, reads every record and finds running programs again.
    ///
    /// # Errors
    /// When the folder can not be made or `/proc` not be read. A damaged record is set aside and rebuilt, not an error.
    pub async fn open(run_dir: &Path, specs: BTreeMap<String, ProcessSpec>) -> Result<Self, HostError> {
        let what = || format!("can not prepare the run folder {}", run_dir.display());
        std::fs::create_dir_all(run_dir).map_err(HostError::io(what()))?;
        let run_dir = run_dir.canonicalize().map_err(HostError::io(what()))?;
        let boot_id = clock::boot_id().map_err(HostError::io("can not read the boot id"))?;
        let scope = record::scope_of(&run_dir);
        let lock = std::fs::File::create(run_dir.join("lock")).map_err(HostError::io(what()))?;
        lock.try_lock().map_err(|e| HostError::Io {
            what: format!("the run folder {} is in use by another helper", run_dir.display()),
            source: e.into(),
        })?;
        let driver = Self { run_dir, boot_id, scope, units: RwLock::default(), _lock: lock };
        driver.declare(specs).await?;
        Ok(driver)
    }

    /// Takes over a new set of declared programs, after a reload of the configuration. A program that runs and is no
    /// longer declared keeps running; it can be looked at and stopped, not started.
    ///
    /// # Errors
    /// As [`ProcessDriver::open`]; `InvalidUnit` for a name or specification that can not be run.
    pub async fn declare(&self, specs: BTreeMap<String, ProcessSpec>) -> Result<(), HostError> {
        if specs.len() > UNITS_MAX {
            return Err(HostError::TooMany { what: "declared processes", limit: UNITS_MAX as u64 });
        }
        for (name, spec) in &specs {
            check(name, spec)?;
        }
        for unit in self.all() {
            unit.set_spec(None);
        }
        for (name, spec) in specs {
            let unit = match self.find(&name) {
                Some(unit) => unit,
                None => {
                    let unit = Unit::open(&self.run_dir, &self.scope, &self.boot_id, &name).await?;
                    self.write().insert(name, Arc::clone(&unit));
                    unit
                }
            };
            unit.set_spec(Some(spec));
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<Unit>> {
        self.units.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Unit>>> {
        self.units.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Unit>> {
        self.units.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(name).cloned()
    }

    fn get(&self, name: &str) -> Result<Arc<Unit>, HostError> {
        self.find(name).ok_or_else(|| HostError::NotFound { unit: name.to_owned() })
    }
}

/// A record file is named after the unit, so the name must be one harmless path component.
fn check(name: &str, spec: &ProcessSpec) -> Result<(), HostError> {
    let invalid = |why| Err(HostError::InvalidUnit { unit: name.to_owned(), why });
    if quorate_model::ServiceName::new(name).is_err() {
        return invalid("a process name is lower-case letters, digits, '-', '.' and '_', 63 bytes at most");
    }
    let Some(program) = spec.argv.first() else { return invalid("argv is empty") };
    if !Path::new(program).is_absolute() {
        return invalid("the program must be an absolute path");
    }
    if !spec.cwd.is_absolute() || !spec.log.is_absolute() {
        return invalid("cwd and log must be absolute paths");
    }
    let has_nul = |s: &String| s.contains('\0');
    if spec.argv.iter().any(has_nul)
        || spec.env.iter().any(|(k, v)| k.is_empty() || k.contains('=') || has_nul(k) || has_nul(v))
    {
        return invalid("argv or env holds a NUL, or a variable without a proper name");
    }
    Ok(())
}

/// Runs a verb as a task of its own: a caller that stops waiting does not cut it in half.
async fn whole<F>(verb: F) -> Result<Effect, HostError>
where
    F: Future<Output = Result<Effect, HostError>> + Send + 'static,
{
    match tokio::spawn(verb).await {
        Ok(result) => result,
        Err(e) => {
            Err(HostError::Io { what: "a service verb ended early".into(), source: std::io::Error::other(e) })
        }
    }
}

impl ServiceDriver for ProcessDriver {
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let unit = self.get(unit)?;
            whole(async move { unit.start(deadline).await }).await
        })
    }

    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let unit = self.get(unit)?;
            whole(async move { unit.stop(graceful).await }).await
        })
    }

    fn kill<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            // Not declared since this driver was opened: it never ran anything of that name.
            let Some(unit) = self.find(unit) else { return Ok(Effect::default()) };
            whole(async move { unit.kill().await }).await
        })
    }

    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let unit = self.get(unit)?;
            whole(async move { unit.restart(graceful, deadline).await }).await
        })
    }

    fn reload<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let unit = self.get(unit)?;
            whole(async move { unit.reload(deadline).await }).await
        })
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        Box::pin(async move {
            match self.find(unit) {
                Some(unit) => unit.reading(),
                None => {
                    let mut reading = UnitReading::default();
                    reading.status.load = "not-found".into();
                    reading.status.active = "inactive".into();
                    reading.status.sub = "dead".into();
                    reading.evidence.boot_id.clone_from(&self.boot_id);
                    Ok(reading)
                }
            }
        })
    }
}
