//! What is done in a round of kills, and by whom: a rollout from its request to its end, with everything that people and
//! calendars do to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_common::tls::ExpectedServer;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::world::clients::Desk;
use crate::world::evidence::Cancel;
use crate::world::machine::SERVICE;
use crate::world::member::address;
use crate::world::shelf::{CRASH, FADE, digest};
use crate::world::trace;

/// Longest call.
const PATIENCE: Duration = Duration::from_secs(3);
/// Sends of one request, and requests for one rollout, before it is given up.
const SENDS: u32 = 60;
/// Between two looks at a running rollout.
const LOOK: Duration = Duration::from_millis(250);
/// What a canary is looked at for: longer than a release that fades needs.
const HOLD_S: i64 = 3;
/// The name of the freeze and of the window.
const CALENDAR: &str = "kills";

/// What kind of rollout it is, and what comes in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// A release everywhere, one node after the other.
    Plain,
    /// A canary that promotes itself.
    Canary,
    /// A canary that a person promotes.
    Promote,
    /// A ramp.
    Ramp,
    /// A release that does not start, taken back.
    Crash,
    /// A release that ends by itself a little later, taken back.
    Fade,
    /// A release that does not start; the rollout halts and is aborted.
    Halt,
    /// Paused and resumed.
    Pause,
    /// Aborted in the middle.
    Abort,
    /// A freeze comes and goes.
    Freeze,
    /// It waits for a window.
    Window,
    /// Back to the release before.
    Undo,
    /// A restart, no release.
    Restart,
}

impl Script {
    /// All of them: a seed has one.
    pub const ALL: [Self; 13] = [
        Self::Plain,
        Self::Canary,
        Self::Promote,
        Self::Ramp,
        Self::Crash,
        Self::Fade,
        Self::Halt,
        Self::Pause,
        Self::Abort,
        Self::Freeze,
        Self::Window,
        Self::Undo,
        Self::Restart,
    ];

    /// The version that it needs, when not any will do.
    #[must_use]
    pub const fn version(self) -> Option<&'static str> {
        match self {
            Self::Crash | Self::Halt => Some(CRASH),
            Self::Fade => Some(FADE),
            Self::Plain
            | Self::Canary
            | Self::Promote
            | Self::Ramp
            | Self::Pause
            | Self::Abort
            | Self::Freeze
            | Self::Window
            | Self::Undo
            | Self::Restart => None,
        }
    }

    /// How it is cut into waves, and what becomes of a failure.
    fn policy(self) -> (Option<v1::WavePolicy>, v1::OnFailure) {
        use v1::OnFailure as F;
        let hold = Some(prost_types::Duration { seconds: HOLD_S, nanos: 0 });
        let held = Some(v1::WavePolicy { canary: 1, hold, ..Default::default() });
        match self {
            Self::Canary | Self::Crash | Self::Fade => (held, F::Rollback),
            Self::Halt => (held, F::Pause),
            Self::Promote => {
                let promotion = v1::Promotion::Canary as i32;
                (Some(v1::WavePolicy { canary: 1, promotion, ..Default::default() }), F::Abort)
            }
            Self::Ramp => {
                let ramp = vec!["1".to_owned(), "100%".to_owned()];
                (Some(v1::WavePolicy { ramp, ..Default::default() }), F::Rollback)
            }
            Self::Undo | Self::Restart => (None, F::Unspecified),
            Self::Plain | Self::Pause | Self::Abort | Self::Freeze | Self::Window => (None, F::Abort),
        }
    }

    const fn kind(self) -> v1::RollingKind {
        match self {
            Self::Undo => v1::RollingKind::Undo,
            Self::Restart => v1::RollingKind::Restart,
            Self::Plain
            | Self::Canary
            | Self::Promote
            | Self::Ramp
            | Self::Crash
            | Self::Fade
            | Self::Halt
            | Self::Pause
            | Self::Abort
            | Self::Freeze
            | Self::Window => v1::RollingKind::Release,
        }
    }

    fn work(self, version: &str) -> v1::WorkSpec {
        let (kind, (waves, on_failure)) = (self.kind(), self.policy());
        let released = kind == v1::RollingKind::Release;
        let rolling = v1::RollingSpec {
            group: SERVICE.to_owned(),
            kind: kind as i32,
            version: if released { version.to_owned() } else { String::new() },
            artifact: if released { digest(version) } else { String::new() },
            waves,
            on_failure: on_failure as i32,
            ..Default::default()
        };
        v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 }
    }
}

