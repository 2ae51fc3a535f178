//! Hosts in every kind of trouble.

use super::*;

fn healthy() -> Seen {
    let disk = Disk {
        mount: "/".to_owned(),
        size_bytes: 100,
        available_bytes: 50,
        inodes: 100,
        inodes_free: 90,
        ..Disk::default()
    };
    Seen {
        facts: Ok((4, vec![disk])),
        meminfo: "MemTotal: 100 kB\nMemAvailable: 50 kB\n".to_owned(),
        vmstat: "oom_kill 0\n".to_owned(),
        loadavg: "0.10 0.20 0.30 1/2 3".to_owned(),
        pressure: vec![("io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n".to_owned())],
        sockets: vec!["  sl  local_address rem_address   st\n".to_owned()],
        now: Timestamp(1_800_000_000_000),
        ..Seen::default()
    }
}

fn level(seen: &Seen, subject: &str) -> String {
    let all = judge(seen);
    all.iter()
        .find(|f| f.subject == subject)
        .unwrap_or_else(|| panic!("no {subject} in {all:?}"))
        .level
        .clone()
}

#[test]
fn a_healthy_host_has_nothing_but_ok() {
    let all = judge(&healthy());
    assert!(all.iter().all(|f| f.level == "ok"), "{all:?}");
    assert!(summary(&all).starts_with("0 critical, 0 warnings"));
}

#[test]
fn each_trouble_is_found_and_comes_first() {
    let mut s = healthy();
    s.meminfo = "MemTotal: 100 kB\nMemAvailable: 9 kB\n".to_owned();
    assert_eq!(level(&s, "memory"), "critical");
    assert_eq!(judge(&s)[0].subject, "memory");
    s.loadavg = "0 4.40 0".to_owned();
    assert_eq!(level(&s, "load"), "warning");
    s.vmstat = "oom_kill 2\n".to_owned();
    assert_eq!(level(&s, "oom"), "warning");
    // A table without a socket has a head; an empty text was not read.
    assert_eq!(level(&s, "ports"), "ok");
    s.sockets = vec![String::new(); 2];
    assert_eq!(level(&s, "ports"), "warning");
    s.now = Timestamp(0);
    assert_eq!(level(&s, "clock"), "critical");
    s.pressure = vec![("io", "some avg60=70.00\nfull avg60=2.00\n".to_owned())];
    assert_eq!(level(&s, "pressure io"), "critical");
    if let Ok((_, disks)) = &mut s.facts {
        disks[0].available_bytes = 9;
        disks[0].inodes_free = 4;
    }
    assert_eq!(level(&s, "disk /"), "critical");
    assert_eq!(level(&s, "inodes /"), "critical");
}

#[test]
fn units_are_judged_by_what_the_supervisor_says() {
    let unit = |load: &str, active: &str, restarts| {
        let status = UnitStatus {
            load: load.to_owned(),
            active: active.to_owned(),
            restarts,
            ..UnitStatus::default()
        };
        let name = ServiceName::new("ledger").expect("a valid name");
        level(&Seen { units: vec![(name, Ok(status))], ..healthy() }, "unit ledger")
    };
    assert_eq!(unit("loaded", "active", 0), "ok");
    assert_eq!(unit("loaded", "active", 5), "warning");
    assert_eq!(unit("loaded", "failed", 0), "critical");
    assert_eq!(unit("not-found", "inactive", 0), "critical");
    assert_eq!(unit("loaded", "inactive", 0), "warning");
}

#[test]
fn sources_that_cannot_be_read_are_findings_and_texts_are_bounded() {
    let name = ServiceName::new("ledger").expect("a valid name");
    let seen = Seen {
        facts: Err("no".to_owned()),
        units: (0..200).map(|_| (name.clone(), Err("é\u{1b}[2J".repeat(1_000)))).collect(),
        ..Seen::default()
    };
    let all = judge(&seen);
    assert_eq!(all.len(), FINDINGS_MAX);
    assert!(all.iter().all(|f| f.evidence.len() <= TEXT_MAX_BYTES && !f.evidence.contains('\u{1b}')));
}

#[test]
fn ranks_ignore_a_pid_that_was_given_away_again() {
    let p = |pid, start_ticks, busy_ticks| Process {
        pid,
        start_ticks,
        busy_ticks,
        state: 'D',
        ..Process::default()
    };
    let before = [p(1, 10, 100), p(2, 10, 0)];
    let after = [p(1, 99, 200), p(2, 10, 25)];
    let busy = busiest(&before, &after, DurationMs(500));
    assert_eq!(busy.iter().map(|r| (r.pid, r.amount)).collect::<Vec<_>>(), [(2, 50)]);
    assert_eq!(stuck_twice(&before, &after).len(), 1);
    assert!(busiest(&before, &after, DurationMs::ZERO).is_empty());
}
