//! Nothing is allowed that is not listed, and what is listed is read strictly.

use super::*;
use crate::config::Config;

fn policy(text: &str) -> Policy {
    let text = format!("node = 'n'\ndata_dir = '/d'\nhelper_socket = '/d/s'\n[policy]\n{text}");
    Config::parse(&text).unwrap().policy
}

fn restart(service: &str) -> ActionSpec {
    ActionSpec::ServiceRestart { service: ServiceName::new(service).unwrap() }
}

#[test]
fn an_empty_policy_allows_nothing() {
    let nothing = policy("");
    assert!(nothing.allows(&restart("ledger")).is_err());
    assert!(nothing.allows(&ActionSpec::HostFacts).is_err());
    assert!(nothing.allows_hook(&HookName::new("x").unwrap()).is_err());
    assert!(nothing.allows_probe(&["/bin/true".into()]).is_err());
}

#[test]
fn only_what_is_listed_is_allowed() {
    let some = policy("actions = ['service.*']\nservices = ['ledger']");
    assert!(some.allows(&restart("ledger")).is_ok());
    assert!(some.allows(&restart("ledger2")).is_err(), "a name is no prefix");
    assert!(some.allows(&ActionSpec::HostFacts).is_err());
    let driver = |unit: &str| Driver::Systemd { unit: unit.into() };
    let ledger = ServiceName::new("ledger").unwrap();
    assert!(some.allows_driver(&ledger, &driver("ledger.service")).is_ok());
    assert!(some.allows_driver(&ledger, &driver("sshd.service")).is_err());
    let units = policy("services = ['ledger']\nunits = ['scribe-*.service']");
    assert!(units.allows_driver(&ledger, &driver("scribe-node.service")).is_ok());
}

/// A root is the administrator's own choice of a folder: what lies below it may be put aside, and never the root itself.
#[test]
fn data_is_put_aside_below_a_root_only() {
    let some =
        policy("actions = ['data.*']\nservices = ['ledger']\npaths = ['/srv/ledger', '/srv/logs/deep']");
    let data = |path: &str| ActionSpec::Data {
        service: ServiceName::new("ledger").unwrap(),
        paths: vec!["/srv/ledger/store".into(), path.into()],
        quarantine: quorate_model::QuarantineId::new("q-1").unwrap(),
        verb: quorate_model::DataVerb::Quarantine,
    };
    assert!(some.allows(&data("/srv/ledger/wal")).is_ok());
    for bad in ["/srv/ledger", "/srv", "/", "/srv/logs", "/srv/ledger2/x", "/srv/ledger/../x", "srv/ledger/x"]
    {
        assert!(some.allows(&data(bad)).is_err(), "{bad}");
    }
}

#[test]
fn only_a_listed_alertmanager_is_told() {
    let some =
        policy("alertmanagers = ['http://10.0.0.9:9093', 'http://127.0.0.1:*', 'http://a.example/below/']");
    for good in
        ["http://10.0.0.9:9093", "http://10.0.0.9:9093/", "http://127.0.0.1:7", "http://A.example/below"]
    {
        assert!(some.allows_alertmanager(good).is_ok(), "{good}");
    }
    for bad in [
        "http://10.0.0.9:9094",
        "http://10.0.0.9",
        "http://127.0.0.1:7/x",
        "http://127.0.0.1:x@10.0.0.1:7",
        "http://127.0.0.1.example:7",
        "http://a.example/below/x",
        "https://10.0.0.9:9093",
        "",
    ] {
        assert!(some.allows_alertmanager(bad).is_err(), "{bad}");
    }
    for wrong in [
        "x",
        "https://a",
        "http://*",
        "http://a*",
        "http://a:*:*",
        "http://a:*9",
        "http://a:*.b",
        "http://a?x",
    ] {
        assert!(alertmanager(wrong.to_owned()).is_err(), "{wrong}");
    }
}

