//! The HTTPS port beside gRPC: health, metrics, service discovery, enrolment.
//!
//! Job: answer machines that do not speak gRPC. Must never: change anything, or show what a certificate is needed for.
//!
//! The port asks for no client certificate, because joining hosts have none, so nothing on it can be authorised: default
//! deny. `/healthz`, `/readyz` and `/metrics` hold no names of hosts or people and are open; `/sd/prometheus` and `/v1/…` name
//! hosts, so they are given to callers on this machine's loopback only (a Prometheus or a gateway beside the coordinator),
//! and refused with 403 to everybody else. There is no way to write here.

mod ready;
mod targets;

use axum::Router;
use axum::extract::{Extension, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quorate_model::Reason;

use crate::api::gate::Gate;
use crate::api::{Api, enrolment_routes};
use crate::listen::HttpPeer;

/// What Prometheus and OpenMetrics scrapers expect.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of the HTTPS port, enrolment included. The listener puts [`HttpPeer`] into every request's extensions; a
/// request without one is nobody's and is refused.
pub fn router(api: Api) -> Router {
    let enrolment = Gate::enrolment(api.clone(), enrolment_routes(&api));
    Router::new()
        .route_service("/quorate.v1.EnrollService/{method}", enrolment)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/sd/prometheus", get(prometheus_targets))
        .route("/v1/status", get(status))
        .route("/v1/{*rest}", get(elsewhere))
        .fallback(not_found)
        .with_state(api)
}

/// The process answers; nothing else is said.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let verbose =
        query.is_some_and(|q| q == "verbose" || q.starts_with("verbose=") || q.starts_with("verbose&"));
    let (ready, text) = ready::check(&api, verbose);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, text).into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    match api.metrics().render(&api) {
        Ok(text) => with_type(OPENMETRICS, text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, "metrics could not be written")
        }
    }
}

async fn prometheus_targets(
    State(api): State<Api>,
    peer: Option<Extension<HttpPeer>>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(refused) = local(peer) {
        return refused;
    }
    match targets::agents(query.as_deref()) {
        Ok(agents) => with_type("application/json", targets::list(&api, agents)),
        Err(why) => problem(StatusCode::BAD_REQUEST, Reason::InvalidArgument, why),
    }
}

async fn status(State(api): State<Api>, peer: Option<Extension<HttpPeer>>) -> Response {
    if let Err(refused) = local(peer) {
        return refused;
    }
    let (whole, _) = api.whole().await;
    with_type("application/json", ready::status_json(&whole))
}

/// The rest of the JSON API is gRPC's: `quorate … -o json` prints the same shapes with a certificate.
async fn elsewhere(peer: Option<Extension<HttpPeer>>) -> Response {
    match local(peer) {
        Err(refused) => refused,
        Ok(()) => problem(
            StatusCode::NOT_FOUND,
            Reason::NotFound,
            "only /v1/status is served here; use gRPC with a certificate for the rest",
        ),
    }
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, Reason::NotFound, "there is no such page")
}

/// Only callers on this machine.
fn local(peer: Option<Extension<HttpPeer>>) -> Result<(), Response> {
    match peer {
        Some(Extension(peer)) if peer.remote.ip().to_canonical().is_loopback() => Ok(()),
        Some(_) | None => Err(problem(
            StatusCode::FORBIDDEN,
            Reason::NotAllowed,
            "this is served to the coordinator's own host only; use gRPC with a certificate",
        )),
    }
}

fn with_type(content_type: &'static str, body: String) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The error body of REST: the same code as gRPC's `ErrorInfo`.
fn problem(code: StatusCode, reason: Reason, what: &str) -> Response {
    let body = serde_json::json!({
        "error": { "reason": reason.as_str(), "message": what, "hint": reason.what_to_do() }
    });
    let mut response = with_type("application/json", body.to_string());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests;
