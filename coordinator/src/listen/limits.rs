//! Every limit of the listeners, with its number and where it comes from (reliability.md §5.3 unless said otherwise).

use std::time::Duration;

use quorate_common::config::{Size, Span};
use quorate_model::Role;
use serde::Deserialize;

/// The `[limits]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenLimits {
    /// TLS handshake and HTTP/2 preface together.
    pub handshake_timeout: Span,
    /// Handshakes at once, all sources.
    pub max_handshakes: usize,
    /// Handshakes at once from one address.
    pub max_handshakes_per_source: usize,
    /// Handshakes at once from loopback, where a whole development fleet shares one address.
    pub max_handshakes_per_loopback: usize,
    /// Open connections in all: 2 x 10,000 agents + 64.
    pub max_connections: usize,
    /// Open connections of one agent: its stream, a renewal, and both again while the old ones time out.
    pub max_connections_per_agent: usize,
    /// Open connections of one user: parallel command lines and scripts.
    pub max_connections_per_user: usize,
    /// Open connections of one coordinator: Raft uses separate ones for heartbeats, entries and snapshots.
    pub max_connections_per_coordinator: usize,
    /// HTTP/2 streams of one connection.
    pub max_concurrent_streams: u32,
    /// Requests of one connection in work at once; further ones are refused, not queued.
    pub max_concurrent_requests: usize,
    /// Unary calls; streaming methods are listed by the caller.
    pub request_timeout: Span,
    /// How often a ping is sent.
    pub keepalive_interval: Span,
    /// How long its answer may take.
    pub keepalive_timeout: Span,
    /// When a connection is asked to go; never later than its certificate ends.
    pub max_connection_age: Span,
    /// How long it may then finish its streams.
    pub max_connection_age_grace: Span,
    /// PING, SETTINGS, RST_STREAM, PRIORITY, empty DATA and unknown frames of one connection in a second; twice as many at
    /// once. Clients that measure their bandwidth send a ping with each answer, so this is also calls per second.
    pub max_control_frames_per_second: u32,
    /// Unanswered requests and unread answers of one agent or user, in bytes: sixteen of the largest.
    pub max_parked: Size,
    /// The same of one coordinator, whose messages are four times as large.
    pub max_parked_per_coordinator: Size,
    /// How long a part of an answer may wait for its reader before the connection is closed: 4 MiB at 70 KB/s.
    pub answer_timeout: Span,
    /// Header list of one request.
    pub max_header_list: Size,
    /// Streams reset by the peer before we accepted them (rapid reset).
    pub max_pending_reset_streams: usize,
    /// Streams reset by us because of the peer's mistakes (`MadeYouReset`).
    pub max_local_reset_streams: usize,
    /// Open connections of the HTTP port: scrapers, probes, browsers, enrolling nodes.
    pub max_http_connections: usize,
    /// Open connections of the HTTP port from one address that is not loopback.
    pub max_http_connections_per_source: usize,
    /// First wait after a failed accept (for example no file descriptors left); doubles to one second.
    pub accept_backoff: Span,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Span::secs(5),
            max_handshakes: 256,
            max_handshakes_per_source: 8,
            max_handshakes_per_loopback: 64,
            max_connections: 20_064,
            max_connections_per_agent: 4,
            max_connections_per_user: 64,
            max_connections_per_coordinator: 16,
            max_concurrent_streams: 64,
            max_concurrent_requests: 64,
            request_timeout: Span::secs(30),
            keepalive_interval: Span::secs(20),
            keepalive_timeout: Span::secs(10),
            max_connection_age: Span::secs(3_600),
            max_connection_age_grace: Span::secs(30),
            max_control_frames_per_second: 1_000,
            max_parked: Size(16 << 20),
            max_parked_per_coordinator: Size(64 << 20),
            answer_timeout: Span::secs(60),
            max_header_list: Size(16 * 1024),
            max_pending_reset_streams: 20,
            max_local_reset_streams: 1_024,
            max_http_connections: 512,
            max_http_connections_per_source: 32,
            accept_backoff: Span(Duration::from_millis(10)),
        }
    }
}

