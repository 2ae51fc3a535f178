//! One pool through the balancer that the host declares: looks at it, takes the instance out, puts it back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::with_causes;
use quorate_model::traffic::is_pool_name;
use quorate_model::{BalancerName, HookName, InstanceId, Reason, TrafficSpec};

use super::plan::{Check, Place, View};
use super::{haproxy, nginx, sockets};
use crate::actions::{HookRunner, PortError};
use crate::config::{Balancer, BalancerKind};
use crate::host::admin::{self, AdminAddress};
use crate::host::fs::{read_limited, replace_same};
use crate::host::{ExecSpec, Host, proc};

/// Longest wait for one answer of a balancer on this host or beside it.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Longest run of a check or reload of nginx's, and of a hook.
const RUN_LIMIT: Duration = Duration::from_secs(30);
/// nginx reloads after its program has said so, and its old processes go on for a moment: no connection counts only when
/// there is none for this long.
const NGINX_QUIET: Duration = Duration::from_secs(2);
/// Largest file of upstream servers; a line is some 60 bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// End of what a program said that is told.
const SAID_MAX_BYTES: usize = 300;

/// One edit of a balancer's files at a time in this process: an undo must not write over a drain.
static EDITS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The load balancers that the host declares.
#[derive(Clone)]
pub struct Balancers {
    host: Arc<dyn Host>,
    declared: BTreeMap<BalancerName, Balancer>,
}

impl Balancers {
    /// Those of one configuration.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, declared: BTreeMap<BalancerName, Balancer>) -> Self {
        Self { host, declared }
    }

    /// The pool that a service's declaration means.
    ///
    /// # Errors
    /// When the host declares no such balancer, or a name is none.
    pub(crate) fn pool(
        &self,
        traffic: &TrafficSpec,
        instance: &InstanceId,
        hooks: Arc<dyn HookRunner>,
    ) -> Result<Pool, PortError> {
        let balancer = self.declared.get(&traffic.adapter).cloned().ok_or_else(|| {
            let text = format!("this host declares no [balancer.{}]", traffic.adapter);
            PortError::new(Reason::NotFound, text)
        })?;
        for (what, name) in [("backend", &traffic.backend), ("server", &traffic.server)] {
            if !is_pool_name(name) {
                let text = format!("traffic.{what}: {name:?} is no name in a balancer");
                return Err(PortError::new(Reason::InvalidArgument, text));
            }
        }
        let (traffic, instance) = (traffic.clone(), instance.clone());
        Ok(Pool { balancer, traffic, instance, host: Arc::clone(&self.host), hooks })
    }
}

/// One instance's pool.
pub(crate) struct Pool {
    balancer: Balancer,
    traffic: TrafficSpec,
    instance: InstanceId,
    host: Arc<dyn Host>,
    hooks: Arc<dyn HookRunner>,
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> PortError {
    PortError::new(Reason::BalancerUnreadable, format!("{what}: {why}"))
}

impl Pool {
    /// How it was declared by the service's owner.
    pub(super) const fn traffic(&self) -> &TrafficSpec {
        &self.traffic
    }

    /// How long an instance must look healthy before this host alone puts it back.
    pub(super) const fn settle(&self) -> Duration {
        self.balancer.settle
    }

    /// Whether the host has its own way to tell the instance's health.
    pub(super) const fn has_health_hook(&self) -> bool {
        self.balancer.health.is_some()
    }

    /// Whether a look shows where our server stands; what a program did is only known to it.
    pub(super) const fn tells_place(&self) -> bool {
        match &self.balancer.kind {
            BalancerKind::Haproxy { .. } | BalancerKind::Nginx { .. } => true,
            BalancerKind::Hook { .. } => false,
        }
    }

    /// How many balancers there are.
    pub(super) fn balancers(&self) -> u32 {
        match &self.balancer.kind {
            BalancerKind::Haproxy { sockets } => u32::try_from(sockets.len()).unwrap_or(u32::MAX),
            BalancerKind::Nginx { .. } | BalancerKind::Hook { .. } => 1,
        }
    }

    /// How long there must be no connection to count as drained.
    pub(super) const fn quiet(&self) -> Duration {
        match &self.balancer.kind {
            // Told, it sends nothing more from that moment on.
            BalancerKind::Haproxy { .. } | BalancerKind::Hook { .. } => Duration::ZERO,
            BalancerKind::Nginx { .. } => NGINX_QUIET,
        }
    }

    /// The pool now.
    pub(super) async fn look(&self) -> Result<View, PortError> {
        match &self.balancer.kind {
            BalancerKind::Haproxy { sockets } => {
                let mut all: Option<View> = None;
                for socket in sockets {
                    let seen = self.look_haproxy(socket).await?;
                    all = Some(match all {
                        Some(before) => before.and(seen),
                        None => seen,
                    });
                }
                all.ok_or_else(|| unreadable("the balancer", "it has no socket"))
            }
            BalancerKind::Nginx { upstream_file, .. } => self.look_nginx(upstream_file),
            BalancerKind::Hook { connections, others, .. } => {
                let others_up = u32::try_from(self.count(others).await?).unwrap_or(u32::MAX);
                let connections = Some(self.count(connections).await?);
                // What a program did can not be looked at: it is told each time.
                Ok(View { place: Place::In, serves: true, check: Check::None, others_up, connections })
            }
        }
    }

    async fn look_haproxy(&self, socket: &AdminAddress) -> Result<View, PortError> {
        let TrafficSpec { backend, server, .. } = &self.traffic;
        let [state, stat] = haproxy::questions(backend);
        let state = ask(socket, &state).await?;
        let stat = ask(socket, &stat).await?;
        haproxy::view(backend, server, &state, &stat)
            .map_err(|why| unreadable(&format!("HAProxy at {socket}"), why))
    }

