use super::*;

const HEAD: &str = "node = 'node1'\ndata_dir = '/d'\nhelper_socket = '/d/helper.sock'\n";

fn parse(rest: &str) -> Result<Config, LoadError> {
    Config::parse(&format!("{HEAD}{rest}"))
}

#[test]
fn the_file_of_a_local_fleet_is_read() {
    let text = r#"
coordinators = ["127.0.0.1:7443"]
enroll = ["127.0.0.1:7480"]
token_file = "/d/token"
metrics_listen = "127.0.0.1:7481"
[labels]
fleet = "dev"
[policy]
actions = ["service.*", "backup.create", "backup.verify", "log.rotate", "host.*"]
services = ["ledger"]
paths = ["/d/data"]
hooks = ["ledger-pause", "ledger-resume"]
backup_dir = "/d/backups"
[process.ledger]
argv = ["/bin/quorate", "dev", "ledger"]
cwd = "/d"
log = "/d/log"
[balancer.edge]
kind = "haproxy"
sockets = ["/run/haproxy/admin.sock", "127.0.0.1:9999"]
settle = "2s"
[hook.ledger-pause]
argv = ["/bin/quorate", "dev"]
[hook.ledger-resume]
http_post = "http://127.0.0.1:8080/admin/resume-writes"
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.helper_dir, Path::new("/d"));
    assert_eq!(config.processes["ledger"].settle_ms, 500);
    let resume = &config.hooks[&HookName::new("ledger-resume").unwrap()];
    assert!(matches!(&resume.call, HookCall::HttpPost { path, .. } if path == "/admin/resume-writes"));
    let edge = &config.balancers[&quorate_model::BalancerName::new("edge").unwrap()];
    assert!(matches!(&edge.kind, BalancerKind::Haproxy { sockets } if sockets.len() == 2), "{edge:?}");
    assert_eq!(config.policy.backup_dir(), Path::new("/d/backups"));
}

#[test]
fn what_is_wrong_is_named() {
    for (rest, want) in [
        ("unknown = 1", "unknown"),
        ("[policy]\nserivces = []", "serivces"),
        ("[policy]\nactions = ['service.reboot']", "policy.actions"),
        ("[policy]\nactions = ['service*']", "policy.actions"),
        ("[policy]\npaths = ['relative']", "policy.paths"),
        ("[policy]\ninstall = ['relative']", "policy.install"),
        ("[policy]\npackages = ['-rf']", "policy.packages"),
        ("[policy]\nkeys = { builds = 'RWnope' }", "policy.keys.builds"),
        ("[hook.x]\nargv = ['sh', '-c', 'id']", "hook.x.argv"),
        ("[hook.x]", "hook.x"),
        ("[hook.x]\nhttp_post = 'http://10.0.0.1:80/x'", "hook.x.http_post"),
        ("[hook.x]\nhttp_post = 'http://127.0.0.1:80/a b'", "hook.x.http_post"),
        ("[hook.'a b']\nargv = ['/x']", "hook.a b"),
        ("[balancer.x]\nkind = 'f5'", "balancer.x.kind"),
        ("[balancer.x]\nkind = 'haproxy'", "balancer.x.sockets"),
        ("[balancer.x]\nkind = 'haproxy'\nsockets = ['edge:9999']", "balancer.x.sockets"),
        ("[balancer.x]\nkind = 'haproxy'\nsockets = ['/s']\nsetle = '1s'", "setle"),
        ("[balancer.x]\nkind = 'haproxy'\nsockets = ['/s']\nreload = ['/x']", "balancer.x.reload"),
        ("[balancer.x]\nkind = 'haproxy'\nsockets = ['/s']\nsettle = '0s'", "balancer.x.settle"),
        ("[balancer.x]\nkind = 'nginx'\nupstream_file = 'u'", "balancer.x.upstream_file"),
        ("[balancer.x]\nkind = 'nginx'\nupstream_file = '/u'\ncheck = ['nginx']", "balancer.x.check"),
        (
            "[balancer.x]\nkind = 'nginx'\nupstream_file = '/u'\ncheck = ['/n']\nreload = ['/n']",
            "balancer.x.health",
        ),
        ("[balancer.x]\nkind = 'hook'\ndrain = 'd'\nrestore = 'r'\nconnections = 'c'", "others"),
        ("[balancer.'a b']\nkind = 'haproxy'\nsockets = ['/s']", "balancer.a b"),
        ("metrics_listen = '0.0.0.0:1'", "metrics_listen"),
        ("coordinators = ['nope']", "coordinators"),
    ] {
        let error = parse(rest).unwrap_err().to_string();
        assert!(error.contains(want), "{rest:?} gave {error}");
    }
    let long = format!("node = 'n'\ndata_dir = '/d'\nhelper_socket = '/{}'", "x".repeat(200));
    assert!(Config::parse(&long).unwrap_err().to_string().contains("helper_socket"));
    assert!(Config::parse("node = 'N'").is_err());
}
