//! The HTTP endpoints of an instance: writes, the stream to a standby, and what it is told.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::node::{Ask, EPOCH, NODE, Node, POSITION, Refused};
use super::record;

type Shared = State<Arc<Node>>;

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status))
        .route("/write", post(write))
        .route("/read/{key}", get(read))
        .route("/log", get(log))
        .route("/outline", get(outline))
        .route("/admin/promote", post(promote))
        .with_state(node)
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": why.into() }))).into_response()
}

async fn healthz(State(node): Shared) -> Response {
    if node.is_diverged() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the primary does not have this standby's last line");
    }
    Json(json!({ "status": "healthy" })).into_response()
}

async fn status(State(node): Shared) -> Response {
    Json(node.status()).into_response()
}

#[derive(Debug, Deserialize)]
struct Write {
    key: String,
    value: String,
}

async fn write(State(node): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let write: Write = match serde_json::from_slice(&body) {
        Ok(write) => write,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("not a write: {error}")),
    };
    if let Err(why) = record::check(&write.key, &write.value) {
        return refuse(StatusCode::BAD_REQUEST, why);
    }
    let believed = match headers.get(EPOCH).map(|text| text.to_str().ok().and_then(|t| t.parse().ok())) {
        Some(None) => return refuse(StatusCode::BAD_REQUEST, format!("{EPOCH} is no number")),
        believed => believed.flatten(),
    };
    match node.write(write.key, write.value, believed).await {
        Ok(written) => Json(written).into_response(),
        Err(refused) => {
            let code = match refused {
                Refused::Standby | Refused::Unconfirmed(_) => StatusCode::SERVICE_UNAVAILABLE,
                Refused::Epoch(_) => StatusCode::CONFLICT,
                Refused::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let body = json!({ "error": refused.to_string(), "epoch": node.standing().epoch });
            (code, Json(body)).into_response()
        }
    }
}

async fn read(State(node): Shared, Path(key): Path<String>) -> Response {
    match node.read(&key).await {
        Some(record) => Json(json!({
            "value": record.value,
            "epoch": record.epoch,
            "sequence": record.sequence,
        }))
        .into_response(),
        None => refuse(StatusCode::NOT_FOUND, "there is no such key"),
    }
}

async fn log(State(node): Shared, Query(ask): Query<Ask>) -> Response {
    match node.lines(&ask).await {
        Ok((standing, last, text)) => {
            let headers = [
                (NODE, node.config.node.clone()),
                (EPOCH, standing.epoch.to_string()),
                (POSITION, last.to_string()),
            ];
            (headers, text).into_response()
        }
        Err((status, why)) => refuse(status, why),
    }
}

async fn outline(State(node): Shared) -> Response {
    Json(node.outline().await).into_response()
}

/// What a promotion is about.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Promote {
    pub(super) epoch: u64,
    /// There is no standby to wait for.
    pub(super) alone: bool,
}

async fn promote(State(node): Shared, body: Bytes) -> Response {
    let wanted: Promote = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("not a promotion: {error}")),
    };
    match node.promote(wanted.epoch, wanted.alone).await {
        Ok(standing) => Json(standing).into_response(),
        Err(error) => refuse(StatusCode::CONFLICT, format!("{error:#}")),
    }
}