    fn look_nginx(&self, file: &Path) -> Result<View, PortError> {
        let TrafficSpec { backend, server, .. } = &self.traffic;
        let what = file.display().to_string();
        let text = read_text(file)?;
        let lines = nginx::servers(&text, backend).map_err(|why| unreadable(&what, why))?;
        let own = nginx::own(&lines, server).map_err(|why| unreadable(&what, why))?;
        let others = lines.iter().filter(|line| line.address != *server && !line.down && !line.backup);
        let connections = match server.parse::<SocketAddr>() {
            // A name, or a port that nginx adds: nothing in the kernel's table says that it is meant.
            Err(_) => None,
            Ok(address) => {
                let table = proc::tcp_tables().map_err(|e| unreadable("the host's connections", e))?;
                Some(table.iter().map(|t| sockets::connections_to(t, address)).sum())
            }
        };
        Ok(View {
            place: if own.down { Place::Out } else { Place::In },
            serves: !own.down,
            check: Check::None,
            others_up: u32::try_from(others.count()).unwrap_or(u32::MAX),
            connections,
        })
    }

    async fn run_hook(&self, hook: &HookName) -> Result<String, PortError> {
        let report = self.hooks.run(hook, &self.instance, RUN_LIMIT).await?;
        if report.ok {
            return Ok(report.output_tail);
        }
        let said = quorate_common::wire::text::printable(report.output_tail.trim(), SAID_MAX_BYTES);
        let text = format!("hook {hook}: {} {said}", report.ended);
        Err(PortError::new(Reason::ActionFailed, text.trim_end()))
    }

    async fn count(&self, hook: &HookName) -> Result<u64, PortError> {
        let said = self.run_hook(hook).await.map_err(|e| unreadable("a count", e.message))?;
        said.trim().parse().map_err(|_| unreadable(&format!("hook {hook}"), "it printed no number"))
    }

    /// What the host's own hook says of the instance's health, where there is one.
    pub(super) async fn health(&self) -> Option<Result<(), String>> {
        let hook = self.balancer.health.as_ref()?;
        Some(self.run_hook(hook).await.map(drop).map_err(|e| e.message))
    }

    /// No new connections. Every balancer is told even when one refuses.
    pub(super) async fn take_out(&self) -> Result<(), PortError> {
        self.tell(true).await
    }

    /// New connections again.
    pub(super) async fn put_back(&self) -> Result<(), PortError> {
        self.tell(false).await
    }

    async fn tell(&self, out: bool) -> Result<(), PortError> {
        let TrafficSpec { backend, server, .. } = &self.traffic;
        match &self.balancer.kind {
            BalancerKind::Haproxy { sockets } => {
                let order = haproxy::order(backend, server, if out { "drain" } else { "ready" });
                let mut failed = None;
                for socket in sockets {
                    let told = match ask(socket, &order).await {
                        Ok(answer) => haproxy::obeyed(&answer)
                            .map_err(|why| unreadable(&format!("HAProxy at {socket}"), why)),
                        Err(error) => Err(error),
                    };
                    failed = failed.or(told.err());
                }
                failed.map_or(Ok(()), Err)
            }
            BalancerKind::Nginx { upstream_file, check, reload } => {
                self.mark(upstream_file, check, reload, out).await
            }
            BalancerKind::Hook { drain, restore, .. } => {
                self.run_hook(if out { drain } else { restore }).await.map(drop)
            }
        }
    }

    /// Marks our line, proves the configuration, loads it. What does not pass the proof is never loaded, and the file is as it
    /// was. A line that is marked already is proved and loaded all the same: a crash may have come between.
    async fn mark(
        &self,
        file: &Path,
        check: &[String],
        reload: &[String],
        out: bool,
    ) -> Result<(), PortError> {
        let TrafficSpec { backend, server, .. } = &self.traffic;
        let _turn = EDITS.lock().await;
        let what = file.display().to_string();
        let text = read_text(file)?;
        let wanted = nginx::marked(&text, backend, server, out).map_err(|why| unreadable(&what, why))?;
        let write = |bytes: &str| {
            replace_same(file, bytes.as_bytes()).map_err(|e| unreadable(&what, with_causes(&e)))
        };
        if let Some(wanted) = &wanted {
            write(wanted)?;
        }
        let mut done = self.program(check).await;
        if done.is_ok() {
            done = self.program(reload).await;
        }
        match (done, &wanted) {
            (Err(error), Some(_)) => {
                write(&text)?;
                Err(error)
            }
            (done, _) => done,
        }
    }

    async fn program(&self, argv: &[String]) -> Result<(), PortError> {
        let spec = ExecSpec { argv: argv.to_vec(), deadline: RUN_LIMIT, ..ExecSpec::default() };
        let outcome = self.host.exec(&spec).await?;
        if outcome.is_success() {
            return Ok(());
        }
        let said = outcome.stderr.tail_text(SAID_MAX_BYTES);
        let said = quorate_common::wire::text::printable(said.trim(), SAID_MAX_BYTES);
        let name = argv.first().map(String::as_str).unwrap_or_default();
        Err(PortError::new(Reason::ActionFailed, format!("{name} refused: {said}")))
    }
}

async fn ask(socket: &AdminAddress, line: &str) -> Result<String, PortError> {
    admin::ask(socket, line, ASK_LIMIT).await.map_err(|e| unreadable(&format!("HAProxy at {socket}"), e))
}

fn read_text(file: &Path) -> Result<String, PortError> {
    let what = file.display().to_string();
    let bytes = read_limited(file, FILE_MAX_BYTES).map_err(|e| unreadable(&what, e))?;
    String::from_utf8(bytes).map_err(|_| unreadable(&what, "it is no text"))
}
