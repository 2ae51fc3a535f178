//! 4: a configuration file is taken or refused with a text that names the file; nothing else happens.

use std::fs;

use quorate_agent::config::Config as AgentConfig;
use quorate_coordinator::config::Config as CoordinatorConfig;

pub(super) fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Err(error) = AgentConfig::parse(text) {
            assert!(!error.to_string().is_empty());
        }
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("coordinator.toml");
    fs::write(&path, bytes).expect("written");
    if let Err(error) = CoordinatorConfig::load(&path) {
        let text = format!("{error}");
        assert!(text.contains("coordinator.toml"), "the file is not named: {text}");
    }
    assert_eq!(fs::read(&path).expect("it is there"), bytes, "a configuration was changed by reading it");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let agent = r#"
node = "node1"
data_dir = "/var/lib/quorate/agent"
coordinators = ["10.0.0.1:7443", "coord2.example:7443"]
enroll = ["10.0.0.1:7480"]
token_file = "/etc/quorate/token"
helper_socket = "/run/quorate/helper.sock"
metrics_listen = "127.0.0.1:7481"

[labels]
zone = "a"

[policy]
actions = ["service.*", "backup.create", "host.*"]
services = ["ledger"]
paths = ["/srv/ledger"]
hooks = ["pause"]
backup_dir = "/srv/backups"

[process.ledger]
argv = ["/usr/bin/ledger", "--port", "1"]
cwd = "/srv/ledger"
log = "/var/log/ledger.log"

[hook.pause]
argv = ["/usr/bin/true"]
"#;
    let coordinator = r#"
name = "coord1"
data_dir = "/var/lib/quorate/coordinator"
grpc_listen = "0.0.0.0:7443"
http_listen = "0.0.0.0:7480"
"#;
    let hostile =
        ["[[[[[[[[", "a = \"\"\"", "node = 1\nnode = 2", "\u{feff}node = \"x\"", "x = 99999999999999999999"];
    let with = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let mut seeds = vec![with(0, agent), with(1, coordinator)];
    seeds.extend(hostile.iter().flat_map(|text| [with(0, text), with(1, text)]));
    seeds
}
