//! Strangers and hostile peers (B-11, B-13): they get nothing, and everybody else goes on.

use std::process::{Command, Stdio};

use quorate_common::tls::{ClientTls, ExpectedServer, LiveTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::*;
use super::grpc::check;
use crate::listen::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `:method POST`, `:scheme https`, `:path /` from the static table.
const HEADERS: &[u8] = &[0x83, 0x87, 0x84];

#[tokio::test]
async fn without_a_certificate_nothing_is_served() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let pinned =
        ClientTls::pinned(fixture.authority.fingerprint(), fixture.authority.cluster().clone()).unwrap();
    assert!(check(&fixture.dial(&pinned)).await.is_err());
    assert!(fixture.refused("no_certificate") >= 1);
    let stranger = LiveTls::new(material(&authority(), agent("node1")));
    // The stranger trusts our CA but is of another one; it refuses us first, as we would it.
    assert!(check(&fixture.dial(&stranger.client(ExpectedServer::AnyCoordinator).unwrap())).await.is_err());
    assert_eq!(fixture.stats.snapshot().served, 0);
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    // A ClientHello of TLS 1.2: no supported_versions extension; ECDHE-ECDSA-AES128-GCM-SHA256, P-256.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut hello = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(body);
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    // A fatal alert: protocol_version (70).
    assert_eq!(read_to_close(stream).await, [0x15, 3, 3, 0, 2, 2, 70]);
    until("the refusal to be counted", || fixture.refused("protocol_version") == 1).await;
}

/// The acceptance line of the issue, with the tool an operator would use. Where openssl is not installed the two tests
/// above say the same with our own bytes.
#[tokio::test]
async fn openssl_gets_nothing() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(check(&fixture.channel(agent("node1"))).await.is_ok());
        return;
    }
    let run = |extra: &'static [&'static str]| {
        let address = fixture.address.to_string();
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &address, "-alpn", "h2", "-ign_eof"]).args(extra);
            let output = command.stdin(Stdio::null()).output().unwrap();
            (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        })
    };
    let (stdout, stderr) = soon("openssl", run(&["-tls1_3"])).await.unwrap();
    assert!(stderr.contains("certificate required"), "{stdout}\n{stderr}");
    assert!(stdout.contains("TLSv1.3") && !stdout.contains("SSL-Session:"), "{stdout}");
    let (stdout, stderr) = soon("openssl", run(&["-tls1_2"])).await.unwrap();
    assert!(stderr.contains("protocol version") && stdout.contains("Cipher is (NONE)"), "{stdout}\n{stderr}");
    assert_eq!(fixture.stats.snapshot().served, 0);
    assert!(fixture.refused("no_certificate") == 1 && fixture.refused("protocol_version") == 1);
}

#[tokio::test]
async fn garbage_and_other_protocols_are_closed_and_others_go_on() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let good = fixture.channel(agent("node1"));
    check(&good).await.unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        PREFACE,
        b"SSH-2.0-x\r\n",
        &[0; 512],
        &[0xff; 70_000],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        // The server may close before all is written.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let answer = read_to_close(stream).await;
        assert!(answer.is_empty() || answer[0] == 0x15, "only a TLS alert may come back: {answer:?}");
    }
    // Through TLS, with a good certificate, but not HTTP/2.
    assert!(fixture.raw(agent("node1"), &[b"http/1.1"]).await.is_err());
    let no_alpn = fixture.raw(agent("node1"), &[]).await.unwrap();
    assert!(read_to_close(no_alpn).await.is_empty());
    let mut http1 = fixture.raw(agent("node1"), &[b"h2"]).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_to_close(http1).await.is_empty());
    until("all refusals to be counted", || {
        fixture.refused("not_http2") == 1 && fixture.refused("wrong_alpn") == 2
    })
    .await;
    check(&good).await.unwrap();
}

/// Reads frames until one of a kind comes; its payload.
async fn next_frame(stream: &mut (impl AsyncReadExt + Unpin), kind: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0_u8; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == kind {
            return Some(payload);
        }
    }
}

#[tokio::test]
async fn the_settings_on_the_wire_are_ours() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let mut stream = fixture.raw(agent("node1"), &[b"h2"]).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let settings = soon("the settings", next_frame(&mut stream, 4)).await.unwrap();
    let value = |id: u8| {
        settings
            .chunks(6)
            .find(|entry| entry[..2] == [0, id])
            .map(|e| u32::from_be_bytes([e[2], e[3], e[4], e[5]]))
    };
    assert_eq!(value(3), Some(64), "MAX_CONCURRENT_STREAMS");
    assert_eq!(value(6), Some(16 * 1024), "MAX_HEADER_LIST_SIZE");
    assert_eq!(value(5), Some(16 * 1024), "MAX_FRAME_SIZE");
}

/// Sends the bytes and says the error code of the GOAWAY that must come.
async fn goaway_after(fixture: &Fixture, bytes: Vec<u8>) -> u32 {
    let stream = fixture.raw(agent("attacker"), &[b"h2"]).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move {
        // The connection is closed in the middle of it; that is the point.
        let _ = write.write_all(PREFACE).await;
        let _ = write.write_all(&frame(4, 0, 0, &[])).await;
        let _ = write.write_all(&bytes).await;
        let _ = write.flush().await;
        write
    });
    let goaway =
        soon("a GOAWAY", next_frame(&mut read, 7)).await.expect("the connection ended without a GOAWAY");
    sender.abort();
    u32::from_be_bytes([goaway[4], goaway[5], goaway[6], goaway[7]])
}

