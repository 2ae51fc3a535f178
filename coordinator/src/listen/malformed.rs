//! Bad protobuf is the caller's mistake: `INTERNAL` from the codec becomes `INVALID_ARGUMENT` that names the method.

use axum::body::Body;
use http::{HeaderValue, Response};
use quorate_model::Reason;
use tonic::{Code, Status};

/// How tonic-prost's codec begins the message of every decode error (a test holds it to that).
const DECODE_ERROR: &str = "failed to decode Protobuf message";
/// Longest part of the codec's message that is passed on.
const DETAIL_MAX_CHARS: usize = 200;

/// Rewrites a response that the codec refused; every other response is left alone.
#[must_use]
pub fn name_malformed(response: Response<Body>, method: &str) -> Response<Body> {
    // Such a response has its status in the headers: no message was produced.
    let is_internal =
        response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes) == Some(b"13".as_slice());
    if !is_internal {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Internal && status.message().starts_with(DECODE_ERROR) => {
            let detail: String = status.message().chars().take(DETAIL_MAX_CHARS).collect();
            refusal(
                Code::InvalidArgument,
                Reason::MalformedMessage,
                &format!("malformed_message: {method}: {detail}"),
            )
        }
        Some(_) | None => response,
    }
}

/// A status with a machine-readable reason, as a complete response without a message.
pub(super) fn refusal(code: Code, reason: Reason, message: &str) -> Response<Body> {
    use tonic_types::{ErrorDetails, StatusExt};
    let details = ErrorDetails::with_error_info(reason.as_str(), "quorate", std::collections::HashMap::new());
    Status::with_error_details(code, message, details).into_http()
}
