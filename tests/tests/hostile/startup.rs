//! What a daemon does with files and a machine that are not as they should be (B-11, B-18, B-19): one sentence that names
//! the culprit, the exit code of the contract, and nothing half done. Never a panic, never silence.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use quorate_tests::cluster::Fleet;
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;

use crate::peers;

/// A daemon that will not start has said so by then.
const SOON: Duration = Duration::from_secs(30);
/// `EX_CONFIG` and `EX_IOERR`.
const CONFIG: i32 = 78;
const STORE: i32 = 74;

/// How a process ended: its code (`None`: it went on, and was ended) and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    said: String,
}

impl Ended {
    /// It ended with one of these codes and one sentence that names this.
    #[track_caller]
    pub(crate) fn refused(&self, what: &str, codes: &[i32], named: &str) {
        assert!(self.code.is_some_and(|code| codes.contains(&code)), "{what}: {self:?}");
        assert!(!self.said.contains("panicked"), "{what}: {}", self.said);
        let errors: Vec<&str> = self.said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(!errors.is_empty(), "{what}: no sentence in {:?}", self.said);
        assert!(self.said.contains(named), "{what}: {named:?} is not in {errors:?}");
    }
}

/// Runs a command until it ends, or serves (it is ended then).
pub(crate) fn run(command: &mut Command, out: &Path) -> Ended {
    let file = fs::File::create(out).expect("a file");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("the program runs");
    let said = || String::from_utf8_lossy(&fs::read(out).unwrap_or_default()).into_owned();
    let code = wait_for("the program to end or to serve", SOON, || match child.try_wait() {
        Ok(Some(status)) => Ok(Some(status.code().unwrap_or(-1))),
        Ok(None) if said().contains("serving") => Ok(None),
        Ok(None) => Err(said()),
        Err(error) => Err(error.to_string()),
    });
    if code.is_none() {
        child.kill().expect("it can be ended");
        child.wait().expect("it ended");
    }
    Ended { code, said: said() }
}

/// A coordinator of its own, freshly made.
pub(crate) struct Solo {
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
}

impl Solo {
    pub(crate) fn new(fleet: &Fleet, name: &str) -> Self {
        let dir = fleet.dir().join("solo").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let solo = Self { config: dir.join("coordinator.toml"), dir };
        solo.configure(&solo.dir.join("data"), free_port());
        let mut init = solo.command();
        let made = init.arg("init").arg("--admin-out").arg(solo.dir.join("admin")).output().expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        solo
    }

    pub(crate) fn configure(&self, data: &Path, port: u16) {
        let http = free_port();
        let text = format!(
            "name = 'solo'\ncluster_name = 'solo'\ndata_dir = '{}'\n[listen]\ngrpc = '127.0.0.1:{port}'\nhttp = '127.0.0.1:{http}'\n\
             [advertise]\ngrpc = '127.0.0.1:{port}'\nhttp = '127.0.0.1:{http}'\n\
             [store]\nballast_bytes = 0\nmin_free_bytes = 0\nmin_free_percent = 0\n",
            data.display()
        );
        fs::write(&self.config, text).expect("written");
    }

    /// The port of its HTTP listener.
    pub(crate) fn http(&self) -> u16 {
        let text = fs::read_to_string(&self.config).expect("its configuration");
        let port = text.rsplit("http = '127.0.0.1:").next().and_then(|rest| rest.split('\'').next());
        port.and_then(|port| port.parse().ok()).expect("a port")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(workspace::binaries().join("quorate-coordinator"));
        command.arg("--config").arg(&self.config);
        command
    }