/// What is to be done next, and how far it is. The driver and the conductor share it.
#[derive(Debug, Default)]
pub struct Sheet {
    /// What to begin: the round, the script, the version.
    pub next: Option<(u64, Script, &'static str)>,
    /// The rollout's id, once it is known.
    pub operation: Option<String>,
    /// It has ended, by its own word.
    pub ended: Option<String>,
}

/// The sheet. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Order(Arc<Mutex<Sheet>>);

impl Order {
    /// Opens it.
    pub fn sheet(&self) -> MutexGuard<'_, Sheet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the conductor sits.
pub const NAME: &str = "conductor";

struct Conductor {
    desk: Desk,
    order: Order,
    entropy: Entropy,
    requests: u64,
    /// Folder of the releases of each node.
    apps: Vec<(String, String)>,
}

fn options(request: &str) -> Option<v1::ChangeOptions> {
    let (request_id, reason) = (request.to_owned(), "a round of kills".to_owned());
    Some(v1::ChangeOptions { request_id, reason, validate_only: false })
}

impl Conductor {
    fn channel(&mut self) -> Option<Channel> {
        let member = 1 + self.entropy.next_u64() % self.desk.members;
        self.desk.caller.channel(&address(member), ExpectedServer::AnyCoordinator).ok()
    }

    fn request(&mut self, what: &str) -> String {
        self.requests += 1;
        format!("{what}-{}", self.requests)
    }

