//! Row X19: the guide's `failover.sh` as it is written, and ours under the same faults.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use quorate_tests::wait::wait_until;
use quorate_tests::{workspace, writer};
use rustix::process::{Pid, Signal, kill_process};

use crate::pair::{LIMIT, Pair};

/// The guide's script. Its hosts and its port are ours; what it calls and does not define is below it.
const FAILOVER: &str = r#"
if ! curl -f http://$PRIMARY_HOST/healthz; then
    echo "Primary is down, initiating failover"
    update_dns_record $SECONDARY_HOST
    ssh $SECONDARY_HOST "systemctl start network_service_primary"
    send_alert "Failover completed to $SECONDARY_HOST"
fi
"#;
const AROUND: &str = r#"
update_dns_record() { :; }
send_alert() { :; }
ssh() { "$QUORATE" dev pair-admin promote --epoch 1 --async --config "$SECONDARY_CONFIG"; }
"#;

/// One instance outside of any fleet; ended with this.
struct Alone {
    child: Child,
    port: u16,
    dir: PathBuf,
    config: PathBuf,
}

impl Alone {
    fn start(base: &Path, node: &str, (port, peer): (u16, u16), first: bool) -> Self {
        let (dir, config) = (base.join(node), base.join(format!("{node}.toml")));
        std::fs::create_dir_all(&dir).expect("a folder");
        let text = format!(
            "node = \"{node}\"\nport = {port}\npeer_port = {peer}\ndata_dir = \"{}\"\nfirst = {first}\nasynchronous = true\n",
            dir.display()
        );
        std::fs::write(&config, text).expect("its file");
        let mut command = Command::new(workspace::binaries().join("quorate"));
        command.args(["dev", "pair", "--config"]).arg(&config).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let alone = Self { child, port, dir, config };
        wait_until("an instance to answer", LIMIT, || alone.curl(&["-f"], "/healthz"));
        alone
    }

    fn curl(&self, more: &[&str], path: &str) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "--max-time", "5"]).args(more);
        curl.arg(format!("http://127.0.0.1:{}{path}", self.port));
        curl.status().expect("curl runs").success()
    }

    fn writes(&self) -> bool {
        self.curl(&["-f", "-d", r#"{"key":"k","value":"v"}"#], "/write")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (one, two) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    (port(&one), port(&two))
}

/// The guide's script, looking at the primary where `seen_at` is.
fn failover(seen_at: u16, secondary: &Alone) -> Child {
    let mut script = Command::new("bash");
    script.arg("-c").arg(format!("{AROUND}{FAILOVER}"));
    script.env("PRIMARY_HOST", format!("127.0.0.1:{seen_at}")).env("SECONDARY_HOST", "secondary");
    script.env("QUORATE", workspace::binaries().join("quorate")).env("SECONDARY_CONFIG", &secondary.config);
    script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash runs")
}

pub(crate) fn x19_one_curl_makes_two_primaries(pair: &Pair) {
    as_written();
    // The same with ours: a primary that hangs is replaced, and has ended before; nobody saw two.
    let first = pair.whole();
    let second = pair.other(&first);
    let writer = pair.writer();
    let hung = pair.process(&first);
    kill_process(hung, Signal::STOP).expect("it can be stopped");
    assert_eq!(pair.led_by(Some(&second)), second);
    assert!(rustix::process::test_kill_process(hung).is_err(), "it is fenced before anybody is promoted");
    pair.assert_kept(&writer.end(), &second);
    pair.bring_back(&first);
}

fn as_written() {
    let base = tempfile::tempdir().expect("a folder");
    let ((one, two), (nobody, _)) = (free_ports(), free_ports());
    let primary = Alone::start(base.path(), "primary", (one, two), true);
    let secondary = Alone::start(base.path(), "secondary", (two, one), false);
    assert!(primary.writes(), "the primary accepts");
    assert!(!secondary.writes(), "its standby does not");

    // It hangs: the one look has no time-out, and nothing happens.
    primary.signal(Signal::STOP);
    let mut waiting = failover(one, &secondary);
    let begun = std::time::Instant::now();
    wait_until("five seconds", LIMIT, || begun.elapsed().as_secs() >= 5);
    assert!(waiting.try_wait().expect("it is asked").is_none(), "the script hangs with it");
    assert!(!secondary.writes(), "nobody accepts anything");
    waiting.kill().and_then(|()| waiting.wait()).expect("it can be ended");
    primary.signal(Signal::CONT);
    wait_until("the primary to go on", LIMIT, || primary.writes());

    // From where it looks the primary is not reached; its clients reach it as ever.
    assert!(failover(nobody, &secondary).wait().expect("it ends").success(), "and it says nothing");
    wait_until("the other one to accept, too", LIMIT, || secondary.writes());
    assert!(primary.writes(), "and the old one goes on");
    let accepted = [writer::accepted(&primary.dir), writer::accepted(&secondary.dir)].concat();
    assert!(writer::overlap(&accepted).is_some(), "two primaries: {accepted:?}");
}
