//! Times `backup.create` of a made-up tree against `tar | zstd` at the same level, and prints the ratio and our own peak
//! memory. Ours also hashes every file, syncs, and reads the whole archive again; that is part of its time.
//!
//! `cargo run --release -p quorate-agent --example backup_bench -- [MiB] [level]`

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_agent::actions::{
    ActionContext, Balancers, Clock, HookReport, HookRunner, HostClock, HostFacts, HostPrograms,
    HostServices, Kept, Leaving, Limits, NoLeases, ObligationKeeper, PortError, Silencing, Undo, execute,
};
use quorate_agent::host::{Host, RealHost};
use quorate_agent::policy::InstallRules;
use quorate_model::backup::BackupPolicy;
use quorate_model::{
    ActionSpec, BackupId, Driver, DurationMs, Epoch, ExecutionId, HookName, InstanceId, NodeName,
    ObligationId, OperationId, Selector, ServiceName, ServiceSpec,
};
use tokio_util::sync::CancellationToken;

/// Neither hooks nor obligations: this backup pauses nothing.
struct Nothing;

impl HookRunner for Nothing {
    fn run_for<'a>(
        &'a self,
        _: &'a HookName,
        _: &'a InstanceId,
        _: quorate_agent::actions::Told<'a>,
        _: Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async { Ok(HookReport::default()) }.boxed()
    }

    fn check<'a>(
        &'a self,
        _: &'a HookName,
        _: &'a InstanceId,
        _: Duration,
        _: &'a Path,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async { Ok(HookReport::default()) }.boxed()
    }
}

impl ObligationKeeper for Nothing {
    fn open<'a>(
        &'a self,
        _: &'a ObligationId,
        _: Undo,
        _: DurationMs,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn hold<'a>(&'a self, _: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn settle<'a>(&'a self, _: &'a InstanceId, _: Kept<'a>) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn silencing(&self) -> BoxFuture<'_, Silencing> {
        async { Silencing(Arc::<tokio::sync::Mutex<()>>::default().lock_owned().await) }.boxed()
    }

    fn discharge<'a>(&'a self, _: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

/// Half text that compresses, half noise that does not; files of 4 KiB to 16 MiB.
fn tree(root: &Path, mib: u64) -> Result<()> {
    let (mut left, mut number, mut state) = (mib * 1024 * 1024, 0_u64, 1_u64);
    while left > 0 {
        let size = (4096 << (number % 13)).min(left);
        let folder = root.join(format!("d{:03}", number % 50));
        std::fs::create_dir_all(&folder)?;
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(format!("f{number}")))?);
        for word in 0..size / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let bytes = if number % 2 == 0 { state } else { word % 997 };
            file.write_all(&bytes.to_le_bytes())?;
        }
        file.flush()?;
        (left, number) = (left - size, number + 1);
    }
    Ok(())
}

fn context(root: &Path, spec: ServiceSpec) -> Result<ActionContext> {
    let real = Arc::new(RealHost::new(None, None)?);
    let balancers = Balancers::new(real.clone(), std::collections::BTreeMap::new());
    let host: Arc<dyn Host> = real;
    Ok(ActionContext {
        node: NodeName::new("bench")?,
        execution: ExecutionId::new("x-1")?,
        operation: OperationId::new("r-1")?,
        epoch: Epoch(1),
        leases: Arc::new(NoLeases),
        services: Arc::new(HostServices::new(Arc::clone(&host), Arc::new(NoLeases), [spec])),
        hooks: Arc::new(Nothing),
        obligations: Arc::new(Nothing),
        balancers,
        facts: Arc::new(HostFacts),
        clock: Arc::new(HostClock),
        allowed_roots: vec![root.to_path_buf()],
        backup_dir: root.join("backups"),
        install: InstallRules::default(),
        hold_file: root.join("helper.hold"),
        data_dir: root.join("data"),
        releases_dir: root.join("releases"),
        programs: Arc::new(HostPrograms::new(host)),
        limits: Limits { nice: 0, ..Limits::default() },
        deadline: HostClock.monotonic().plus(DurationMs::from_secs(3_600)),
        cancel: CancellationToken::new(),
        leaving: Leaving { asked: CancellationToken::new(), tell: Arc::new(|| {}) },
        progress: Arc::new(|_| {}),
    })
}

fn spec(service: &ServiceName) -> ServiceSpec {
    ServiceSpec {
        name: service.clone(),
        driver: Driver::Process { name: "bench".to_owned() },
        nodes: Selector::default(),
        probes: Vec::new(),
        stop_timeout: DurationMs::ZERO,
        start_timeout: DurationMs::ZERO,
        backup: None,
        install: None,
        traffic: None,
        configs: Vec::new(),
        secrets: Vec::new(),
        migrate: None,
        preflight: None,
        handover: None,
        data: None,
        maintenance: None,
        log_rotation: None,
        vars: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
    }
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mib: u64 = args.next().map_or(Ok(256), |a| a.parse())?;
    let level: u32 = args.next().map_or(Ok(3), |a| a.parse())?;
    let temp = tempfile::tempdir()?;
    let data = temp.path().join("data");
    tree(&data, mib)?;
    let service = ServiceName::new("bench")?;
    let policy = BackupPolicy {
        paths: vec![data.to_string_lossy().into_owned()],
        exclude: Vec::new(),
        pause: None,
        resume: None,
        pause_limit: DurationMs::ZERO,
        level,
    };
    let context = context(temp.path(), spec(&service))?;

    let line = format!(
        "tar -C / -cf - {} | zstd -q -T2 -{level} -o theirs.tar.zst && sync theirs.tar.zst",
        data.display()
    );
    let begun = Instant::now();
    // A bench of our own line; no caller's text gets here.
    let status = Command::new("sh")
        .args(["-c", &line])
        .current_dir(temp.path())
        .stderr(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "tar | zstd failed: apt-get install tar zstd");
    let theirs = begun.elapsed();

    let begun = Instant::now();
    let create = ActionSpec::BackupCreate { service, backup: BackupId::new("b-1")?, policy };
    let outcome = execute(&context, &create).await?;
    let ours = begun.elapsed();
    let receipt = outcome.backup.context("no receipt")?;
    println!("{mib} MiB, {} files, level {level}", receipt.files);
    println!(
        "tar | zstd      {theirs:>10.2?}  {} bytes",
        std::fs::metadata(temp.path().join("theirs.tar.zst"))?.len()
    );
    println!(
        "backup.create   {ours:>10.2?}  {} bytes, verified; peak memory {} KiB",
        receipt.size_bytes,
        peak_kib()?
    );
    println!("ratio           {:>10.2}", ours.as_secs_f64() / theirs.as_secs_f64());
    Ok(())
}
