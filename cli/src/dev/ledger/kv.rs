//! Keys: reading, writing through the leader, copying to the members.
//!
//! A write is answered 200 when a majority has it on disk. One answered with an error is *unknown*: it may still be on
//! some members. Reads are answered from this member's own copy. There is no consensus here, on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use hyper::Method;
use serde_json::json;

use super::api::{FORWARDED, Shared, refuse};
use super::node::{Node, PAGE_BYTES, store_frames};
use super::record::{self, Decoded, MAX_VALUE_BYTES, Record, Version};
use super::store::StoreError;
use super::token::TOKEN;
use super::view::Status;
use crate::dev::http::Call;

/// The newest version the leader had before the record: a member with another one pulls what it missed.
const PREVIOUS: &str = "x-ledger-previous";

/// Deadline of copying one record to one member.
const COPY_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of passing a write to the leader; longer than a copy, shorter than the request's own.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(3);

/// Logs a storage failure and answers it.
pub(super) fn store_error(node: &Node, error: StoreError) -> Response {
    let status = match error {
        StoreError::Full => StatusCode::INSUFFICIENT_STORAGE,
        StoreError::Io { .. } | StoreError::Damaged { .. } | StoreError::Broken => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let why = format!("{:#}", anyhow::Error::from(error));
    node.log.line("ERROR", &why);
    refuse(status, why)
}

pub(super) async fn read(State(node): Shared, Path(key): Path<String>) -> Response {
    let found =
        node.store(move |store| store.get(&key).map(|(value, version)| (value.to_vec(), version))).await;
    match found {
        Some((value, version)) => {
            let version = format!("{}.{}", version.term, version.seq);
            ([("content-type", "application/octet-stream".to_owned()), ("x-ledger-version", version)], value)
                .into_response()
        }
        None => refuse(StatusCode::NOT_FOUND, "no such key"),
    }
}

pub(super) async fn verify(State(node): Shared, Path(key): Path<String>) -> Response {
    match node.store(move |store| store.verify(&key)).await {
        Some((version, true)) => Json(json!({ "verified": true, "version": version })).into_response(),
        Some((version, false)) => {
            node.log.line("ERROR", &format!("the record of version {version:?} is damaged on disk"));
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "verified": false, "version": version })))
                .into_response()
        }
        None => refuse(StatusCode::NOT_FOUND, "no such key"),
    }
}

pub(super) async fn write(
    State(node): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if body.len() > MAX_VALUE_BYTES {
        let why = format!("a value has at most {MAX_VALUE_BYTES} bytes, this one has {}", body.len());
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, why);
    }
    change(node, key, Some(body), &headers).await
}

pub(super) async fn delete(State(node): Shared, Path(key): Path<String>, headers: HeaderMap) -> Response {
    change(node, key, None, &headers).await
}

/// Whether the token of a request is accepted. Requests between members are open, as all others of theirs.
pub(super) fn lets_write(node: &Node, headers: &HeaderMap) -> bool {
    let brought = headers.get(TOKEN).and_then(|token| token.to_str().ok());
    node.tokens.lets_write(brought.unwrap_or_default())
}

async fn change(node: Arc<Node>, key: String, value: Option<Bytes>, headers: &HeaderMap) -> Response {
    let forwarded = headers.contains_key(FORWARDED);
    if !forwarded && !lets_write(&node, headers) {
        return refuse(StatusCode::UNAUTHORIZED, "this token is not accepted");
    }
    if let Err(why) = record::check_key(&key) {
        return refuse(StatusCode::BAD_REQUEST, why);
    }
    let unavailable = |why: &str| refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    let (leader, paused) = node.look(|view| (view.leader(), view.standing.paused));
    if paused {
        return unavailable("writes are paused");
    }
    match leader {
        None => unavailable("there is no leader"),
        Some(id) if id == node.config.id => lead(&node, key, value).await,
        Some(_) if forwarded => unavailable("the leader changed while the write was passed on"),
        Some(id) => match node.peer_config(id) {
            Some(peer) => forward(peer.at(), &node, &key, value).await,
            None => unavailable("the leader is no member of this group"),
        },
    }
}

