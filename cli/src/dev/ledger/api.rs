//! The HTTP endpoints of the guide: state, administration, keys.
//!
//! Requests between members (`/cluster/self`, `/cluster/announce`, `/replica/…`) are open to everybody on loopback:
//! this is a sample workload, not a database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures::future::join_all;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::kv;
use super::metrics::Gauges;
use super::node::Node;
use super::record::MAX_VALUE_BYTES;
use super::view::{Report, Standing, Status, View};
use crate::dev::http::Call;

/// Marks a request that another member already passed on: it is never passed on again.
pub(super) const FORWARDED: &str = "x-ledger-forwarded";

/// Longest a request may take, the reading of its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Deadline of passing a pause or resume to one peer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) type Shared = State<Arc<Node>>;

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/cluster/info", get(info))
        .route("/cluster/nodes", get(nodes))
        .route("/cluster/nodes/add", post(add_node))
        .route("/cluster/nodes/remove", post(remove_node))
        .route("/cluster/leader/info", get(leader_info))
        .route("/cluster/self", get(own_report))
        .route("/cluster/announce", post(announced))
        .route("/metrics", get(metrics))
        .route("/metrics/prometheus", get(prometheus))
        .route("/admin/pause-writes", post(pause))
        .route("/admin/resume-writes", post(resume))
        .route("/admin/compact", post(compact))
        .route("/admin/hand-over", post(hand_over))
        .route("/admin/check-token", post(check_token))
        .route("/kv/{key}", get(kv::read).put(kv::write).delete(kv::delete))
        .route("/verify/{key}", get(kv::verify))
        .route("/replica/log", get(kv::page))
        .route("/replica/record", put(kv::copy))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path") })
        .layer(middleware::from_fn_with_state(Arc::clone(&node), gate))
        // A record travels with its header and key: a little more than a value.
        .layer(DefaultBodyLimit::max(MAX_VALUE_BYTES + 1024))
        .with_state(node)
}

/// An error answer. It is JSON, as every answer but the Prometheus text.
pub(super) fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": why.into() }))).into_response()
}

/// 503 to everybody while starting and stopping; a deadline on every request.
async fn gate(State(node): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let between_members = matches!(path, "/cluster/self" | "/cluster/announce");
    let starting = node.look(|view| view.status) == Status::Starting;
    if !between_members && (starting || node.stopping()) {
        let why = if starting { "starting" } else { "stopping" };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": why, "error": why })))
            .into_response();
    }
    let counted = path.starts_with("/kv/") || path.starts_with("/verify/");
    let begun = Instant::now();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| refuse(StatusCode::REQUEST_TIMEOUT, "the request took longer than 5 s"));
    if counted {
        node.metrics.observe(begun.elapsed(), answer.status().is_server_error());
    }
    answer
}

async fn health(State(node): Shared) -> Response {
    let (status, lag) = node.look(|view| (view.status, view.lag));
    // 200 for a lagging learner too: "does it answer?" is not "does it serve?".
    let healthy = matches!(status, Status::Serving | Status::CatchingUp);
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = if healthy { "healthy" } else { "unhealthy" };
    (code, Json(json!({ "status": status, "lag": lag, "version": node.config.version }))).into_response()
}

fn role(view: &View, id: u32, status: Status) -> &'static str {
    match status {
        Status::Serving if view.leader() == Some(id) => "leader",
        Status::Serving => "voter",
        Status::CatchingUp => "learner",
        Status::Starting | Status::Down => "unknown",
    }
}

async fn info(State(node): Shared) -> Json<Value> {
    node.look(|view| {
        Json(json!({
            "cluster": "ledger",
            "node_id": node.config.id,
            "node": node.config.node,
            "version": node.config.version,
            "role": role(view, node.config.id, view.status),
            "status": view.status,
            "leader_id": view.leader(),
            "term": view.standing.term,
            "voters": view.voters(),
            "serving": view.serving(),
            "required": view.required(),
            "writes_paused": view.standing.paused,
        }))
    })
}

