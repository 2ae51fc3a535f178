//! Runs the hooks that the host itself declares; a caller's text never becomes a command.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use quorate_model::{HookName, InstanceId, NodeName, Reason};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::leases::Leases;
use super::settings::Settings;
use crate::actions::{HookReport, HookRunner, PortError, Told};
use crate::config::HookCall;
use crate::host::exec::ExecEnd;
use crate::host::{ExecSpec, Host, HostError};

/// Kept of a hook's output (vocabulary: tails are 4 KiB).
const TAIL_MAX_BYTES: usize = 4 * 1024;
/// Largest answer that is read of an HTTP hook.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// The declared hooks over the real host.
#[derive(Clone)]
pub struct Hooks {
    host: Arc<dyn Host>,
    settings: Settings,
    leases: Arc<Leases>,
    cancel: CancellationToken,
}

/// Stands for the candidate's path in the command of a check.
const CANDIDATE: &str = "{file}";

/// A candidate that a hook looks at.
#[derive(Clone, Copy)]
struct Checked<'a> {
    candidate: &'a Path,
    target: &'a Path,
}

/// Variable that marks the programs of one helper's hooks, so that its next life finds what a crash left running.
const MARK: &str = "QUORATE_HELPER";

fn mark(config: &crate::config::Config) -> String {
    let digest = Sha256::digest(config.helper_dir.as_os_str().as_encoded_bytes());
    format!("{}/", crate::host::exec::hex(&digest[..8]))
}

/// Ends hooks that an earlier life of this helper left running: one that pauses must not come after the resume.
///
/// # Errors
/// [`HostError`].
pub async fn end_leftovers(config: &crate::config::Config) -> Result<Vec<String>, HostError> {
    crate::host::exec::end_marked(&format!("{MARK}={}", mark(config))).await
}

impl Hooks {
    /// Hooks as the settings declare them at each call.
    #[must_use]
    pub(super) fn new(host: Arc<dyn Host>, settings: Settings, leases: Arc<Leases>) -> Self {
        Self { host, settings, leases, cancel: CancellationToken::new() }
    }

