//! The driver against a mock of PID 1 that speaks real D-Bus over a socket pair.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use zbus::connection::Builder;
use zbus::{Message, MessageStream, OwnedObjectPath, Variant};

use super::*;
use crate::host::{Recovered, Verb, judge};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

/// One unit of the mock.
#[derive(Clone, Debug, Default)]
struct Unit {
    load: &'static str,
    active: &'static str,
    invocation: u8,
    /// Stops only when killed.
    stubborn: bool,
    /// systemd's own stop limit is the shorter one: it kills.
    killed_by_systemd: bool,
    /// Result word of the next start.
    result: Option<&'static str>,
    can_reload: bool,
}

#[derive(Default)]
struct Mock {
    units: BTreeMap<String, Unit>,
    /// Every method of the manager that was called, but LoadUnit and Subscribe.
    calls: Vec<String>,
    /// Answers nothing any more.
    silent: bool,
    jobs: u32,
    /// Path of a job that waits for a kill.
    waiting: Option<(u32, String)>,
}

impl Mock {
    fn path_of(unit: &str) -> String {
        format!("/org/freedesktop/systemd1/unit/{}", crate::host::exec::hex(unit.as_bytes()))
    }

    fn by_path(&self, path: &str) -> Option<&Unit> {
        self.units.iter().find(|(name, _)| Self::path_of(name) == path).map(|(_, u)| u)
    }

    fn property(&self, path: &str, interface: &str, name: &str) -> Option<Variant<'static>> {
        let u = self.by_path(path)?;
        let up = u.active == "active";
        let value = match (interface.rsplit('.').next(), name) {
            (Some("Unit"), "LoadState") => Variant::from(u.load),
            (Some("Unit"), "ActiveState") => Variant::from(u.active),
            (Some("Unit"), "SubState") => Variant::from(if up { "running" } else { "dead" }),
            (Some("Unit"), "UnitFileState") => Variant::from("enabled"),
            (Some("Unit"), "StateChangeTimestamp") => Variant::from(1_700_000_000_000_000_u64),
            (Some("Unit"), "ActiveEnterTimestampMonotonic") => Variant::from(u64::from(u.invocation) * 1_000),
            (Some("Unit"), "InvocationID") => Variant::from(vec![u.invocation; 16]),
            (Some("Unit"), "CanReload") => Variant::from(u.can_reload),
            (Some("Service"), "MainPID") => Variant::from(if up { 4242_u32 } else { 0 }),
            (Some("Service"), "NRestarts") => Variant::from(2_u32),
            (Some("Service"), "Result") => {
                Variant::from(if u.killed_by_systemd && !up { "timeout" } else { "success" })
            }
            (Some("Service"), "ExecMainStatus") => Variant::from(0_i32),
            _ => return None,
        };
        Some(value)
    }

    /// Runs a verb; the result word, or `None` when the job waits.
    fn verb(&mut self, method: &str, unit: &str) -> Option<&'static str> {
        let u = self.units.get_mut(unit).expect("the driver looked first");
        let stubborn = u.stubborn;
        match method {
            "StartUnit" => {
                let result = u.result.unwrap_or("done");
                if result == "done" {
                    (u.active, u.invocation) = ("active", u.invocation + 1);
                } else {
                    u.active = "failed";
                }
                Some(result)
            }
            "StopUnit" | "RestartUnit" if stubborn => {
                u.active = "deactivating";
                None
            }
            "StopUnit" => {
                u.active = "inactive";
                Some("done")
            }
            "RestartUnit" => {
                (u.active, u.invocation) = ("active", u.invocation + 1);
                Some("done")
            }
            _ => Some("done"),
        }
    }
}

type Shared = Arc<Mutex<Mock>>;

async fn removed(to: &Connection, id: u32, unit: &str, result: &str) {
    let path = OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).expect("a path");
    let signal =
        Message::signal("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved")
            .build(&(id, path, unit, result))
            .expect("a signal");
    to.send(&signal).await.expect("sent");
}

async fn killed(connection: &Connection, mock: &Shared, call: &Message) {
    let (header, body) = (call.header(), call.body());
    let reply = Message::method_return(&header);

    let (unit, _, signal): (String, String, i32) = body.deserialize().expect("a KillUnit");
    connection.send(&reply.build(&()).expect("an answer")).await.expect("sent");
    let waiting = {
        let mut m = mock.lock().expect("mock");
        m.calls.push(format!("KillUnit {unit} {signal}"));
        let waiting = m.waiting.take();
        let u = m.units.get_mut(&unit).expect("known");
        match &waiting {
            Some((_, verb)) if verb == "RestartUnit" => {
                (u.active, u.invocation) = ("active", u.invocation + 1)
            }
            _ => u.active = "inactive",
        }
        waiting
    };
    if let Some((id, _)) = waiting {
        removed(connection, id, &unit, "done").await;
    }
}

