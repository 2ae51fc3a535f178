//! (a) for etcd: three nodes with the certificates of a Quorate cluster, the same writers over the same client.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use quorate_common::tls::{Address, ChannelLimits, channel};
use quorate_tests::wait::wait_for;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::Channel;

use crate::counts::cpu_seconds;
use crate::fleet::{Fleet, Options, free_addresses, scratch};
use crate::load::{self, per};
use crate::writes::{CONNECTIONS, RUNS, WARM};

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`; nothing of it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

struct Node {
    client: Address,
    metrics: Address,
    process: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn run(runtime: &Runtime, program: &Path) -> anyhow::Result<()> {
    // For its certificates; it idles beside and costs next to nothing.
    let fleet = Fleet::start(runtime, Options::default())?;
    let dir = scratch()?;
    let nodes = start(program, &fleet, &dir)?;
    let wait = Duration::from_secs(60);
    let leader = wait_for("etcd to elect a leader", wait, || {
        let leads = |n: &usize| metric(&nodes[*n], "etcd_server_is_leader").is_ok_and(|value| value == 1);
        (0..nodes.len()).find(leads).ok_or("nobody leads")
    });
    let version = Command::new(program).arg("--version").output()?.stdout;
    let version = String::from_utf8_lossy(&version).lines().next().unwrap_or_default().to_owned();
    println!("\n== (a) {version}, 3 nodes, mutual TLS, 256-byte Put through the leader");
    for (writers, writes, _) in RUNS {
        measure(runtime, &fleet, &nodes, leader, writers, writes)?;
    }
    Ok(())
}

fn start(program: &Path, fleet: &Fleet, dir: &TempDir) -> anyhow::Result<Vec<Node>> {
    let addresses = free_addresses(9)?;
    let triples: Vec<_> = addresses.chunks_exact(3).collect();
    let peers: Vec<String> =
        triples.iter().enumerate().map(|(n, at)| format!("n{n}=https://{}", at[1])).collect();
    let tls = fleet.identity(0);
    let file = |name: &str| tls.join(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let node = |(n, at): (usize, &&[Address])| {
        let (client, peer) = (format!("https://{}", at[0]), format!("https://{}", at[1]));
        let log = std::fs::File::create(dir.path().join(format!("n{n}.log")))?;
        let process = Command::new(program)
            .args(["--name", &format!("n{n}"), "--log-level", "error", "--initial-cluster", &peers.join(",")])
            .arg("--data-dir")
            .arg(dir.path().join(format!("n{n}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &format!("http://{}", at[2])])
            .args(["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca])
            .args(["--peer-cert-file", &cert, "--peer-key-file", &key, "--peer-trusted-ca-file", &ca])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start etcd")?;
        Ok(Node { client: at[0].clone(), metrics: at[2].clone(), process })
    };
    triples.iter().enumerate().map(node).collect()
}

async fn put(channel: Channel, key: String) -> Result<(), tonic::Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<PutRequest, PutResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let request = PutRequest { key: key.into_bytes(), value: vec![b'x'; 256] };
    client.unary(tonic::Request::new(request), path, codec).await.map(drop)
}

fn measure(
    runtime: &Runtime,
    fleet: &Fleet,
    nodes: &[Node],
    leader: usize,
    writers: usize,
    writes: u64,
) -> anyhow::Result<()> {
    let connections = if writers == 1 { 1 } else { CONNECTIONS };
    let (tls, limits) = (fleet.tls()?, ChannelLimits::default());
    let channels = (0..connections)
        .map(|_| channel(&nodes[leader].client, &tls, &limits))
        .collect::<Result<Vec<_>, _>>()?;
    let write = move |writer: usize, number: u64| {
        put(channels[writer % channels.len()].clone(), format!("bench/{writer}/{number}"))
    };
    let write = std::sync::Arc::new(write);
    let warm = std::sync::Arc::clone(&write);
    load::run(runtime, writers, WARM, move |writer, number| warm(writer, 1_000_000 + number))?;
    let fsyncs = || nodes.iter().map(|node| metric(node, "etcd_disk_wal_fsync_duration_seconds_count"));
    let cpu = || nodes.iter().map(|node| cpu_seconds(node.process.id()));
    let before = (fsyncs().collect::<anyhow::Result<Vec<_>>>()?, cpu().collect::<anyhow::Result<Vec<_>>>()?);
    let outcome = load::run(runtime, writers, writes, move |writer, number| write(writer, number))?;
    let after = (fsyncs().collect::<anyhow::Result<Vec<_>>>()?, cpu().collect::<anyhow::Result<Vec<_>>>()?);
    println!(
        "{writers} writer(s), {connections} connection(s), {writes} writes: {:.0} per s, p50 {} us, p99 {} us",
        outcome.per_second(),
        outcome.percentile(50),
        outcome.percentile(99)
    );
    for n in 0..nodes.len() {
        println!(
            "  n{n}{} {:.4} WAL fsyncs per write, {:.0} CPU ms per 1,000 writes",
            if n == leader { "*" } else { " " },
            per(after.0[n] - before.0[n], writes),
            (after.1[n] - before.1[n]) * 1e6 / per(writes, 1)
        );
    }
    Ok(())
}

/// One sample of a node's plain-HTTP metrics.
fn metric(node: &Node, name: &str) -> anyhow::Result<u64> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect((node.metrics.host(), node.metrics.port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    // A page of etcd's metrics is about 100 KB.
    stream.take(16 << 20).read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.context("no such metric")?.trim().parse().context("no number")
}
