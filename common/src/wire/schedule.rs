//! Schedules as declared.

use quorate_model::{InvalidSchedule, MissedPolicy, Overlap, Recurrence, ScheduleSpec, Selector};
use quorate_proto::v1;
use quorate_proto::v1::schedule_spec::When;
use quorate_proto::v1::work_spec::Kind;

use super::Invalid;
use super::enums::{read_missed, read_overlap, write_missed, write_overlap};
use super::rollout::{read_migration, read_policy, read_waves, write_migration, write_policy, write_waves};
use super::selector::{read_optional_selector, read_selector, write_selector};
use super::text::{is_deceptive, read_name};
use super::time::{read_duration, write_duration};

/// A schedule as its owner declares it, with its work as it came: that is the planner's to read. Whether there is such a zone and
/// such a day is not looked at: that takes the zones.
///
/// # Errors
/// [`Invalid`] with the field: no reason, not five fields, too long, …
pub fn read_schedule(message: v1::ScheduleSpec) -> Result<(ScheduleSpec, v1::WorkSpec), Invalid> {
    let v1::ScheduleSpec { name, zone, when, work, overlap, missed, paused, owner, reason } = message;
    let spec = ScheduleSpec {
        name: read_name("name", name)?,
        zone: read_name("zone", zone)?,
        when: match when {
            Some(When::Start(start)) => Recurrence::Once { start: read_name("start", start)? },
            Some(When::Cron(expr)) => Recurrence::Cron { expr },
            None => return Err(Invalid::new("when", "start or cron must be set")),
        },
        overlap: if overlap == 0 { Overlap::Skip } else { read_overlap("overlap", overlap)? },
        missed: if missed == 0 { MissedPolicy::Skip } else { read_missed("missed", missed)? },
        paused,
        owner,
        reason,
    };
    let work = work.ok_or_else(|| Invalid::missing("work"))?;
    spec.check().map_err(|why: InvalidSchedule| Invalid::new(why.field(), why.to_string()))?;
    // Whoever finds its operations is shown them.
    for (field, text) in [("reason", &spec.reason), ("owner", &spec.owner)] {
        if text.chars().any(is_deceptive) {
            return Err(Invalid::new(field, "it holds a control or text direction character"));
        }
    }
    Ok((spec, work))
}

/// As a message, with its work.
#[must_use]
pub fn write_schedule(spec: &ScheduleSpec, work: v1::WorkSpec) -> v1::ScheduleSpec {
    let ScheduleSpec { name, zone, when, overlap, missed, paused, owner, reason } = spec;
    v1::ScheduleSpec {
        name: name.as_str().to_owned(),
        zone: zone.as_str().to_owned(),
        when: Some(match when {
            Recurrence::Once { start } => When::Start(start.as_str().to_owned()),
            Recurrence::Cron { expr } => When::Cron(expr.clone()),
        }),
        work: Some(work),
        overlap: write_overlap(*overlap) as i32,
        missed: write_missed(*missed) as i32,
        paused: *paused,
        owner: owner.clone(),
        reason: reason.clone(),
    }
}

/// Work with its defaults filled in, as a coordinator shows it. What it names is not looked up.
///
/// # Errors
/// [`Invalid`] with the field, as far as it can be judged without a coordinator.
pub fn canonical_work(work: v1::WorkSpec) -> Result<v1::WorkSpec, Invalid> {
    let v1::WorkSpec { kind, max_failures } = work;
    let kind = kind.ok_or_else(|| Invalid::missing("work.kind"))?;
    let kind = match kind {
        Kind::Rolling(rolling) => Kind::Rolling(rolling_work(rolling).map_err(|i| i.within("work.rolling"))?),
        Kind::Run(v1::RunSpec { selector, action, service, parallelism, gate_timeout }) => {
            let selector = read_selector("work.run.selector", selector)?;
            let selector = Some(write_selector(&selector));
            let gate_timeout = span("work.run.gate_timeout", gate_timeout)?;
            Kind::Run(v1::RunSpec { selector, action, service, parallelism, gate_timeout })
        }
        Kind::Backup(v1::BackupAllSpec { service, selector, parallelism }) => {
            let selector = every("work.backup.selector", selector)?;
            Kind::Backup(v1::BackupAllSpec { service, selector, parallelism })
        }
        Kind::Rotate(v1::RotateAllSpec { service, selector, parallelism }) => {
            let selector = every("work.rotate.selector", selector)?;
            Kind::Rotate(v1::RotateAllSpec { service, selector, parallelism })
        }
        Kind::VerifyBackup(v1::VerifyBackupSpec { backup }) => {
            Kind::VerifyBackup(v1::VerifyBackupSpec { backup })
        }
        Kind::Failover(v1::FailoverWorkSpec { group, to, planned }) => {
            Kind::Failover(v1::FailoverWorkSpec { group, to, planned })
        }
        Kind::Rejoin(v1::RejoinSpec { group, node }) => Kind::Rejoin(v1::RejoinSpec { group, node }),
        Kind::Rebuild(v1::RebuildSpec { group, node, gate_timeout }) => {
            let gate_timeout = span("work.rebuild.gate_timeout", gate_timeout)?;
            Kind::Rebuild(v1::RebuildSpec { group, node, gate_timeout })
        }
        Kind::Membership(v1::MembershipChangeSpec { group, node, change, spare }) => {
            Kind::Membership(v1::MembershipChangeSpec { group, node, change, spare })
        }
    };
    Ok(v1::WorkSpec { kind: Some(kind), max_failures })
}