async fn answer(connection: &Connection, mock: &Shared, call: &Message) {
    let header = call.header();
    let (path, member) =
        (header.path().expect("path").to_string(), header.member().expect("member").to_string());
    let body = call.body();
    if mock.lock().expect("mock").silent {
        return;
    }
    let reply = Message::method_return(&header);
    match member.as_str() {
        "Get" => {
            let (interface, name): (String, String) = body.deserialize().expect("a Get");
            let value = mock.lock().expect("mock").property(&path, &interface, &name);
            let message = match value {
                Some(value) => reply.build(&(value,)),
                None => Message::error(&header, "org.freedesktop.DBus.Error.UnknownProperty")
                    .build(&("no such property",)),
            };
            connection.send(&message.expect("an answer")).await.expect("sent");
        }
        "Subscribe" => connection.send(&reply.build(&()).expect("an answer")).await.expect("sent"),
        "LoadUnit" => {
            let (unit,): (String,) = body.deserialize().expect("a LoadUnit");
            mock.lock().expect("mock").units.entry(unit.clone()).or_insert_with(|| Unit {
                load: "not-found",
                active: "inactive",
                ..Unit::default()
            });
            let path = OwnedObjectPath::try_from(Mock::path_of(&unit)).expect("a path");
            connection.send(&reply.build(&(path,)).expect("an answer")).await.expect("sent");
        }
        "KillUnit" => killed(connection, mock, call).await,
        verb => {
            let (unit, _): (String, String) = body.deserialize().expect("a verb");
            let (id, result) = {
                let mut m = mock.lock().expect("mock");
                m.calls.push(format!("{verb} {unit}"));
                m.jobs += 1;
                let result = m.verb(verb, &unit);
                if result.is_none() {
                    m.waiting = Some((m.jobs, verb.to_owned()));
                }
                (m.jobs, result)
            };
            // The signal of another job, and of this one, come before the answer: the order systemd may choose.
            removed(connection, id + 1_000, "other.service", "failed").await;
            if let Some(result) = result {
                removed(connection, id, &unit, result).await;
            }
            let path =
                OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).expect("a path");
            connection.send(&reply.build(&(path,)).expect("an answer")).await.expect("sent");
        }
    }
}

/// The driver on one end of a socket pair, the mock on the other.
async fn pair(units: &[(&str, Unit)]) -> (SystemdDriver, Shared, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let guid = zbus::Guid::generate();
    let server = Builder::unix_stream(theirs).server(guid).p2p().build();
    let client = Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::join!(server, client);
    let (server, client) = (server.expect("server"), client.expect("client"));
    let mock = Shared::default();
    mock.lock().expect("mock").units = units.iter().map(|(n, u)| ((*n).to_owned(), u.clone())).collect();
    let state = Arc::clone(&mock);
    let task = tokio::spawn(async move {
        let mut calls = MessageStream::from(&server);
        while let Some(Ok(call)) = calls.next().await {
            if call.message_type() == zbus::message::Type::MethodCall {
                answer(&server, &state, &call).await;
            }
        }
    });
    (SystemdDriver::on(client, "boot".into(), Duration::from_secs(2)), mock, task)
}

fn unit(load: &'static str, active: &'static str) -> Unit {
    Unit { load, active, invocation: 1, ..Unit::default() }
}

fn calls(mock: &Shared) -> Vec<String> {
    std::mem::take(&mut mock.lock().expect("mock").calls)
}

#[tokio::test]
async fn start_stop_restart_and_their_evidence() {
    let (d, mock, _task) = pair(&[("x.service", unit("loaded", "inactive"))]).await;
    let before = d.status("x.service").await.expect("status");
    assert_eq!((before.status.active.as_str(), before.status.main_pid), ("inactive", 0));
    let started = d.start("x.service", LONG).await.expect("starts");
    assert_eq!((started.unit.status.active.as_str(), started.unit.status.main_pid), ("active", 4242));
    assert_eq!(started.unit.status.restarts, 2);
    assert_eq!(started.unit.status.since, quorate_model::Timestamp(1_700_000_000_000));
    assert_eq!(judge(Verb::Start, &before.evidence, &started.unit), Recovered::Done);
    assert!(d.start("x.service", LONG).await.expect("no change").already);
    let restarted = d.restart("x.service", LONG, LONG).await.expect("restarts");
    assert_eq!(judge(Verb::Restart, &started.unit.evidence, &restarted.unit), Recovered::Done);
    let stopped = d.stop("x.service", LONG).await.expect("stops");
    assert!(!stopped.escalated && !stopped.already);
    assert!(d.stop("x.service", LONG).await.expect("no change").already);
    assert_eq!(calls(&mock), ["StartUnit x.service", "RestartUnit x.service", "StopUnit x.service"]);
}