async fn nodes(State(node): Shared) -> Json<Value> {
    node.look(|view| {
        let rows: Vec<Value> = node
            .members()
            .into_iter()
            .filter(|(id, _)| view.is_member(*id))
            .map(|(id, (name, address))| {
                let (status, lag) = if id == node.config.id {
                    (view.status, view.lag)
                } else {
                    view.peer(id).map_or((Status::Down, 0), |report| (report.status, report.lag))
                };
                json!({
                    "node_id": id,
                    "node": name,
                    "address": address,
                    "role": role(view, id, status),
                    "status": status,
                    "serving": status == Status::Serving,
                    "lag": lag,
                    "healthy": matches!(status, Status::Serving | Status::CatchingUp),
                })
            })
            .collect();
        Json(json!({ "leader_id": view.leader(), "term": view.standing.term, "nodes": rows }))
    })
}

async fn leader_info(State(node): Shared) -> Response {
    let (leader, term) = node.look(|view| (view.leader(), view.standing.term));
    let Some((id, (name, address))) = leader.and_then(|id| Some((id, *node.members().get(&id)?))) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "there is no leader");
    };
    Json(json!({ "leader_id": id, "node": name, "address": address, "term": term })).into_response()
}

async fn own_report(State(node): Shared) -> Json<Report> {
    Json(node.report().await)
}

async fn announced(State(node): Shared, Json(report): Json<Report>) -> Json<Report> {
    node.change(|view| view.heard(report));
    Json(node.report().await)
}

async fn gauges(node: &Node) -> Gauges {
    let (keys, bytes, head) = node.store(|store| (store.keys(), store.bytes(), store.head())).await;
    let least_p99_us = node.misbehave().latency_p99_ms.unwrap_or(0).saturating_mul(1_000);
    node.look(|view| Gauges {
        keys,
        bytes,
        term: view.standing.term,
        seq: head.seq,
        lag: view.lag,
        healthy: view.status == Status::Serving,
        leader: view.leader() == Some(node.config.id),
        serving: view.serving(),
        paused: view.standing.paused,
        least_p99_us,
    })
}

async fn metrics(State(node): Shared) -> Json<Value> {
    let gauges = gauges(&node).await;
    Json(node.metrics.json(&gauges))
}

async fn prometheus(State(node): Shared) -> Response {
    let gauges = gauges(&node).await;
    let text = node.metrics.prometheus(&node.config.node, &gauges);
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn pause(state: Shared, headers: HeaderMap, body: String) -> Response {
    set_paused(state, &headers, &body, true).await
}

async fn resume(state: Shared, headers: HeaderMap, body: String) -> Response {
    set_paused(state, &headers, &body, false).await
}

/// Pauses or resumes here and at every peer. 200 only when the leader has it, so that no write is let through after it.
async fn set_paused(State(node): Shared, headers: &HeaderMap, body: &str, paused: bool) -> Response {
    if headers.contains_key(FORWARDED) {
        return match serde_json::from_str::<Standing>(body) {
            Ok(standing) => {
                node.change(|view| view.adopt(&standing));
                // No write is half way through when this answers.
                drop(node.writes.lock().await);
                Json(json!({ "paused": node.look(|view| view.standing.paused) })).into_response()
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, format!("not a standing: {error}")),
        };
    }
    if !body.trim().is_empty()
        && let Err(error) = serde_json::from_str::<serde_json::Map<String, Value>>(body)
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("the body is neither empty nor a JSON object: {error}"),
        );
    }
    let standing = node.change(|view| {
        view.set_paused(paused);
        view.standing
    });
    let path = if paused { "/admin/pause-writes" } else { "/admin/resume-writes" };
    let known_by = tell_peers(&node, path, &standing).await;
    drop(node.writes.lock().await);
    node.log.line("INFO", &format!("writes {} on {known_by:?}", if paused { "paused" } else { "resumed" }));
    let leader = node.look(View::leader);
    if leader.is_some_and(|leader| !known_by.contains(&leader)) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "recorded here, but the leader did not confirm it");
    }
    Json(json!({ "paused": paused, "known_by": known_by })).into_response()
}

async fn tell_peers(node: &Node, path: &str, standing: &Standing) -> Vec<u32> {
    let body = serde_json::to_vec(standing).unwrap_or_default();
    let calls = node.config.peers.iter().map(|peer| {
        let call = Call::new(Method::POST, peer.at(), path, ADMIN_TIMEOUT)
            .header(FORWARDED, node.config.id)
            .body(body.clone());
        async move { call.send().await.is_ok_and(|(status, _)| status.is_success()).then_some(peer.id) }
    });
    let mut known_by: Vec<u32> = join_all(calls).await.into_iter().flatten().collect();
    known_by.push(node.config.id);
    known_by.sort_unstable();
    known_by
}

