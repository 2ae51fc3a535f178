//! The calls of whoever conducts rounds of kills. Each is sent until it is answered: whoever is killed is not asked for long.

use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_common::tls::ExpectedServer;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::script::{Order, Script};
use crate::world::clients::Desk;
use crate::world::evidence::Cancel;
use crate::world::machine::SERVICE;
use crate::world::member::address;
use crate::world::trace;

/// Longest call.
const PATIENCE: Duration = Duration::from_secs(3);
/// Sends of one request, and requests for one rollout, before it is given up.
const SENDS: u32 = 60;
/// The name of the freeze and of the window.
const CALENDAR: &str = "kills";

/// Where the conductor sits.
pub const NAME: &str = "conductor";

/// Somebody who starts rollouts and does to them what their script says.
pub(super) struct Conductor {
    pub(super) desk: Desk,
    pub(super) order: Order,
    pub(super) entropy: Entropy,
    pub(super) requests: u64,
    /// Folder of the releases of each node.
    pub(super) apps: Vec<(String, String)>,
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

    pub(super) async fn pause(&mut self, least: u64, spread: u64) {
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

    pub(super) async fn declare(&mut self) {
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
    pub(super) async fn start(&mut self, script: Script, version: &'static str) -> Option<String> {
        for _ in 0..SENDS {
            let request = self.request("k-start");
            let answer = self
                .send("the rollout", |channel| {
                    let work = script.work(version);
                    let source = Some(v1::create_operation_request::Source::Work(work));
                    let call = v1::CreateOperationRequest {
                        source,
                        options: options(&request),
                        ..Default::default()
                    };
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

    pub(super) async fn look(&mut self, name: &str) -> Option<v1::Operation> {
        let ask = v1::GetOperationRequest { name: name.to_owned(), ..Default::default() };
        let mut api = OperationServiceClient::new(self.channel()?);
        tokio::time::timeout(PATIENCE, api.get_operation(ask)).await.ok()?.ok()?.into_inner().operation
    }

    pub(super) async fn frozen(&mut self, on: bool) {
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
    pub(super) async fn window(&mut self, cron: Option<&str>) {
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

    pub(super) async fn promote(&mut self, name: &str) {
        let request = self.request("k-promote");
        self.send("the promotion", |channel| {
            let (name, options) = (name.to_owned(), options(&request));
            let call = v1::PromoteOperationRequest { name, all: false, options };
            async move { OperationServiceClient::new(channel).promote_operation(call).await }
        })
        .await;
    }

    pub(super) async fn paused(&mut self, name: &str) {
        let request = self.request("k-pause");
        self.send("the pause", |channel| {
            let call = v1::PauseOperationRequest { name: name.to_owned(), options: options(&request) };
            async move { OperationServiceClient::new(channel).pause_operation(call).await }
        })
        .await;
    }

    pub(super) async fn resumed(&mut self, name: &str) {
        let request = self.request("k-resume");
        self.send("the resumption", |channel| {
            let call = v1::ResumeOperationRequest { name: name.to_owned(), options: options(&request) };
            async move { OperationServiceClient::new(channel).resume_operation(call).await }
        })
        .await;
    }

    pub(super) async fn aborted(&mut self, name: &str) {
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
