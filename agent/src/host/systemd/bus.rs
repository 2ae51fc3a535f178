//! The calls themselves, each with its limit.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt;
use quorate_model::Timestamp;
use tokio::sync::Mutex;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::words::{invocation, is_absent, job_result, refusal};
use super::{late, millis};
use crate::host::{HostError, RunEvidence, UnitReading};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Job signals held for one waiting verb. A busy host removes some hundred jobs at once during boot.
const SIGNALS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

pub(super) struct Bus {
    connection: Mutex<Option<Connection>>,
    /// The connection was handed in and is not made again.
    given: bool,
    boot_id: String,
    limit: Duration,
}

impl Bus {
    pub(super) fn new(connection: Option<Connection>, boot_id: String, limit: Duration) -> Self {
        Self { given: connection.is_some(), connection: Mutex::new(connection), boot_id, limit }
    }

    /// The connection, made when there is none. Several callers at once make one.
    pub(super) async fn connection(&self) -> Result<Connection, HostError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        if self.given {
            return Err(HostError::Unavailable { what: "the D-Bus connection of systemd" });
        }
        let connect = zbus::connection::Builder::system().method_timeout(self.limit).build();
        let connection = match tokio::time::timeout(self.limit, connect).await {
            Ok(made) => made.map_err(HostError::Bus)?,
            Err(_) => return Err(self.hangs("connecting to D-Bus")),
        };
        *slot = Some(connection.clone());
        Ok(connection)
    }

    fn hangs(&self, what: &str) -> HostError {
        HostError::Timeout { what: what.to_owned(), after_ms: millis(self.limit) }
    }

    async fn forget(&self) {
        *self.connection.lock().await = None;
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        unit: &str,
        body: &B,
    ) -> Result<Message, HostError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let connection = self.connection().await?;
        let call = connection.call_method(Some(SYSTEMD), path, Some(interface), method, body);
        let answer = match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(|e| refusal(method, unit, e)),
            Err(_) => Err(self.hangs(&format!("the answer of systemd to {method}"))),
        };
        if matches!(answer, Err(HostError::Bus(_) | HostError::Timeout { .. })) {
            self.forget().await;
        }
        answer
    }

    /// Asks for a job and listens for its end from before it exists.
    pub(super) async fn job(
        &self,
        method: &'static str,
        verb: &'static str,
        unit: &str,
    ) -> Result<Job, HostError> {
        let connection = self.connection().await?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(HostError::Bus)?;
        let listen = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS_MAX));
        let removed = match tokio::time::timeout(self.limit, listen).await {
            Ok(stream) => stream.map_err(HostError::Bus)?,
            Err(_) => return Err(self.hangs("the answer of D-Bus to AddMatch")),
        };
        match self.call(MANAGER_PATH, MANAGER, "Subscribe", unit, &()).await {
            // A second subscription of the same client is refused as AlreadySubscribed: it is subscribed.
            Ok(_) | Err(HostError::Refused { .. }) => {}
            Err(e) => return Err(e),
        }
        let answer = self.call(MANAGER_PATH, MANAGER, method, unit, &(unit, "replace")).await?;
        let path: OwnedObjectPath = answer.body().deserialize().map_err(HostError::Bus)?;
        Ok(Job { verb, unit: unit.to_owned(), path, removed, ended: false })
    }

    pub(super) async fn kill(&self, unit: &str) -> Result<(), HostError> {
        self.call(MANAGER_PATH, MANAGER, "KillUnit", unit, &(unit, "all", 9_i32)).await.map(drop)
    }

    async fn property(
        &self,
        path: &OwnedObjectPath,
        unit: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<Option<OwnedVariant>, HostError> {
        match self.call(path.as_str(), PROPERTIES, "Get", unit, &(interface, name)).await {
            Ok(answer) => answer.body().deserialize().map(Some).map_err(HostError::Bus),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn path(&self, unit: &str) -> Result<OwnedObjectPath, HostError> {
        // LoadUnit and not GetUnit: an inactive unit is usually not in memory.
        let answer = self.call(MANAGER_PATH, MANAGER, "LoadUnit", unit, &(unit,)).await?;
        answer.body().deserialize().map_err(HostError::Bus)
    }

    pub(super) async fn can_reload(&self, unit: &str) -> Result<bool, HostError> {
        let path = self.path(unit).await?;
        let value = self.property(&path, unit, UNIT, "CanReload").await?;
        Ok(value.and_then(|v| bool::try_from(v).ok()).unwrap_or(false))
    }

    /// All that is known of a unit. The properties are asked for at once, so they are of nearly one moment; the
    /// invocation id is asked for first and last, and a change between the two is read again.
    pub(super) async fn reading(&self, unit: &str) -> Result<UnitReading, HostError> {
        /// A unit that starts anew on every look is not described by a fourth one either.
        const LOOKS_MAX: u32 = 3;
        let path = self.path(unit).await?;
        let mut reading = UnitReading::default();
        for _ in 0..LOOKS_MAX {
            let first = self.invocation(&path, unit).await?;
            reading = self.look(&path, unit).await?;
            reading.status.invocation_id = self.invocation(&path, unit).await?;
            reading.evidence.invocation_id.clone_from(&reading.status.invocation_id);
            if first == reading.status.invocation_id {
                break;
            }
        }
        Ok(reading)
    }

    async fn invocation(&self, path: &OwnedObjectPath, unit: &str) -> Result<String, HostError> {
        let value = self.property(path, unit, UNIT, "InvocationID").await?;
        Ok(value.and_then(|v| Vec::<u8>::try_from(v).ok()).map(|b| invocation(&b)).unwrap_or_default())
    }

    async fn look(&self, path: &OwnedObjectPath, unit: &str) -> Result<UnitReading, HostError> {
        let of_unit = |name| self.property(path, unit, UNIT, name);
        let of_service = |name| self.property(path, unit, SERVICE, name);
        let (load, active, sub, file, since, entered) = tokio::try_join!(
            of_unit("LoadState"),
            of_unit("ActiveState"),
            of_unit("SubState"),
            of_unit("UnitFileState"),
            of_unit("StateChangeTimestamp"),
            of_unit("ActiveEnterTimestampMonotonic"),
        )?;
        let (pid, restarts, result, status) = tokio::try_join!(
            of_service("MainPID"),
            of_service("NRestarts"),
            of_service("Result"),
            of_service("ExecMainStatus"),
        )?;
        let text = |v: Option<OwnedVariant>| v.and_then(|v| String::try_from(v).ok()).unwrap_or_default();
        let number = |v: Option<OwnedVariant>| v.and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
        let big = |v: Option<OwnedVariant>| v.and_then(|v| u64::try_from(v).ok()).unwrap_or(0);
        let mut reading = UnitReading::default();
        let s = &mut reading.status;
        (s.load, s.active, s.sub, s.result) = (text(load), text(active), text(sub), text(result));
        (s.main_pid, s.restarts) = (number(pid), number(restarts));
        s.exit_status = status.and_then(|v| i32::try_from(v).ok()).unwrap_or(0);
        s.since = Timestamp(i64::try_from(big(since) / 1_000).unwrap_or(0));
        s.enabled =
            matches!(text(file).as_str(), "enabled" | "enabled-runtime" | "static" | "alias" | "generated");
        reading.evidence = RunEvidence {
            boot_id: self.boot_id.clone(),
            active_enter_us: big(entered),
            main_pid: reading.status.main_pid,
            running: reading.is_running(),
            ..RunEvidence::default()
        };
        Ok(reading)
    }
}

/// A job under way.
pub(super) struct Job {
    verb: &'static str,
    unit: String,
    path: OwnedObjectPath,
    removed: MessageStream,
    ended: bool,
}

impl Job {
    /// Waits for its end; `false` when it is not over within `limit`. Its result other than success is an error.
    pub(super) async fn done_within(&mut self, limit: Duration) -> Result<bool, HostError> {
        if self.ended {
            return Ok(true);
        }
        let Ok(result) = tokio::time::timeout(limit, self.result()).await else { return Ok(false) };
        self.ended = true;
        job_result(self.verb, &self.unit, &result?).map(|()| true)
    }

    async fn result(&mut self) -> Result<String, HostError> {
        while let Some(message) = self.removed.next().await {
            let message = message.map_err(HostError::Bus)?;
            // (id, job, unit, result); a signal of another shape is not ours.
            let Ok((_, job, _, result)) =
                message.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
            else {
                continue;
            };
            if job == self.path {
                return Ok(result);
            }
        }
        Err(late("the bus went away during the job", &self.unit, Duration::ZERO))
    }
}