/// Hands the leadership to the first of the named members that serves. Who does not lead has nothing to hand over.
async fn hand_over(State(node): Shared, body: String) -> Response {
    let targets: Vec<String> = match serde_json::from_str(&body) {
        Ok(targets) => targets,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("not a list of nodes: {error}")),
    };
    // No write is half way through: the next one is the new leader's.
    let writes = node.writes.lock().await;
    if node.look(View::leader) != Some(node.config.id) {
        return Json(json!({ "handed_over": false, "leader_id": node.look(View::leader) })).into_response();
    }
    let members = node.members();
    let id_of = |name: &String| members.iter().find(|(_, (node, _))| node == name).map(|(id, _)| *id);
    let next = targets.iter().filter_map(id_of).find(|id| node.change(|view| view.hand_over(*id)));
    let Some(next) = next else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "none of them serves");
    };
    let report = node.report().await;
    node.log.line("INFO", &format!("handed over to {next} in term {}", report.standing.term));
    node.announce(&report).await;
    // Whoever is refused from here on finds the new leader at its next try.
    drop(writes);
    Json(json!({ "handed_over": true, "leader_id": next })).into_response()
}

/// Whom a change of members is about: by number as in the guide, or by node. The address is known from the file.
#[derive(Debug, serde::Deserialize)]
struct Asked {
    node_id: Option<u32>,
    node: Option<String>,
}

async fn add_node(state: Shared, headers: HeaderMap, body: Bytes) -> Response {
    change_members(state, &headers, body, true).await
}

async fn remove_node(state: Shared, headers: HeaderMap, body: Bytes) -> Response {
    change_members(state, &headers, body, false).await
}

/// Takes a member in, or out, as the guide's calls do: whoever leads obeys, and asks nobody whether the rest can go on.
async fn change_members(State(node): Shared, headers: &HeaderMap, body: Bytes, member: bool) -> Response {
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("not a member: {error}")),
    };
    let path = if member { "/cluster/nodes/add" } else { "/cluster/nodes/remove" };
    match node.look(View::leader) {
        None => return refuse(StatusCode::SERVICE_UNAVAILABLE, "there is no leader"),
        Some(leader) if leader != node.config.id => {
            let Some(peer) = node.peer_config(leader).filter(|_| !headers.contains_key(FORWARDED)) else {
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "the leader changed meanwhile");
            };
            let call = Call::new(Method::POST, peer.at(), path, REQUEST_TIMEOUT / 2)
                .header(FORWARDED, node.config.id)
                .body(body);
            return match call.send().await {
                Ok((status, body)) => (status, [("content-type", "application/json")], body).into_response(),
                Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, format!("outcome unknown: {error}")),
            };
        }
        Some(_) => {}
    }
    let named =
        |name: &String| node.members().into_iter().find(|(_, (node, _))| node == name).map(|(id, _)| id);
    let Some(id) = asked.node_id.or_else(|| asked.node.as_ref().and_then(named)) else {
        return refuse(StatusCode::BAD_REQUEST, "node_id: nobody is named");
    };
    // No write is half way through: the next one counts by the new members.
    let writes = node.writes.lock().await;
    match node.change(|view| view.set_member(id, member)) {
        Err(why) => return refuse(StatusCode::CONFLICT, why),
        Ok(changed) => {
            let report = node.report().await;
            if changed {
                node.log.line("INFO", &format!("{} {id}", if member { "added" } else { "removed" }));
            }
            node.announce(&report).await;
        }
    }
    drop(writes);
    Json(json!({ "node_id": id, "member": member, "voters": node.look(View::voters) })).into_response()
}

async fn check_token(State(node): Shared, headers: HeaderMap) -> Response {
    if kv::lets_write(&node, &headers) {
        return Json(json!({ "accepted": true })).into_response();
    }
    refuse(StatusCode::UNAUTHORIZED, "this token is not accepted")
}

async fn compact(State(node): Shared) -> Response {
    match node.store(super::store::Store::compact).await {
        Ok((before, after)) => {
            node.log.line("INFO", &format!("compacted from {before} to {after} bytes"));
            Json(json!({ "before_bytes": before, "after_bytes": after })).into_response()
        }
        Err(error) => kv::store_error(&node, error),
    }
}
