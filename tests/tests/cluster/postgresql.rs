//! The adapter of PostgreSQL against the real one: two servers on loopback, without systemd and without the fleet.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate_tests::cluster::{Answer, Fleet};
use quorate_tests::wait::{wait_for, wait_until};
use quorate_tests::workspace::root;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Debian 12's.
const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Longest that a state may take to come about on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Two servers; their configuration lies beside their data, as Debian has it.
struct Two {
    dir: tempfile::TempDir,
    ports: [u16; 2],
}

/// A program as the account that PostgreSQL runs as: it refuses to run as root.
fn own(program: &str) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    };
    // What a server is started with it keeps open; nobody waits for the end of that.
    command.current_dir("/").stdin(Stdio::null());
    command
}

impl Two {
    fn new() -> Self {
        assert!(PathBuf::from(BIN).is_dir(), "apt-get install --no-install-recommends postgresql");
        let dir = tempfile::Builder::new().prefix("quorate-pg-").tempdir().expect("a temporary directory");
        let held = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = held.each_ref().map(|held| held.local_addr().expect("an address").port());
        let two = Self { dir, ports };
        for n in [1, 2] {
            let (conf, at) = (two.path(&format!("conf{n}")), two.dir.path().display());
            std::fs::create_dir(&conf).expect("a writable folder");
            let text = format!(
                "data_directory = '{at}/data{n}'\nhba_file = '{at}/conf{n}/pg_hba.conf'\n\
                 ident_file = '{at}/conf{n}/pg_ident.conf'\nport = {}\nlisten_addresses = '127.0.0.1'\n\
                 unix_socket_directories = '{at}'\nwal_log_hints = on\nwal_keep_size = 64MB\n",
                two.ports[n - 1]
            );
            let trust = "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n";
            let peer = format!("host=127.0.0.1 port={} user=postgres", two.ports[2 - n]);
            let settings = format!(
                "PGDATA='{at}/data{n}'\nPGCONF='{at}/conf{n}'\nPGHOST='{at}'\nPGPORT={}\nNODE=node{n}\n\
                 PEER='{peer}'\nPGOWNER=postgres\nPGUSER=postgres\nexport PGUSER\n",
                two.ports[n - 1]
            );
            let files = [("postgresql.conf", text.as_str()), ("pg_hba.conf", trust), ("pg_ident.conf", "")];
            for (name, text) in files {
                std::fs::write(conf.join(name), text).expect("a writable folder");
            }
            std::fs::write(two.path(&format!("node{n}.env")), settings).expect("a writable folder");
        }
        if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").args(["-R", "postgres"]).arg(two.dir.path()).status();
            assert!(given.expect("chown runs").success());
        }
        two
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, program: &str, args: &[&str]) -> Answer {
        Answer::of(&own(&format!("{BIN}/{program}")).args(args).output().expect("it runs"))
    }

    fn start(&self, n: usize) {
        let at = self.dir.path().display();
        let options = format!("-c config_file={at}/conf{n}/postgresql.conf");
        let mut command = own(&format!("{BIN}/pg_ctl"));
        command.args(["start", "-w", "-t", "60", "-o", &options, "-D"]).arg(self.path(&format!("data{n}")));
        command.arg("-l").arg(self.path(&format!("log{n}"))).stdout(Stdio::null());
        let started = command.status().expect("pg_ctl runs");
        let log = std::fs::read_to_string(self.path(&format!("log{n}"))).unwrap_or_default();
        assert!(started.success(), "{log}");
    }

    /// `kill -9` of the postmaster: the others end with it. Gone is whom somebody has waited for, too.
    fn kill(&self, n: usize) {
        let data = self.path(&format!("data{n}"));
        let text = std::fs::read_to_string(data.join("postmaster.pid")).expect("it runs");
        let pid = text.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::KILL).expect("it runs");
        let data = data.display().to_string();
        wait_until("its end", LIMIT, || self.run("pg_ctl", &["status", "-D", &data]).code != 0);
    }

    fn stop(&self, n: usize) {
        let data = self.path(&format!("data{n}")).display().to_string();
        let stopped = self.run("pg_ctl", &["stop", "-m", "fast", "-w", "-t", "60", "-D", &data]);
        assert_eq!(stopped.code, 0, "{stopped:?}");
    }

    fn ask(&self, n: usize, sql: &str) -> Result<String, String> {
        let (at, port) = (self.dir.path().display().to_string(), self.ports[n - 1].to_string());
        let args = ["-XAtq", "-U", "postgres", "-h", &at, "-p", &port, "-d", "postgres", "-c", sql];
        let answer = self.run("psql", &args);
        if answer.code == 0 { Ok(answer.stdout.trim().to_owned()) } else { Err(answer.stderr) }
    }

    fn told(&self, n: usize, sql: &str) -> String {
        self.ask(n, sql).expect("the server answers")
    }

    /// One of the adapter's scripts, as the host's helper runs it.
    fn script(&self, n: usize, name: &str) -> Answer {
        let mut command = Command::new(root().join("deploy/adapters/postgresql").join(name));
        command.arg(self.path(&format!("node{n}.env"))).stdin(Stdio::null());
        Answer::of(&command.output().expect("the script runs"))
    }

    fn member(&self, n: usize) -> Value {
        let answer = self.script(n, "status").expect(0);
        answer.json()["members"][0].clone()
    }

    /// Until the rows of the standby are these.
    fn wait_rows(&self, n: usize, rows: &str) {
        let sql = "SELECT string_agg(x::text, ',' ORDER BY x) FROM t";
        wait_for("the rows of the standby", LIMIT, || match self.ask(n, sql) {
            Ok(seen) if seen == rows => Ok(()),
            Ok(seen) | Err(seen) => Err(seen),
        });
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        for n in ["data1", "data2", "kept"] {
            let data = self.path(n);
            if data.join("postmaster.pid").exists() {
                let _ = own(&format!("{BIN}/pg_ctl"))
                    .args(["stop", "-m", "immediate", "-w", "-D"])
                    .arg(data)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

/// A primary with one row, and a standby that has it.
fn streaming() -> Two {
    let two = Two::new();
    let (one, other) = (two.path("data1").display().to_string(), two.path("data2").display().to_string());
    let _ = two.run("initdb", &["-N", "-A", "trust", "-U", "postgres", "-D", &one]).expect(0);
    two.start(1);
    let from = format!("host=127.0.0.1 port={} user=postgres", two.ports[0]);
    let _ = two.run("pg_basebackup", &["-R", "-c", "fast", "-d", &from, "-D", &other]).expect(0);
    two.start(2);
    two.told(1, "CREATE TABLE t (x int)");
    two.told(1, "INSERT INTO t VALUES (1)");
    two.wait_rows(2, "1");
    two
}

pub(crate) fn a_killed_primary_is_rewound_and_what_only_it_had_is_kept(_fleet: &Fleet) {
    let two = streaming();
    let (one, other) = (two.member(1), two.member(2));
    assert_eq!((one["role"].as_str(), other["role"].as_str()), (Some("PRIMARY"), Some("STANDBY")));
    wait_for("the same position", LIMIT, || {
        let [one, other] = [1, 2].map(|n| two.member(n)["position"].as_u64());
        if one.is_some() && one == other { Ok(()) } else { Err(format!("{one:?} {other:?}")) }
    });

    // A row that the standby never sees, and the end of who wrote it.
    two.stop(2);
    two.told(1, "INSERT INTO t VALUES (99)");
    two.kill(1);
    two.start(2);
    assert_eq!(two.script(1, "rejoin").code, 1, "nobody leads yet");
    assert_eq!(two.script(1, "promote").code, 1, "there is nothing that runs");
    let _ = two.script(2, "promote").expect(0);
    let _ = two.script(2, "promote").expect(0);
    assert_eq!(two.member(2)["role"], "PRIMARY");
    two.told(2, "INSERT INTO t VALUES (2)");

    let _ = two.script(1, "rejoin").expect(0);
    assert!(two.path("data1/standby.signal").exists() && !two.path("data1.rejoining").exists());
    let again = two.script(1, "rejoin").expect(0);
    assert!(again.stderr.contains("already"), "told again it changes nothing: {again:?}");
    two.start(1);
    assert_eq!(two.script(1, "rejoin").code, 1, "not while it runs");
    two.wait_rows(1, "1,2");
    let member = two.member(1);
    assert_eq!((member["role"].as_str(), member["lag"].as_u64()), (Some("STANDBY"), Some(0)));
    two.told(2, "INSERT INTO t VALUES (3)");
    two.wait_rows(1, "1,2,3");

    // What was cut off is there, and can be looked at.
    two.stop(1);
    std::fs::rename(two.path("data1.before-rejoin.1"), two.path("kept")).expect("it is kept");
    let at = two.dir.path().display();
    let options = format!("-c config_file={at}/conf1/postgresql.conf -c data_directory={at}/kept");
    let kept = two.path("kept").display().to_string();
    let log = two.path("log-kept").display().to_string();
    let mut command = own(&format!("{BIN}/pg_ctl"));
    command.args(["start", "-w", "-l", &log, "-o", &options, "-D", &kept]).stdout(Stdio::null());
    assert!(command.status().expect("pg_ctl runs").success());
    assert_eq!(two.told(1, "SELECT string_agg(x::text, ',' ORDER BY x) FROM t"), "1,99");
    let _ = two.run("pg_ctl", &["stop", "-m", "fast", "-w", "-D", &kept]).expect(0);
}

pub(crate) fn a_rejoin_that_was_killed_ends_with_a_copy_and_nothing_is_lost(_fleet: &Fleet) {
    let two = streaming();
    two.stop(2);
    two.told(1, "INSERT INTO t VALUES (99)");
    two.kill(1);
    two.start(2);
    let _ = two.script(2, "promote").expect(0);
    // As a rewind leaves it that was killed: nobody can tell what is in there.
    let marker = two.path("data1.rejoining").display().to_string();
    let _ =
        Answer::of(&own("sh").args(["-c", "echo rewinding >\"$1\"", "sh", &marker]).output().expect("sh"))
            .expect(0);
    assert_eq!(two.script(1, "promote").code, 1, "half made, it is nobody's");
    let rejoined = two.script(1, "rejoin").expect(0);
    assert!(rejoined.stderr.contains("kept in"), "{rejoined:?}");
    assert!(two.path("data1.before-rejoin.1/PG_VERSION").exists(), "the old data is never written over");
    assert!(!two.path("data1.rejoining").exists());
    two.start(1);
    two.wait_rows(1, "1");
    two.told(2, "INSERT INTO t VALUES (2)");
    two.wait_rows(1, "1,2");
    wait_until("both stream", LIMIT, || two.told(2, "SELECT count(*) FROM pg_stat_replication") == "1");
}
