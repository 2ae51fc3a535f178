//! Logs: guide S2's logrotate reloads every member at the same time, ours one after the other.

use std::time::Duration;

use quorate_tests::lab::{DATA, LabFleet, VOTERS};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(120);
/// S2, lines 452-466, on the sample's paths and with its user.
const LOGROTATE: &str = "/var/log/ledger/*.log {
    daily
    rotate 30
    compress
    delaycompress
    missingok
    notifempty
    create 0644 ledger ledger
    postrotate
        systemctl reload scribe-node
    endscript
}
";
/// A reload takes two seconds, and says when it began and ended; all hosts have one clock.
const SLOW_RELOAD: &str = "[Service]\nExecReload=\n\
    ExecReload=/bin/sh -c 'echo begin $(date +%%s%%3N) >> /var/lib/ledger/windows'\n\
    ExecReload=/bin/sleep 2\nExecReload=/bin/kill -HUP $MAINPID\n\
    ExecReload=/bin/sh -c 'echo end $(date +%%s%%3N) >> /var/lib/ledger/windows'\n";
const UNIT_DIR: &str = "/etc/systemd/system/ledger.service.d";
const ROTATION: &str = "logRotation: { paths: [/var/log/ledger/*.log], sizeBytes: 1, keep: 3, compress: true, reload: true }\nprobes:\n";

fn declare(fleet: &LabFleet, rotation: bool) {
    let block = fleet.guide.blocks.iter().find(|block| block.script.contains("quorate apply"));
    let script = &block.expect("the guide declares a service").script;
    let script = if rotation { script.replacen("probes:\n", ROTATION, 1) } else { script.clone() };
    let _ = fleet.quorate_shell(&script).expect(0);
}

/// Most reloads at one moment, once every member has had one; forgets them.
fn at_once(fleet: &LabFleet) -> usize {
    let mut windows = wait_for("every member to be reloaded", LIMIT, || {
        let read = |node: &&str| {
            let text = fleet.host(node).run(&format!("cat {DATA}/windows")).stdout;
            let mut times = text.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
            Some((times.next()?, times.next()?))
        };
        let seen: Vec<(u64, u64)> = VOTERS.iter().filter_map(read).collect();
        if seen.len() == VOTERS.len() { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    for node in VOTERS {
        let _ = fleet.host(node).run(&format!("rm {DATA}/windows")).expect(0);
    }
    windows.sort_unstable();
    let first = windows[0].0;
    let shown: Vec<String> =
        windows.iter().map(|(from, to)| format!("{}..{} ms", from - first, to - first)).collect();
    println!("  reloads at {}", shown.join(", "));
    let open = |moment: u64| windows.iter().filter(|(from, to)| (*from..*to).contains(&moment)).count();
    windows.iter().map(|(from, _)| open(*from)).max().unwrap_or_default()
}

/// X33.
pub(crate) fn x33_reloads_are_staggered(fleet: &LabFleet) {
    fleet.calm();
    for node in VOTERS {
        let host = fleet.host(node);
        host.write(&format!("{UNIT_DIR}/slow-reload.conf"), SLOW_RELOAD, 0o644);
        host.write("/etc/logrotate.d/scribe-ledger", LOGROTATE, 0o644);
        let _ = host.run("systemctl daemon-reload && echo line >> /var/log/ledger/ledger.log").expect(0);
    }
    // The daily moment, which is the same on all hosts: in some seconds.
    let daily = fleet.host(VOTERS[0]).run("date -d '+6 sec' '+%F %T'").stdout;
    for node in VOTERS {
        let timer = format!(
            "systemd-run --on-calendar='{}' --timer-property=AccuracySec=1ms \
             logrotate --force /etc/logrotate.d/scribe-ledger",
            daily.trim()
        );
        let _ = fleet.host(node).run(&timer).expect(0);
    }
    let theirs = at_once(fleet);
    declare(fleet, true);
    fleet.calm();
    let ended = fleet.ended(&fleet.begin("log rotate ledger --all"), LIMIT);
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    let ours = at_once(fleet);
    println!("  at once: {theirs} by the guide, {ours} by ours");
    declare(fleet, false);
    for node in VOTERS {
        let taken = format!("rm -r {UNIT_DIR} /etc/logrotate.d/scribe-ledger && systemctl daemon-reload");
        let _ = fleet.host(node).run(&taken).expect(0);
    }
    fleet.calm();
    assert!(theirs >= 2, "the guide's reloads were expected at the same time");
    assert_eq!(ours, 1, "one at a time");
}
