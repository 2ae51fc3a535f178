//! A machine that is not as it should be (B-19): what `/proc`, the file system and the clock can deny a daemon. One sentence,
//! an exit code, nothing changed on disk; what passes by itself is waited for.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate_tests::cluster::{Fleet, http, loopback};
use quorate_tests::preload;
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;

use crate::startup::{Solo, run};

/// `EX_IOERR`.
const STORE: i32 = 74;

/// A program with mounts of its own: `before` is run by a shell in a new mount namespace, then the program.
fn inside(before: &str, program: &Path, config: &Path) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c"]).arg(format!("set -e; {before}; exec \"$@\"")).arg("sh");
    command.arg(program).arg("--config").arg(config);
    command
}

/// A program on the second of January 1970, with timers that go on.
fn in_1970(mut command: Command) -> Command {
    preload::turn_clock(&mut command, 86_400).expect("a C compiler");
    command
}

pub(crate) fn b19_file_systems(fleet: &Fleet) {
    let solo = Solo::new(fleet, "machine");
    let coordinator = workspace::binaries().join("quorate-coordinator");
    let out = solo.dir.join("stderr");
    let (dir, data) = (solo.dir.display(), solo.dir.join("data"));

    let hidden = "mount -t tmpfs none /proc";
    run(&mut inside(hidden, &coordinator, &solo.config), &out).refused(
        "a hidden /proc",
        &[STORE],
        "/proc/self/exe",
    );

    let read_only = format!("mount --bind {dir} {dir}; mount -o remount,ro,bind {dir}");
    run(&mut inside(&read_only, &coordinator, &solo.config), &out).refused(
        "a read-only file system",
        &[STORE],
        "Read-only file system",
    );

    // A file system with exactly as many inodes as the files take, and its own root.
    let taken = walkdir::WalkDir::new(&data).into_iter().count() + 1;
    let copy = fleet.dir().join("solo/copy");
    let full = |inodes: usize| {
        format!(
            "mkdir -p {copy}; cp -a {dir}/. {copy}; mount -t tmpfs -o size=256m,nr_inodes={inodes} none {data}; \
             cp -a {copy}/data/. {data}; rm -r {copy}",
            copy = copy.display(),
            data = data.display(),
        )
    };
    run(&mut inside(&full(taken - 1), &coordinator, &solo.config), &out).refused(
        "a full inode table",
        &[STORE],
        "no space left",
    );
    let ended = run(&mut inside(&full(taken + 16), &coordinator, &solo.config), &out);
    assert_eq!(ended.code, None, "with a few inodes it serves: {ended:?}");

    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    stranger.arg(&coordinator).arg("--config").arg(&solo.config);
    if rustix::process::geteuid().is_root() {
        run(&mut stranger, &out).refused("another owner", &[STORE, 78, 2], "Permission denied");
    } else {
        println!("  another owner: only root can become somebody else, not tried");
    }
    assert_eq!(solo.run().code, None, "nothing of it changed the member");
    helper(fleet);
}

/// The agent's root half says the same.
fn helper(fleet: &Fleet) {
    let dir = fleet.dir().join("solo/helper");
    fs::create_dir_all(&dir).expect("a directory");
    let config = dir.join("agent.toml");
    let text = format!(
        "node = 'node9'\ndata_dir = '{dir}/data'\nhelper_dir = '{dir}/helper'\nhelper_socket = '{dir}/socket'\n\
         coordinators = ['127.0.0.1:1']\n",
        dir = dir.display(),
    );
    fs::write(&config, text).expect("written");
    let (program, out) = (workspace::binaries().join("quorate-helper"), dir.join("stderr"));
    let hidden = "mount -t tmpfs none /proc";
    run(&mut inside(hidden, &program, &config), &out).refused("a hidden /proc", &[STORE], "/proc");
    let read_only = format!("mount --bind {0} {0}; mount -o remount,ro,bind {0}", dir.display());
    let ended = run(&mut inside(&read_only, &program, &config), &out);
    ended.refused("a read-only file system", &[STORE], "Read-only file system");
}

/// The log lies on a full disk: nobody reads why, but the exit code is right, and whoever works goes on.
pub(crate) fn b19_a_log_that_takes_no_line(fleet: &Fleet) {
    let solo = Solo::new(fleet, "log");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("the kernel has it");
    for program in ["quorate-coordinator", "quorate-agent", "quorate-helper"] {
        let mut daemon = Command::new(workspace::binaries().join(program));
        daemon.arg("--config").arg(solo.dir.join("nothing.toml"));
        let ended = daemon.stdin(Stdio::null()).stderr(full()).status().expect("it runs");
        assert_eq!(ended.code(), Some(78), "{program}: a panic for want of a listener has 101");
    }
    let mut serving = solo.command().stdin(Stdio::null()).stderr(full()).spawn().expect("it runs");
    let ready = wait_for("a member without a log to lead", Duration::from_secs(30), || {
        if let Ok(Some(status)) = serving.try_wait() {
            return Ok(Err(status));
        }
        match http("GET", loopback(solo.http()), "/readyz", "", Duration::from_secs(2)) {
            Ok((200, _)) => Ok(Ok(())),
            other => Err(format!("{other:?}")),
        }
    });
    serving.kill().expect("it can be ended");
    serving.wait().expect("it ended");
    assert!(ready.is_ok(), "it ended by itself: {ready:?}");
}

pub(crate) fn b19_a_clock_in_1970(fleet: &Fleet) {
    let solo = Solo::new(fleet, "clock");
    let out = solo.dir.join("stderr");
    run(&mut in_1970(solo.command()), &out).refused("a clock in 1970", &[1], "1970-01-02T00:00:0");
    assert_eq!(solo.run().code, None, "with the right time it serves");

    // A CA made then would have ended before anybody could use it.
    let none = solo.dir.join("none");
    solo.configure(&none, crate::startup::free_port());
    let mut init = solo.command();
    init.arg("init").arg("--admin-out").arg(solo.dir.join("nobody"));
    run(&mut in_1970(init), &out).refused("init in 1970", &[1], "1970-01-02T00:00:0");
    assert!(!none.exists() && !solo.dir.join("nobody").exists(), "nothing was made");

    // An agent goes on, since it may owe an undo, and says why nobody answers it.
    let (from, dir) = (fleet.dir().join("agents/node4"), solo.dir.join("agent"));
    fs::create_dir_all(dir.join("data/tls")).expect("a directory");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(from.join("data/tls").join(file), dir.join("data/tls").join(file)).expect("copied");
    }
    let text = fs::read_to_string(from.join("agent.toml")).expect("its configuration");
    fs::write(dir.join("agent.toml"), text.replace(&*from.to_string_lossy(), &dir.to_string_lossy()))
        .expect("written");
    let mut agent = Command::new(workspace::binaries().join("quorate-agent"));
    agent.arg("--config").arg(dir.join("agent.toml")).stdin(Stdio::null()).stdout(Stdio::null());
    agent.stderr(fs::File::create(&out).expect("a file"));
    let mut agent = in_1970(agent).spawn().expect("it runs");
    let said = wait_for("the agent to say why it is alone", Duration::from_secs(30), || {
        let said = fs::read_to_string(&out).unwrap_or_default();
        if said.contains("certificate not valid yet") { Ok(said) } else { Err(said) }
    });
    let alive = agent.try_wait().expect("it can be asked").is_none();
    agent.kill().expect("it can be ended");
    agent.wait().expect("it ended");
    assert!(alive, "it ended by itself: {said}");
}