#[tokio::test]
async fn a_stubborn_unit_is_killed_and_that_is_recorded() {
    let stubborn = Unit { stubborn: true, ..unit("loaded", "active") };
    let (d, mock, _task) = pair(&[("x.service", stubborn.clone()), ("y.service", stubborn)]).await;
    assert!(d.stop("x.service", SHORT).await.expect("stops").escalated);
    assert_eq!(calls(&mock), ["StopUnit x.service", "KillUnit x.service 9"]);
    let killed = Unit { killed_by_systemd: true, ..unit("loaded", "active") };
    mock.lock().expect("mock").units.insert("z.service".into(), killed);
    assert!(d.stop("z.service", LONG).await.expect("stops").escalated, "whoever killed it");
    calls(&mock);
    assert!(d.restart("y.service", SHORT, LONG).await.expect("restarts").escalated);
    assert_eq!(calls(&mock), ["RestartUnit y.service", "KillUnit y.service 9"]);
}

#[tokio::test]
async fn failures_are_typed() {
    let broken = |word| Unit { result: Some(word), ..unit("loaded", "inactive") };
    let (d, mock, _task) = pair(&[
        ("masked.service", unit("masked", "inactive")),
        ("failing.service", broken("failed")),
        ("slow.service", broken("timeout")),
        ("skipping.service", broken("skipped")),
        ("plain.service", unit("loaded", "active")),
        ("good.service", Unit { can_reload: true, ..unit("loaded", "active") }),
    ])
    .await;
    assert!(matches!(d.start("masked.service", LONG).await, Err(HostError::Masked { .. })));
    assert!(matches!(d.restart("masked.service", LONG, LONG).await, Err(HostError::Masked { .. })));
    assert!(matches!(d.start("nobody.service", LONG).await, Err(HostError::NotFound { .. })));
    assert_eq!(d.status("nobody.service").await.expect("a reading").status.load, "not-found");
    assert!(matches!(d.reload("plain.service", LONG).await, Err(HostError::NotReloadable { .. })));
    assert_eq!(calls(&mock), Vec::<String>::new(), "PID 1 was not asked for anything");
    let Err(HostError::Job { result, .. }) = d.start("failing.service", LONG).await else {
        panic!("a job failed")
    };
    assert_eq!(result, "failed");
    assert!(matches!(d.start("slow.service", LONG).await, Err(HostError::Job { .. })));
    // Skipped by a condition: the job is fine and the unit is not up.
    assert!(matches!(d.start("skipping.service", LONG).await, Err(HostError::NotStarted { .. })));
    d.reload("good.service", LONG).await.expect("reloads");
}

#[tokio::test]
async fn bad_names_never_reach_the_bus() {
    let (d, mock, _task) = pair(&[]).await;
    for name in
        ["-.mount", "--help", "../x.service", "x.service;reboot", "dbus.service", "quorate-agent.service"]
    {
        assert!(d.start(name, LONG).await.is_err() && d.stop(name, LONG).await.is_err());
        assert!(d.restart(name, LONG, LONG).await.is_err() && d.reload(name, LONG).await.is_err());
        assert!(d.status(name).await.is_err());
    }
    assert_eq!(calls(&mock), Vec::<String>::new());
    assert!(mock.lock().expect("mock").units.is_empty(), "not even LoadUnit");
}

#[tokio::test]
async fn a_bus_that_hangs_or_dies_is_an_error_in_time() {
    let (mut d, mock, task) = pair(&[("x.service", unit("loaded", "active"))]).await;
    d.bus = Bus::new(Some(d.bus.connection().await.expect("given")), "boot".into(), SHORT);
    mock.lock().expect("mock").silent = true;
    let began = Instant::now();
    assert!(matches!(d.stop("x.service", LONG).await, Err(HostError::Timeout { .. })));
    assert!(began.elapsed() < Duration::from_secs(5));
    task.abort();
    let (d, _mock, task) = pair(&[("x.service", unit("loaded", "active"))]).await;
    task.abort();
    let _ = task.await;
    assert!(d.status("x.service").await.is_err());
}

#[tokio::test]
async fn no_bus_at_all_is_an_error_not_a_crash() {
    // Whatever this machine has: either it answers, or it is a typed error within the limit.
    let d = SystemdDriver::system().expect("boot id");
    let began = Instant::now();
    if let Err(e) = d.status("quorate-test-nobody.service").await {
        assert!(
            matches!(e, HostError::Bus(_) | HostError::Timeout { .. } | HostError::Refused { .. }),
            "{e:?}"
        );
    }
    assert!(began.elapsed() < CALL_LIMIT * 3);
}
