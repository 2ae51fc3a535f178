//! Programs that misbehave (B-17).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

fn shell(script: &str, deadline_ms: u64) -> ExecSpec {
    ExecSpec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        cwd: None,
        deadline: Duration::from_millis(deadline_ms),
    }
}

#[tokio::test]
async fn ends_and_output_are_told() {
    let o = run(&shell("echo out; echo err >&2; exit 3", 20_000)).await.expect("runs");
    assert_eq!(o.end, ExecEnd::Code(3));
    assert_eq!((o.stdout.head.as_slice(), o.stderr.head.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(o.stdout.sha256, hex(&Sha256::digest(b"out\n")));
    assert!(!o.stdout.truncated && o.leftovers.is_empty() && !o.is_success());
    let o = run(&shell("kill -SEGV $$", 20_000)).await.expect("runs");
    assert_eq!(o.end, ExecEnd::Signal(11));
}

#[tokio::test]
async fn a_flood_is_bounded_and_hashed_in_full() {
    let o = run(&shell("head -c 3000000 /dev/zero; printf end", 60_000)).await.expect("runs");
    assert_eq!((o.stdout.total_bytes, o.stdout.truncated), (3_000_003, true));
    assert_eq!((o.stdout.head.len(), o.stdout.tail.len()), (CAPTURE_HALF_BYTES, CAPTURE_HALF_BYTES));
    assert!(o.stdout.tail_text(10).ends_with("end"));
    let mut all = vec![0_u8; 3_000_000];
    all.extend(b"end");
    assert_eq!(o.stdout.sha256, hex(&Sha256::digest(&all)));
    let o = run(&shell("printf '\\377\\376abc'", 20_000)).await.expect("runs");
    assert!(o.stdout.tail_text(100).ends_with("abc"));
}

#[tokio::test]
async fn the_deadline_kills_everything() {
    let began = Instant::now();
    let o = run(&shell("trap '' TERM; sleep 1000 & setsid sleep 1001 & echo up; wait; sleep 1002", 300))
        .await
        .expect("runs");
    assert_eq!(o.end, ExecEnd::TimedOut);
    assert!(o.leftovers.len() >= 2, "{:?}", o.leftovers);
    assert_eq!(o.stdout.head, b"up\n");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_daemon_left_behind_is_killed_and_named() {
    let o = run(&shell("setsid sleep 1003 >/dev/null 2>&1 & sleep 1004 & echo gone", 20_000))
        .await
        .expect("runs");
    assert_eq!(o.end, ExecEnd::Code(0));
    assert_eq!(
        o.leftovers.iter().filter(|n| n.contains("sleep") || n.contains("sh")).count(),
        2,
        "{:?}",
        o.leftovers
    );
}

#[tokio::test]
async fn nothing_of_ours_is_in_its_environment() {
    let o = run(&ExecSpec {
        argv: vec!["/usr/bin/env".into()],
        deadline: Duration::from_secs(20),
        ..ExecSpec::default()
    })
    .await
    .expect("runs");
    let text = o.stdout.tail_text(4096);
    assert_eq!(text.lines().filter(|l| !l.starts_with(MARK_VARIABLE)).count(), 0, "{text}");
}

#[tokio::test]
async fn bad_requests_start_nothing() {
    let argv =
        |a: &[&str]| ExecSpec { argv: a.iter().map(|s| (*s).to_owned()).collect(), ..shell("", 1_000) };
    let many = vec!["/bin/true"; ARGS_MAX + 1];
    let long = "x".repeat(ARG_MAX_BYTES + 1);
    for spec in [
        argv(&[]),
        argv(&["sh"]),
        argv(&[""]),
        argv(&many),
        argv(&["/bin/true", &long]),
        argv(&["/bin/a\0b"]),
    ] {
        assert!(run(&spec).await.is_err());
    }
    assert!(run(&argv(&["/nonexistent"])).await.is_err());
}

#[test]
fn the_kept_part_is_right_at_every_split() {
    for (first, second) in
        [(0, 5), (CAPTURE_HALF_BYTES - 1, 3), (CAPTURE_HALF_BYTES, 1), (CAPTURE_HALF_BYTES * 2, 7)]
    {
        let all: Vec<u8> = (0..first + second).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
        let mut c = Collector::default();
        c.take(&all[..first]);
        c.take(&all[first..]);
        assert_eq!(c.head, all[..all.len().min(CAPTURE_HALF_BYTES)]);
        let tail: Vec<u8> = c.tail.into();
        let from = all.len().saturating_sub(CAPTURE_HALF_BYTES).max(all.len().min(CAPTURE_HALF_BYTES));
        assert_eq!(tail, all[from..]);
    }
}