async fn forward(to: SocketAddr, node: &Node, key: &str, value: Option<Bytes>) -> Response {
    let method = if value.is_some() { Method::PUT } else { Method::DELETE };
    let call = Call::new(method, to, format!("/kv/{}", encode_path(key)), FORWARD_TIMEOUT)
        .header(FORWARDED, node.config.id)
        .body(value.unwrap_or_default());
    match call.send().await {
        Ok((status, body)) => (status, [("content-type", "application/json")], body).into_response(),
        Err(error) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("passed on to the leader, outcome unknown: {error}"),
        ),
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode_path(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The leader's part: number it, store it, copy it, count.
async fn lead(node: &Arc<Node>, key: String, value: Option<Bytes>) -> Response {
    let _writes = node.writes.lock().await;
    let (leader, paused, term, required) =
        node.look(|view| (view.leader(), view.standing.paused, view.standing.term, view.required()));
    if paused || leader != Some(node.config.id) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "writes were paused or the leader changed meanwhile");
    }
    if !node.synced().await {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "another member has newer data that could not be copied",
        );
    }
    let deleted = value.is_none();
    let stored = node
        .store(move |store| {
            let previous = store.head();
            let version = Version { term, seq: previous.seq + 1 };
            let record = Record { version, key, value: value.map(|bytes| bytes.to_vec()) };
            let frame = Bytes::from(record::encode(&record));
            store.append(record).map(|()| (previous, version, frame))
        })
        .await;
    let (previous, version, frame) = match stored {
        Ok(stored) => stored,
        Err(error) => return store_error(node, error),
    };
    let copies = 1 + copy_to_peers(node, previous, &frame).await;
    if copies < required {
        let why = format!("stored on {copies} members, {required} are needed: the outcome is unknown");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    Json(json!({ "version": version, "copies": copies, "deleted": deleted })).into_response()
}

async fn copy_to_peers(node: &Node, previous: Version, frame: &Bytes) -> usize {
    let there: Vec<u32> = node.look(|view| {
        view.peers().filter(|report| report.status != Status::Down).map(|report| report.node_id).collect()
    });
    let calls = there.into_iter().filter_map(|id| node.peer_config(id)).map(|peer| {
        let call = Call::new(Method::PUT, peer.at(), "/replica/record", COPY_TIMEOUT)
            .header(PREVIOUS, format!("{}.{}", previous.term, previous.seq))
            .body(frame.clone());
        // Who is no member has the record all the same, and does not count.
        let counts = node.look(|view| view.is_member(peer.id));
        async move { call.send().await.is_ok_and(|(status, _)| status.is_success()) && counts }
    });
    join_all(calls).await.into_iter().filter(|stored| *stored).count()
}

/// A member's part: take the record if it follows what is here, else fetch what is missing first.
pub(super) async fn copy(State(node): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let previous = headers.get(PREVIOUS).and_then(|value| parse_version(value.to_str().ok()?));
    let Some(previous) = previous else {
        return refuse(StatusCode::BAD_REQUEST, format!("{PREVIOUS}: TERM.SEQ is missing"));
    };
    if !matches!(record::decode(&body), Decoded::Record(_, len) if len == body.len()) {
        return refuse(StatusCode::BAD_REQUEST, "the body is not one record");
    }
    let follows = node.store(move |store| store.head() >= previous).await;
    if !follows && !node.synced().await {
        return refuse(StatusCode::CONFLICT, "earlier records are missing here");
    }
    let stored = node
        .store(
            move |store| {
                if store.head() < previous { Ok(None) } else { store_frames(store, &body).map(Some) }
            },
        )
        .await;
    match stored {
        Ok(Some(_)) => Json(json!({ "stored": true })).into_response(),
        Ok(None) => refuse(StatusCode::CONFLICT, "earlier records are missing here"),
        Err(error) => {
            node.log.line("ERROR", &format!("cannot store a copy: {error:#}"));
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
        }
    }
}

fn parse_version(text: &str) -> Option<Version> {
    let (term, seq) = text.split_once('.')?;
    Some(Version { term: term.parse().ok()?, seq: seq.parse().ok()? })
}

/// A page of records for a member that lags.
pub(super) async fn page(State(node): Shared, Query(after): Query<Version>) -> Response {
    let frames = node.store(move |store| store.records_after(after, PAGE_BYTES)).await;
    ([("content-type", "application/octet-stream")], frames).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_path() {
        assert_eq!(encode_path("a/b c~é?"), "a%2Fb%20c~%C3%A9%3F");
    }

    #[test]
    fn versions_are_two_numbers() {
        assert_eq!(parse_version("3.14"), Some(Version { term: 3, seq: 14 }));
        for bad in ["", "3", "3.", "a.b", "3.14.1", "-1.2"] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }
}
