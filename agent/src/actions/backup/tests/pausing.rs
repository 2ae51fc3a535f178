//! Pause and resume: in this order, whatever happens between (X8, X9).

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_model::{ExecutionState, Reason};

use super::*;
use crate::actions::testing::locked;
use crate::actions::{HookReport, PortError};

fn ended(ok: bool) -> Result<HookReport, PortError> {
    Ok(HookReport {
        ok,
        ended: "exit code 1".to_owned(),
        output_tail: "said why".to_owned(),
        ..HookReport::default()
    })
}

#[tokio::test]
async fn the_obligation_is_durable_before_the_pause_and_discharged_after_the_resume() {
    let place = Place::new();
    place.put("file", b"x");
    place.stored("b-1", place.pausing()).await;
    assert_eq!(place.bench.recorder.lines(), ["open resume 30000", "hook pause", "hook resume", "discharge"]);
}

#[tokio::test]
async fn without_a_durable_obligation_nothing_is_paused() {
    let place = Place::new();
    place.put("file", b"x");
    *locked(&place.bench.recorder.refuse_open) = true;
    place.create("b-1", place.pausing()).await.expect_err("no obligation");
    assert!(place.bench.recorder.lines().is_empty());
}

#[tokio::test]
async fn a_pause_that_fails_is_undone_all_the_same() {
    let place = Place::new();
    place.put("file", b"x");
    place.bench.recorder.on_hook(|hook| ended(hook != "pause"));
    let error = place.create("b-1", place.pausing()).await.expect_err("no pause");
    assert_eq!(error.into_outcome().output_tail, "said why");
    assert_eq!(place.bench.recorder.lines(), ["open resume 30000", "hook pause", "hook resume", "discharge"]);
    assert!(place.stored_names().is_empty());
}

#[tokio::test]
async fn a_resume_that_fails_keeps_the_obligation_open() {
    let place = Place::new();
    place.put("file", b"x");
    place.bench.recorder.on_hook(|hook| ended(hook != "resume"));
    let error = place.create("b-1", place.pausing()).await.expect_err("still paused");
    assert!(error.to_string().contains("stays open"), "{error}");
    let lines = place.bench.recorder.lines();
    assert_eq!(lines, ["open resume 30000", "hook pause", "hook resume", "hook resume"]);
    assert!(place.stored_names().is_empty(), "a backup that left writes paused is not a success");
}

#[tokio::test]
async fn a_cancel_while_paused_resumes() {
    let place = Place::new();
    place.put("file", b"x");
    let cancel = place.bench.context.cancel.clone();
    place.bench.recorder.on_hook(move |_| {
        cancel.cancel();
        ended(true)
    });
    let error = place.create("b-1", place.pausing()).await.expect_err("canceled");
    assert_eq!(error.state(), ExecutionState::Canceled);
    assert_eq!(place.bench.recorder.lines().last().map(String::as_str), Some("discharge"));
    assert!(place.stored_names().is_empty());
}

#[tokio::test]
async fn what_was_read_after_the_limit_of_the_pause_is_no_backup() {
    let place = Place::new();
    place.put("file", b"x");
    let clock = Arc::clone(&place.bench.clock);
    place.bench.recorder.on_hook(move |_| {
        clock.0.fetch_add(31_000, Ordering::SeqCst);
        ended(true)
    });
    let error = place.create("b-1", place.pausing()).await.expect_err("late");
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(place.bench.recorder.lines().last().map(String::as_str), Some("discharge"));
    assert!(place.stored_names().is_empty());
}

/// A context whose progress callback writes to a file while the archive is read: each report is one write in the middle.
fn meddled(place: &mut Place, victim: std::path::PathBuf, times: u64) -> Arc<AtomicU64> {
    let done = Arc::new(AtomicU64::new(0));
    let (count, clock) = (Arc::clone(&done), Arc::clone(&place.bench.clock));
    place.bench.context.progress = Arc::new(move |progress| {
        // The clock moves so that the next piece is reported again.
        clock.0.fetch_add(300, Ordering::SeqCst);
        if progress.doing.starts_with("reading") && count.fetch_add(1, Ordering::SeqCst) < times {
            let mut file = OpenOptions::new().append(true).open(&victim).expect("open");
            file.write_all(b"more").expect("write");
        }
    });
    place.bench.clock.0.fetch_add(1_000, Ordering::SeqCst);
    done
}

/// Moves the clock once, between the job's begin and its first report.
fn ticking(place: &Place) {
    let clock = Arc::clone(&place.bench.clock);
    place.bench.recorder.on_hook(move |_| {
        clock.0.fetch_add(300, Ordering::SeqCst);
        ended(true)
    });
}

#[tokio::test]
async fn a_writer_that_never_stops_fails_the_backup_and_is_named() {
    let mut place = Place::new();
    place.put("big", &vec![7; 4 * 1024 * 1024]);
    let victim = place.data("big");
    place.bench.context.clock = Arc::new(Racing(AtomicU64::new(0)));
    meddled(&mut place, victim, u64::MAX);
    ticking(&place);
    let error = place.create("b-1", place.pausing()).await.expect_err("changing");
    assert!(matches!(&error, ActionError::Changed { path, .. } if path.ends_with("data/big")), "{error}");
    assert_eq!(place.bench.recorder.lines().last().map(String::as_str), Some("discharge"));
    assert!(place.stored_names().is_empty());
}

#[tokio::test]
async fn one_write_in_the_middle_is_met_by_reading_again() {
    let mut place = Place::new();
    place.put("big", &vec![7; 4 * 1024 * 1024]);
    let victim = place.data("big");
    place.bench.context.clock = Arc::new(Racing(AtomicU64::new(0)));
    let reports = meddled(&mut place, victim, 1);
    let receipt = place.stored("b-1", place.policy()).await;
    assert!(reports.load(Ordering::SeqCst) > 1, "the write in the middle never happened");
    assert_eq!(receipt.content_bytes, 4 * 1024 * 1024 + 4, "the second reading is the one that counts");
}

#[tokio::test]
async fn a_change_of_a_file_that_was_read_already_is_found_before_writes_resume() {
    let mut place = Place::new();
    place.put("a-first", b"read first");
    place.put("big", &vec![7; 4 * 1024 * 1024]);
    let victim = place.data("a-first");
    place.bench.context.clock = Arc::new(Racing(AtomicU64::new(0)));
    meddled(&mut place, victim, u64::MAX);
    let error = place.create("b-1", place.policy()).await.expect_err("not of one moment");
    assert!(matches!(&error, ActionError::Changed { path, .. } if path.ends_with("data/a-first")), "{error}");
}

/// A clock that moves 100 ms each time it is looked at, so that every few pieces of work are reported.
struct Racing(AtomicU64);

impl crate::actions::Clock for Racing {
    fn wall(&self) -> quorate_model::Timestamp {
        quorate_model::Timestamp(1_700_000_000_000)
    }

    fn monotonic(&self) -> DurationMs {
        DurationMs(self.0.fetch_add(100, Ordering::SeqCst))
    }
}