#[test]
fn paths_stay_under_their_roots() {
    let some = policy("paths = ['/srv/ledger']");
    assert!(some.allows_path(Path::new("/srv/ledger/data")).is_ok());
    for bad in ["/srv/ledger2", "/srv/ledger/../x", "/", "srv/ledger", ""] {
        assert!(some.allows_path(Path::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_hook_is_run_for_its_own_sake_only_where_the_host_says_so() {
    let run = |hook: &str| ActionSpec::ExecRun {
        service: ServiceName::new("ledger").unwrap(),
        hook: HookName::new(hook).unwrap(),
        once: true,
        release: None,
        targets: Vec::new(),
    };
    let some = policy(
        "actions = ['exec.run']\nservices = ['ledger']\nhooks = ['pause', 'migrate']\nrun_hooks = ['migrate']",
    );
    assert!(some.allows(&run("migrate")).is_ok());
    assert!(some.allows(&run("pause")).unwrap_err().contains("run_hooks"));
    assert!(some.allows(&run("other")).is_err());
    let all = policy("actions = ['*']\nservices = ['*']\nhooks = ['migrate']");
    assert!(all.allows(&run("migrate")).is_err(), "nothing is run by default");
    let text = "node = 'n'\ndata_dir = '/d'\nhelper_socket = '/d/s'\n[policy]\nrun_hooks = ['migrate']";
    assert!(Config::parse(text).unwrap_err().to_string().contains("policy.run_hooks"));
}

fn stage(install: Install) -> ActionSpec {
    let release = quorate_model::Release {
        version: quorate_model::Version::new("1.0").unwrap(),
        artifact: quorate_model::Digest::new("a".repeat(64)).unwrap(),
        size: 1,
        signature: String::new(),
        install,
    };
    ActionSpec::ArtifactStage { service: ServiceName::new("ledger").unwrap(), release }
}

#[test]
fn a_look_ahead_is_refused_where_what_follows_would_be() {
    let look = |ahead_of, backup| ActionSpec::HostPreflight {
        service: ServiceName::new("ledger").unwrap(),
        preflight: quorate_model::PreflightSpec::default(),
        ahead_of,
        release: None,
        backup,
    };
    let some = policy("actions = ['host.*', 'service.*']\nservices = ['ledger']");
    assert_eq!(some.allows(&look(ActionKind::ServiceRestart, false)), Ok(()));
    for bad in [look(ActionKind::ArtifactActivate, false), look(ActionKind::ServiceRestart, true)] {
        let why = some.allows(&bad).unwrap_err();
        assert!(why.contains("artifact.activate") || why.contains("backup.create"), "{why}");
    }
    let none = policy("actions = ['service.*']\nservices = ['ledger']");
    assert!(none.allows(&look(ActionKind::ServiceRestart, false)).is_err(), "it is an action, too");
}

#[test]
fn releases_go_only_where_the_host_says() {
    let some = policy(
        "actions = ['artifact.*']\nservices = ['ledger']\ninstall = ['/opt/ledger']\npackages = ['ledger']",
    );
    let binary = |dir: &str| stage(Install::Binary { dir: dir.into(), file: "ledger".into() });
    let archive = |dir: &str| stage(Install::Archive { dir: dir.into() });
    let package = |name: &str| stage(Install::Package { package: name.into() });
    for good in [binary("/opt/ledger"), archive("/opt/ledger/a"), package("ledger")] {
        assert!(some.allows(&good).is_ok(), "{good:?}");
    }
    for bad in [binary("/opt"), archive("/opt/ledger2"), binary("/opt/ledger/../x"), package("sshd")] {
        assert!(some.allows(&bad).is_err(), "{bad:?}");
    }
    let nothing = policy("actions = ['*']\nservices = ['*']");
    assert!(nothing.allows(&binary("/opt/ledger")).is_err() && nothing.allows(&package("ledger")).is_err());
    assert!(!nothing.install().unsigned, "unsigned is asked for, never assumed");
}
