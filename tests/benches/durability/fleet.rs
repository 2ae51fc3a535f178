//! Coordinators alone: a cluster of three processes, made by `init` and `join`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use quorate_common::tls::{Address, ChannelLimits, ClientTls, ExpectedServer, LiveTls, Material, channel};
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::{ChangeOptions, CreateTokenRequest, ListMembersRequest, TokenPurpose};
use quorate_tests::wait::wait_for;
use quorate_tests::workspace::binaries;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::counts;

/// For anything to come up on a busy machine.
const UP: Duration = Duration::from_secs(60);

/// System calls that wait for the disk, and sled's `sync_file_range`, which is none but looks like one.
const TRACED: &str = "trace=fsync,fdatasync,sync_file_range,pwritev2,sync,syncfs,msync";

/// How the members are run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Under strace, which writes every barrier down. It slows them, so times are taken without.
    pub(crate) traced: bool,
    /// Entries between snapshots; `None` for the product's default.
    pub(crate) snapshot_entries: Option<u64>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) grpc: Address,
    pub(crate) http: Address,
    pub(crate) dir: PathBuf,
    process: Option<Child>,
}

/// Three members; ended and removed when dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    options: Options,
    dir: TempDir,
}

impl Member {
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.as_ref().map(Child::id).with_context(|| format!("{} does not run", self.name))
    }

    fn config(&self) -> PathBuf {
        self.dir.join("coordinator.toml")
    }

    fn trace(&self) -> PathBuf {
        self.dir.join("strace.out")
    }

    /// Barriers that strace saw so far.
    pub(crate) fn traced(&self) -> anyhow::Result<counts::Barriers> {
        counts::Barriers::in_trace(&self.trace())
    }

    fn write_config(&self, first: Option<&Self>, options: Options) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let enroll = first.map(|first| format!("{:?}", first.http.to_string())).unwrap_or_default();
        let snapshots =
            options.snapshot_entries.map(|n| format!("snapshot_entries = {n}\n")).unwrap_or_default();
        let text = format!(
            "name = {:?}\ncluster_name = \"bench\"\ndata_dir = {:?}\nenroll = [{enroll}]\n\
             [listen]\ngrpc = \"{2}\"\nhttp = \"{3}\"\n[advertise]\ngrpc = \"{2}\"\nhttp = \"{3}\"\n\
             [raft]\npromote_after_ms = 500\n{snapshots}\
             [store]\nballast_bytes = 0\nmin_free_bytes = 0\nmin_free_percent = 0\n",
            self.name,
            self.dir.join("data"),
            self.grpc,
            self.http,
        );
        std::fs::write(self.config(), text)?;
        Ok(())
    }

    fn log(&self) -> anyhow::Result<File> {
        Ok(File::options().create(true).append(true).open(self.dir.join("log"))?)
    }

    fn setup(&self, args: &[&str]) -> anyhow::Result<()> {
        let status = Command::new(binaries().join("quorate-coordinator"))
            .args(args)
            .arg("--config")
            .arg(self.config())
            .stdout(self.log()?)
            .stderr(self.log()?)
            .status()?;
        if !status.success() {
            bail!("{} of {}: {}", args.join(" "), self.name, std::fs::read_to_string(self.dir.join("log"))?);
        }
        Ok(())
    }

    fn start(&mut self, options: Options) -> anyhow::Result<()> {
        let program = binaries().join("quorate-coordinator");
        let mut command = if options.traced {
            // -D: the member stays our own child. seccomp: other system calls run at full speed.
            let mut strace = Command::new("strace");
            strace.args(["-D", "-f", "--seccomp-bpf", "-qq", "-e", TRACED, "-o"]).arg(self.trace());
            strace.arg(program);
            strace
        } else {
            Command::new(program)
        };
        command.arg("--config").arg(self.config()).stdin(Stdio::null());
        command.stdout(self.log()?).stderr(self.log()?);
        self.process = Some(command.spawn().context("cannot start a member (is strace installed?)")?);
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        wait_for("a member to end", UP, || match process.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> anyhow::Result<Vec<Address>> {
    let held: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|socket| Ok(socket.local_addr()?.to_string().parse()?)).collect()
}

/// A folder on the disk that the build is on: `/tmp` may be memory, where a barrier costs nothing.
pub(crate) fn scratch() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// The frame of every change here.
pub(crate) fn change() -> Option<ChangeOptions> {
    let request_id = uuid::Uuid::now_v7().to_string();
    Some(ChangeOptions { request_id, reason: "benchmark".to_owned(), validate_only: false })
}

impl Fleet {
    /// Three voters.
    pub(crate) fn start(runtime: &Runtime, options: Options) -> anyhow::Result<Self> {
        let dir = scratch()?;
        let addresses = free_addresses(6)?;
        let members = addresses.chunks_exact(2).enumerate().map(|(n, pair)| Member {
            name: format!("coord{}", n + 1),
            grpc: pair[0].clone(),
            http: pair[1].clone(),
            dir: dir.path().join(format!("coord{}", n + 1)),
            process: None,
        });
        let mut fleet = Self { members: members.collect(), options, dir };
        fleet.first()?;
        for n in 1..fleet.members.len() {
            fleet.join(runtime, n)?;
        }
        Ok(fleet)
    }

    fn admin(&self) -> PathBuf {
        self.dir.path().join("admin")
    }

    fn first(&mut self) -> anyhow::Result<()> {
        let admin = self.admin();
        std::fs::create_dir_all(&admin)?;
        let options = self.options;
        let first = &mut self.members[0];
        first.write_config(None, options)?;
        first.setup(&["init", "--admin-out", &admin.to_string_lossy()])?;
        first.start(options)
    }

    fn join(&mut self, runtime: &Runtime, n: usize) -> anyhow::Result<()> {
        let channel = self.channel(0)?;
        let token = wait_for("a join token", UP, || {
            let request = CreateTokenRequest {
                purpose: TokenPurpose::Coordinator.into(),
                options: change(),
                ..Default::default()
            };
            runtime.block_on(FleetServiceClient::new(channel.clone()).create_token(request))
        });
        let (before, rest) = self.members.split_at_mut(n);
        let member = &mut rest[0];
        member.write_config(before.first(), self.options)?;
        let file = member.dir.join("token");
        write_private(&file, &token.into_inner().token)?;
        member.setup(&["join", "--token-file", &file.to_string_lossy()])?;
        member.start(self.options)?;
        wait_for("a member to vote", UP, || {
            let members = runtime
                .block_on(
                    AdminServiceClient::new(channel.clone()).list_members(ListMembersRequest::default()),
                )
                .map_err(|status| status.to_string())?;
            let votes = members.into_inner().members.iter().filter(|member| member.voter).count();
            if votes == n + 1 { Ok(()) } else { Err(format!("{votes} vote")) }
        });
        Ok(())
    }

    /// The administrator's identity.
    pub(crate) fn tls(&self) -> anyhow::Result<ClientTls> {
        let at = |name: &str| self.admin().join(name);
        let material = Material::load(&at("ca.pem"), &at("cert.pem"), &at("key.pem"))?;
        Ok(LiveTls::new(material).client(ExpectedServer::AnyCoordinator)?)
    }

    /// A connection of its own to a member.
    pub(crate) fn channel(&self, member: usize) -> anyhow::Result<Channel> {
        let limits =
            ChannelLimits { request_timeout: Some(Duration::from_secs(30)), ..ChannelLimits::default() };
        Ok(channel(&self.members[member].grpc, &self.tls()?, &limits)?)
    }

    /// What a member's `/metrics` says.
    pub(crate) fn metrics(&self, runtime: &Runtime, member: usize) -> anyhow::Result<counts::Metrics> {
        counts::Metrics::ask(runtime, &self.members[member].http, &self.tls()?)
    }

    /// Which member leads; waits for one.
    pub(crate) fn leader(&self, runtime: &Runtime) -> usize {
        wait_for("a leader", UP, || {
            let leads = |n: &usize| {
                self.metrics(runtime, *n)
                    .is_ok_and(|metrics| metrics.leads() && metrics.get("raft_has_quorum") == 1)
            };
            (0..self.members.len()).find(leads).ok_or("nobody leads")
        })
    }

    /// Ends a member in order, starts it again, and returns when `exec` was.
    pub(crate) fn restart(&mut self, member: usize) -> anyhow::Result<Instant> {
        let options = self.options;
        let member = &mut self.members[member];
        member.stop()?;
        let begin = Instant::now();
        member.start(options)?;
        Ok(begin)
    }

    /// Where the members' certificates are; each is good for TLS in both directions on 127.0.0.1.
    pub(crate) fn identity(&self, member: usize) -> PathBuf {
        self.members[member].dir.join("data/tls")
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())?;
    Ok(())
}