#[tokio::test]
async fn floods_end_the_connection_and_others_go_on() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let fixture = Fixture::start(ListenLimits::default()).await;
    let good = fixture.channel(agent("node1"));
    check(&good).await.unwrap();

    // Rapid reset: a request and its reset, 2,000 times (CVE-2023-44487).
    let rapid = (0..2_000_u32)
        .flat_map(|n| {
            let stream = n * 2 + 1;
            [frame(1, 0x5, stream, HEADERS), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect();
    assert_eq!(goaway_after(&fixture, rapid).await, ENHANCE_YOUR_CALM);

    // MadeYouReset: requests that the server itself must reset (a stream window beyond 2^31 - 1).
    let made = (0..4_000_u32)
        .flat_map(|n| {
            let stream = n * 2 + 1;
            [frame(1, 0x4, stream, HEADERS), frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        })
        .collect();
    assert_eq!(goaway_after(&fixture, made).await, ENHANCE_YOUR_CALM);

    // CONTINUATION flood: a header block that never ends.
    let mut flood = frame(1, 0, 1, HEADERS);
    for _ in 0..2_000 {
        flood.extend(frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']));
    }
    let code = goaway_after(&fixture, flood).await;
    assert!(code == ENHANCE_YOUR_CALM || code == 1 || code == 9, "GOAWAY {code}");

    check(&good).await.unwrap();
    until("the attackers to be gone", || fixture.registry.len() == 1).await;
}

/// Header block of a gRPC call to a path: POST and https from the static table, literals without indexing.
fn grpc_headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x0f, 0x10, 16]);
    block.extend(b"application/grpc");
    block
}

#[tokio::test]
async fn control_frames_without_end_close_the_connection() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let good = fixture.channel(agent("node1"));
    check(&good).await.unwrap();
    let ping = frame(6, 0, 0, &[7; 8]);
    let settings = frame(4, 0, 0, &[]);
    let empty = frame(0, 0, 1, &[]);
    let open = frame(1, 0x4, 1, &grpc_headers("/test/wait"));
    for (first, one) in [(Vec::new(), ping), (Vec::new(), settings), (open, empty)] {
        let stream = fixture.raw(agent("attacker"), &[b"h2"]).await.unwrap();
        let (read, mut write) = tokio::io::split(stream);
        let sender = tokio::spawn(async move {
            let begin = [PREFACE, &frame(4, 0, 0, &[]), &first].concat();
            let _ = write.write_all(&begin).await;
            // Ten times what is allowed at once; the connection is closed in the middle of it.
            let _ = write.write_all(&one.repeat(20_000)).await;
            let _ = write.flush().await;
            write
        });
        read_to_close(read).await;
        sender.abort();
    }
    // The library itself ends some of them; PING it would answer for ever.
    until("the floods to be counted", || fixture.refused("flood") >= 1).await;
    until("the attackers to be gone", || fixture.registry.len() == 1).await;
    check(&good).await.unwrap();
}

#[tokio::test]
async fn one_identity_parks_no_more_than_its_share() {
    const MIB: usize = 1 << 20;
    let limits =
        ListenLimits { max_parked: quorate_common::config::Size(MIB as u64), ..ListenLimits::default() };
    let fixture = Fixture::start(limits).await;
    // A request of which 3 MiB come and the end never does, to a handler that reads it whole.
    let live = fixture.live(agent("attacker"));
    let channel = fixture.dial(&live.client(ExpectedServer::AnyCoordinator).unwrap());
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<_, std::convert::Infallible>>(1);
    let endless = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let body = http_body_util::StreamBody::new(endless);
    let request = http::Request::post("/test/read").body(tonic::body::Body::new(body)).unwrap();
    let answer = tokio::spawn(tower::ServiceExt::oneshot(channel.clone(), request));
    for _ in 0..48 {
        let piece = hyper::body::Frame::data(bytes::Bytes::from(vec![0_u8; 64 * 1024]));
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    let answer = soon("a refusal", answer).await.unwrap().unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(fixture.stats.snapshot().requests_refused.get("parked"), Some(&1));
    drop(sender);
    // What it had parked is given back.
    check(&channel).await.unwrap();
    check(&fixture.channel(agent("node1"))).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_its_connection() {
    let short = quorate_common::config::Span(std::time::Duration::from_millis(300));
    let limits = ListenLimits { answer_timeout: short, ..ListenLimits::default() };
    let fixture = Fixture::start(limits).await;
    let good = fixture.channel(agent("node1"));
    let stream = fixture.raw(agent("attacker"), &[b"h2"]).await.unwrap();
    let (read, mut write) = tokio::io::split(stream);
    // A window of 0: nothing of an answer's body may be sent.
    let begin = [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    write.write_all(&begin).await.unwrap();
    write.write_all(&frame(1, 0x5, 1, &grpc_headers("/test/who"))).await.unwrap();
    write.flush().await.unwrap();
    read_to_close(read).await;
    until("the reason to be counted", || fixture.refused("answer_not_read") == 1).await;
    check(&good).await.unwrap();
}
