//! Takes readings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_common::with_causes;
use quorate_model::probe::{AlertsProbe, CertificateProbe, MembershipPaths, MetricProbe};
use quorate_model::service::Driver;
use quorate_model::{DurationMs, ProbeKind, ProbeSpec, Timestamp};
use tokio::net::{TcpStream, ToSocketAddrs};

use super::measure::{self, Counted, Others};
use super::plan::{self, SoakStart};
use super::schedule::ProbeKey;
use super::{Reading, alerts, certificate};
use crate::host::exec::{Capture, ExecEnd};
use crate::host::fetch::{self, HttpAnswer, Question};
use crate::host::{ExecSpec, Host, HostError};

/// Longest a reading may take, whatever its specification says: one in flight per probe must not be one for ever.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Output kept of a probe program.
const OUTPUT_MAX_BYTES: usize = 512;

/// What a probe looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Which instance and probe.
    pub key: ProbeKey,
    /// What keeps the instance running here; `None` when it runs on another node.
    pub driver: Option<Driver>,
    /// An expression asks for the document that an HTTP probe reads here. Set by the scheduler, which knows all probes.
    pub keep_body: bool,
    /// Whether the host's policy lists the program of an `Exec` or `Membership` probe, or the file of a `Certificate` probe. The caller's
    /// verdict; here it is only obeyed.
    pub allowed: bool,
}

/// Why there is no reading of the instance's own making.
enum Miss {
    /// The instance did not answer as it should.
    Failed(String),
    /// This host could not ask.
    Blind(String),
}

impl Miss {
    /// The one who did not answer is not the instance.
    fn of_another(self) -> Self {
        match self {
            Self::Failed(text) | Self::Blind(text) => Self::Blind(text),
        }
    }

    /// Before there is a connection only a refusal comes from the other end. No descriptor, no route, no name: that is this
    /// host's own, or the network's.
    fn before_connection(error: &io::Error) -> Self {
        let text = with_causes(error);
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Failed(text),
            _ => Self::Blind(text),
        }
    }
}

/// Takes readings of probes; remembers only what soaks and rates need.
pub struct Prober {
    host: Arc<dyn Host>,
    soaks: Mutex<BTreeMap<ProbeKey, SoakStart>>,
    counters: Mutex<BTreeMap<ProbeKey, Counted>>,
}

