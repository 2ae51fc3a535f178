//! One supervised program: its record, its verbs, and how it is found again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_model::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;

use super::record::{Exit, FORMAT, Phase, Record, Stored, load, store};
use super::{INSTANCE_VARIABLE, ProcessSpec};
use crate::host::held::{Family, Held};
use crate::host::proc::{self, Stat};
use crate::host::{Effect, HostError, KILL_GRACE, UnitReading, clock};

/// How long a child that was forked a moment before the helper died may take until its `exec` shows the token. A fork
/// that is scheduled takes well under a millisecond; nothing is waited for when the record holds no intent.
const ADOPT_WINDOW: Duration = Duration::from_millis(300);
/// How long a program must outlive a reload to count as reloaded.
const RELOAD_SETTLE: Duration = Duration::from_millis(200);

pub(super) struct Unit {
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) path: PathBuf,
    pub(super) boot_id: String,
    pub(super) spec: Mutex<Option<ProcessSpec>>,
    /// What is durable.
    pub(super) record: Mutex<Record>,
    /// Held while the record is written, so that writes do not overtake each other.
    pub(super) writing: Mutex<()>,
    /// One verb at a time.
    pub(super) verb: tokio::sync::Mutex<()>,
    /// Token of the run whose exit status this process will learn; empty for an adopted one.
    pub(super) owned: Mutex<String>,
    /// The task that waits for it.
    pub(super) reaper: Mutex<Option<tokio::task::AbortHandle>>,
    /// Counts record changes, for waiting.
    pub(super) changes: watch::Sender<u64>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values are replaced whole, so a panic elsewhere leaves nothing half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unit {
    /// Reads the record and brings it up to what `/proc` says.
    pub(super) async fn open(
        run_dir: &Path,
        scope: &str,
        boot_id: &str,
        name: &str,
    ) -> Result<Arc<Self>, HostError> {
        let path = run_dir.join(format!("{name}.json"));
        let stored = load(&path).map_err(HostError::io(format!("can not read {}", path.display())))?;
        let unit = Arc::new(Self {
            name: name.to_owned(),
            scope: scope.to_owned(),
            path,
            boot_id: boot_id.to_owned(),
            spec: Mutex::new(None),
            record: Mutex::new(Record { format: FORMAT, boot_id: boot_id.to_owned(), ..Record::default() }),
            writing: Mutex::new(()),
            verb: tokio::sync::Mutex::new(()),
            owned: Mutex::new(String::new()),
            reaper: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        unit.adopt(stored).await?;
        Ok(unit)
    }

    pub(super) fn set_spec(&self, spec: Option<ProcessSpec>) {
        *locked(&self.spec) = spec;
    }

    /// Stops watching; the program itself is not touched.
    pub(super) fn abandon(&self) {
        if let Some(reaper) = locked(&self.reaper).take() {
            reaper.abort();
        }
    }

    /// Compares what was stored with `/proc` and stores what is true.
    async fn adopt(self: &Arc<Self>, stored: Stored) -> Result<(), HostError> {
        let (mut record, search) = match stored {
            Stored::Whole(record) => {
                let search = (!record.intent.is_empty()).then(|| record.intent.clone());
                (record, search)
            }
            Stored::SetAside(aside) => {
                tracing::warn!(unit = %self.name, aside = %aside.display(), "damaged process record set aside");
                (Record { phase: Phase::Ended, ..self.record() }, Some(String::new()))
            }
            Stored::Missing => (self.record(), Some(String::new())),
        };
        let before = record.clone();
        if record.boot_id != self.boot_id {
            // A reboot ended everything, and that is nobody's failure.
            record.boot_id.clone_from(&self.boot_id);
            record.intent.clear();
            record.pid = 0;
            if record.phase != Phase::Never {
                (record.phase, record.exit, record.asked) = (Phase::Ended, Exit::Unknown, true);
                record.since_ms = clock::now().0;
            }
        } else if let Some(token) = search {
            let window = if record.intent.is_empty() { Duration::ZERO } else { ADOPT_WINDOW };
            if let Some((main, token)) = self.find_main(&token, window).await? {
                record.token = token;
                (record.phase, record.pid, record.start_ticks) = (Phase::Running, main.pid, main.start_ticks);
                record.starts = record.starts.saturating_add(1);
                (record.since_ms, record.started_us) = (clock::now().0, clock::monotonic_us());
                (record.exit, record.asked, record.escalated) = (Exit::Unknown, false, false);
            }
            record.intent.clear();
        }
        if matches!(record.phase, Phase::Running | Phase::Stopping) {
            if self.alive(&record)?.is_some() {
                // A stop that was cut off is not going on any more; the request is remembered in `asked`.
                record.phase = Phase::Running;
            } else {
                (record.phase, record.exit, record.since_ms) = (Phase::Ended, Exit::Unknown, clock::now().0);
            }
        }
        if record == before && before.phase != Phase::Never {
            *locked(&self.record) = record;
            return Ok(());
        }
        self.update(move |r| *r = record).await
    }

    /// The main process of a run: the oldest group leader with the unit's mark. An empty token finds any run.
    async fn find_main(&self, token: &str, window: Duration) -> Result<Option<(Stat, String)>, HostError> {
        let family = Family { group: 0, leader_began: 0, mark: self.mark(token) };
        let end = Instant::now() + window;
        loop {
            let members = family.members().map_err(HostError::io("can not list processes"))?;
            if let Some(main) = members.into_iter().find(|s| s.pid == s.pgrp) {
                let entry = proc::environ_entry(main.pid, &self.mark(""));
                let token = entry
                    .and_then(|e| String::from_utf8(e).ok())
                    .and_then(|e| e.rsplit('/').next().map(str::to_owned))
                    .unwrap_or_default();
                return Ok(Some((main, token)));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn mark(&self, token: &str) -> Vec<u8> {
        format!("{INSTANCE_VARIABLE}={}/{}/{token}", self.scope, self.name).into_bytes()
    }

    /// Everything that belongs to the unit. The group number is believed only while its run has just ended: later it
    /// may have been given to somebody else.
    fn family(&self, record: &Record, just_ended: bool) -> Family {
        let group = if just_ended { record.pid } else { 0 };
        Family { group, leader_began: record.start_ticks, mark: self.mark("") }
    }

    pub(super) fn record(&self) -> Record {
        locked(&self.record).clone()
    }

    /// Changes the record, durably. Runs to its end even if the caller stops waiting.
    pub(super) async fn update<F>(self: &Arc<Self>, change: F) -> Result<(), HostError>
    where
        F: FnOnce(&mut Record) + Send + 'static,
    {
        let unit = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let _turn = locked(&unit.writing);
            let mut next = unit.record();
            change(&mut next);
            store(&unit.path, &next)?;
            *locked(&unit.record) = next;
            unit.changes.send_modify(|n| *n = n.wrapping_add(1));
            Ok(())
        })
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)));
        written.map_err(HostError::io(format!("can not store the record of {}", self.name)))
    }

    fn alive(&self, record: &Record) -> Result<Option<Stat>, HostError> {
        if !matches!(record.phase, Phase::Running | Phase::Stopping) || record.boot_id != self.boot_id {
            return Ok(None);
        }
        let stat = proc::stat(record.pid).map_err(HostError::io("can not read /proc"))?;
        Ok(stat.filter(|s| s.start_ticks == record.start_ticks && s.is_alive()))
    }

    pub(super) fn reading(&self) -> Result<UnitReading, HostError> {
        let record = self.record();
        let alive = self.alive(&record)?.is_some();
        let mut reading = UnitReading::default();
        let (active, sub) = match (&record.phase, alive) {
            (Phase::Stopping, true) => ("deactivating", "stop-sigterm"),
            (_, true) => ("active", "running"),
            (_, false) if !record.intent.is_empty() => ("activating", "start"),
            (Phase::Never, false) => ("inactive", "dead"),
            (_, false) if record.asked || record.exit == Exit::Code(0) => ("inactive", "dead"),
            (_, false) => ("failed", "failed"),
        };
        let (result, exit_status) = match (alive || record.phase == Phase::Never, record.exit) {
            (true, _) => ("success", 0),
            (false, _) if record.escalated => ("timeout", 9),
            (false, Exit::Code(code)) if code == 0 || record.asked => ("success", code),
            (false, Exit::Code(code)) => ("exit-code", code),
            (false, Exit::Signal(signal)) if record.asked => ("success", signal),
            (false, Exit::Signal(signal)) => ("signal", signal),
            (false, Exit::Unknown) => ("", -1),
        };
        let s = &mut reading.status;
        s.load = if locked(&self.spec).is_some() { "loaded" } else { "not-found" }.into();
        (s.active, s.sub, s.result) = (active.into(), sub.into(), result.into());
        s.main_pid = if alive { record.pid } else { 0 };
        s.invocation_id.clone_from(&record.token);
        s.since = Timestamp(record.since_ms);
        s.exit_status = exit_status;
        let e = &mut reading.evidence;
        e.boot_id.clone_from(&record.boot_id);
        e.invocation_id = record.token;
        (e.active_enter_us, e.start_ticks, e.starts) = (record.started_us, record.start_ticks, record.starts);
        (e.main_pid, e.running) = (s.main_pid, alive);
        Ok(reading)
    }

    pub(super) async fn start(self: Arc<Self>, deadline: Duration) -> Result<Effect, HostError> {
        let _turn = self.verb.lock().await;
        self.start_turn(deadline).await
    }

    pub(super) async fn stop(self: Arc<Self>, graceful: Duration) -> Result<Effect, HostError> {
        let _turn = self.verb.lock().await;
        self.stop_turn(graceful).await
    }

    /// Kills every process of it without waiting for its turn: the verb that has it may wait for long. That one sees the end; what
    /// nobody waits for is noted here.
    pub(super) async fn kill(self: Arc<Self>) -> Result<Effect, HostError> {
        let began = Instant::now();
        let record = self.record();
        let running = self.alive(&record)?.is_some();
        let leftovers = self.clear(&record, running).await?;
        if running {
            self.reaped(&record.token).await;
        }
        if let Ok(_turn) = self.verb.try_lock()
            && running
        {
            self.update(move |r| {
                if r.phase != Phase::Ended {
                    (r.phase, r.since_ms) = (Phase::Ended, clock::now().0);
                }
                (r.asked, r.escalated) = (true, true);
            })
            .await?;
        }
        let took_ms = millis(began.elapsed());
        Ok(Effect { unit: self.reading()?, already: !running, escalated: running, leftovers, took_ms })
    }

    pub(super) async fn restart(
        self: Arc<Self>,
        graceful: Duration,
        deadline: Duration,
    ) -> Result<Effect, HostError> {
        let _turn = self.verb.lock().await;
        if locked(&self.spec).is_none() {
            // Known before the stop, or it would be left stopped.
            return Err(HostError::NotFound { unit: self.name.clone() });
        }
        let stopped = self.stop_turn(graceful).await?;
        let mut effect = self.start_turn(deadline).await?;
        effect.escalated |= stopped.escalated;
        effect.leftovers.splice(0..0, stopped.leftovers);
        effect.took_ms = effect.took_ms.saturating_add(stopped.took_ms);
        Ok(effect)
    }

    async fn start_turn(self: &Arc<Self>, deadline: Duration) -> Result<Effect, HostError> {
        let began = Instant::now();
        let spec =
            locked(&self.spec).clone().ok_or_else(|| HostError::NotFound { unit: self.name.clone() })?;
        let record = self.record();
        if self.alive(&record)?.is_some() {
            return Ok(Effect { unit: self.reading()?, already: true, ..Effect::default() });
        }
        let leftovers = self.clear(&record, false).await?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let intent = token.clone();
        self.update(move |r| r.intent = intent).await?;
        let main = match self.spawn(&spec, &token).await {
            Ok(main) => main,
            Err(e) => {
                self.update(|r| r.intent.clear()).await?;
                return Err(e);
            }
        };
        let settle = Duration::from_millis(spec.settle_ms).min(deadline);
        if main.ended_within(settle).await.map_err(HostError::io("can not watch the new process"))? {
            self.reaped(&token).await;
            let leftovers = self.clear(&self.record(), true).await?;
            return Err(HostError::NotStarted {
                unit: self.name.clone(),
                detail: self.why_ended(&spec, &leftovers),
            });
        }
        Ok(Effect { unit: self.reading()?, leftovers, took_ms: millis(began.elapsed()), ..Effect::default() })
    }

    /// Kills what is left of the last run and says who it was.
    async fn clear(&self, record: &Record, just_ended: bool) -> Result<Vec<String>, HostError> {
        let family = self.family(record, just_ended);
        let (killed, left) = family
            .kill(KILL_GRACE)
            .await
            .map_err(HostError::io(format!("can not end the rest of {}", self.name)))?;
        if left.is_empty() {
            return Ok(killed);
        }
        Err(HostError::Timeout {
            what: format!("SIGKILL of {}", left.join(", ")),
            after_ms: millis(KILL_GRACE),
        })
    }

    async fn stop_turn(self: &Arc<Self>, graceful: Duration) -> Result<Effect, HostError> {
        let began = Instant::now();
        let record = self.record();
        let held = match self.alive(&record)? {
            Some(_) => Held::hold(record.pid, record.start_ticks)
                .map_err(HostError::io(format!("can not hold {}", self.name)))?,
            None => None,
        };
        let already = held.is_none();
        let mut escalated = false;
        if let Some(main) = held {
            self.update(|r| (r.phase, r.asked, r.since_ms) = (Phase::Stopping, true, clock::now().0)).await?;
            let what = || format!("can not stop {}", self.name);
            main.signal(Signal::TERM).map_err(HostError::io(what()))?;
            if !main.ended_within(graceful).await.map_err(HostError::io(what()))? {
                escalated = true;
                main.signal(Signal::KILL).map_err(HostError::io(what()))?;
                if !main.ended_within(KILL_GRACE).await.map_err(HostError::io(what()))? {
                    let what = format!("SIGKILL of {} {}", main.pid, self.name);
                    return Err(HostError::Timeout { what, after_ms: millis(KILL_GRACE) });
                }
            }
            self.reaped(&record.token).await;
        }
        let leftovers = self.clear(&record, !already).await?;
        if !already {
            self.update(move |r| {
                if r.phase != Phase::Ended {
                    (r.phase, r.since_ms) = (Phase::Ended, clock::now().0);
                }
                r.escalated = escalated;
            })
            .await?;
        }
        Ok(Effect { unit: self.reading()?, already, escalated, leftovers, took_ms: millis(began.elapsed()) })
    }

    pub(super) async fn reload(self: Arc<Self>, deadline: Duration) -> Result<Effect, HostError> {
        let _turn = self.verb.lock().await;
        let began = Instant::now();
        let record = self.record();
        let what = || format!("can not reload {}", self.name);
        let not = |why| HostError::NotReloadable { unit: self.name.clone(), why };
        let main = match self.alive(&record)? {
            Some(_) => Held::hold(record.pid, record.start_ticks).map_err(HostError::io(what()))?,
            None => None,
        }
        .ok_or_else(|| not("it does not run"))?;
        // The default action of SIGHUP is death, which is no reload.
        match proc::handles_signal(main.pid, Signal::HUP.as_raw()).map_err(HostError::io(what()))? {
            Some(true) => {}
            Some(false) => return Err(not("it does not handle SIGHUP")),
            None => return Err(not("it does not run")),
        }
        main.signal(Signal::HUP).map_err(HostError::io(what()))?;
        if main.ended_within(RELOAD_SETTLE.min(deadline)).await.map_err(HostError::io(what()))? {
            self.reaped(&record.token).await;
            let detail = "it ended on SIGHUP".to_owned();
            return Err(HostError::NotStarted { unit: self.name.clone(), detail });
        }
        Ok(Effect { unit: self.reading()?, took_ms: millis(began.elapsed()), ..Effect::default() })
    }

    pub(super) fn why_ended(&self, spec: &ProcessSpec, leftovers: &[String]) -> String {
        let how = match self.record().exit {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
            Exit::Unknown => "ended, exit status not known".to_owned(),
        };
        let tail = super::log::tail(&spec.log);
        let rest = if leftovers.is_empty() {
            String::new()
        } else {
            format!("; also killed {}", leftovers.join(", "))
        };
        if tail.is_empty() { format!("{how}{rest}") } else { format!("{how}{rest}; its log ends: {tail}") }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) fn family_of(unit: &Unit) -> Vec<String> {
    unit.family(&unit.record(), true)
        .members()
        .expect("/proc is readable")
        .iter()
        .map(crate::host::held::label)
        .collect()
}