/// A limit that would switch a protection off or everybody out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} must be between {least} and {most}")]
pub struct LimitError {
    /// The key.
    pub key: &'static str,
    /// The smallest value.
    pub least: u64,
    /// The largest value.
    pub most: u64,
}

impl ListenLimits {
    /// Refuses zero and absurd values: a limit is never off.
    ///
    /// # Errors
    /// [`LimitError`] naming the first key that is out of range.
    pub fn validate(&self) -> Result<(), LimitError> {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let hour_ms = 3_600_000;
        let rows = [
            ("handshake_timeout (ms)", millis(self.handshake_timeout), 10, 60_000),
            ("max_handshakes", count(self.max_handshakes), 1, 65_536),
            ("max_handshakes_per_source", count(self.max_handshakes_per_source), 1, 65_536),
            ("max_handshakes_per_loopback", count(self.max_handshakes_per_loopback), 1, 65_536),
            ("max_connections", count(self.max_connections), 1, 1_000_000),
            ("max_connections_per_agent", count(self.max_connections_per_agent), 1, 65_536),
            ("max_connections_per_user", count(self.max_connections_per_user), 1, 65_536),
            ("max_connections_per_coordinator", count(self.max_connections_per_coordinator), 1, 65_536),
            ("max_concurrent_streams", u64::from(self.max_concurrent_streams), 1, 10_000),
            ("max_concurrent_requests", count(self.max_concurrent_requests), 1, 10_000),
            ("request_timeout (ms)", millis(self.request_timeout), 10, hour_ms),
            ("keepalive_interval (ms)", millis(self.keepalive_interval), 10, hour_ms),
            ("keepalive_timeout (ms)", millis(self.keepalive_timeout), 10, hour_ms),
            ("max_connection_age (ms)", millis(self.max_connection_age), 10, 24 * hour_ms),
            ("max_connection_age_grace (ms)", millis(self.max_connection_age_grace), 10, hour_ms),
            ("max_control_frames_per_second", u64::from(self.max_control_frames_per_second), 10, 1_000_000),
            ("max_parked (bytes)", self.max_parked.bytes(), 1 << 20, 1 << 40),
            ("max_parked_per_coordinator (bytes)", self.max_parked_per_coordinator.bytes(), 8 << 20, 1 << 40),
            ("answer_timeout (ms)", millis(self.answer_timeout), 10, hour_ms),
            ("max_header_list (bytes)", self.max_header_list.bytes(), 1_024, 1 << 20),
            ("max_pending_reset_streams", count(self.max_pending_reset_streams), 1, 10_000),
            ("max_local_reset_streams", count(self.max_local_reset_streams), 1, 100_000),
            ("max_http_connections", count(self.max_http_connections), 1, 65_536),
            ("max_http_connections_per_source", count(self.max_http_connections_per_source), 1, 65_536),
            ("accept_backoff (ms)", millis(self.accept_backoff), 1, 1_000),
        ];
        match rows.into_iter().find(|(_, value, least, most)| value < least || value > most) {
            Some((key, _, least, most)) => Err(LimitError { key, least, most }),
            None => Ok(()),
        }
    }

    /// Connections that one identity of a role may hold.
    #[must_use]
    pub const fn per_identity(&self, role: Role) -> usize {
        match role {
            Role::Agent => self.max_connections_per_agent,
            Role::User => self.max_connections_per_user,
            Role::Coordinator => self.max_connections_per_coordinator,
        }
    }

    /// Bytes that one identity of a role may park here.
    #[must_use]
    pub fn parked(&self, role: Role) -> usize {
        let size = match role {
            Role::Agent | Role::User => self.max_parked,
            Role::Coordinator => self.max_parked_per_coordinator,
        };
        usize::try_from(size.bytes()).unwrap_or(usize::MAX)
    }
}
