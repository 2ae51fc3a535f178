//! The supervisor's care for processes, with stand-ins for the daemons: what is under test here is who is started,
//! restarted and ended, not what they do. The whole fleet is tested in `quorate-tests` with the real ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::group::wait_for;

/// A folder with the real `quorate` and stand-ins beside it, and a DIR.
struct Bench {
    base: TempDir,
}

impl Bench {
    fn new() -> Self {
        // Beside the binary's own folder, so that it can be linked instead of copied.
        let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let bin = base.path().join("bin");
        std::fs::create_dir(&bin).expect("create bin");
        std::fs::hard_link(env!("CARGO_BIN_EXE_quorate"), bin.join("quorate")).expect("link quorate");
        Self { base }
    }

    /// A stand-in that notes each of its runs in `runs-NAME`, then does what `script` says.
    fn stand_in(&self, name: &str, script: &str) {
        let path = self.base.path().join("bin").join(name);
        let runs = self.runs(name);
        std::fs::write(&path, format!("#!/bin/sh\necho \"$$ $*\" >> '{}'\n{script}\n", runs.display()))
            .expect("write the stand-in");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
    }

    /// Stand-ins of which the coordinator can be initialized and then runs, with a child of its own, for ever.
    fn with_stand_ins() -> Self {
        let bench = Self::new();
        bench.stand_in("quorate-coordinator", "[ \"$1\" = init ] && exit 0\nsleep 600 &\nwait");
        bench.stand_in("quorate-agent", "exec sleep 600");
        bench.stand_in("quorate-helper", "exec sleep 600");
        bench
    }

    fn runs(&self, name: &str) -> PathBuf {
        self.base.path().join(format!("runs-{name}"))
    }

    fn dir(&self) -> PathBuf {
        self.base.path().join("fleet")
    }