    pub(crate) fn run(&self) -> Ended {
        run(&mut self.command(), &self.dir.join("stderr"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(name)
    }
}

/// Below the ports that the kernel gives to outgoing connections: nobody takes it before the daemon does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).expect("less than 20,000");
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode can be set");
}

/// What can be wrong with an identity directory: which file, what is in it, its mode, and what the sentence must name.
fn dirty_files(fleet: &Fleet, own: &Path) -> Vec<(&'static str, &'static str, Vec<u8>, u32, &'static str)> {
    let read = |dir: &Path, file: &str| fs::read(dir.join(file)).expect("a file");
    let other = peers::admin(fleet);
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec();
    let cert = read(own, "cert.pem");
    vec![
        ("a key that others may read", "key.pem", read(own, "key.pem"), 0o644, "key.pem"),
        ("an encrypted key", "key.pem", encrypted, 0o600, "key.pem"),
        ("somebody else's key", "key.pem", read(&other, "key.pem"), 0o600, "key.pem"),
        ("an empty key", "key.pem", Vec::new(), 0o600, "key.pem"),
        ("a key of 1 MiB", "key.pem", vec![b'x'; 1 << 20], 0o600, "key.pem"),
        ("junk for a certificate", "cert.pem", b"junk\n".to_vec(), 0o644, "cert.pem"),
        ("half a certificate", "cert.pem", cert[..cert.len() / 2].to_vec(), 0o644, "cert.pem"),
        ("a certificate of another CA", "cert.pem", read(&other, "cert.pem"), 0o644, "cert.pem"),
        ("a certificate that is not text", "cert.pem", vec![0xff; 500], 0o644, "cert.pem"),
        ("an empty trust bundle", "ca.pem", Vec::new(), 0o644, "ca.pem"),
        ("a trust bundle of nine", "ca.pem", read(own, "ca.pem").repeat(9), 0o644, "ca.pem"),
    ]
}

pub(crate) fn b11_dirty_files(fleet: &Fleet) {
    let solo = Solo::new(fleet, "certificates");
    let tls = solo.file("tls");
    let mut tried = 0;
    for (what, file, bytes, bits, named) in dirty_files(fleet, &tls) {
        let path = tls.join(file);
        let good = fs::read(&path).expect("a file");
        fs::write(&path, &bytes).expect("written");
        mode(&path, bits);
        solo.run().refused(what, &[CONFIG], named);
        fs::write(&path, good).expect("written");
        mode(&path, 0o600);
        tried += 1;
    }
    mode(&tls.join("ca.key"), 0o640);
    solo.run().refused("a CA key that others may read", &[CONFIG], "ca.key");
    mode(&tls.join("ca.key"), 0o600);
    let ended = solo.run();
    assert_eq!(ended.code, None, "with its own files back it serves: {ended:?}");

    // An agent with a copy of node4's identity and its configuration.
    let (from, dir) = (fleet.dir().join("agents/node4"), fleet.dir().join("solo/agent"));
    fs::create_dir_all(dir.join("data/tls")).expect("a directory");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(from.join("data/tls").join(file), dir.join("data/tls").join(file)).expect("copied");
    }
    let config = walkdir::WalkDir::new(&from)
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| entry.file_name() == "agent.toml")
        .expect("its configuration");
    let text = fs::read_to_string(config.path()).expect("a file");
    let text = text.replace(&*from.to_string_lossy(), &dir.to_string_lossy());
    fs::write(dir.join("agent.toml"), text).expect("written");
    let tls = dir.join("data/tls");
    for (what, file, bytes, bits, named) in dirty_files(fleet, &tls) {
        let path = tls.join(file);
        let good = fs::read(&path).expect("a file");
        fs::write(&path, &bytes).expect("written");
        mode(&path, bits);
        let mut agent = Command::new(workspace::binaries().join("quorate-agent"));
        agent.arg("--config").arg(dir.join("agent.toml"));
        run(&mut agent, &dir.join("stderr")).refused(what, &[CONFIG], named);
        fs::write(&path, good).expect("written");
        mode(&path, 0o600);
        tried += 1;
    }
    println!("  {tried} dirty identity files: each refused at the start with exit 78 and its name");
}

