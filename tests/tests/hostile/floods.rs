//! B-13 and §5.3: attack scripts against one coordinator of a fleet, each beside a user who goes on working.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use quorate_proto::agent::v1 as agent;
use quorate_proto::agent::v1::session_request::Body;
use quorate_tests::cluster::Fleet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::*;
use crate::peers::{block_on, forget_node, new_node, new_user, raw_tls};
use crate::sessions::Talk;
use crate::victim::{Verdict, under};

/// How many frames a flood sends when nobody stops it.
const FLOOD: usize = 100_000;
const ATTACKED: &str = "coord1";
/// A method that answers at once, and one whose answer is long.
const SMALL: &str = "/quorate.v1.AdminService/GetCaller";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Mallory may read, has a valid certificate, and is hostile; the address is of the attacked coordinator.
fn mallory(fleet: &Fleet) -> (PathBuf, String, String) {
    new_user(fleet, "vera", "viewer");
    let (_, grpc, http) =
        fleet.coordinators().into_iter().find(|(name, _, _)| name == ATTACKED).expect("it is there");
    (new_user(fleet, "mallory", "viewer"), grpc, http)
}

/// Reads until the other side closes; how long that took, and what came.
async fn read_to_close(mut stream: impl AsyncRead + Unpin, begun: Instant) -> (Duration, Vec<u8>) {
    let mut got = Vec::new();
    let mut chunk = [0_u8; 4_096];
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            got.extend_from_slice(&chunk[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the connection is closed");
    (begun.elapsed(), got)
}

/// What a flood sends for its n-th time.
type Script = fn(u32) -> Vec<u8>;

/// Floods that must end their connection, with the bytes of each.
const FLOODS: &[(&str, Script)] = &[
    ("rapid reset", |n| {
        let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &grpc_headers(SMALL));
        [opened, frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat()
    }),
    ("made you reset", |n| {
        let opened = frame(HEADERS, END_HEADERS, stream(n), &grpc_headers(SMALL));
        [opened, frame(WINDOW_UPDATE, 0, stream(n), &[0x7f, 0xff, 0xff, 0xff])].concat()
    }),
    ("CONTINUATION without end", |n| match n {
        0 => frame(HEADERS, 0, 1, &grpc_headers(SMALL)),
        _ => frame(CONTINUATION, 0, 1, &[0x00, 1, b'a', 1, b'b']),
    }),
    ("SETTINGS", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
    ("PING", |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())),
    ("PRIORITY", |n| frame(PRIORITY, 0, stream(n % 1_000), &[0, 0, 0, 0, 16])),
    ("empty DATA", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &grpc_headers(SMALL)),
        _ => frame(DATA, 0, 1, &[]),
    }),
    ("frames of no known kind", |n| frame(0xbb, 0, 0, &n.to_be_bytes())),
    ("header of 1 MiB", |n| match n {
        0 => frame(HEADERS, 0, 1, &grpc_headers(SMALL)),
        _ => frame(CONTINUATION, 0, 1, &[&[0x00, 1, b'a', 0x7f, 0x81, 0x3e][..], &[b'x'; 8_064]].concat()),
    }),
    ("random bytes after the preface", |n| n.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec()),
];

pub(crate) fn b13_frames(fleet: &Fleet) {
    let (identity, grpc, _) = mallory(fleet);
    for (what, script) in FLOODS {
        block_on(under(fleet, ATTACKED, what, async {
            // As often as it takes to send them all; each time the connection must be ended.
            let (mut sent, mut connections, mut slowest, mut goaway) = (0, 0, Duration::ZERO, None);
            while sent < FLOOD && connections < 40 {
                let raw = Raw::open(&identity, &grpc, &[]).await.expect("a valid certificate");
                let flood = raw.flood_with(FLOOD, script).await;
                slowest = slowest.max(flood.closed.expect("the connection is ended"));
                sent += flood.sent;
                connections += 1;
                goaway = flood.goaway.or(goaway);
            }
            Verdict {
                closed: Some(slowest),
                note: format!("{sent} sent over {connections} connections, GOAWAY {goaway:?}"),
            }
        }));
    }
}

/// A connection that sends `bytes` and is silent then.
async fn plain(address: &str, bytes: &[u8]) -> (Duration, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let begun = Instant::now();
    // The server may close before all is written.
    let _ = stream.write_all(bytes).await;
    read_to_close(stream, begun).await
}

