//! Schedules and their runs for people.

use quorate_proto::v1;
use quorate_proto::v1::schedule_spec::When;
use quorate_proto::v1::work_spec::Kind;

use crate::commands::freeze::time;
use crate::render::json;
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};

pub(super) fn table(schedules: &[v1::Schedule]) -> String {
    let mut columns = Columns::new(&["schedule", "next (UTC)", "last", "operation", "work", "reason"]);
    for schedule in schedules {
        let spec = schedule.spec.clone().unwrap_or_default();
        let last = schedule.runs.first();
        let next = schedule.next.first().and_then(|moment| moment.due.as_ref());
        columns.row([
            safe(&schedule.name),
            time(next, if spec.paused { "paused" } else { "-" }),
            last.map_or_else(|| "-".to_owned(), result),
            dash(last.map_or("", |run| run.operation.as_str())),
            work(&spec),
            dash(&spec.reason),
        ]);
    }
    columns.finish("No schedules. `quorate schedule apply NAME` declares one.")
}

fn result(run: &v1::ScheduleRun) -> String {
    style::state(&json::word("quorate.v1.ScheduleResult", run.result))
}

/// The next runs, by the clocks of the zone and in UTC.
pub(super) fn next(schedule: &v1::Schedule) -> String {
    let mut columns = Columns::new(&["next", "next (UTC)"]);
    for moment in &schedule.next {
        columns.row([dash(&moment.local), time(moment.due.as_ref(), "-")]);
    }
    let is_paused = schedule.spec.as_ref().is_some_and(|spec| spec.paused);
    columns.finish(if is_paused { "It is paused." } else { "No run is to come." })
}

/// The last runs, newest first.
pub(super) fn runs(schedule: &v1::Schedule) -> String {
    let mut columns = Columns::new(&["due (UTC)", "settled (UTC)", "result", "operation", "state", "detail"]);
    for run in &schedule.runs {
        let state = if run.operation_state == 0 {
            "-".to_owned()
        } else {
            style::state(&json::word("quorate.v1.OperationState", run.operation_state))
        };
        columns.row([
            time(run.due.as_ref(), "-"),
            time(run.settled.as_ref(), "-"),
            result(run),
            dash(&run.operation),
            state,
            detail(run),
        ]);
    }
    columns.finish("It has not run yet.")
}

fn detail(run: &v1::ScheduleRun) -> String {
    let mut parts = Vec::new();
    if !run.reason.is_empty() {
        parts.push(run.reason.clone());
    }
    if !run.message.is_empty() {
        parts.push(run.message.clone());
    }
    if !run.by.is_empty() {
        parts.push(format!("by {}", run.by));
    }
    if run.passed > 0 {
        parts.push(format!("{} before it were missed", run.passed));
    }
    dash(&parts.join(": "))
}

pub(super) fn rule(spec: &v1::ScheduleSpec) -> String {
    let when = match &spec.when {
        Some(When::Start(start)) => start.clone(),
        Some(When::Cron(cron)) => format!("cron {cron}"),
        None => "-".to_owned(),
    };
    safe(&format!("{when}, {}", spec.zone))
}

/// What it does, in few words.
pub(super) fn work(spec: &v1::ScheduleSpec) -> String {
    let kind = spec.work.as_ref().and_then(|work| work.kind.as_ref());
    let text = match kind {
        None => "-".to_owned(),
        Some(Kind::Rolling(rolling)) => match rolling.kind() {
            v1::RollingKind::Unspecified | v1::RollingKind::Restart => format!("restart {}", rolling.group),
            v1::RollingKind::Reload => format!("reload {}", rolling.group),
            v1::RollingKind::Release => {
                format!("{} {} of {}", content(rolling), rolling.version, rolling.group)
            }
            v1::RollingKind::Undo => format!("undo of {} of {}", content(rolling), rolling.group),
            v1::RollingKind::Run => format!("run {} on {}", rolling.hook, rolling.group),
            v1::RollingKind::Secret => format!("rotate {} of {}", rolling.secret, rolling.group),
            v1::RollingKind::Diff => format!("diff of {} of {}", content(rolling), rolling.group),
        },
        Some(Kind::Run(run)) => format!("{} {}", run.action, run.service).trim_end().to_owned(),
        Some(Kind::Backup(backup)) => format!("backup {}", backup.service),
        Some(Kind::Rotate(rotate)) => format!("rotate {}", rotate.service),
        Some(Kind::VerifyBackup(verify)) => format!("verify {}", verify.backup),
        Some(Kind::Rejoin(spec)) => format!("bring {} back to {}", spec.node, spec.group),
        Some(Kind::Failover(spec)) => format!("move the primary role of {}", spec.group),
        Some(Kind::Rebuild(spec)) => format!("rebuild {} of {}", spec.node, spec.group),
        Some(Kind::Membership(spec)) => match spec.change() {
            v1::MembershipVerb::Unspecified | v1::MembershipVerb::Add => {
                format!("add {} to {}", spec.node, spec.group)
            }
            v1::MembershipVerb::Remove => format!("remove {} from {}", spec.node, spec.group),
        },
    };
    safe(&text)
}

/// What a release is of: the program, or a configuration file.
fn content(rolling: &v1::RollingSpec) -> String {
    if rolling.config.is_empty() { "release".to_owned() } else { format!("config {}", rolling.config) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn runs_tell_what_became_of_them() {
        let run = v1::ScheduleRun {
            due: at(1_798_146_000),
            settled: at(1_798_146_001),
            result: v1::ScheduleResult::Refused.into(),
            reason: "QUORUM_MARGIN".into(),
            message: "no\u{1b}[2Jquorum".into(),
            passed: 2,
            ..Default::default()
        };
        let schedule = v1::Schedule { runs: vec![run], ..Default::default() };
        let text = runs(&schedule);
        for wanted in ["2026-12-24T21:00:00Z", "REFUSED", "QUORUM_MARGIN: no", "2 before it were missed"] {
            assert!(text.to_uppercase().contains(&wanted.to_uppercase()), "{text}");
        }
        assert!(!text.contains("\u{1b}[2J"), "what others wrote is shown escaped: {text:?}");
        assert_eq!(runs(&v1::Schedule::default()), "It has not run yet.");
    }

    #[test]
    fn work_is_told_in_few_words() {
        let spec = |kind| v1::ScheduleSpec {
            work: Some(v1::WorkSpec { kind: Some(kind), max_failures: 0 }),
            ..Default::default()
        };
        let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
        assert_eq!(work(&spec(Kind::Rolling(rolling))), "restart ledger");
        let host = v1::RunSpec { action: "host.facts".into(), ..Default::default() };
        assert_eq!(work(&spec(Kind::Run(host))), "host.facts");
        let backup = v1::BackupAllSpec { service: "ledger".into(), ..Default::default() };
        assert_eq!(work(&spec(Kind::Backup(backup))), "backup ledger");
        let local = "2026-12-24T22:00:00+01:00[Europe/Berlin]";
        let moment = v1::ScheduleMoment { due: at(1_798_146_000), local: local.into() };
        let shown = next(&v1::Schedule { next: vec![moment], ..Default::default() });
        assert!(shown.contains(local) && shown.contains("2026-12-24T21:00:00Z"), "{shown}");
    }
}
