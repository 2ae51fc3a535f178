//! `grpc.health.v1`: serving means that this member is part of a quorum.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::context::Api;
use super::status::problem;

/// How often a watch looks: a lost quorum applies no entry that would wake it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Serves the health of a member, by one name: the empty one, which stands for all services.
#[derive(Clone)]
pub(super) struct MemberHealth(pub(super) Api);

impl MemberHealth {
    fn status(&self) -> ServingStatus {
        if self.0.health().has_quorum { ServingStatus::Serving } else { ServingStatus::NotServing }
    }

    fn known(service: &str) -> Result<(), Status> {
        if service.is_empty() || service.starts_with("quorate.v1.") {
            return Ok(());
        }
        Err(problem(quorate_model::Reason::NotFound, "there is no such service").to_status())
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Health for MemberHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Self::known(&request.get_ref().service)?;
        Ok(Response::new(answer(self.status())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Self::known(&request.get_ref().service)?;
        let begin = (self.clone(), tokio::time::interval(LOOK_INTERVAL), None);
        let next = |(health, mut clock, last): (Self, tokio::time::Interval, Option<ServingStatus>)| async move {
            loop {
                clock.tick().await;
                let now = health.status();
                if last != Some(now) {
                    return Some((Ok(answer(now)), (health, clock, Some(now))));
                }
            }
        };
        Ok(Response::new(Box::pin(unfold(begin, next))))
    }
}
