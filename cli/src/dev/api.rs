//! The fleet's own API, spoken with the administrator certificate that `init` made.
//!
//! Everything here is what a person with `DIR/config.toml` could do.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use quorate_common::tls::{Address, ChannelLimits, ExpectedServer, LiveTls, Material, channel};
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::{
    ApplyGroupRequest, ApplyServiceRequest, ChangeOptions, Consistency, CreateOperationRequest,
    CreateTokenRequest, GetGroupRequest, GetOperationRequest, GetStatusRequest, Group, GroupSpec,
    ListMembersRequest, ListNodesRequest, Member, Node, Operation, ServiceSpec, TokenPurpose, WorkSpec,
    create_operation_request,
};
use tonic::Code;
use tonic::transport::Channel;

use super::config::CliContext;

/// Deadline of one call: on loopback an answer takes milliseconds, an election in between a second or two.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two tries while something comes up.
const RETRY: Duration = Duration::from_millis(200);
/// Most nodes a local fleet has.
const PAGE: u32 = 1000;

/// A connection to one coordinator that answered.
#[derive(Debug, Clone)]
pub(super) struct Api {
    channel: Channel,
}

impl Api {
    /// Connects to the first address that answers and knows a leader.
    ///
    /// # Errors
    /// What the last address said.
    pub(super) async fn connect(context: &CliContext) -> anyhow::Result<Self> {
        let material = Material::load(&context.ca, &context.cert, &context.key)
            .context("the administrator's identity cannot be used")?;
        let tls = LiveTls::new(material).client(ExpectedServer::AnyCoordinator)?;
        let limits = ChannelLimits { request_timeout: Some(CALL_TIMEOUT), ..ChannelLimits::default() };
        let mut last = anyhow::anyhow!("no address is configured");
        for address in &context.addresses {
            let answered = async {
                let channel = channel(&address.parse::<Address>()?, &tls, &limits)?;
                let request = GetStatusRequest { ..Default::default() };
                let status = AdminServiceClient::new(channel.clone()).get_status(request).await?.into_inner();
                if status.leader.is_empty() {
                    bail!("there is no leader");
                }
                Ok(Self { channel })
            };
            match answered.await {
                Ok(api) => return Ok(api),
                Err(error) => last = error.context(format!("coordinator at {address}")),
            }
        }
        Err(last)
    }

    pub(super) async fn create_token(&self, purpose: TokenPurpose, name: &str) -> anyhow::Result<String> {
        let request = CreateTokenRequest {
            purpose: purpose.into(),
            name: name.to_owned(),
            options: Some(options("join of the local fleet")),
            ..Default::default()
        };
        Ok(FleetServiceClient::new(self.channel.clone())
            .create_token(request)
            .await
            .map_err(said)?
            .into_inner()
            .token)
    }

    pub(super) async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let request = ListNodesRequest { page_size: PAGE, ..Default::default() };
        Ok(FleetServiceClient::new(self.channel.clone())
            .list_nodes(request)
            .await
            .map_err(said)?
            .into_inner()
            .nodes)
    }

    pub(super) async fn members(&self) -> anyhow::Result<Vec<Member>> {
        let request = ListMembersRequest { ..Default::default() };
        Ok(AdminServiceClient::new(self.channel.clone())
            .list_members(request)
            .await
            .map_err(said)?
            .into_inner()
            .members)
    }

    /// Declares a service and its group, and tells the group as it stands. Voters that are declared already stay as they are: a change
    /// of members has made them so, in the application too.
    pub(super) async fn apply(&self, service: ServiceSpec, group: GroupSpec) -> anyhow::Result<GroupSpec> {
        let mut client = GroupServiceClient::new(self.channel.clone());
        let frame = || Some(options("sample service of the local fleet"));
        client
            .apply_service(ApplyServiceRequest { spec: Some(service), options: frame() })
            .await
            .map_err(said)?;
        let known = match client.get_group(asked(&group.name)).await {
            Ok(answer) => answer.into_inner().group.and_then(|group| group.spec),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(said(status)),
        };
        let group = match &known {
            Some(known) => {
                GroupSpec { voters: known.voters.clone(), learners: known.learners.clone(), ..group }
            }
            None => group,
        };
        // While a change of members is open nobody declares the group; where nothing is new nobody needs to.
        if known.as_ref() != Some(&group) {
            let request =
                ApplyGroupRequest { spec: Some(group.clone()), options: frame(), with_service: None };
            client.apply_group(request).await.map_err(said)?;
        }
        Ok(group)
    }

    pub(super) async fn group(&self, name: &str) -> anyhow::Result<Group> {
        let answer = GroupServiceClient::new(self.channel.clone())
            .get_group(asked(name))
            .await
            .map_err(said)?
            .into_inner();
        answer.group.context("the coordinator gave no group")
    }

    pub(super) async fn start(&self, work: WorkSpec, reason: &str) -> anyhow::Result<Operation> {
        let request = CreateOperationRequest {
            plan_hash: String::new(),
            source: Some(create_operation_request::Source::Work(work)),
            options: Some(options(reason)),
        };
        let answer = OperationServiceClient::new(self.channel.clone())
            .create_operation(request)
            .await
            .map_err(said)?;
        answer.into_inner().operation.context("the coordinator gave no operation")
    }

    pub(super) async fn operation(&self, name: &str) -> anyhow::Result<Operation> {
        let request =
            GetOperationRequest { name: name.to_owned(), consistency: Consistency::Linearizable.into() };
        let answer =
            OperationServiceClient::new(self.channel.clone()).get_operation(request).await.map_err(said)?;
        answer.into_inner().operation.context("the coordinator gave no operation")
    }
}

fn asked(name: &str) -> GetGroupRequest {
    GetGroupRequest { name: name.to_owned(), consistency: Consistency::Linearizable.into() }
}

/// A refusal in words for a person, not as gRPC prints it.
fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::Error::new(crate::failure::Failure::from(status))
}

fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn options(reason: &str) -> ChangeOptions {
    ChangeOptions { request_id: request_id(), reason: reason.to_owned(), validate_only: false }
}

/// Tries again until it succeeds or the deadline passes; then the last error is given.
pub(super) async fn until<T, F>(
    what: &str,
    deadline: Instant,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("waited too long: {what}")));
        }
        tokio::time::sleep(RETRY).await;
    }
}
