//! The services with their limits, as one set of routes for [`super::gate::Gate`].

use quorate_proto::v1::action_service_server::ActionServiceServer;
use quorate_proto::v1::admin_service_server::AdminServiceServer;
use quorate_proto::v1::artifact_service_server::ArtifactServiceServer;
use quorate_proto::v1::audit_service_server::AuditServiceServer;
use quorate_proto::v1::backup_service_server::BackupServiceServer;
use quorate_proto::v1::enroll_service_server::EnrollServiceServer;
use quorate_proto::v1::failover_service_server::FailoverServiceServer;
use quorate_proto::v1::fleet_service_server::FleetServiceServer;
use quorate_proto::v1::group_service_server::GroupServiceServer;
use quorate_proto::v1::operation_service_server::OperationServiceServer;
use quorate_proto::v1::policy_service_server::PolicyServiceServer;
use quorate_proto::v1::schedule_service_server::ScheduleServiceServer;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::HealthServer;

use super::context::Api;
use super::health::MemberHealth;

/// Largest request (reliability.md 5.3).
pub const DECODE_LIMIT_BYTES: usize = 1024 * 1024;
/// Largest answer: what gRPC clients take by default. A page of 1,000 nodes and an operation of 10,000 steps fit.
const ENCODE_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Largest request of health and reflection: the name of a service or of a symbol. Reflection is a stream, of which
/// every open one may hold a whole message.
const NAME_LIMIT_BYTES: usize = 4 * 1024;
/// Largest enrolment: a token of 4 KiB and a certificate request of 16 KiB.
const ENROL_LIMIT_BYTES: usize = 32 * 1024;

macro_rules! limited {
    ($server:ident, $api:expr) => {
        $server::new($api.clone())
            .max_decoding_message_size(DECODE_LIMIT_BYTES)
            .max_encoding_message_size(ENCODE_LIMIT_BYTES)
    };
}

/// Every service of users, with reflection and health. The shell adds the services of agents and peers to the builder.
///
/// # Errors
/// When the descriptor that was compiled in cannot be read, which is a defect.
pub fn routes(api: &Api) -> Result<RoutesBuilder, tonic_reflection::server::Error> {
    let mut builder = Routes::builder();
    builder
        .add_service(limited!(FleetServiceServer, api))
        .add_service(limited!(GroupServiceServer, api))
        .add_service(limited!(FailoverServiceServer, api))
        .add_service(limited!(OperationServiceServer, api))
        .add_service(limited!(ScheduleServiceServer, api))
        .add_service(limited!(PolicyServiceServer, api))
        .add_service(limited!(ActionServiceServer, api))
        .add_service(limited!(BackupServiceServer, api))
        .add_service(limited!(ArtifactServiceServer, api))
        .add_service(limited!(AuditServiceServer, api))
        .add_service(limited!(AdminServiceServer, api));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(NAME_LIMIT_BYTES);
    let health = HealthServer::new(MemberHealth(api.clone())).max_decoding_message_size(NAME_LIMIT_BYTES);
    builder.add_service(reflection).add_service(health);
    Ok(builder)
}

/// The one service of the HTTPS port.
#[must_use]
pub fn enrolment_routes(api: &Api) -> Routes {
    let server = EnrollServiceServer::new(api.clone())
        .max_decoding_message_size(ENROL_LIMIT_BYTES)
        .max_encoding_message_size(ENROL_LIMIT_BYTES);
    Routes::new(server)
}
