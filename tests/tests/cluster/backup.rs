//! Backups: written, verified, opened by tar; and a pause that ends by itself when everything around it dies.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_tests::cluster::{Daemon, Fleet, Instance, http};
use quorate_tests::wait::{every, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::restart::LIMIT;

/// The sample's pause ends by itself after 20 s; the agent is back after about one.
const RESUME_LIMIT: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_secs(4);
/// Between two looks at writes that stay paused.
const LOOK: Duration = Duration::from_millis(200);
/// Guide S2, lines 226-239, on the paths of the sample; nobody here checks its key.
const BY_THE_GUIDE: &str = "
sudo() { \"$@\"; }
# 1. Stop writes (if possible) or create consistent snapshot
curl -X POST http://$LEADER/admin/pause-writes \
  -H 'X-API-Key: admin-key'

# 2. Backup data directory
sudo tar -czf $BACKUP/scribe-ledger-$(date +%Y%m%d).tar.gz \
  $DATA

# 4. Resume writes
curl -X POST http://$LEADER/admin/resume-writes \
  -H 'X-API-Key: admin-key'
";

pub(crate) fn written_verified_and_opened_by_tar(fleet: &Fleet) {
    fleet.calm();
    let (status, answer) =
        http("PUT", fleet.instance("node3").at, "/kv/kept", "value", ASK).expect("answers");
    assert_eq!(status, 200, "{answer}");
    let created = fleet
        .quorate(&[
            "backup",
            "create",
            "ledger",
            "--node",
            "node3",
            "--wait",
            "--timeout",
            "120s",
            "-o",
            "json",
        ])
        .expect(0)
        .json();
    assert_eq!(
        (&created["state"], &created["openObligations"]),
        (&"SUCCEEDED".into(), &0.into()),
        "{created:#}"
    );
    let list = fleet.json(&["backup", "list", "--service", "ledger", "--node", "node3"]);
    let backup = &list["backups"][0];
    assert!(["WRITTEN", "VERIFIED"].iter().any(|state| backup["state"] == *state), "{list:#}");
    let id = backup["backupId"].as_str().expect("an id");
    let verified =
        fleet.quorate(&["backup", "verify", id, "--timeout", "120s", "-o", "json"]).expect(0).json();
    assert_eq!(verified["state"], "SUCCEEDED", "{verified:#}");
    let shown = fleet.json(&["backup", "show", id]);
    assert!(shown["verified"].is_string(), "{shown:#}");

    let path = Path::new(shown["receipt"]["path"].as_str().expect("a path"));
    let listed = Command::new("tar").args(["--zstd", "-tf"]).arg(path).output().expect("tar runs");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success(), "tar: {}", String::from_utf8_lossy(&listed.stderr));
    assert!(names.contains("ledger.kv") && names.contains("starts.log"), "{names}");

    // One flipped byte is found.
    let mut bytes = fs::read(path).expect("the backup is readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("the backup is ours");
    let damaged = fleet.quorate(&["backup", "verify", id, "--timeout", "120s", "-o", "json"]).expect(1);
    assert_eq!(damaged.json()["state"], "FAILED", "{damaged:?}");
}

fn writes_paused(at: SocketAddr) -> bool {
    http("GET", at, "/cluster/info", "", ASK).is_ok_and(|(_, body)| body.contains("\"writes_paused\":true"))
}

/// The same fault in the guide's procedure: its shell dies while tar works. For `long` afterwards nobody resumes writes; then
/// the test does.
fn paused_by_the_guide(instance: &Instance, long: Duration) -> usize {
    let backup = tempfile::tempdir().expect("a temporary directory");
    let mut bash = Command::new("bash");
    bash.args(["-c", BY_THE_GUIDE]).env("LEADER", instance.at.to_string()).env("BACKUP", backup.path());
    bash.env("DATA", &instance.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = bash.process_group(0).spawn().expect("bash runs");
    wait_until("tar to write", LIMIT, || {
        fs::read_dir(backup.path()).is_ok_and(|mut dir| dir.next().is_some())
    });
    let group = i32::try_from(shell.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process_group(group, Signal::KILL).expect("the shell can be killed");
    let ended = shell.wait().expect("the shell ends");
    assert!(!ended.success(), "the backup was over before the shell was killed");
    let (died, mut looks) = (Instant::now(), 0);
    every(LOOK, || {
        let (status, answer) =
            http("PUT", instance.at, "/kv/after-the-crash", "value", ASK).expect("answers");
        assert_eq!(status, 503, "writes were resumed after all: {answer}");
        assert!(answer.contains("paused"), "{answer}");
        looks += 1;
        died.elapsed() < long
    });
    let (status, answer) = http("POST", instance.at, "/admin/resume-writes", "", ASK).expect("answers");
    assert_eq!(status, 200, "{answer}");
    looks
}

/// X8: ours and the guide's own procedure, each killed between pause and resume.
pub(crate) fn writes_resume_after_a_crash_in_the_pause(fleet: &Fleet) {
    fleet.calm();
    let instance = fleet.instance("node1");
    let ballast = instance.dir.join("ballast.bin");
    // Enough to copy for a pause that is easy to hit; it does not compress.
    let mut file = fs::File::create(&ballast).expect("the data directory is ours");
    let mut state = 1_u64;
    for _ in 0..96 {
        let block: Vec<u8> = (0..(1 << 17))
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()
            })
            .collect();
        file.write_all(&block).expect("there is room");
    }
    drop(file);
    let id = fleet.begin(&["backup", "create", "ledger", "--node", "node1"]);
    wait_until("writes to be paused", LIMIT, || writes_paused(instance.at));
    fleet.kill(Daemon::Helper("node1"));
    fleet.kill(Daemon::Agent("node1"));
    assert!(writes_paused(instance.at), "the daemons died between pause and resume");
    let died = Instant::now();
    wait_for("writes to resume without help", RESUME_LIMIT, || {
        match http("PUT", instance.at, "/kv/after-the-crash", "value", ASK) {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{status}: {body}")),
            Err(error) => Err(error.to_string()),
        }
    });
    let took = died.elapsed();
    let operation = fleet.ended(&id, LIMIT);
    println!("  backup: {} ({})", operation["state"], operation["message"]);
    assert_eq!(operation["openObligations"], 0, "{operation:#}");
    if operation["state"] == "SUCCEEDED" {
        let list = fleet.json(&["backup", "list", "--node", "node1"]);
        let id = list["backups"][0]["backupId"].as_str().expect("a backup that is told is there").to_owned();
        let _ = fleet.quorate(&["backup", "verify", &id, "--timeout", "120s"]).expect(0);
    } else {
        assert_eq!(operation["state"], "FAILED", "{operation:#}");
        assert_ne!(operation["message"], "", "a failure says why");
    }
    let looks = paused_by_the_guide(&instance, took * 2);
    println!(
        "  ours resumed after {:.1} s; the guide's had not at any of {looks} looks in twice that",
        took.as_secs_f32()
    );
    fs::remove_file(&ballast).expect("it was there");
    fleet.calm();
}