    /// Hooks of an execution that can be canceled: the one that runs at that moment is ended; one that begins afterwards
    /// is an undo and runs to its end.
    #[must_use]
    pub fn until(&self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    async fn call(
        &self,
        hook: &HookName,
        instance: &InstanceId,
        told: Told<'_>,
        limit: Duration,
        file: Option<Checked<'_>>,
    ) -> Result<HookReport, PortError> {
        let config = self.settings.current();
        config.policy.allows_hook(hook).map_err(|text| PortError::new(Reason::PolicyDenied, text))?;
        let declared = config.hooks.get(hook).cloned().ok_or_else(|| {
            PortError::new(Reason::NotFound, format!("this host declares no [hook.{hook}]"))
        })?;
        let limit = limit.min(declared.timeout);
        match declared.call {
            HookCall::Program { mut argv, cwd, mut env } => {
                if let Some(Checked { candidate, target }) = file {
                    let candidate = candidate.display().to_string();
                    argv.iter_mut().for_each(|word| *word = word.replace(CANDIDATE, &candidate));
                    env.insert("QUORATE_FILE".to_owned(), candidate);
                    env.insert("QUORATE_TARGET".to_owned(), target.display().to_string());
                }
                env.insert(MARK.to_owned(), mark(&config));
                let mut own = environment(hook, instance, told);
                if let Some((group, epoch)) = self.leases.held_by(instance) {
                    own.insert("QUORATE_GROUP".to_owned(), group.to_string());
                    own.insert("QUORATE_EPOCH".to_owned(), epoch.to_string());
                }
                // The host's own variables win: it declared the hook.
                own.extend(env);
                let spec = ExecSpec { argv, cwd, env: own, deadline: limit };
                self.program(&spec, limit, told.until).await
            }
            HookCall::HttpPost { .. } if file.is_some() => {
                let text = "a check of a file is a program: a POST has no body";
                Err(PortError::new(Reason::InvalidArgument, text))
            }
            HookCall::HttpPost { address, path, expect_status } => {
                let asked = async {
                    tokio::select! {
                        answer = tokio::time::timeout(limit, post(address, &path)) => answer.ok(),
                        () = given_up(told.until) => None,
                    }
                };
                Ok(match asked.await {
                    None => HookReport { cut_off: true, ..report(format!("no answer after {limit:?}")) },
                    Some(Err(error)) => report(format!("no answer: {error}")),
                    Some(Ok((status, body))) => {
                        let ok = if expect_status.is_empty() {
                            (200..300).contains(&status)
                        } else {
                            expect_status.contains(&status)
                        };
                        HookReport {
                            ok,
                            output_tail: body,
                            exit_code: Some(i32::from(status)),
                            ..report(format!("HTTP status {status}"))
                        }
                    }
                })
            }
        }
    }

    async fn program(
        &self,
        spec: &ExecSpec,
        limit: Duration,
        until: Option<&CancellationToken>,
    ) -> Result<HookReport, PortError> {
        let cancel =
            if self.cancel.is_cancelled() { CancellationToken::new() } else { self.cancel.child_token() };
        let mut running = self.host.exec_until(spec, cancel.clone());
        let outcome = tokio::select! {
            outcome = &mut running => outcome?,
            () = given_up(until) => {
                cancel.cancel();
                running.await?
            }
        };
        let ended = match outcome.end {
            ExecEnd::Code(code) => format!("exit code {code}"),
            ExecEnd::Signal(signal) => format!("killed by signal {signal}"),
            ExecEnd::TimedOut if cancel.is_cancelled() => {
                "ended because the execution was canceled".to_owned()
            }
            ExecEnd::TimedOut => format!("timed out after {limit:?}"),
        };
        let stream = if outcome.stderr.total_bytes > 0 { &outcome.stderr } else { &outcome.stdout };
        Ok(HookReport {
            ok: outcome.is_success(),
            output_tail: stream.tail_text(TAIL_MAX_BYTES),
            output_bytes: stream.total_bytes,
            output_sha256: stream.sha256.clone(),
            exit_code: match outcome.end {
                ExecEnd::Code(code) => Some(code),
                ExecEnd::Signal(_) | ExecEnd::TimedOut => None,
            },
            cut_off: outcome.end == ExecEnd::TimedOut,
            leftovers: outcome.leftovers.clone(),
            ..report(ended)
        })
    }
}

impl HookRunner for Hooks {
    fn run_for<'a>(
        &'a self,
        hook: &'a HookName,
        instance: &'a InstanceId,
        told: Told<'a>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        self.call(hook, instance, told, limit, None).boxed()
    }

    fn check<'a>(
        &'a self,
        hook: &'a HookName,
        instance: &'a InstanceId,
        limit: Duration,
        candidate: &'a Path,
        target: &'a Path,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        self.call(hook, instance, Told::default(), limit, Some(Checked { candidate, target })).boxed()
    }
}

/// One that did not end well, as far as is known.
fn report(ended: String) -> HookReport {
    HookReport { ended, ..HookReport::default() }
}

/// Never, where nobody can give it up.
async fn given_up(until: Option<&CancellationToken>) {
    match until {
        Some(until) => until.cancelled().await,
        None => std::future::pending().await,
    }
}

/// What every hook is told.
fn environment(hook: &HookName, instance: &InstanceId, told: Told<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("QUORATE_HOOK".to_owned(), hook.to_string()),
        ("QUORATE_NODE".to_owned(), instance.node.to_string()),
        ("QUORATE_SERVICE".to_owned(), instance.service.to_string()),
    ]);
    env.extend(told.release.map(|version| ("QUORATE_RELEASE".to_owned(), version.to_string())));
    if !told.targets.is_empty() {
        let names = told.targets.iter().map(NodeName::as_str).collect::<Vec<_>>();
        env.insert("QUORATE_TARGETS".to_owned(), names.join(" "));
    }
    env
}

/// One `POST` without a body to a loopback address. No redirect is followed.
async fn post(
    address: std::net::SocketAddr,
    path: &str,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = http::Request::post(path)
            .header(http::header::HOST, address.to_string())
            .header(http::header::CONTENT_LENGTH, 0)
            .body(Empty::<bytes::Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let cut = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= TAIL_MAX_BYTES);
        Ok((status, text[cut.unwrap_or(text.len())..].to_owned()))
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}
