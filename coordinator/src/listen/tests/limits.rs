//! Every limit, at its edge.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_common::config::Span;
use quorate_common::tls::{ExpectedServer, was_never_sent};
use quorate_model::Role;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use super::fixture::*;
use super::grpc::{check, raw_call};
use crate::listen::*;

const SHORT: Span = Span(Duration::from_millis(200));

#[test]
fn the_defaults_are_those_of_the_table_and_a_limit_is_never_off() {
    let limits: ListenLimits = quorate_common::config::parse("listen.toml", "").unwrap();
    assert_eq!(limits, ListenLimits::default());
    limits.validate().unwrap();
    assert_eq!(
        (limits.handshake_timeout, limits.max_handshakes, limits.max_handshakes_per_source),
        (Span::secs(5), 256, 8)
    );
    assert_eq!((limits.per_identity(Role::Agent), limits.max_concurrent_streams), (4, 64));
    assert_eq!((limits.keepalive_interval, limits.keepalive_timeout), (Span::secs(20), Span::secs(10)));
    assert_eq!(
        (limits.max_connection_age, limits.max_connection_age_grace),
        (Span::secs(3_600), Span::secs(30))
    );
    assert_eq!((limits.max_pending_reset_streams, limits.max_local_reset_streams), (20, 1_024));
    assert_eq!((limits.max_header_list.bytes(), limits.request_timeout), (16 * 1024, Span::secs(30)));
    let off = ListenLimits { max_handshakes: 0, ..ListenLimits::default() };
    assert_eq!(off.validate().unwrap_err().key, "max_handshakes");
    let text =
        quorate_common::config::parse::<ListenLimits>("listen.toml", "max_handshake = 3\n").unwrap_err();
    assert!(text.to_string().contains("listen.toml:1:1"));
}

#[tokio::test]
async fn a_handshake_or_preface_that_does_not_come_is_closed() {
    let fixture = Fixture::start(ListenLimits { handshake_timeout: SHORT, ..ListenLimits::default() }).await;
    let silent = TcpStream::connect(fixture.address).await.unwrap();
    assert!(read_to_close(silent).await.is_empty());
    let mut half = TcpStream::connect(fixture.address).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    read_to_close(half).await;
    let no_preface = fixture.raw(agent("node1"), &[b"h2"]).await.unwrap();
    assert!(read_to_close(no_preface).await.is_empty());
    assert_eq!(fixture.refused("handshake_timeout"), 3);
    check(&fixture.channel(agent("node1"))).await.unwrap();
}

#[tokio::test]
async fn handshakes_of_one_source_and_of_all_are_bounded() {
    for (limits, reason) in [
        (ListenLimits { max_handshakes_per_loopback: 2, ..ListenLimits::default() }, "too_many_from_source"),
        (ListenLimits { max_handshakes: 2, ..ListenLimits::default() }, "too_many"),
    ] {
        let fixture = Fixture::start(limits).await;
        let held = [
            TcpStream::connect(fixture.address).await.unwrap(),
            TcpStream::connect(fixture.address).await.unwrap(),
        ];
        until("both to be accepted", || fixture.stats.snapshot().accepted == 2).await;
        let third = TcpStream::connect(fixture.address).await.unwrap();
        assert!(read_to_close(third).await.is_empty());
        assert_eq!(fixture.refused(reason), 1);
        drop(held);
        until("the slots to come back", || {
            fixture.refused("connection_lost") + fixture.refused("not_tls") == 2
        })
        .await;
        check(&fixture.channel(agent("node1"))).await.unwrap();
    }
}

#[tokio::test]
async fn connections_of_one_identity_and_of_all_are_bounded() {
    let fixture =
        Fixture::start(ListenLimits { max_connections_per_agent: 2, ..ListenLimits::default() }).await;
    let tls = fixture.live(agent("node1")).client(ExpectedServer::AnyCoordinator).unwrap();
    let (one, two, three) = (fixture.dial(&tls), fixture.dial(&tls), fixture.dial(&tls));
    check(&one).await.unwrap();
    check(&two).await.unwrap();
    assert!(check(&three).await.is_err());
    assert!(fixture.refused("too_many_of_identity") >= 1);
    check(&fixture.channel(agent("node2"))).await.unwrap();
    drop(one);
    until("the first to be gone", || fixture.registry.len() < 2).await;
    check(&three).await.unwrap();

    let fixture = Fixture::start(ListenLimits { max_connections: 1, ..ListenLimits::default() }).await;
    let held = fixture.channel(agent("node1"));
    check(&held).await.unwrap();
    assert!(check(&fixture.channel(agent("node2"))).await.is_err());
    assert!(fixture.refused("too_many_connections") >= 1);
    check(&held).await.unwrap();
}

#[tokio::test]
async fn requests_at_once_are_bounded_and_the_rest_is_shed() {
    let fixture =
        Fixture::start(ListenLimits { max_concurrent_requests: 1, ..ListenLimits::default() }).await;
    let channel = fixture.channel(agent("node1"));
    check(&channel).await.unwrap();
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { raw_call(&channel, "/test/wait", b"").await.1 }
    });
    let shed = async {
        loop {
            match check(&channel).await {
                Err(error) => return error,
                Ok(()) => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(soon("a refusal", shed).await.code(), Code::ResourceExhausted);
    fixture.release.notify_one();
    assert_eq!(soon("the waiting request", waiting).await.unwrap(), "released");
    check(&channel).await.unwrap();
}

#[tokio::test]
async fn a_unary_call_has_a_deadline_and_a_stream_has_none() {
    let fixture = Fixture::start(ListenLimits { request_timeout: SHORT, ..ListenLimits::default() }).await;
    let channel = fixture.channel(agent("node1"));
    let stream = tokio::spawn({
        let channel = channel.clone();
        async move { raw_call(&channel, "/test/stream", b"").await.1 }
    });
    let (status, _) = raw_call(&channel, "/test/wait", b"").await;
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    // The stream began before and outlived a whole deadline.
    assert!(!stream.is_finished());
    fixture.release.notify_waiters();
    assert_eq!(soon("the stream", stream).await.unwrap(), "released");
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_no_call_that_was_sent_fails() {
    let limits = ListenLimits { max_connection_age: SHORT, ..ListenLimits::default() };
    let fixture = Fixture::start(limits).await;
    let channel = fixture.channel(agent("node1"));
    let calls = async {
        while fixture.stats.snapshot().served < 4 {
            // A call that meets the very moment of the goodbye is handed back unsent; it is safe to send again.
            if let Err(error) = check(&channel).await {
                assert!(was_never_sent(&error), "{error:?}");
            }
        }
    };
    soon("four connections", calls).await;
}

/// Fails as a socket does when the process has no file descriptors left, then works.
struct Exhausted {
    errors: VecDeque<io::Error>,
    socket: TcpListener,
}

impl Accept for Exhausted {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.errors.pop_front() {
            Some(error) => Err(error),
            None => self.socket.accept().await,
        }
    }
}

#[tokio::test]
async fn failed_accepts_do_not_end_the_loop() {
    const EMFILE: i32 = 24;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let errors = [EMFILE, 23, 103, 105, 12].into_iter().map(io::Error::from_raw_os_error).collect();
    let fixture = Fixture::start_on(Exhausted { errors, socket }, address, ListenLimits::default()).await;
    check(&fixture.channel(agent("node1"))).await.unwrap();
    assert_eq!(fixture.stats.snapshot().accept_errors, 5);
}
