//! Debian packages: exactly one version, on real hosts, with dpkg's lock held, broken packages, and our own packages exchanged
//! under it; beside it what guide S5 (line 723) does with the same archive.

use std::time::{Duration, Instant};

use quorate_tests::cluster::{Poll, Tally};
use quorate_tests::lab::{Host, LabFleet, VOTERS};
use quorate_tests::wait::{every, wait_for, wait_until};
use serde_json::Value;

/// Until a rollout has ended.
const LIMIT: Duration = Duration::from_secs(240);
/// How long dpkg's lock is seen to be waited for.
const HELD: Duration = Duration::from_secs(2);
/// Between two looks while it is.
const LOOK: Duration = Duration::from_millis(200);
/// The package of the guide. Here it brings what the sample's unit runs.
const PACKAGE: &str = "network-system";
/// What has a newer version in the archive, too, and is nobody's business.
const LIBRARY: &str = "network-library";
/// Holds dpkg's lock until the test lets it go on.
const SLOW: &str = "slow-package";
/// On its disk: `/run` is the host's own.
const GO_ON: &str = "/root/go-on";
/// The host where the guide's commands are typed, and nothing of ours runs on the sample's behalf.
const BESIDE: &str = "node4";
const DROP_INS: &str = "/usr/share/doc/quorate-agent/drop-ins";
const UNIT_DIR: &str = "/etc/systemd/system/quorate-helper.service.d";
const POLICY_FILE: &str = "/etc/quorate/agent.toml.d/30-packages.toml";
const POLICY: &str = "[policy]\n\
    actions = [\"service.*\", \"backup.*\", \"log.rotate\", \"host.*\", \"artifact.*\", \"package.install\"]\n\
    packages = [\"network-system\"]\nunsigned = true\n";
const RESTART: &str = "systemctl daemon-reload && systemctl restart quorate-helper quorate-agent";
/// The worst score of the helper with what packages need, in tenths.
const EXPOSED: u32 = 35;

const WELL: &str = "#!/bin/sh\nexec /usr/local/bin/ledger dev ledger --config /etc/ledger.toml\n";
/// Runs, and never answers.
const ILL: &str = "#!/bin/sh\nexec sleep infinity\n";
const CONFIGURED: &str = "#!/bin/sh\nset -e\nsystemctl daemon-reload\n";
const FAILS: &str = "#!/bin/sh\necho 'migration failed' >&2\nexit 1\n";
/// What the unit runs from now on is the package's.
const UNIT: &str = "[Service]\nExecStart=\nExecStart=/usr/lib/network-system/run\n";
const UNIT_FILE: &str = "/usr/lib/systemd/system/ledger.service.d/10-package.conf";

/// Guide S5, line 723; and as people type it once it has asked them.
const GUIDE: &str = "sudo apt-get update && sudo apt-get upgrade network-system";
const GUIDE_YES: &str = "sudo apt-get update && sudo apt-get upgrade -y network-system";

/// Builds a package on a host; where it lies.
fn build(host: &Host, name: &str, version: &str, files: &[(&str, &str)], postinst: &str) -> String {
    let root = format!("/root/build/{name}_{version}");
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Lab <lab@example.invalid>\n\
         Description: of the lab\n"
    );
    host.write(&format!("{root}/DEBIAN/control"), control, 0o644);
    host.write(&format!("{root}/DEBIAN/postinst"), postinst, 0o755);
    for (path, text) in files {
        host.write(&format!("{root}{path}"), text, 0o755);
    }
    let _ = host.run(&format!("dpkg-deb --root-owner-group -Znone -b {root} {root}.deb")).expect(0);
    format!("{root}.deb")
}

fn release(host: &Host, version: &str, run: &str, postinst: &str) -> String {
    let files = [("/usr/lib/network-system/run", run), (UNIT_FILE, UNIT)];
    build(host, PACKAGE, version, &files, postinst)
}

