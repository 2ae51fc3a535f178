//! Load on a real helper by its local socket, and what must be in its journal afterwards.
//!
//! The load process starts `quorate-helper` in its own process group and hands it backups one after the other, each with
//! its INTENT and its RESULT in the journal. An end that was told must be found as it was told: in its own record, or in
//! the tombstone of a confirmed one.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use quorate_agent::config::Config;
use quorate_agent::helper::Client;
use quorate_agent::helper::protocol::{Answer, Request};
use quorate_agent::runner::journal::{self, Journal};
use quorate_agent::runner::{Incoming, Notice};
use quorate_durable::Probe;
use quorate_model::backup::BackupPolicy;
use quorate_model::session::{Assignment, NodeInstance};
use quorate_model::{
    ActionSpec, BackupId, Driver, DurationMs, Epoch, ExecutionId, ExecutionState, OperationId, ServiceName,
};

use super::run::{Progress, Subject};
use super::store_load::{Found, causes};
use crate::workspace;

/// Longest wait for one execution, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(60);
/// An execution is confirmed when this many later ones have ended.
const BEHIND: u64 = 6;
/// Where the daemons are, for a load process.
const BINARIES: &str = "QUORATE_CRASH_BINARIES";

/// One real helper.
#[derive(Debug)]
pub struct Helper;

fn own() -> PathBuf {
    std::env::current_exe().expect("a test knows its own path")
}

fn write_config(root: &Path) -> PathBuf {
    let at = root.display();
    let text = format!(
        "node = \"node1\"\ndata_dir = \"{at}/state\"\nhelper_socket = \"{at}/helper.sock\"\n\
         [policy]\nactions = [\"backup.create\"]\nservices = [\"ledger\"]\npaths = [\"{at}/data\"]\nbackup_dir = \"{at}/backups\"\n\
         [limits]\nreserve = \"0B\"\n[journal]\nmin_free = \"0B\"\n\
         [process.ledger]\nargv = [\"/bin/true\"]\ncwd = \"{at}\"\nlog = \"{at}/ledger.log\"\n"
    );
    let path = root.join("agent.toml");
    fs::write(&path, text).expect("the directory is ours");
    path
}

impl Subject for Helper {
    fn name(&self) -> &str {
        "agent helper"
    }

    fn writers(&self) -> usize {
        1
    }

    fn most_acks(&self) -> u64 {
        40
    }

    fn prepare(&self, root: &Path) {
        fs::create_dir(root.join("data")).expect("the directory is ours");
        fs::write(root.join("data/records"), b"what is backed up").expect("the directory is ours");
        write_config(root);
    }

    fn work(&self, root: &Path, _seed: u64, progress: &Progress) -> Command {
        let mut command = Command::new(own());
        command.arg("helper-work").arg(root).env(BINARIES, workspace::binaries());
        command.args(progress.acked.iter().map(u64::to_string));
        command
    }

    fn verify(&self, root: &Path, _seed: u64, progress: &Progress) -> Command {
        let mut command = Command::new(own());
        command.arg("helper-verify").arg(root).args(progress.acked.iter().map(u64::to_string));
        command
    }
}

fn id(number: u64) -> ExecutionId {
    ExecutionId::new(format!("x-{number}")).expect("a valid id")
}

fn incoming(root: &Path, number: u64) -> Incoming {
    let service = ServiceName::new("ledger").expect("a valid name");
    let policy = BackupPolicy {
        paths: vec![root.join("data").display().to_string()],
        exclude: Vec::new(),
        pause: None,
        resume: None,
        pause_limit: DurationMs(1_000),
        level: 1,
    };
    let backup = BackupId::new(format!("b-{number}")).expect("a valid id");
    let epoch = Epoch(1 + number / 10);
    let assignment = Assignment {
        execution: id(number),
        operation: OperationId::new("r-1").expect("a valid id"),
        epoch,
        grant_remaining: DurationMs::ZERO,
        deadline: DurationMs(60_000),
        action: ActionSpec::BackupCreate { service: service.clone(), backup, policy },
        disruptive: false,
    };
    let instance = NodeInstance {
        service,
        driver: Driver::Process { name: "ledger".to_owned() },
        running: true,
        stop_timeout: DurationMs(5_000),
        start_timeout: DurationMs(5_000),
    };
    Incoming {
        generation: epoch.0,
        assignments: vec![(assignment, None)],
        instances: vec![instance],
        confirmed: number.checked_sub(BEHIND).filter(|n| *n > 0).map(id).into_iter().collect(),
        ..Incoming::default()
    }
}