fn rolling_work(rolling: v1::RollingSpec) -> Result<v1::RollingSpec, Invalid> {
    let v1::RollingSpec {
        group,
        kind,
        max_unavailable,
        selector,
        gate_timeout,
        version,
        artifact,
        waves,
        on_failure,
        config,
        hook,
        migration,
        backup_first,
        secret,
    } = rolling;
    let kind =
        v1::RollingKind::try_from(kind).map_err(|_| Invalid::new("kind", "it is not one of its values"))?;
    let kind = match kind {
        v1::RollingKind::Unspecified => v1::RollingKind::Restart,
        v1::RollingKind::Restart
        | v1::RollingKind::Reload
        | v1::RollingKind::Release
        | v1::RollingKind::Undo
        | v1::RollingKind::Diff
        | v1::RollingKind::Run
        | v1::RollingKind::Secret => kind,
    };
    Ok(v1::RollingSpec {
        group,
        kind: kind as i32,
        max_unavailable,
        selector,
        gate_timeout: span("gate_timeout", gate_timeout)?,
        version,
        artifact,
        waves: write_waves(&read_waves(waves).map_err(|i| i.within("waves"))?),
        on_failure: write_policy(read_policy(on_failure)?) as i32,
        config,
        hook,
        migration: write_migration(read_migration(migration)?) as i32,
        backup_first,
        secret,
    })
}

/// Zero means what is absent means.
fn span(field: &str, span: Option<prost_types::Duration>) -> Result<Option<prost_types::Duration>, Invalid> {
    Ok(read_duration(field, span)?.filter(|span| !span.is_zero()).map(write_duration))
}

/// Every instance, unless a selector says which.
fn every(field: &str, selector: Option<v1::Selector>) -> Result<Option<v1::Selector>, Invalid> {
    let every = Selector { all: true, names: Vec::new(), labels: Vec::new() };
    Ok(Some(write_selector(&read_optional_selector(field, selector)?.unwrap_or(every))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> v1::WorkSpec {
        let rolling = v1::RollingSpec {
            group: "ledger".into(),
            kind: v1::RollingKind::Restart as i32,
            ..Default::default()
        };
        v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 1 }
    }

    fn message() -> v1::ScheduleSpec {
        v1::ScheduleSpec {
            name: "nightly".into(),
            zone: "Europe/Berlin".into(),
            when: Some(When::Cron("*/5 3 * * 6".into())),
            work: Some(work()),
            overlap: v1::ScheduleOverlap::BufferOne as i32,
            missed: v1::ScheduleMissed::RunOnce as i32,
            paused: true,
            owner: "the desk".into(),
            reason: "memory grows".into(),
        }
    }

    #[test]
    fn schedules_come_back() {
        let once = v1::ScheduleSpec { when: Some(When::Start("2026-12-24T22:00".into())), ..message() };
        for message in [message(), once] {
            let (spec, work) = read_schedule(message.clone()).unwrap();
            assert_eq!(write_schedule(&spec, work), message);
        }
        let bare = v1::ScheduleSpec { overlap: 0, missed: 0, paused: false, ..message() };
        let (spec, _) = read_schedule(bare).unwrap();
        assert_eq!((spec.overlap, spec.missed), (Overlap::Skip, MissedPolicy::Skip));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let cron = |text: &str| Some(When::Cron(text.into()));
        for (field, bad) in [
            ("name", v1::ScheduleSpec { name: "Nightly".into(), ..message() }),
            ("zone", v1::ScheduleSpec { zone: "../../etc/passwd".into(), ..message() }),
            ("when", v1::ScheduleSpec { when: None, ..message() }),
            ("start", v1::ScheduleSpec { when: Some(When::Start("tomorrow".into())), ..message() }),
            ("cron", v1::ScheduleSpec { when: cron("0 22 * *"), ..message() }),
            ("cron", v1::ScheduleSpec { when: cron(&"0".repeat(129)), ..message() }),
            ("work", v1::ScheduleSpec { work: None, ..message() }),
            ("overlap", v1::ScheduleSpec { overlap: 9, ..message() }),
            ("missed", v1::ScheduleSpec { missed: 9, ..message() }),
            ("owner", v1::ScheduleSpec { owner: "a\u{202e}b".into(), ..message() }),
            ("reason", v1::ScheduleSpec { reason: String::new(), ..message() }),
        ] {
            assert_eq!(read_schedule(bad.clone()).unwrap_err().field, field, "{bad:?}");
        }
    }

    #[test]
    fn what_is_left_out_of_work_is_filled_in_once() {
        let bare = Kind::Backup(v1::BackupAllSpec { service: "ledger".into(), ..Default::default() });
        let bare = canonical_work(v1::WorkSpec { kind: Some(bare), max_failures: 0 }).unwrap();
        let Some(Kind::Backup(backup)) = &bare.kind else { panic!("{bare:?}") };
        assert!(backup.selector.as_ref().is_some_and(|selector| selector.all));
        let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
        let rolling = v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 1 };
        assert_eq!(canonical_work(rolling).unwrap(), work());
        for done in [bare, work()] {
            assert_eq!(canonical_work(done.clone()).unwrap(), done);
        }
        let bad = v1::RollingSpec { kind: 99, ..Default::default() };
        let bad = v1::WorkSpec { kind: Some(Kind::Rolling(bad)), max_failures: 0 };
        assert_eq!(canonical_work(bad).unwrap_err().field, "work.rolling.kind");
        assert_eq!(canonical_work(v1::WorkSpec::default()).unwrap_err().field, "work.kind");
    }
}
