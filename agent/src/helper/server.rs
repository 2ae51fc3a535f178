//! The helper's end of the local socket: who may connect, and what each request comes to.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown};
use quorate_model::Reason;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use super::client::Wire;
use super::protocol::{self, Answer, FrameError, ProbeEnd, ProgramEnd, Request};
use crate::host::exec::ExecEnd;
use crate::host::{ExecSpec, Host};
use crate::runner::{Runner, Settings, Stopped};

/// Connections at once: the network half has three and one for each probe program; units that are started ask for their lease.
const CONNECTIONS_MAX: usize = 32;
/// Probe programs at once.
const PROBES_MAX: usize = 4;
/// Longest run of a probe program.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// End of a probe's output that is passed on; the prober shows less.
const OUTPUT_MAX_BYTES: usize = 1_024;

/// What a connection needs.
pub(super) struct Server {
    pub(super) runner: Runner,
    pub(super) host: Arc<dyn Host>,
    pub(super) settings: Settings,
    /// Users that may ask, beside root.
    pub(super) allowed: Vec<u32>,
    pub(super) probes: Semaphore,
}

impl Server {
    pub(super) fn new(
        runner: Runner,
        host: Arc<dyn Host>,
        settings: Settings,
        allowed: Vec<u32>,
    ) -> Arc<Self> {
        Arc::new(Self { runner, host, settings, allowed, probes: Semaphore::new(PROBES_MAX) })
    }

    /// Accepts until it is told to stop.
    pub(super) async fn run(
        self: Arc<Self>,
        listener: UnixListener,
        shutdown: Shutdown,
    ) -> Result<(), BoxError> {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.triggered() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, for instance: the next attempt may succeed.
                    tracing::error!(%error, "can not accept on the local socket");
                    if !shutdown.pause(Duration::from_millis(100)).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            if let Err(why) = self.admit(&stream) {
                tracing::warn!(why, "a connection to the local socket was refused");
                continue;
            }
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!(limit = CONNECTIONS_MAX, "too many connections to the local socket");
                continue;
            };
            let (server, stop) = (Arc::clone(&self), shutdown.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let served = stop.run_until(server.serve(stream)).await;
                if let Some(Err(error)) = served
                    && !matches!(error, FrameError::Ended)
                {
                    tracing::warn!(%error, "a connection to the local socket was closed");
                }
            });
        }
    }

    /// Root, the helper's own user, or the configured one; the kernel vouches for it.
    fn admit(&self, stream: &UnixStream) -> Result<(), String> {
        let peer = stream.peer_cred().map_err(|e| format!("its user can not be told: {e}"))?;
        if peer.uid() == 0 || self.allowed.contains(&peer.uid()) {
            Ok(())
        } else {
            Err(format!("user {} is not allowed", peer.uid()))
        }
    }

    pub(super) async fn serve(&self, mut stream: impl Wire) -> Result<(), FrameError> {
        loop {
            let request = protocol::read::<Request>(&mut stream).await?;
            let answer = match request {
                Request::Listen => return self.listen(stream).await,
                request => self.answer(request).await,
            };
            protocol::write(&mut stream, &answer).await?;
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        let done = match request {
            Request::Status => {
                return match self.runner.status().await {
                    Ok(status) => Answer::Status(Box::new(status)),
                    Err(Stopped) => stopped(),
                };
            }
            Request::RunProbe { argv, timeout } => {
                return self.probe(argv, Duration::from_millis(timeout.0)).await;
            }
            Request::Lease(order) => {
                return match self.runner.lease(*order).await {
                    Ok(standing) => Answer::Lease(standing),
                    Err((reason, message)) => Answer::Refused { reason, message },
                };
            }
            Request::Leases => return Answer::Leases(self.runner.leases()),
            Request::MayLead { service } => {
                let allowed = self.settings.current().policy.allows_service(&service);
                return match allowed.and_then(|()| self.runner.may_lead(&service)) {
                    Ok(()) => Answer::Done,
                    Err(message) => Answer::Refused { reason: Reason::PrimaryLease, message },
                };
            }
            Request::Work(work) => self.runner.work(*work).await,
            Request::Confirm(id) => self.runner.confirm(id).await,
            Request::ConfirmObligation(id, state) => self.runner.confirm_obligation(id, state).await,
            Request::Listen => Ok(()),
        };
        match done {
            Ok(()) => Answer::Done,
            Err(Stopped) => stopped(),
        }
    }

    async fn probe(&self, argv: Vec<String>, timeout: Duration) -> Answer {
        if let Err(message) = self.settings.current().policy.allows_probe(&argv) {
            return Answer::Refused { reason: Reason::PolicyDenied, message };
        }
        let Ok(_turn) = self.probes.acquire().await else { return stopped() };
        let spec = ExecSpec { argv, deadline: timeout.min(PROBE_TIMEOUT_MAX), ..ExecSpec::default() };
        match self.host.exec(&spec).await {
            Ok(outcome) => {
                let end = match outcome.end {
                    ExecEnd::Code(code) => ProgramEnd::Code(code),
                    ExecEnd::Signal(signal) => ProgramEnd::Signal(signal),
                    ExecEnd::TimedOut => ProgramEnd::TimedOut,
                };
                let stream = if outcome.stderr.total_bytes > 0 { &outcome.stderr } else { &outcome.stdout };
                Answer::Probe(ProbeEnd { end, output: stream.tail_text(OUTPUT_MAX_BYTES) })
            }
            Err(error) => Answer::Refused { reason: error.reason(), message: error.full_text() },
        }
    }

    async fn listen(&self, mut stream: impl Wire) -> Result<(), FrameError> {
        loop {
            let Ok((all, mut news)) = self.runner.listen().await else { return Ok(()) };
            for notice in all {
                protocol::write(&mut stream, &Answer::Notice(notice)).await?;
            }
            protocol::write(&mut stream, &Answer::CaughtUp).await?;
            loop {
                match news.recv().await {
                    Ok(notice) => protocol::write(&mut stream, &Answer::Notice(notice)).await?,
                    // Too slow: told everything again, so nothing is missed.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }
    }
}

fn stopped() -> Answer {
    Answer::Refused { reason: Reason::WrongState, message: "the helper is stopping".to_owned() }
}

/// Makes the socket: its folder private when it is new, itself for its owner alone. The caller holds the journal's lock,
/// so a socket that lies there is a dead helper's.
pub(super) fn bind(path: &Path, owner: Option<u32>) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        // Another user's half must reach its own socket in it.
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(parent)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt;
            if !found.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket is there",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Nobody else may connect between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    if let Some(uid) = owner {
        std::os::unix::fs::chown(path, Some(uid), None)?;
    }
    Ok(listener)
}

/// Largest `/etc/passwd` that is read.
const PASSWD_MAX_BYTES: u64 = 4 << 20;

/// The number of a user, by number or by name in `/etc/passwd`.
pub(super) fn user_number(user: &str) -> io::Result<u32> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let text = crate::host::fs::read_limited(&PathBuf::from("/etc/passwd"), PASSWD_MAX_BYTES)?;
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(user)).then(|| fields.nth(1)).flatten()
        })
        .find_map(|number| number.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no user {user:?}")))
}
