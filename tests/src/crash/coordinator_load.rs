//! Load on a real coordinator by its API, and what must be in the replicated state afterwards.
//!
//! The load process starts `quorate-coordinator` in its own process group, so that both die at once, and writes as the
//! administrator over mutual TLS: each writer makes tokens with a number in their names. The check starts the real Raft
//! member on the state's directory, lets it elect itself, and looks for every acknowledged name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use quorate_common::tls::{Address, ChannelLimits, ExpectedServer, LiveTls, Material, Store, channel};
use quorate_coordinator::raft::{Dial, GrpcTransport, NoHooks, Purpose, RaftConfig, RaftNode};
use quorate_coordinator::store::{Identity, StoreDirs, StoreOptions};
use quorate_core::State;
use quorate_core::state::TokenPurpose;
use quorate_durable::{Probe, SpaceFloor};
use quorate_model::Principal;
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;

use super::run::{Progress, Subject};
use super::store_load::Found;
use crate::workspace;

/// Writers at once.
const WRITERS: usize = 4;
/// Longest start and longest call, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the daemons are, for a load process.
const BINARIES: &str = "QUORATE_CRASH_BINARIES";

/// One real coordinator.
#[derive(Debug)]
pub struct Coordinator;

fn own() -> PathBuf {
    std::env::current_exe().expect("a test knows its own path")
}

impl Subject for Coordinator {
    fn name(&self) -> &str {
        "coordinator"
    }

    fn writers(&self) -> usize {
        WRITERS
    }

    fn prepare(&self, root: &Path) {
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it is bound").port()
        };
        let text = format!(
            "name = \"coord1\"\ndata_dir = \"{}/data\"\n[listen]\ngrpc = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n\
             [raft]\nheartbeat_ms = 50\nelection_min_ms = 200\nelection_max_ms = 400\nsnapshot_entries = 100\n\
             [store]\nballast_bytes = 0\nmin_free_bytes = 0\nmin_free_percent = 0\n[log]\nfilter = \"error\"\n",
            root.display(),
            port(),
            port()
        );
        fs::write(root.join("coordinator.toml"), text).expect("the directory is ours");
        let mut init = Command::new(workspace::binaries().join("quorate-coordinator"));
        init.arg("init").arg("--config").arg(root.join("coordinator.toml"));
        let output = init.arg("--admin-out").arg(root.join("admin")).output().expect("it can be run");
        assert!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn work(&self, root: &Path, _seed: u64, progress: &Progress) -> Command {
        let mut command = Command::new(own());
        command.arg("coordinator-work").arg(root).env(BINARIES, workspace::binaries());
        command.args(progress.acked.iter().map(u64::to_string));
        command
    }