async fn connect(socket: &Path) -> Result<Client, String> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Ok(mut client) = Client::connect(socket).await
            && matches!(client.ask(&Request::Status).await, Ok(Answer::Status(_)))
        {
            return Ok(client);
        }
        if tokio::time::Instant::now() >= end {
            return Err("the helper does not answer".to_owned());
        }
        // Load, not a test's wait: looks again until the helper answers or the deadline is over.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn load(root: &Path, from: u64) -> Result<(), String> {
    let socket = root.join("helper.sock");
    let mut listener = connect(&socket).await?.listen().await.map_err(|e| e.to_string())?;
    let mut client = connect(&socket).await?;
    for number in from + 1.. {
        let work = Request::Work(Box::new(incoming(root, number)));
        client.ask(&work).await.map_err(|e| e.to_string())?;
        let wanted = id(number);
        let told = async {
            loop {
                match listener.next().await {
                    Ok(Some(Notice::Execution(report)))
                        if report.execution == wanted && report.state.is_final() =>
                    {
                        return Ok(report.state);
                    }
                    // None: all that was not confirmed has been told.
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let state =
            tokio::time::timeout(PATIENCE, told).await.map_err(|_| format!("{wanted} did not end"))??;
        if state != ExecutionState::Succeeded {
            return Err(format!("{wanted} ended as {state:?}"));
        }
        writeln!(std::io::stdout().lock(), "ack 0 {number}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn work(root: &Path, from: u64) -> Result<(), String> {
    let program = PathBuf::from(std::env::var_os(BINARIES).unwrap_or_default()).join("quorate-helper");
    let mut daemon = Command::new(program);
    // A state that was checked elsewhere still names that place.
    daemon.arg("--config").arg(write_config(root)).stdin(Stdio::null()).stdout(Stdio::null());
    let mut daemon = daemon.spawn().map_err(|e| e.to_string())?;
    let outcome = runtime().block_on(load(root, from));
    let _ = daemon.kill(); // it may be gone
    let _ = daemon.wait();
    outcome
}

fn verify(root: &Path, acked: u64) -> Found {
    let config = match Config::load(&write_config(root)) {
        Ok(config) => config,
        Err(error) => return Found::Refused(error.to_string()),
    };
    let known = match journal::installation(&config.helper_dir) {
        Ok((_, known)) => known,
        Err(error) => return Found::Refused(causes(&error)),
    };
    if acked > 0 && !known {
        return Found::Lost("the installation's marker is gone".to_owned());
    }
    if !known && !config.helper_dir.exists() {
        return Found::Whole(vec![0]);
    }
    let opened = Journal::open(&config.journal_dir(), known, &config.journal, Probe::SelfExe);
    let journal = match opened {
        Ok(journal) => journal,
        Err(error) => return Found::Refused(causes(&error)),
    };
    let contents = match journal.contents() {
        Ok(contents) => contents,
        Err(error) => return Found::Torn(causes(&error)),
    };
    let ended = |number: u64| {
        let id = id(number);
        let entry = contents.entries.iter().find(|(found, _)| *found == id).and_then(|(_, e)| e.end.as_ref());
        let stone = contents.tombstones.iter().find(|(found, _)| *found == id);
        entry.map(|end| end.state).or(stone.map(|(_, stone)| stone.state))
    };
    for number in 1..=acked {
        match ended(number) {
            Some(ExecutionState::Succeeded) => {}
            other => {
                return Found::Lost(format!(
                    "execution {number} was told to have succeeded, the journal says {other:?}"
                ));
            }
        }
    }
    if ended(acked + 2).is_some() {
        return Found::Lost("the journal has executions that were never asked for".to_owned());
    }
    Found::Whole(vec![acked + u64::from(ended(acked + 1) == Some(ExecutionState::Succeeded))])
}

/// The processes of this load: `helper-work ROOT ACKED`, `helper-verify ROOT ACKED`.
pub fn process(args: &[OsString]) -> Option<ExitCode> {
    let root = args.get(1).map(PathBuf::from)?;
    let acked = args.get(2).and_then(|a| a.to_str()?.parse().ok())?;
    match args.first()?.to_str()? {
        "helper-work" => Some(match work(&root, acked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(74)
            }
        }),
        "helper-verify" => {
            println!("{}", verify(&root, acked).line());
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}