/// An archive that knows newer versions of everything than those that are meant.
fn archive(host: &Host) {
    let nothing = "#!/bin/sh\n";
    let old = build(host, LIBRARY, "1.0.0", &[], nothing);
    let offered = [build(host, LIBRARY, "1.1.0", &[], nothing), release(host, "9.0.0", WELL, CONFIGURED)];
    let script = format!(
        "dpkg -i {old} && mkdir -p /srv/archive && cp {} /srv/archive/ && cd /srv/archive && \
         for deb in *.deb; do dpkg-deb -f $deb; echo \"Filename: ./$deb\"; echo \"Size: $(stat -c %s $deb)\"; \
         echo \"SHA256: $(sha256sum $deb | cut -d ' ' -f 1)\"; echo; done > Packages && \
         echo 'deb [trusted=yes] file:/srv/archive ./' > /etc/apt/sources.list && apt-get update",
        offered.join(" ")
    );
    let _ = host.run(&script).expect(0);
    host.write("/usr/bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755);
}

/// All packages of a host with their versions but those that are expected to change.
fn others(host: &Host) -> Vec<String> {
    let all = host.run("dpkg-query -W").expect(0).stdout;
    let ours = [PACKAGE, SLOW, "quorate-agent"];
    let kept = all.lines().filter(|line| !ours.iter().any(|name| line.split('\t').next() == Some(*name)));
    kept.map(str::to_owned).collect()
}

/// State and version as `dpkg -l` shows them.
fn installed(host: &Host, package: &str) -> String {
    let shown = host.run(&format!("dpkg -l {package} | tail -n 1"));
    shown.stdout.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Somebody else changes packages, until [`GO_ON`] is there.
fn hold_lock(host: &Host) {
    let wait = format!("#!/bin/sh\nwhile [ ! -e {GO_ON} ]; do sleep 0.1; done\n");
    let slow = build(host, SLOW, "1.0.0", &[], &wait);
    let _ = host.run(&format!("rm -f {GO_ON}; systemd-run --unit=somebody dpkg -i {slow}")).expect(0);
    wait_until("somebody's dpkg to configure", LIMIT, || installed(host, SLOW).starts_with("iF"));
}

fn let_go(host: &Host) {
    host.write(GO_ON, "", 0o644);
    wait_until("somebody's dpkg to end", LIMIT, || installed(host, SLOW).starts_with("ii"));
}

/// X22: what the guide types, from another host, without a terminal.
pub(crate) fn x22_by_the_guide(fleet: &LabFleet) {
    let host = fleet.host(BESIDE);
    archive(host);
    let first = release(host, "1.0.0", WELL, CONFIGURED);
    let _ = host.run(&format!("dpkg -i {first}")).expect(0);
    let typed = |line: &str| fleet.quorate_shell(&format!("ssh {BESIDE} '{line}' 2>&1"));
    let now = || [installed(host, PACKAGE), installed(host, LIBRARY)].map(|text| text[3..].to_owned());
    let was = [format!("{PACKAGE} 1.0.0"), format!("{LIBRARY} 1.0.0")];
    assert_eq!(now(), was);
    // It asks, and nobody is there.
    let asked = typed(GUIDE);
    println!("  exit {}: {}", asked.code, asked.stdout.lines().last().unwrap_or_default());
    assert!(asked.code != 0 && asked.stdout.contains("Abort"), "{asked:?}");
    assert_eq!(now(), was, "and nothing is upgraded");
    // Answered in advance, it does not wait for others.
    hold_lock(host);
    let locked = typed(GUIDE_YES);
    println!("  exit {}: {}", locked.code, locked.stdout.lines().last().unwrap_or_default());
    assert!(locked.code != 0 && locked.stdout.contains("lock"), "{locked:?}");
    let_go(host);
    assert_eq!(now(), was);
    // And left alone it takes whatever is newest, of more than it was asked for.
    let _ = typed(GUIDE_YES).expect(0);
    println!("  {}", now().join(", "));
    assert_eq!(now(), [format!("{PACKAGE} 9.0.0"), format!("{LIBRARY} 1.1.0")]);
    let _ = host.run(&format!("dpkg -r {PACKAGE} {LIBRARY} {SLOW}; : > /etc/apt/sources.list")).expect(0);
}

/// The guide's declaration with a package to install, or without.
fn declare(fleet: &LabFleet, package: bool) {
    let block = fleet.guide.blocks.iter().find(|block| block.script.contains("quorate apply"));
    let script = &block.expect("the guide declares a service").script;
    let install = format!("install: {{ package: {{ package: {PACKAGE} }} }}\nprobes:\n");
    let script = if package { script.replacen("probes:\n", &install, 1) } else { script.clone() };
    let _ = fleet.quorate_shell(&script).expect(0);
}

fn prepare(fleet: &LabFleet) {
    for node in VOTERS {
        let host = fleet.host(node);
        archive(host);
        host.write(POLICY_FILE, POLICY, 0o644);
        let granted =
            format!("install -D -m 0644 -t {UNIT_DIR} {DROP_INS}/helper-packages.conf && {RESTART}");
        let _ = host.run(&granted).expect(0);
    }
    declare(fleet, true);
    fleet.calm();
    score(fleet.host(VOTERS[0]), "helper-packages.conf", EXPOSED);
}

/// What a drop-in costs.
pub(crate) fn score(host: &Host, drop_in: &str, most: u32) {
    let said = host.run("systemd-analyze security --no-pager quorate-helper").stdout;
    let verdict = said.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default();
    println!("  with {drop_in} {}", verdict.trim_start_matches(['→', ' ']));
    let tenths = |word: &str| {
        let (whole, tenth) = word.split_once('.')?;
        Some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
    };
    let score = verdict.split_whitespace().find_map(tenths);
    assert!(score.is_some_and(|score| score <= most), "{verdict}");
}

/// Pushes a file of the desk; its digest.
pub(crate) fn pushed(fleet: &LabFleet, path: &str) -> String {
    let artifact = fleet.json(&format!("artifact push {path}"));
    artifact["digest"].as_str().expect("a digest").to_owned()
}

/// One rollout of a version, with a witness and with what happens meanwhile.
struct Rollout {
    ended: Value,
    tally: Tally,
    took: Duration,
}

fn rollout(fleet: &LabFleet, version: &str, deb: &str, flags: &str, meanwhile: impl FnOnce(&str)) -> Rollout {
    fleet.calm();
    let digest = pushed(fleet, deb);
    let (poll, begun) = (Poll::begin(fleet.instances()), Instant::now());
    let id = fleet.begin(&format!("rollout start ledger --release {version} --artifact {digest} {flags}"));
    meanwhile(&id);
    let ended = fleet.ended(&id, LIMIT);
    let tally = poll.end();
    let took = begun.elapsed();
    println!(
        "  {version}: {} in {:.1} s, {} looks, fewest serving {:?}",
        ended["state"],
        took.as_secs_f32(),
        tally.looks,
        tally.fewest
    );
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    Rollout { ended, tally, took }
}

fn state_of(operation: &Value, kind: &str, node: &str) -> String {
    let steps = operation["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = steps.iter().find(|step| step["kind"] == kind && step["node"] == node);
    step.and_then(|step| step["state"].as_str()).unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_everywhere(fleet: &LabFleet, version: &str) {
    for node in VOTERS {
        assert_eq!(installed(fleet.host(node), PACKAGE), format!("ii {PACKAGE} {version}"), "{node}");
    }
}

/// Somebody holds dpkg's lock: nothing is stopped while it is waited for.
fn lock_is_waited_for(fleet: &LabFleet, id: &str, node: &str) {
    let host = fleet.host(node);
    wait_for("the step to run into the lock", LIMIT, || {
        let state = state_of(&fleet.operation(id), "ACTIVATE", node);
        if state == "RUNNING" { Ok(()) } else { Err(state) }
    });
    let begun = Instant::now();
    every(LOOK, || {
        assert_eq!(host.run("systemctl is-active ledger").stdout.trim(), "active", "stopped before it can");
        assert_eq!(installed(host, PACKAGE), "", "installed under somebody's lock");
        begun.elapsed() < HELD
    });
    let_go(host);
}

/// A package of ours with a version one higher, as the next build of the same would be.
fn exchange(host: &Host, package: &str) -> Duration {
    let made = format!(
        "rm -rf /root/newer && dpkg-deb -R /root/{package}_*.deb /root/newer && \
         sed -i 's/^Version: .*/&+1/' /root/newer/DEBIAN/control && dpkg-deb -Znone -b /root/newer /root/newer.deb"
    );
    let _ = host.run(&made).expect(0);
    let begun = Instant::now();
    // Whoever finds dpkg at work comes again.
    let typed = "for try in $(seq 60); do dpkg -i /root/newer.deb && exit 0; sleep 0.5; done; exit 1";
    let _ = host.run(typed).expect(0);
    let shown = installed(host, package);
    assert!(shown.starts_with("ii") && shown.ends_with("+1"), "{shown}");
    begun.elapsed()
}

/// The agent of a node whose turn is still to come, and the leading coordinator, while a rollout runs.
fn exchanged_meanwhile(fleet: &LabFleet, id: &str) {
    let next = wait_for("the rollout to be in the middle", LIMIT, || {
        let operation = fleet.operation(id);
        let states = VOTERS.map(|node| state_of(&operation, "ACTIVATE", node));
        let begun = states.iter().any(|state| state == "SUCCEEDED");
        let next = states.iter().position(|state| state == "PENDING").filter(|_| begun);
        next.and_then(|at| VOTERS.get(at)).copied().ok_or_else(|| states.join(", "))
    });
    let agent = exchange(fleet.host(next), "quorate-agent");
    let leader = fleet.leader("coord1");
    let host = fleet.host(&leader);
    let coordinator = exchange(host, "quorate-coordinator");
    // A package never restarts a coordinator; a person does.
    let _ = host.run("systemctl restart quorate-coordinator").expect(0);
    println!(
        "  agent of {next} exchanged in {agent:.1?}, coordinator {leader} (leading) in {coordinator:.1?}"
    );
}

pub(crate) fn one_version_and_nothing_else(fleet: &LabFleet) {
    prepare(fleet);
    let desk = fleet.host("coord1");
    let debs = [
        release(desk, "1.0.0", WELL, CONFIGURED),
        release(desk, "1.1.0", WELL, CONFIGURED),
        release(desk, "1.2.0", WELL, FAILS),
        release(desk, "1.2.1", ILL, CONFIGURED),
    ];
    let [first, second, fails, ill] = &debs;
    let before = VOTERS.map(|node| others(fleet.host(node)));
    let locked = VOTERS[1];
    hold_lock(fleet.host(locked));
    let done = rollout(fleet, "1.0.0", first, "", |id| lock_is_waited_for(fleet, id, locked));
    assert_eq!(done.ended["state"], "SUCCEEDED", "{:#}", done.ended);
    assert!(done.ended.to_string().contains("for another user of dpkg"), "{:#}", done.ended);
    done.tally.assert_quorum();
    assert_everywhere(fleet, "1.0.0");

    let starts = fleet.starts();
    let done = rollout(fleet, "1.1.0", second, "", |id| exchanged_meanwhile(fleet, id));
    assert_eq!(done.ended["state"], "SUCCEEDED", "{:#}", done.ended);
    done.tally.assert_quorum();
    assert_everywhere(fleet, "1.1.0");
    for (node, count) in fleet.starts() {
        assert_eq!(count, starts[&node] + 1, "{node} is started once");
    }

    let back = "--canary 1 --on-failure rollback --gate-timeout 10s";
    for (version, deb, why) in [("1.2.0", fails, "migration failed"), ("1.2.1", ill, "health")] {
        let broken = rollout(fleet, version, deb, back, |_| ());
        assert_eq!(broken.ended["state"], "ROLLED_BACK", "{:#}", broken.ended);
        assert!(broken.ended.to_string().contains(why), "{:#}", broken.ended);
        broken.tally.assert_quorum();
        assert!(broken.took < LIMIT);
        assert_everywhere(fleet, "1.1.0");
    }
    assert_eq!(VOTERS.map(|node| others(fleet.host(node))), before, "nothing else was changed");
    tidy(fleet);
}

/// As it was, everywhere at once: the test's own hand.
fn tidy(fleet: &LabFleet) {
    declare(fleet, false);
    for node in VOTERS {
        let taken = format!(
            "dpkg -r {PACKAGE} {LIBRARY}; dpkg -r {SLOW}; : > /etc/apt/sources.list; \
             rm -r {UNIT_DIR} {POLICY_FILE}; {RESTART} && systemctl restart ledger"
        );
        let _ = fleet.host(node).run(&taken).expect(0);
    }
    fleet.calm();
}