    fn verify(&self, root: &Path, _seed: u64, progress: &Progress) -> Command {
        let mut command = Command::new(own());
        command.arg("coordinator-verify").arg(root).args(progress.acked.iter().map(u64::to_string));
        command
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

fn address(root: &Path) -> String {
    let text = fs::read_to_string(root.join("coordinator.toml")).unwrap_or_default();
    text.split_once("grpc = \"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(a, _)| a).to_owned()
}

async fn write(channel: tonic::transport::Channel, writer: usize, from: u64) -> Result<(), String> {
    let mut client = FleetServiceClient::new(channel);
    for number in from + 1.. {
        let request = v1::CreateTokenRequest {
            purpose: v1::TokenPurpose::User.into(),
            name: format!("w{writer}-{number}"),
            access_role: "VIEWER".to_owned(),
            ..Default::default()
        };
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Until it is up, and after an unknown outcome: the same name again is the same to the check.
            match client.create_token(request.clone()).await {
                Ok(_) => break,
                Err(status) if tokio::time::Instant::now() >= end => return Err(status.to_string()),
                // Load, not a test's wait: a writer that is refused asks again, within the deadline of the run.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        writeln!(std::io::stdout().lock(), "ack {writer} {number}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn work(root: &Path, from: &[u64]) -> Result<(), String> {
    let program = PathBuf::from(std::env::var_os(BINARIES).unwrap_or_default()).join("quorate-coordinator");
    let mut daemon = Command::new(program);
    daemon.arg("--config").arg(root.join("coordinator.toml")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut daemon = daemon.spawn().map_err(|e| e.to_string())?;
    let admin = root.join("admin");
    let (ca, cert, key) = (admin.join("ca.pem"), admin.join("cert.pem"), admin.join("key.pem"));
    let material = Material::load(&ca, &cert, &key).map_err(|e| e.to_string())?;
    let tls = LiveTls::new(material).client(ExpectedServer::AnyCoordinator).map_err(|e| e.to_string())?;
    let address: Address = address(root).parse().map_err(|e| format!("{e}"))?;
    let outcome = runtime().block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for (writer, from) in from.iter().copied().enumerate() {
            let channel = channel(&address, &tls, &ChannelLimits::default()).map_err(|e| e.to_string())?;
            writers.spawn(write(channel, writer, from));
        }
        while let Some(ended) = writers.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
        Ok(())
    });
    let _ = daemon.kill(); // it may be gone
    let _ = daemon.wait();
    outcome
}

struct Nobody;

impl Dial for Nobody {
    fn channel(&self, _: u64, _: &str, _: Purpose) -> Result<tonic::transport::Channel, String> {
        Err("a cluster of one has no peers".to_owned())
    }
}

async fn verify(root: &Path, acked: &[u64]) -> Found {
    let dirs = StoreDirs::new(root.join("data/raft"));
    let own = match Store::new(root.join("data/tls")).load() {
        Ok(material) => LiveTls::new(material).current().identity().clone(),
        Err(error) => return Found::Refused(error.to_string()),
    };
    let Principal::Coordinator { member } = own.principal else {
        return Found::Lost("the certificate is not a coordinator's".to_owned());
    };
    let identity = Identity::of(own.cluster.as_str(), member.0);
    let options = StoreOptions { probe: Probe::SelfExe, space: SpaceFloor::small(), cache_bytes: 8 << 20 };
    let config = RaftConfig {
        heartbeat: Duration::from_millis(20),
        election_min: Duration::from_millis(60),
        election_max: Duration::from_millis(120),
        ..RaftConfig::default()
    };
    let transport = Arc::new(GrpcTransport::new(Arc::new(Nobody)));
    let started =
        RaftNode::<State>::start(identity, dirs, options, config, transport, Arc::new(NoHooks)).await;
    let node = match started {
        Ok(node) => node,
        Err(error) => return Found::Refused(super::store_load::causes(&error)),
    };
    let mut watch = node.watch();
    let lead = async {
        loop {
            let status = watch.current();
            if status.is_leader() && status.applied >= status.last_log {
                return true;
            }
            if watch.changed().await.is_none() {
                return false;
            }
        }
    };
    if !matches!(tokio::time::timeout(PATIENCE, lead).await, Ok(true)) {
        return Found::Refused("it opens, but does not lead its cluster of one".to_owned());
    }
    let names: BTreeSet<String> = node.state().read(|state, _| {
        state
            .tokens
            .values()
            .filter_map(|token| match &token.purpose {
                TokenPurpose::User { name, .. } => Some(name.to_string()),
                TokenPurpose::Agent { .. } | TokenPurpose::Coordinator => None,
            })
            .collect()
    });
    node.shutdown().await;
    let mut at = Vec::new();
    for (writer, acked) in acked.iter().enumerate() {
        if let Some(gone) = (1..=*acked).find(|n| !names.contains(&format!("w{writer}-{n}"))) {
            return Found::Lost(format!("token {gone} of writer {writer} is gone, {acked} was acknowledged"));
        }
        if names.contains(&format!("w{writer}-{}", acked + 2)) {
            return Found::Lost(format!("writer {writer} has tokens that it never asked for"));
        }
        at.push(acked + u64::from(names.contains(&format!("w{writer}-{}", acked + 1))));
    }
    Found::Whole(at)
}

/// The processes of this load: `coordinator-work ROOT ACKED…`, `coordinator-verify ROOT ACKED…`.
pub fn process(args: &[OsString]) -> Option<ExitCode> {
    let root = args.get(1).map(PathBuf::from)?;
    let acked: Vec<u64> = args.iter().skip(2).filter_map(|a| a.to_str()?.parse().ok()).collect();
    match args.first()?.to_str()? {
        "coordinator-work" => {
            quorate_common::tls::install();
            Some(match work(&root, &acked) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error}");
                    ExitCode::from(74)
                }
            })
        }
        "coordinator-verify" => {
            quorate_common::tls::install();
            println!("{}", runtime().block_on(verify(&root, &acked)).line());
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}