pub(crate) fn b18_foreign_and_newer_data(fleet: &Fleet) {
    let (one, two) = (Solo::new(fleet, "one"), Solo::new(fleet, "two"));
    assert_eq!(one.run().code, None, "it serves");
    // The store of another cluster's member under this one's certificate.
    let (raft, own) = (one.file("raft"), one.dir.join("own"));
    fs::rename(&raft, &own).expect("moved");
    fs::rename(two.file("raft"), &raft).expect("moved");
    one.run().refused("another cluster's store", &[STORE, CONFIG], "");
    fs::rename(&raft, two.file("raft")).expect("moved");
    one.run().refused("no store at all", &[STORE, CONFIG], "");
    fs::rename(&own, &raft).expect("moved");
    assert_eq!(one.run().code, None, "with its own store back it serves");

    // Every small file of the store, damaged in turn: refused with a sentence, or repaired; never a panic, never silence.
    let small: Vec<PathBuf> = walkdir::WalkDir::new(&raft)
        .sort_by_file_name()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_type().is_file() && entry.metadata().is_ok_and(|m| (1..4_096).contains(&m.len()))
        })
        .map(walkdir::DirEntry::into_path)
        .collect();
    assert!(!small.is_empty());
    let (mut refused, mut served) = (0, 0);
    for path in &small {
        let good = fs::read(path).expect("a file");
        let mut newer = good.clone();
        newer[0] = newer[0].wrapping_add(1);
        for damaged in [Vec::new(), good[..good.len() / 2].to_vec(), vec![0xff; good.len()], newer] {
            let copy = one.dir.join("copy");
            copy_tree(&raft, &copy);
            fs::write(path, &damaged).expect("written");
            let ended = one.run();
            match ended.code {
                None => served += 1,
                Some(_) => {
                    ended.refused(&format!("{} damaged", path.display()), &[STORE, CONFIG], "");
                    refused += 1;
                }
            }
            fs::remove_dir_all(&raft).expect("removed");
            fs::rename(&copy, &raft).expect("moved");
        }
    }
    assert_eq!(one.run().code, None, "undamaged it serves");
    println!(
        "  {} small files of a store damaged in 4 ways each: {refused} refused with a sentence, {served} not needed to serve",
        small.len()
    );
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().filter_map(Result::ok) {
        let place = to.join(entry.path().strip_prefix(from).expect("below it"));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&place).expect("a directory");
        } else {
            fs::copy(entry.path(), &place).expect("copied");
        }
    }
}

pub(crate) fn b19_bad_environments(fleet: &Fleet) {
    let solo = Solo::new(fleet, "environment");
    let port = free_port();

    let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    solo.configure(&solo.dir.join("data"), port);
    solo.run().refused("a port that is taken", &[1], &format!("127.0.0.1:{port}"));
    drop(taken);

    let file = solo.dir.join("file");
    fs::write(&file, "x").expect("written");
    for (what, place) in [
        ("a file for a directory", file.as_path()),
        ("below a file", &file.join("data")),
        ("/proc", Path::new("/proc/quorate")),
    ] {
        solo.configure(place, port);
        let mut init = solo.command();
        init.arg("init").arg("--admin-out").arg(solo.dir.join("nobody"));
        run(&mut init, &solo.dir.join("stderr")).refused(what, &[1, 2, STORE, CONFIG], "");
        solo.run().refused(what, &[1, 2, STORE, CONFIG], "");
    }
    assert!(
        !solo.dir.join("nobody").exists()
            || fs::read_dir(solo.dir.join("nobody")).is_ok_and(|d| d.count() == 0)
    );

    // Few descriptors: it serves, or says why it does not; it does not die on the way.
    solo.configure(&solo.dir.join("data"), port);
    for limit in [16, 24, 64] {
        let mut few = Command::new("sh");
        few.arg("-c").arg(format!("ulimit -n {limit}; exec \"$@\"")).arg("sh");
        few.arg(workspace::binaries().join("quorate-coordinator")).arg("--config").arg(&solo.config);
        let ended = run(&mut few, &solo.dir.join("stderr"));
        match ended.code {
            None => println!("  {limit} descriptors: it serves"),
            Some(code) => {
                ended.refused(&format!("{limit} descriptors"), &[1, STORE, CONFIG], "");
                println!(
                    "  {limit} descriptors: exit {code}: {}",
                    ended.said.lines().last().unwrap_or_default()
                );
            }
        }
    }

    // A configuration that is none.
    for (what, text, named) in [
        ("YAML", "name: solo\n", ":1:"),
        ("not UTF-8", "\u{0}", "coordinator.toml"),
        ("an unknown key", "nmae = 'x'\n", "nmae"),
        (
            "a limit that is off",
            "name = 'x'\ndata_dir = '/x'\n[listen]\ngrpc = '127.0.0.1:1'\nhttp = '127.0.0.1:2'\n[limits]\nmax_handshakes = 0\n",
            "max_handshakes",
        ),
    ] {
        fs::write(&solo.config, text).expect("written");
        solo.run().refused(what, &[CONFIG], named);
        let mut check = solo.command();
        run(check.arg("--check-config"), &solo.dir.join("stderr")).refused(what, &[2], named);
    }
    fs::remove_file(&solo.config).expect("removed");
    solo.run().refused("no configuration", &[CONFIG], "coordinator.toml");

    // The helper: a socket it cannot make.
    let mut helper = Command::new(workspace::binaries().join("quorate-helper"));
    helper.arg("--config").arg(solo.dir.join("nothing.toml"));
    run(&mut helper, &solo.dir.join("stderr")).refused("no configuration", &[CONFIG], "nothing.toml");
}