/// A byte a second of a TLS handshake that would take a month.
async fn trickle(address: &str) -> Duration {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7];
    for byte in hello.into_iter().cycle() {
        pace.tick().await;
        let mut answer = [0_u8; 1];
        let closed = matches!(
            tokio::time::timeout(Duration::from_millis(1), stream.read(&mut answer)).await,
            Ok(Ok(0) | Err(_))
        );
        if closed || stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    begun.elapsed()
}

pub(crate) fn b13_strangers(fleet: &Fleet) {
    let (identity, grpc, _) = mallory(fleet);
    let random: Vec<u8> = (0..70_000_u32).map(|n| n.wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect();
    let shots: [(&str, &[u8]); 5] = [
        ("plaintext HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("plaintext HTTP/2", PREFACE),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("random bytes", &random),
        ("a TLS record that never comes", &[0x16, 3, 1, 0x40, 0]),
    ];
    block_on(under(fleet, ATTACKED, "other protocols and garbage", async {
        let all = join_all(shots.iter().map(|(_, bytes)| plain(&grpc, bytes))).await;
        for ((what, _), (_, got)) in shots.iter().zip(&all) {
            assert!(got.is_empty() || got[0] == 0x15, "{what}: only a TLS alert may come back: {got:?}");
        }
        let slowest = all.into_iter().map(|(took, _)| took).max();
        Verdict { closed: slowest, note: format!("{} kinds", shots.len()) }
    }));
    block_on(under(fleet, ATTACKED, "TLS, then not HTTP/2", async {
        let mut slowest = Duration::ZERO;
        let http1: &[&[u8]] = &[b"http/1.1"];
        assert!(raw_tls(&identity, &grpc, http1).await.is_err(), "only h2 is offered");
        for (alpn, bytes) in
            [(&[][..], PREFACE), (&[&b"h2"[..]][..], b"GET / HTTP/1.1\r\n\r\n"), (&[&b"h2"[..]][..], b"")]
        {
            let mut stream = raw_tls(&identity, &grpc, alpn).await.expect("TLS alone succeeds");
            let begun = Instant::now();
            let _ = stream.write_all(bytes).await;
            let (took, got) = read_to_close(stream, begun).await;
            assert!(got.is_empty(), "{got:?}");
            slowest = slowest.max(took);
        }
        Verdict { closed: Some(slowest), note: "no ALPN, HTTP/1.1 over h2, no preface".into() }
    }));
    block_on(under(fleet, ATTACKED, "60 slow TLS handshakes", async {
        let slowest = join_all((0..60).map(|_| trickle(&grpc))).await.into_iter().max();
        Verdict { closed: slowest, note: "a byte a second each".into() }
    }));
    block_on(under(fleet, ATTACKED, "1,000 whole TLS handshakes", async {
        let one = || async {
            let mut done = 0;
            for _ in 0..125 {
                done += u32::from(raw_tls(&identity, &grpc, &[b"h2"]).await.is_ok());
            }
            done
        };
        let done: u32 = join_all((0..8).map(|_| one())).await.into_iter().sum();
        Verdict { closed: None, note: format!("{done} by 8 at once, as fast as they go") }
    }));
}

/// 63 streams whose messages of nearly 1 MiB never end, over each of several connections.
async fn unfinished(identity: &Path, grpc: &str, connections: usize) -> (usize, usize) {
    let mut message = vec![0_u8];
    message.extend(1_000_000_u32.to_be_bytes());
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..connections {
        let mut raw = Raw::open(identity, grpc, &[]).await.expect("a valid certificate");
        for n in 0..63 {
            let headers = frame(HEADERS, END_HEADERS, stream(n), &grpc_headers(SMALL));
            raw.send(&headers).await.expect("sent");
            raw.send(&frame(DATA, 0, stream(n), &message)).await.expect("sent");
        }
        refused += fill(&mut raw).await;
        open.push(raw);
    }
    (open.len() * 63, refused)
}

/// Sends as much on every stream as the windows let through; how many streams were refused meanwhile.
async fn fill(raw: &mut Raw) -> usize {
    const PIECE: usize = 16 * 1024;
    // What the heads of the messages took already, of the connection's window as of each stream's.
    let (mut connection, mut windows) = (65_535_i64 - 63 * 5, vec![65_535_i64 - 5; 63]);
    let (mut left, mut gone) = (vec![999_000_i64; 63], vec![false; 63]);
    let mut refused = 0;
    loop {
        let mut idle = true;
        for at in 0..63 {
            let piece = i64::try_from(PIECE).expect("small").min(left[at]);
            if gone[at] || piece == 0 || windows[at] < piece || connection < piece {
                continue;
            }
            let number = stream(u32::try_from(at).expect("small"));
            let payload = vec![0x0a; usize::try_from(piece).expect("small")];
            raw.send(&frame(DATA, 0, number, &payload)).await.expect("sent within its windows");
            (connection, windows[at], left[at]) = (connection - piece, windows[at] - piece, left[at] - piece);
            idle = false;
        }
        // More room or a refusal; silence means that the server takes no more.
        let wait = if idle { Duration::from_secs(2) } else { Duration::from_millis(1) };
        match tokio::time::timeout(wait, raw.next()).await {
            Err(_) if idle => return refused,
            Err(_) => {}
            Ok(Err(e)) => panic!("the server ends no connection that keeps to its windows: {e}"),
            Ok(Ok((kind, _, number, payload))) => {
                let at = usize::try_from(number / 2).unwrap_or(usize::MAX);
                match kind {
                    WINDOW_UPDATE => {
                        let more =
                            i64::from(u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]));
                        if number == 0 {
                            connection += more;
                        } else if let Some(window) = windows.get_mut(at) {
                            *window += more;
                        }
                    }
                    HEADERS | RST_STREAM if at < 63 && !gone[at] => {
                        gone[at] = true;
                        refused += 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn b13_streams_without_end(fleet: &Fleet) {
    let (identity, grpc, _) = mallory(fleet);
    block_on(under(fleet, ATTACKED, "252 messages of 1 MB without end", async {
        let (streams, refused) = unfinished(&identity, &grpc, 4).await;
        assert!(streams - refused <= 16, "an identity may park 16 MiB: {refused} of {streams} refused");
        Verdict { closed: None, note: format!("{refused} of {streams} streams refused") }
    }));
    block_on(under(fleet, ATTACKED, "window 0: answers not read", async {
        let mut open = Vec::new();
        for _ in 0..8 {
            // SETTINGS_INITIAL_WINDOW_SIZE 0.
            let mut raw =
                Raw::open(&identity, &grpc, &[0, 4, 0, 0, 0, 0]).await.expect("a valid certificate");
            // file_containing_symbol = "quorate.v1.FleetService": its descriptor with all it imports.
            let name = b"quorate.v1.FleetService";
            let mut message = vec![0x22, u8::try_from(name.len()).expect("short")];
            message.extend(name);
            let mut data = vec![0_u8];
            data.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
            data.extend(message);
            for n in 0..64 {
                let headers = frame(HEADERS, END_HEADERS, stream(n), &grpc_headers(REFLECTION));
                let body = frame(DATA, END_STREAM, stream(n), &data);
                raw.send(&[headers, body].concat()).await.expect("sent");
            }
            open.push(raw);
        }
        tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>())
            .await
            .expect_err("nothing ends it");
        Verdict { closed: None, note: format!("{} streams, closed after 60 s", open.len() * 64) }
    }));
    block_on(under(fleet, ATTACKED, "streams beyond 64", async {
        let mut raw = Raw::open(&identity, &grpc, &[]).await.expect("a valid certificate");
        for n in 0..80 {
            let headers = frame(HEADERS, END_HEADERS, stream(n), &grpc_headers(SMALL));
            raw.send(&headers).await.expect("sent");
        }
        let mut refused = 0;
        while refused < 16 {
            let next = tokio::time::timeout(Duration::from_secs(10), raw.next()).await;
            let (kind, _, _, payload) = next.expect("a refusal in time").expect("the connection goes on");
            // REFUSED_STREAM.
            refused += u32::from(kind == RST_STREAM && payload == [0, 0, 0, 7]);
        }
        Verdict { closed: None, note: format!("{refused} of 80 refused, the connection goes on") }
    }));
}

pub(crate) fn b13_ten_thousand_connections(fleet: &Fleet) {
    const CONNECTIONS: usize = 10_000;
    let (identity, grpc, _) = mallory(fleet);
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(12_000, |most| most.min(12_000));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .expect("descriptors");
    let count = CONNECTIONS.min(usize::try_from(wanted).expect("a small number") - 500);
    block_on(under(fleet, ATTACKED, "10,000 silent connections", async {
        let begun = Instant::now();
        // Far fewer at once than the kernel's queue of connections to be accepted holds: what does not fit into that looks
        // open to us for a minute, and never reaches the server.
        const BATCH: usize = 32;
        let (mut open, mut failed) = (Vec::with_capacity(count), 0);
        while open.len() + failed < count {
            for connected in join_all((0..BATCH).map(|_| TcpStream::connect(&grpc))).await {
                match connected {
                    Ok(stream) => open.push(tokio::spawn(read_to_close(stream, Instant::now()))),
                    Err(_) => failed += 1,
                }
            }
        }
        let opened = begun.elapsed();
        let all: Vec<_> =
            join_all(open).await.into_iter().map(|ended| ended.expect("a reader's task")).collect();
        let slowest = all.iter().map(|(took, _)| *took).max();
        assert!(all.iter().all(|(_, got)| got.is_empty()), "nothing is said to a silent stranger");
        Verdict {
            closed: slowest,
            note: format!("{} opened in {:.1} s, {failed} not", all.len(), opened.as_secs_f64()),
        }
    }));
    block_on(under(fleet, ATTACKED, "connections beyond 64 of a user", async {
        let mut kept = Vec::new();
        let mut turned_away = 0;
        for _ in 0..100 {
            let mut raw = Raw::open(&identity, &grpc, &[]).await.expect("TLS alone succeeds");
            match tokio::time::timeout(Duration::from_secs(10), raw.next()).await.expect("in time") {
                Ok(_) => kept.push(raw),
                Err(_) => turned_away += 1,
            }
        }
        assert!(kept.len() <= 64, "{} connections of one user", kept.len());
        Verdict { closed: None, note: format!("{} kept, {turned_away} turned away", kept.len()) }
    }));
}

/// One connection to the HTTP port that sends this and reads the answer's first line.
async fn http_line(address: &str, bytes: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let _ = stream.write_all(bytes).await;
    let mut first = vec![0_u8; 64];
    let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut first))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(String::from_utf8_lossy(&first[..count]).lines().next().unwrap_or_default().to_owned())
}

pub(crate) fn b13_the_http_port(fleet: &Fleet) {
    let (_, _, http) = mallory(fleet);
    block_on(under(fleet, ATTACKED, "HTTP port: slow and silent", async {
        let open = join_all((0..700).map(|_| TcpStream::connect(&http))).await;
        let mut streams: Vec<TcpStream> = open.into_iter().filter_map(Result::ok).collect();
        for stream in &mut streams {
            let _ = stream.write_all(b"GET /heal").await;
        }
        let count = streams.len();
        drop(streams);
        Verdict { closed: None, note: format!("{count} half requests, then gone") }
    }));
    block_on(under(fleet, ATTACKED, "HTTP port: bad requests", async {
        let huge = [b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat();
        let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(20_000), b"\r\n".to_vec()].concat();
        let mut said = Vec::new();
        for (what, bytes) in [
            ("1 MiB header", &huge[..]),
            ("20,000 headers", &many),
            ("NUL", b"GET /\0 HTTP/1.1\r\n\r\n"),
            (
                "two lengths",
                b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ),
            ("traversal", b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("HTTP/0.9", b"GET /\r\n\r\n"),
            ("a write", b"POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let line = http_line(&http, bytes).await.unwrap_or_default();
            assert!(
                line.is_empty() || line.starts_with("HTTP/1.1 4") || line.starts_with("HTTP/1.0 4"),
                "{what}: {line}"
            );
            said.push(line.split(' ').nth(1).unwrap_or("cut").to_owned());
        }
        let fine = http_line(&http, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is served");
        assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
        Verdict { closed: None, note: said.join(" ") }
    }));
}

pub(crate) fn b14_heartbeats_at_full_speed(fleet: &Fleet) {
    let (_, grpc, _) = mallory(fleet);
    let identity = new_node(fleet, "mallet");
    block_on(under(fleet, ATTACKED, "an agent's heartbeats, 3 s", async {
        let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
        let begun = Instant::now();
        let beat = || Body::Heartbeat(agent::Heartbeat { generation: 1, ..Default::default() });
        let mut sent = 0_u64;
        while begun.elapsed() < Duration::from_secs(3) {
            if !talk.send(beat()).await {
                // It did not read what it was sent: it is cut off, and may come again.
                talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
            }
            sent += 1;
            if sent.is_multiple_of(16) {
                talk.drain().await;
            }
        }
        Verdict { closed: None, note: format!("{sent} sent") }
    }));
    block_on(under(fleet, ATTACKED, "an agent's reports, 3 s", async {
        let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
        let begun = Instant::now();
        let mut sent = 0_u64;
        while begun.elapsed() < Duration::from_secs(3) {
            let report = agent::ObligationReport {
                obligation: format!("o-{sent}"),
                execution: "x-none".into(),
                state: agent::ObligationState::Open as i32,
                description: "x".repeat(500),
                ..Default::default()
            };
            if !talk.send(Body::Obligation(report)).await {
                // Too many at once: it is cut off, and may come again.
                talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
            }
            sent += 1;
            talk.drain().await;
        }
        Verdict { closed: None, note: format!("{sent} sent") }
    }));
    forget_node(fleet, "mallet");
}
