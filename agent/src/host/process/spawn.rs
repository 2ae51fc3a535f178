//! The birth of a supervised program, and its parent's duty at its end.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Exit, Phase, Record};
use super::unit::{Unit, locked};
use super::{INSTANCE_VARIABLE, ProcessSpec};
use crate::host::held::{Family, Held};
use crate::host::{HostError, KILL_GRACE, clock, proc};

/// How long the reaper may take to note the exit status of a child that has ended.
const REAP_WAIT: Duration = Duration::from_secs(2);

impl Unit {
    /// Spawns, makes the run durable and sets the reaper on it. On any error nothing of it is left running.
    pub(super) async fn spawn(self: &Arc<Self>, spec: &ProcessSpec, token: &str) -> Result<Held, HostError> {
        let what = || format!("can not start {}", self.name);
        let log = super::log::open(&spec.log)
            .map_err(HostError::io(format!("can not open {}", spec.log.display())))?;
        let errors = log.try_clone().map_err(HostError::io(what()))?;
        let mut command = tokio::process::Command::new(&spec.argv[0]); // `check` refused an empty argv
        command.args(&spec.argv[1..]).current_dir(&spec.cwd).env_clear().envs(&spec.env);
        command.env(INSTANCE_VARIABLE, format!("{}/{}/{token}", self.scope, self.name));
        command.stdin(std::process::Stdio::null()).stdout(log).stderr(errors);
        command.process_group(0).kill_on_drop(false);
        let mut child = command.spawn().map_err(HostError::io(what()))?;
        let held = async {
            let gone = || std::io::Error::other("it vanished before it was seen");
            let pid = child.id().ok_or_else(gone)?;
            // Not reaped yet, so even one that has ended is still listed.
            let stat = proc::stat(pid)?.ok_or_else(gone)?;
            Ok::<_, std::io::Error>((pid, stat.start_ticks))
        };
        let durable = match held.await.map_err(HostError::io(what())) {
            Ok((pid, start_ticks)) => {
                let token = token.to_owned();
                let begun = move |r: &mut Record| {
                    r.intent.clear();
                    (r.token, r.phase, r.pid, r.start_ticks) = (token, Phase::Running, pid, start_ticks);
                    r.starts = r.starts.saturating_add(1);
                    (r.since_ms, r.started_us) = (clock::now().0, clock::monotonic_us());
                    (r.exit, r.asked, r.escalated) = (Exit::Unknown, false, false);
                };
                self.update(begun).await.map(|()| (pid, start_ticks))
            }
            Err(e) => Err(e),
        };
        let (pid, start_ticks) = match durable {
            Ok(ids) => ids,
            Err(e) => {
                let group = child.id().unwrap_or(0);
                let family = Family { group, leader_began: 0, mark: self.mark(token) };
                if let Err(e) = family.kill(KILL_GRACE).await {
                    tracing::error!(unit = %self.name, error = %e, "can not end a process that could not be recorded");
                }
                let _ = child.wait().await;
                return Err(e);
            }
        };
        token.clone_into(&mut locked(&self.owned));
        let main = Held::hold(pid, start_ticks).map_err(HostError::io(what()))?;
        let reaper = tokio::spawn(Arc::clone(self).reap(child, token.to_owned()));
        *locked(&self.reaper) = Some(reaper.abort_handle());
        match main {
            Some(main) => Ok(main),
            None => {
                self.reaped(token).await;
                let detail = self.why_ended(spec, &[]);
                Err(HostError::NotStarted { unit: self.name.clone(), detail })
            }
        }
    }

    /// Waits for the child as its parent, so that no zombie stays, and notes how it ended.
    async fn reap(self: Arc<Self>, mut child: tokio::process::Child, token: String) {
        use std::os::unix::process::ExitStatusExt;
        let exit = match child.wait().await {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            },
            Err(_) => Exit::Unknown,
        };
        let run = token.clone();
        let noted = self.update(move |r| {
            if r.token == run {
                (r.phase, r.exit, r.since_ms) = (Phase::Ended, exit, clock::now().0);
            }
        });
        if let Err(e) = noted.await {
            tracing::error!(unit = %self.name, error = %e.full_text(), "the end of a process could not be recorded");
        }
        let mut owned = locked(&self.owned);
        if *owned == token {
            owned.clear();
        }
    }

    /// Waits until the reaper has noted the end of a run that is ours to reap.
    pub(super) async fn reaped(&self, token: &str) {
        if *locked(&self.owned) != token {
            return;
        }
        let mut changes = self.changes.subscribe();
        let noted = changes.wait_for(|_| {
            let record = locked(&self.record);
            record.token != token || record.phase == Phase::Ended
        });
        // A reaper that is late costs the exit status, nothing else.
        let _ = tokio::time::timeout(REAP_WAIT, noted).await;
    }
}