    fn quorate(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.base.path().join("bin/quorate"));
        command.arg("dev").args(args).arg("--dir").arg(self.dir()).stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.quorate(args).output().expect("run quorate")
    }

    /// The supervisor in the foreground, once its coordinator runs.
    fn running(&self) -> Child {
        let child = self
            .quorate(&[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the supervisor");
        self.coordinator_runs();
        child
    }

    /// Waits until the recorded coordinator has its child; returns both pids.
    fn coordinator_runs(&self) -> (u32, u32) {
        wait_for("the coordinator runs with its child", || {
            let pid = self.coordinator_pid()?;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            Some((pid, children.split_whitespace().next()?.parse().ok()?))
        })
    }

    fn coordinator_pid(&self) -> Option<u32> {
        let fleet: Value =
            serde_json::from_slice(&std::fs::read(self.dir().join("fleet.json")).ok()?).ok()?;
        let pid = fleet["coordinators"][0]["pid"].as_u64()?;
        (pid != 0).then_some(u32::try_from(pid).ok()?)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.output(&["stop"]);
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("signal it");
}

#[test]
fn missing_daemons_are_named() {
    let bench = Bench::new();
    bench.stand_in("quorate-agent", "exit 0");
    for args in [&[][..], &["--detach"]] {
        let output = bench.output(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("quorate-coordinator, quorate-helper not found in"), "{said}");
    }
}

#[test]
fn a_failing_init_is_shown_with_its_words_and_nothing_is_left() {
    let bench = Bench::with_stand_ins();
    bench.stand_in("quorate-coordinator", "echo 'the disk is on fire' >&2; exit 7");
    let output = bench.output(&["--detach"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the disk is on fire") && said.contains("nothing is left running"), "{said}");
    let status = bench.output(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stdout).contains("failed to come up"), "{}", text(&status.stdout));
}

#[test]
fn a_daemon_that_keeps_dying_ends_the_start_with_its_log() {
    let bench = Bench::with_stand_ins();
    bench
        .stand_in("quorate-coordinator", "[ \"$1\" = init ] && exit 0\necho 'no memory of anything'; exit 9");
    let output = bench.output(&["--detach"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("coord1 ended 3 times") && said.contains("no memory of anything"), "{said}");
    assert_eq!(lines(&bench.runs("quorate-coordinator")).len(), 4, "init and three tries");
}

#[test]
fn a_daemon_that_is_killed_is_started_again_and_recorded() {
    let bench = Bench::with_stand_ins();
    let mut supervisor = bench.running();
    let (pid, child) = bench.coordinator_runs();
    signal(pid, rustix::process::Signal::KILL);
    let next = wait_for("another coordinator", || bench.coordinator_pid().filter(|next| *next != pid));
    assert!(alive(next));
    assert!(alive(child), "an orphan is not ended before the fleet is");
    signal(supervisor.id(), rustix::process::Signal::INT);
    assert!(supervisor.wait().expect("it ends").success());
    assert!(!alive(next), "Ctrl-C ends all");
    assert!(!alive(child), "and the orphan, which had come to the supervisor");
}

#[test]
fn a_second_start_is_refused_and_ctrl_c_ends_everything() {
    let bench = Bench::with_stand_ins();
    let mut supervisor = bench.running();
    let (pid, child) = bench.coordinator_runs();
    for args in [&[][..], &["--detach"]] {
        let output = bench.output(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("supervisor pid {}", supervisor.id())), "{said}");
    }
    let status = bench.output(&["status"]);
    assert_eq!(status.status.code(), Some(8), "starting is pending");
    signal(supervisor.id(), rustix::process::Signal::INT);
    assert!(supervisor.wait().expect("it ends").success());
    assert!(!alive(pid) && !alive(child), "the daemon and its child are gone");
    assert_eq!(bench.output(&["status"]).status.code(), Some(1));
}

#[test]
fn stop_works_without_the_supervisor_and_twice() {
    let bench = Bench::with_stand_ins();
    let mut supervisor = bench.running();
    let (pid, child) = bench.coordinator_runs();
    supervisor.kill().expect("kill -9");
    supervisor.wait().expect("reap it");
    assert!(alive(pid) && alive(child), "a daemon survives its supervisor");
    let stopped = bench.output(&["stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    assert!(!alive(pid) && !alive(child));
    let again = bench.output(&["stop"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains("nothing is running"), "{}", text(&again.stderr));
}

#[test]
fn a_stale_folder_is_resumed_with_its_names_and_ports() {
    let bench = Bench::with_stand_ins();
    let mut supervisor = bench.running();
    let (pid, child) = bench.coordinator_runs();
    let before: Value =
        serde_json::from_slice(&std::fs::read(bench.dir().join("fleet.json")).expect("read")).expect("JSON");
    supervisor.kill().expect("kill -9");
    supervisor.wait().expect("reap it");
    let refused = bench.output(&["--coordinators", "5"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let mut supervisor = bench.running();
    wait_for("a new coordinator", || bench.coordinator_pid().filter(|next| *next != pid));
    assert!(!alive(pid) && !alive(child), "what the dead supervisor left was ended first");
    let after: Value =
        serde_json::from_slice(&std::fs::read(bench.dir().join("fleet.json")).expect("read")).expect("JSON");
    assert_eq!(before["coordinators"][0]["grpc"], after["coordinators"][0]["grpc"]);
    assert_eq!(before["instances"], after["instances"]);
    let inits =
        lines(&bench.runs("quorate-coordinator")).iter().filter(|line| line.contains(" init ")).count();
    assert_eq!(inits, 1, "its data is kept");
    signal(supervisor.id(), rustix::process::Signal::TERM);
    assert!(supervisor.wait().expect("it ends").success());
}

#[test]
fn stop_and_status_of_nothing_and_of_rubbish() {
    let bench = Bench::with_stand_ins();
    assert_eq!(bench.output(&["stop"]).status.code(), Some(0));
    assert_eq!(bench.output(&["status"]).status.code(), Some(1));
    std::fs::create_dir(bench.dir()).expect("create");
    std::fs::write(bench.dir().join("fleet.json"), b"{\"coordinators\":[{\"pid\":1").expect("write");
    for args in [&["stop"][..], &["status"]] {
        let output = bench.output(args);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("is damaged"), "{said}");
    }
    std::fs::remove_file(bench.dir().join("fleet.json")).expect("remove");
}

#[test]
fn an_instance_is_ended_even_if_nobody_recorded_it() {
    let bench = Bench::with_stand_ins();
    let data = bench.dir().join("services/ledger/node1");
    std::fs::create_dir_all(&data).expect("create");
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = held.local_addr().expect("bound").port();
    drop(held);
    let config = bench.dir().join("services/ledger/node1.toml");
    let dir = data.display();
    std::fs::write(
        &config,
        format!(
            "node = 'node1'\nid = 1\nport = {port}\ndata_dir = '{dir}'\nlog_file = '{dir}/x.log'\n\
             [misbehave]\nignore_sigterm = true\n"
        ),
    )
    .expect("write");
    let mut instance = Command::new(bench.base.path().join("bin/quorate"))
        .args(["dev", "ledger", "--config"])
        .arg(config.canonicalize().expect("it is there"))
        .spawn()
        .expect("start it");
    wait_for("it runs", || (!lines(&data.join("starts.log")).is_empty()).then_some(()));
    let stopped = bench.output(&["stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    assert!(instance.try_wait().expect("ask").is_some(), "it ignores SIGTERM, so it was killed");
}