    async fn pause(&mut self, least: u64, spread: u64) {
        let wait = least + self.entropy.next_u64() % spread;
        // Simulated time: nobody waits for it.
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// Sends a request until it is answered; none when it is refused, which is told.
    async fn send<T, F>(&mut self, what: &str, call: impl Fn(Channel) -> F) -> Option<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        for _ in 0..SENDS {
            if let Some(channel) = self.channel() {
                match tokio::time::timeout(PATIENCE, call(channel)).await {
                    Ok(Ok(answer)) => return Some(answer.into_inner()),
                    Ok(Err(status))
                        if matches!(
                            status.code(),
                            Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound
                        ) =>
                    {
                        self.desk.trace.say(NAME, format!("{what} was refused: {}", status.message()));
                        return None;
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            self.pause(150, 300).await;
        }
        None
    }

    async fn declare(&mut self) {
        let (service, group) = (service(&self.apps), group(self.desk.nodes));
        let declared = self
            .send("the service", |channel| {
                let spec = Some(service.clone());
                let request = v1::ApplyServiceRequest { spec, options: options("k-service") };
                async move { GroupServiceClient::new(channel).apply_service(request).await }
            })
            .await;
        let grouped = self
            .send("the group", |channel| {
                let spec = Some(group.clone());
                let options = options("k-group");
                let request = v1::ApplyGroupRequest { spec, options, with_service: None };
                async move { GroupServiceClient::new(channel).apply_group(request).await }
            })
            .await;
        self.desk.notebook.seen().declared = declared.is_some() && grouped.is_some();
    }

    /// Starts a rollout; again under another id when it is refused, as right after a crash.
    async fn start(&mut self, script: Script, version: &'static str) -> Option<String> {
        for _ in 0..SENDS {
            let request = self.request("k-start");
            let answer = self
                .send("the rollout", |channel| {
                    let work = script.work(version);
                    let source = Some(v1::create_operation_request::Source::Work(work));
                    let call = v1::CreateOperationRequest { source, options: options(&request) };
                    async move { OperationServiceClient::new(channel).create_operation(call).await }
                })
                .await;
            if let Some(operation) = answer.and_then(|answer| answer.operation) {
                return Some(operation.name);
            }
            self.pause(700, 600).await;
        }
        None
    }

    async fn look(&mut self, name: &str) -> Option<v1::Operation> {
        let ask = v1::GetOperationRequest { name: name.to_owned(), ..Default::default() };
        let mut api = OperationServiceClient::new(self.channel()?);
        tokio::time::timeout(PATIENCE, api.get_operation(ask)).await.ok()?.ok()?.into_inner().operation
    }

    async fn frozen(&mut self, on: bool) {
        let request = self.request("k-freeze");
        if on {
            let spec = v1::FreezeSpec {
                name: CALENDAR.to_owned(),
                services: vec![SERVICE.to_owned()],
                reason: "a round of kills".to_owned(),
                ..Default::default()
            };
            self.send("the freeze", |channel| {
                let (spec, options) = (Some(spec.clone()), options(&request));
                let call = v1::ApplyFreezeRequest { spec, options, etag: String::new() };
                async move { ScheduleServiceClient::new(channel).apply_freeze(call).await }
            })
            .await;
        } else {
            self.send("the thaw", |channel| {
                let (name, options) = (CALENDAR.to_owned(), options(&request));
                let call = v1::DeleteFreezeRequest { name, options, etag: String::new() };
                async move { ScheduleServiceClient::new(channel).delete_freeze(call).await }
            })
            .await;
        }
    }

    /// A window that is closed for months, one that is open for the first hours of every run, or none.
    async fn window(&mut self, cron: Option<&str>) {
        let request = self.request("k-window");
        if let Some(cron) = cron {
            let spec = v1::WindowSpec {
                name: CALENDAR.to_owned(),
                services: vec![SERVICE.to_owned()],
                zone: "Etc/UTC".to_owned(),
                when: Some(v1::window_spec::When::Cron(cron.to_owned())),
                duration: Some(prost_types::Duration { seconds: 4 * 3_600, nanos: 0 }),
                reason: "a round of kills".to_owned(),
                ..Default::default()
            };
            self.send("the window", |channel| {
                let (spec, options) = (Some(spec.clone()), options(&request));
                let call = v1::ApplyWindowRequest { spec, options, etag: String::new() };
                async move { ScheduleServiceClient::new(channel).apply_window(call).await }
            })
            .await;
        } else {
            self.send("no window", |channel| {
                let (name, options) = (CALENDAR.to_owned(), options(&request));
                let call = v1::DeleteWindowRequest { name, options, etag: String::new() };
                async move { ScheduleServiceClient::new(channel).delete_window(call).await }
            })
            .await;
        }
    }

    async fn promote(&mut self, name: &str) {
        let request = self.request("k-promote");
        self.send("the promotion", |channel| {
            let (name, options) = (name.to_owned(), options(&request));
            let call = v1::PromoteOperationRequest { name, all: false, options };
            async move { OperationServiceClient::new(channel).promote_operation(call).await }
        })
        .await;
    }

    async fn paused(&mut self, name: &str) {
        let request = self.request("k-pause");
        self.send("the pause", |channel| {
            let call = v1::PauseOperationRequest { name: name.to_owned(), options: options(&request) };
            async move { OperationServiceClient::new(channel).pause_operation(call).await }
        })
        .await;
    }

    async fn resumed(&mut self, name: &str) {
        let request = self.request("k-resume");
        self.send("the resumption", |channel| {
            let call = v1::ResumeOperationRequest { name: name.to_owned(), options: options(&request) };
            async move { OperationServiceClient::new(channel).resume_operation(call).await }
        })
        .await;
    }

    async fn aborted(&mut self, name: &str) {
        let request = self.request("k-abort");
        let answer = self
            .send("the abort", |channel| {
                let call = v1::CancelOperationRequest { name: name.to_owned(), options: options(&request) };
                async move { OperationServiceClient::new(channel).cancel_operation(call).await }
            })
            .await;
        if answer.is_some() {
            let acked = u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX);
            let operation = name.trim_start_matches("operations/").to_owned();
            self.desk.notebook.seen().cancels.push(Cancel { operation, acked });
        }
    }

    /// What is done once, some time after the rollout began.
    async fn interfere(&mut self, script: Script, name: &str) {
        match script {
            Script::Pause => {
                self.pause(500, 5_000).await;
                self.paused(name).await;
                self.pause(500, 2_000).await;
            }
            Script::Abort => {
                self.pause(500, 8_000).await;
                self.aborted(name).await;
            }
            Script::Freeze => {
                self.pause(200, 5_000).await;
                self.frozen(true).await;
                self.pause(500, 2_500).await;
                self.frozen(false).await;
            }
            Script::Window => {
                self.pause(500, 2_000).await;
                self.window(Some("0 8 * * *")).await;
            }
            Script::Plain
            | Script::Canary
            | Script::Promote
            | Script::Ramp
            | Script::Crash
            | Script::Fade
            | Script::Halt
            | Script::Undo
            | Script::Restart => {}
        }
    }

    /// Looks until the rollout has ended, and does what it waits for.
    async fn follow(&mut self, script: Script, name: &str) -> String {
        use v1::OperationState as S;
        loop {
            if let Some(seen) = self.look(name).await {
                match seen.state() {
                    S::Succeeded | S::Failed | S::Canceled | S::RolledBack => {
                        return format!("{:?}", seen.state());
                    }
                    // A person goes on where it halts by itself, or was paused by us.
                    S::Paused if script == Script::Halt => self.aborted(name).await,
                    S::Paused => self.resumed(name).await,
                    _ if seen.wave_states.iter().any(|wave| wave.state() == v1::WaveState::Promotable) => {
                        self.promote(name).await;
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn round(&mut self, number: u64, script: Script, version: &'static str) {
        if script == Script::Window {
            // Not in this season.
            self.window(Some("0 3 1 7 *")).await;
        }
        self.desk.trace.say(NAME, format!("round {number}: {script:?} {version}"));
        let ended = match self.start(script, version).await {
            Some(name) => {
                self.desk.notebook.seen().operations += 1;
                self.desk.trace.say(NAME, format!("round {number} is {name}"));
                self.order.sheet().operation = Some(name.trim_start_matches("operations/").to_owned());
                self.interfere(script, &name).await;
                self.follow(script, &name).await
            }
            None => "never started".to_owned(),
        };
        if script == Script::Window {
            self.window(None).await;
        }
        self.desk.trace.say(NAME, format!("round {number} ended: {ended}"));
        self.order.sheet().ended = Some(ended);
    }

    async fn run(mut self) {
        while !self.desk.notebook.seen().go {
            self.pause(100, 100).await;
        }
        self.declare().await;
        loop {
            let next = self.order.sheet().next.take();
            if let Some((number, script, version)) = next {
                self.round(number, script, version).await;
            }
            self.pause(50, 50).await;
        }
    }
}

fn service(apps: &[(String, String)]) -> v1::ServiceSpec {
    let vars = apps.iter().map(|(node, app)| {
        let vars = [("app".to_owned(), app.clone())].into();
        (node.clone(), v1::InstanceVars { vars })
    });
    let binary = v1::BinaryInstall { dir: "${app}".to_owned(), file: SERVICE.to_owned() };
    v1::ServiceSpec {
        name: SERVICE.to_owned(),
        driver: Some(v1::Driver { kind: Some(v1::driver::Kind::Process(SERVICE.to_owned())) }),
        nodes: Some(v1::Selector { all: true, ..Default::default() }),
        install: Some(v1::Install { kind: Some(v1::install::Kind::Binary(binary)) }),
        vars: vars.collect(),
        ..Default::default()
    }
}

fn group(nodes: u64) -> v1::GroupSpec {
    v1::GroupSpec {
        name: SERVICE.to_owned(),
        service: SERVICE.to_owned(),
        voters: (1..=nodes).map(|n| format!("node{n}")).collect(),
        policy: Some(v1::QuorumPolicy { kind: v1::QuorumPolicyKind::Majority as i32, ..Default::default() }),
        ..Default::default()
    }
}

/// The conductor's host.
///
/// # Errors
/// Never.
pub async fn host(desk: Desk, order: Order, apps: Vec<(String, String)>, seed: u64) -> turmoil::Result {
    let entropy = Entropy::seeded(seed ^ 0x00c0_4d5c);
    Conductor { desk, order, apps, entropy, requests: 0 }.run().await;
    Ok(())
}
