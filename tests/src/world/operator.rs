//! Two operators. The first declares the service and its group, then restarts the group member by member, again and again;
//! the second restarts single nodes at the same time. Both cancel some of what they started, at any point of its life.

use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_common::tls::ExpectedServer;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use tonic::transport::Channel;

use super::clients::Desk;
use super::evidence::Cancel;
use super::machine::SERVICE;
use super::member::address;
use super::trace;

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
    name: &'static str,
    desk: Desk,
    entropy: Entropy,
}

/// Of so many operations of the first operator and of the second one is canceled.
const CANCELED: [u64; 2] = [4, 2];
/// Sends of a cancel.
const CANCELS: u32 = 5;

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
                        with_service: None,
                    });
                    if matches!(tokio::time::timeout(PATIENCE, group).await, Ok(Ok(_))) {
                        self.desk.trace.say(self.name, "the group is declared");
                        self.desk.notebook.seen().declared = true;
                        return;
                    }
                }
            }
            self.pause(200, 300).await;
        }
    }

    fn is_first(&self) -> bool {
        self.name == NAMES[0]
    }

    fn work(&mut self) -> v1::work_spec::Kind {
        if self.is_first() {
            return v1::work_spec::Kind::Rolling(v1::RollingSpec {
                group: SERVICE.to_owned(),
                ..Default::default()
            });
        }
        let node = format!("node{}", 1 + self.entropy.next_u64() % self.desk.nodes);
        v1::work_spec::Kind::Run(v1::RunSpec {
            selector: Some(v1::Selector { names: vec![node], ..Default::default() }),
            action: "service.restart".to_owned(),
            service: SERVICE.to_owned(),
            parallelism: 0,
            gate_timeout: None,
        })
    }

    /// Starts one operation; its name when that is known.
    async fn start(&mut self, request: &str, kind: v1::work_spec::Kind) -> Start {
        let work = v1::WorkSpec { kind: Some(kind), max_failures: 0 };
        let call = v1::CreateOperationRequest {
            plan_hash: String::new(),
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
                    .say(self.name, format!("{request}: {:?} {}", status.code(), status.message()));
                if status.code() == tonic::Code::FailedPrecondition { Start::Refused } else { Start::Unknown }
            }
            Err(_) => Start::Unknown,
        }
    }

    /// Cancels an operation until that is acknowledged or refused.
    async fn cancel(&mut self, name: &str, request: &str) {
        for _ in 0..CANCELS {
            if self.over() {
                return;
            }
            if let Some(channel) = self.channel() {
                let mut api = OperationServiceClient::new(channel);
                let options = Self::options(&format!("{request}-cancel"));
                let call = v1::CancelOperationRequest { name: name.to_owned(), options };
                match tokio::time::timeout(PATIENCE, api.cancel_operation(call)).await {
                    Ok(Ok(_)) => {
                        let acked = u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX);
                        let operation = name.trim_start_matches("operations/").to_owned();
                        self.desk.trace.say(self.name, format!("{name} is canceled"));
                        self.desk.notebook.seen().cancels.push(Cancel { operation, acked });
                        return;
                    }
                    Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                        self.desk.trace.say(self.name, format!("{name} had ended: {}", status.message()));
                        return;
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            self.pause(200, 400).await;
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
        if self.is_first() {
            self.declare().await;
        }
        while !self.desk.notebook.seen().declared && !self.over() {
            self.pause(100, 100).await;
        }
        let mut count = 0;
        while !self.over() {
            count += 1;
            let request = format!("{}-{count}", self.name);
            let work = self.work();
            let mut name = None;
            for _ in 0..4 {
                if name.is_none() && !self.over() {
                    match self.start(&request, work.clone()).await {
                        Start::Known(found) => name = Some(found),
                        // The same id would only give the same refusal.
                        Start::Refused => break,
                        Start::Unknown => {}
                    }
                    self.pause(300, 500).await;
                }
            }
            let Some(name) = name else { continue };
            self.desk.trace.say(self.name, format!("{request} is {name}"));
            self.desk.notebook.seen().operations += 1;
            let one_of = if self.is_first() { CANCELED[0] } else { CANCELED[1] };
            if self.entropy.next_u64().is_multiple_of(one_of) {
                self.pause(1, 4_000).await;
                self.cancel(&name, &request).await;
            }
            while !self.over() {
                if let Some(state) = self.ended(&name).await {
                    self.desk.trace.say(self.name, format!("{name} ended: {state}"));
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

/// The hosts of the operators.
pub const NAMES: [&str; 2] = ["operator", "oncall"];

/// The host of an operator.
///
/// # Errors
/// Never.
pub async fn host(desk: Desk, name: &'static str, seed: u64) -> turmoil::Result {
    let own = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let entropy = Entropy::seeded(seed ^ own.wrapping_mul(0x09e7_a702));
    Operator { name, desk, entropy }.run().await;
    Ok(())
}
