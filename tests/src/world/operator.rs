//! An operator: declares the service and its group, then restarts the group member by member, again and again.

use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_common::tls::ExpectedServer;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use tonic::transport::Channel;

use super::clients::Desk;
use super::machine::SERVICE;
use super::member::address;

/// Longest call.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time between two looks at a running operation.
const LOOK: Duration = Duration::from_millis(400);

/// What came of starting an operation.
enum Start {
    /// It has this name.
    Known(String),
    /// It was refused.
    Refused,
    /// It may have been started.
    Unknown,
}

struct Operator {
    desk: Desk,
    entropy: Entropy,
}

impl Operator {
    fn channel(&mut self) -> Option<Channel> {
        let member = 1 + self.entropy.next_u64() % self.desk.members;
        self.desk.caller.channel(&address(member), ExpectedServer::AnyCoordinator).ok()
    }

    fn options(request: &str) -> Option<v1::ChangeOptions> {
        let request_id = request.to_owned();
        Some(v1::ChangeOptions { request_id, reason: String::new(), validate_only: false })
    }

    fn over(&self) -> bool {
        self.desk.notebook.seen().stop
    }

    async fn pause(&mut self, least: u64, spread: u64) {
        let wait = least + self.entropy.next_u64() % spread;
        // Simulated time: nobody waits for it.
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// Repeats a declaration under one request id until it is acknowledged.
    async fn declare(&mut self) {
        while !self.over() {
            if let Some(channel) = self.channel() {
                let mut groups = GroupServiceClient::new(channel);
                let service = groups.apply_service(v1::ApplyServiceRequest {
                    spec: Some(service()),
                    options: Self::options("o-service"),
                });
                let applied = tokio::time::timeout(PATIENCE, service).await;
                if matches!(applied, Ok(Ok(_))) {
                    let group = groups.apply_group(v1::ApplyGroupRequest {
                        spec: Some(group(self.desk.nodes)),
                        options: Self::options("o-group"),
                    });
                    if matches!(tokio::time::timeout(PATIENCE, group).await, Ok(Ok(_))) {
                        self.desk.trace.say("operator", "the group is declared");
                        return;
                    }
                }
            }
            self.pause(200, 300).await;
        }
    }

    /// Starts a rolling restart; its name when that is known.
    async fn start(&mut self, request: &str) -> Start {
        let rolling = v1::RollingSpec { group: SERVICE.to_owned(), ..Default::default() };
        let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
        let call = v1::CreateOperationRequest {
            source: Some(v1::create_operation_request::Source::Work(work)),
            options: Self::options(request),
        };
        let Some(channel) = self.channel() else { return Start::Unknown };
        let mut api = OperationServiceClient::new(channel);
        match tokio::time::timeout(PATIENCE, api.create_operation(call)).await {
            Ok(Ok(answer)) => match answer.into_inner().operation {
                Some(operation) => Start::Known(operation.name),
                None => Start::Unknown,
            },
            Ok(Err(status)) => {
                self.desk
                    .trace
                    .say("operator", format!("{request}: {:?} {}", status.code(), status.message()));
                if status.code() == tonic::Code::FailedPrecondition { Start::Refused } else { Start::Unknown }
            }
            Err(_) => Start::Unknown,
        }
    }

    /// Whether an operation has ended, when that can be told.
    async fn ended(&mut self, name: &str) -> Option<String> {
        let mut api = OperationServiceClient::new(self.channel()?);
        let ask = v1::GetOperationRequest { name: name.to_owned(), ..Default::default() };
        let answer = tokio::time::timeout(PATIENCE, api.get_operation(ask)).await.ok()?.ok()?;
        let state = answer.into_inner().operation?.state();
        use v1::OperationState as S;
        matches!(state, S::Succeeded | S::Failed | S::Canceled | S::RolledBack).then(|| format!("{state:?}"))
    }

    async fn run(mut self) {
        while !self.desk.notebook.seen().go {
            self.pause(100, 100).await;
        }
        self.declare().await;
        let mut count = 0;
        while !self.over() {
            count += 1;
            let request = format!("o-{count}");
            let mut name = None;
            for _ in 0..4 {
                if name.is_none() && !self.over() {
                    match self.start(&request).await {
                        Start::Known(found) => name = Some(found),
                        // The same id would only give the same refusal.
                        Start::Refused => break,
                        Start::Unknown => {}
                    }
                    self.pause(300, 500).await;
                }
            }
            let Some(name) = name else { continue };
            self.desk.trace.say("operator", format!("{request} is {name}"));
            self.desk.notebook.seen().operations += 1;
            while !self.over() {
                if let Some(state) = self.ended(&name).await {
                    self.desk.trace.say("operator", format!("{name} ended: {state}"));
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

fn service() -> v1::ServiceSpec {
    let driver = v1::Driver { kind: Some(v1::driver::Kind::Process(SERVICE.to_owned())) };
    v1::ServiceSpec {
        name: SERVICE.to_owned(),
        driver: Some(driver),
        nodes: Some(v1::Selector { all: true, ..Default::default() }),
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

/// The operator's host.
///
/// # Errors
/// Never.
pub async fn host(desk: Desk, seed: u64) -> turmoil::Result {
    let entropy = Entropy::seeded(seed ^ 0x09e7_a702);
    Operator { desk, entropy }.run().await;
    Ok(())
}