impl Prober {
    /// A prober on a host.
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, soaks: Mutex::default(), counters: Mutex::default() }
    }

    /// One reading, within the probe's timeout. Whatever goes wrong is a reading that failed, with the reason. `others` are
    /// the newest readings of the same instance's other probes, for an expression.
    pub async fn read(&self, target: &ProbeTarget, spec: &ProbeSpec, others: &Others) -> Reading {
        let began = Instant::now();
        let limit = Duration::from_millis(spec.timeout.0).min(TIMEOUT_MAX);
        let reached = AtomicBool::new(false);
        let mut reading =
            match tokio::time::timeout(limit, self.take(target, spec, others, limit, &reached)).await {
                Ok(Ok(reading)) => reading,
                Ok(Err(Miss::Failed(text))) => Reading::new(false, &text),
                Ok(Err(Miss::Blind(text))) => Reading::blind(&text),
                Err(_) => {
                    let text = format!("no answer within {} ms", limit.as_millis());
                    // Names may not be told, or packets lost: only who was reached is known to be silent.
                    if reached.load(Ordering::Relaxed) {
                        Reading::new(false, &text)
                    } else {
                        Reading::blind(&text)
                    }
                }
            };
        reading.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // An expression is as old as what it rests on.
        if reading.at == Timestamp::ZERO {
            reading.at = self.host.now();
        }
        reading
    }

    /// Forgets a probe that is not run any more.
    pub fn forget(&self, key: &ProbeKey) {
        self.soaks().remove(key);
        self.counters().remove(key);
    }

    fn counters(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProbeKey, Counted>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn soaks(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProbeKey, SoakStart>> {
        self.soaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(
        &self,
        target: &ProbeTarget,
        spec: &ProbeSpec,
        others: &Others,
        limit: Duration,
        reached: &AtomicBool,
    ) -> Result<Reading, Miss> {
        match &spec.kind {
            ProbeKind::Http { url, status, body_contains, json } => {
                let answer = ask(url, reached).await?;
                let mut reading = plan::judge_http(status, body_contains, json, &answer);
                if target.keep_body {
                    reading.body = measure::document(&answer);
                }
                Ok(reading)
            }
            ProbeKind::Membership { url, argv, paths } if argv.is_empty() => {
                let answer = ask(url, reached).await?;
                Ok(plan::judge_membership(paths, &answer))
            }
            ProbeKind::Membership { argv, paths, url: _ } => self.members(target, argv, paths, limit).await,
            ProbeKind::Tcp { address } => {
                connect(address.as_str(), reached).await?;
                Ok(Reading::new(true, &format!("{address} accepts")))
            }
            ProbeKind::Exec { argv } => self.run(target, argv, limit).await,
            ProbeKind::UnitSoak { min_up } => self.soak(target, *min_up).await,
            ProbeKind::Metric(metric) => self.metric(target, metric, reached).await,
            ProbeKind::Certificate(wanted) => self.certificate(target, wanted, reached).await,
            ProbeKind::Alerts(wanted) => alerts_of(wanted).await,
            ProbeKind::Expression { expr } => Ok(measure::judge_expression(expr, others, self.host.now())),
        }
    }

    async fn run(&self, target: &ProbeTarget, argv: &[String], limit: Duration) -> Result<Reading, Miss> {
        let (reading, _) = self.program(target, argv, limit).await?;
        Ok(reading)
    }

    /// Whoever asks a program for the members takes only a whole document of one that ended well.
    async fn members(
        &self,
        target: &ProbeTarget,
        argv: &[String],
        paths: &MembershipPaths,
        limit: Duration,
    ) -> Result<Reading, Miss> {
        let (reading, stdout) = self.program(target, argv, limit).await?;
        if !reading.ok {
            return Ok(reading);
        }
        if stdout.truncated {
            return Ok(Reading::new(false, &format!("{} bytes are no document", stdout.total_bytes)));
        }
        Ok(plan::judge_members(paths, &[stdout.head, stdout.tail].concat()))
    }

    /// Runs a probe's program: what its exit says, and what it printed.
    async fn program(
        &self,
        target: &ProbeTarget,
        argv: &[String],
        limit: Duration,
    ) -> Result<(Reading, Capture), Miss> {
        if !target.allowed {
            return Err(Miss::Blind("this host's policy does not list the program".to_owned()));
        }
        // A little less than the probe's own limit, so that the kill at the deadline is part of the reading.
        let deadline = limit.mul_f32(0.9);
        let spec = ExecSpec { argv: argv.to_vec(), deadline, ..ExecSpec::default() };
        let outcome = self.host.exec(&spec).await.map_err(|e: HostError| Miss::Blind(e.full_text()))?;
        let (code, how) = match outcome.end {
            ExecEnd::Code(code) => (Some(code), format!("exit code {code}")),
            ExecEnd::Signal(signal) => (None, format!("killed by signal {signal}")),
            ExecEnd::TimedOut => (None, format!("killed after {} ms", deadline.as_millis())),
        };
        let stream = if outcome.stderr.total_bytes > 0 { &outcome.stderr } else { &outcome.stdout };
        let reading = plan::judge_exit(code, &how, &stream.tail_text(OUTPUT_MAX_BYTES));
        Ok((reading, outcome.stdout))
    }

    async fn metric(
        &self,
        target: &ProbeTarget,
        metric: &MetricProbe,
        reached: &AtomicBool,
    ) -> Result<Reading, Miss> {
        // Gone while it is asked for: a rate over a gap says nothing about now.
        let before = self.counters().remove(&target.key);
        let answer = ask(&metric.url, reached).await?;
        let (reading, counted) = measure::judge_metric(metric, &answer, before, self.host.monotonic_us());
        if let Some(counted) = counted {
            self.counters().insert(target.key.clone(), counted);
        }
        Ok(reading)
    }

    async fn certificate(
        &self,
        target: &ProbeTarget,
        wanted: &CertificateProbe,
        reached: &AtomicBool,
    ) -> Result<Reading, Miss> {
        // First: a file of which nothing is known makes every answer worthless.
        let file = match wanted.file.as_str() {
            "" => None,
            _ if !target.allowed => {
                return Err(Miss::Blind(
                    "this host's policy does not list the certificate's file".to_owned(),
                ));
            }
            path => Some(certificate::file(path.to_owned()).await.map_err(Miss::Blind)?),
        };
        let name = certificate::server_name(&wanted.server_name).map_err(Miss::Blind)?;
        let stream = connect(wanted.address.as_str(), reached).await?;
        let shown = certificate::shown(stream, name.clone()).await.map_err(Miss::Failed)?;
        Ok(certificate::judge(wanted, &name, &shown, file.as_deref(), self.host.now()))
    }

    async fn soak(&self, target: &ProbeTarget, min_up: DurationMs) -> Result<Reading, Miss> {
        let driver = target
            .driver
            .as_ref()
            .ok_or_else(|| Miss::Blind("a soak is run only by the instance's own node".to_owned()))?;
        let (service, unit) = self.host.service(driver).map_err(|e| Miss::Blind(e.full_text()))?;
        let seen = service.status(unit).await.map_err(|e| Miss::Blind(e.full_text()))?;
        // Monotonic where the driver knows it: a clock that was set must not make a unit look old.
        let up_ms = match seen.evidence.active_enter_us {
            0 => self.host.now().since(seen.status.since).0,
            entered => self.host.monotonic_us().saturating_sub(entered) / 1_000,
        };
        let run = (seen.evidence.invocation_id, seen.evidence.start_ticks);
        let before = self.soaks().get(&target.key).cloned();
        let (reading, remember) = plan::judge_soak(min_up.0, before.as_ref(), &seen.status, run, up_ms);
        match remember {
            Some(start) => self.soaks().insert(target.key.clone(), start),
            None => self.soaks().remove(&target.key),
        };
        Ok(reading)
    }
}

/// Connects, and notes that there was somebody.
async fn connect(to: impl ToSocketAddrs, reached: &AtomicBool) -> Result<TcpStream, Miss> {
    let stream = TcpStream::connect(to).await.map_err(|e| Miss::before_connection(&e))?;
    reached.store(true, Ordering::Relaxed);
    Ok(stream)
}

/// Of an Alertmanager nobody knows that it was reached: its silence says nothing of the instance.
async fn alerts_of(wanted: &AlertsProbe) -> Result<Reading, Miss> {
    let unseen = AtomicBool::new(false);
    let answer = ask(&alerts::url(wanted), &unseen).await.map_err(Miss::of_another)?;
    let alerts = match alerts::read(&answer) {
        Ok(alerts) => alerts,
        Err(reading) => return Ok(reading),
    };
    let mut ours = BTreeSet::new();
    for silence in alerts::silences(&alerts).map_err(Miss::Blind)? {
        let answer = ask(&alerts::silence_url(wanted, &silence), &unseen).await.map_err(Miss::of_another)?;
        if alerts::is_ours(&answer).map_err(Miss::Blind)? {
            ours.insert(silence);
        }
    }
    Ok(alerts::judge(&alerts, &ours))
}

async fn ask(url: &str, reached: &AtomicBool) -> Result<HttpAnswer, Miss> {
    let target = fetch::http_target(url).map_err(Miss::Blind)?;
    let stream = connect((target.host.as_str(), target.port), reached).await?;
    fetch::ask(stream, &target, Question::default()).await.map_err(|e| Miss::Failed(with_causes(&e)))
}
