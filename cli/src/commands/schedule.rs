//! `quorate schedule`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use quorate_proto::v1::schedule_spec::When;
use quorate_proto::v1::work_spec::Kind;

use super::freeze::time;
use super::{Ctx, Outcome, apply, operation, pages, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::safe;
use crate::render::table::dash;
use crate::render::{self, json, talk};

mod show;

use show::{next, rule, runs, table, work};

/// What starts operations by itself, at times
#[derive(Subcommand, Clone, Debug)]
pub enum ScheduleCommand {
    /// Every schedule, when it is due next, and what became of its last run
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One schedule: what it does, its next five runs, its last ten
    Show {
        /// Its name
        schedule: String,
    },
    /// Declares a schedule
    #[command(
        after_help = "Examples:\n  quorate schedule apply nightly --backup ledger --cron '30 2 * * *' --zone Europe/Berlin --reason 'the contract asks for it'\n  quorate schedule apply weekly --restart ledger --cron '0 3 * * 6' --zone UTC --overlap skip --missed run-once --reason 'memory grows'\n  quorate schedule apply christmas --rotate ledger --once 2026-12-24T22:00 --zone UTC --reason 'full logs'\n  quorate schedule apply -f schedules.yaml\n\nThe work is planned anew each time it is due, with the checks that everybody's work passes: quorum, freezes, windows. What cannot\nbe planned then is not done; `quorate schedule show` says why. In a file it can be any work, as in `kind: Rollout`."
    )]
    Apply(Box<ScheduleArgs>),
    /// Lets a schedule start nothing; its operations go on
    #[command(
        after_help = "Examples:\n  quorate schedule pause nightly --reason 'the disk is being replaced'"
    )]
    Pause {
        /// Its name
        schedule: String,
        #[command(flatten)]
        change: Change,
    },
    /// Lets a schedule start operations again; what was due meanwhile is not made up for
    #[command(after_help = "Examples:\n  quorate schedule resume nightly --reason 'the disk is in'")]
    Resume {
        /// Its name
        schedule: String,
        #[command(flatten)]
        change: Change,
    },
    /// Runs a schedule now, as if it were due; its overlap and the policies hold
    #[command(
        after_help = "Examples:\n  quorate schedule run nightly --dry-run\n  quorate schedule run nightly --wait --reason 'the disk is in'"
    )]
    Run {
        /// Its name
        schedule: String,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Deletes a schedule; its operations go on
    #[command(
        alias = "rm",
        after_help = "Examples:\n  quorate schedule delete nightly --reason 'the service is gone' --yes"
    )]
    Delete {
        /// Its name
        schedule: String,
        #[command(flatten)]
        change: Change,
    },
}

/// When an operation of it is not over.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Overlap {
    /// The run is left out
    Skip,
    /// One run waits
    BufferOne,
    /// The operation is canceled
    CancelOther,
    /// The run begins
    AllowAll,
}

/// When nobody was there.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Missed {
    /// It is left out
    Skip,
    /// The newest is made up for
    RunOnce,
}

/// A schedule, in words or in a file.
#[derive(Args, Clone, Debug)]
pub struct ScheduleArgs {
    /// Its name
    #[arg(required_unless_present = "file")]
    schedule: Option<String>,
    /// Fleet file with `kind: Schedule`; `-` for standard input
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["schedule", "restart", "reload", "backup", "rotate", "cron", "once", "zone", "overlap", "missed", "paused", "owner", "max_unavailable", "nodes", "labels", "all"]
    )]
    file: Option<PathBuf>,
    /// Rolling restart of this group
    #[arg(long, value_name = "GROUP", group = "what", required_unless_present_any = ["file", "reload", "backup", "rotate"])]
    restart: Option<String>,
    /// Rolling reload of this group
    #[arg(long, value_name = "GROUP", group = "what")]
    reload: Option<String>,
    /// Backups of this service
    #[arg(long, value_name = "SERVICE", group = "what")]
    backup: Option<String>,
    /// Log rotation of this service
    #[arg(long, value_name = "SERVICE", group = "what")]
    rotate: Option<String>,
    /// When it is due, again and again: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION", required_unless_present_any = ["file", "once"], conflicts_with = "once")]
    cron: Option<String>,
    /// When it is due, once: a local time, for example 2026-12-24T22:00
    #[arg(long, value_name = "TIME")]
    once: Option<String>,
    /// Whose clocks it goes by, for example Europe/Berlin
    #[arg(long, value_name = "ZONE", required_unless_present = "file")]
    zone: Option<String>,
    /// When an operation of it is not over; skip when it is not given
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// When nobody was there; skip when it is not given
    #[arg(long, value_enum)]
    missed: Option<Missed>,
    /// Declared, but starts nothing
    #[arg(long)]
    paused: bool,
    /// Whom to ask
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Nodes at once; 0 for the default
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_unavailable: u32,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    change: Change,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: ScheduleCommand) -> Outcome {
    match command {
        ScheduleCommand::List { page } => list(ctx, page.limit).await,
        ScheduleCommand::Show { schedule } => show(ctx, schedule).await,
        ScheduleCommand::Apply(args) => declare(ctx, *args).await,
        ScheduleCommand::Pause { schedule, change } => {
            let options = Some(change.options());
            let request = v1::PauseScheduleRequest { name: schedule, options };
            let answer = call!(ctx.client()?, ScheduleServiceClient, pause_schedule, request)?;
            told(ctx, answer.schedule, &change, "paused")
        }
        ScheduleCommand::Resume { schedule, change } => {
            let options = Some(change.options());
            let request = v1::ResumeScheduleRequest { name: schedule, options };
            let answer = call!(ctx.client()?, ScheduleServiceClient, resume_schedule, request)?;
            told(ctx, answer.schedule, &change, "resumed")
        }
        ScheduleCommand::Run { schedule, change, waiting } => run_now(ctx, schedule, &change, &waiting).await,
        ScheduleCommand::Delete { schedule, change } => {
            let question = format!("Delete schedule {schedule}: it starts nothing any more");
            confirm::ask(&ctx.global, &change, &question)?;
            let options = Some(change.options());
            let request = v1::DeleteScheduleRequest { name: schedule.clone(), options, ..Default::default() };
            call!(ctx.client()?, ScheduleServiceClient, delete_schedule, request)?;
            let would = if change.dry_run { "would be " } else { "" };
            render::print(&format!("{} {would}deleted", safe(&schedule)))?;
            Ok(exit::DONE)
        }
    }
}

async fn run_now(ctx: &Ctx, name: String, change: &Change, waiting: &Waiting) -> Outcome {
    let question = format!("Run schedule {name} now?");
    confirm::ask(&ctx.global, change, &question)?;
    let client = ctx.client()?;
    let request = v1::RunScheduleRequest { name, options: Some(change.options()) };
    let answer = call!(client, ScheduleServiceClient, run_schedule, request)?;
    match (answer.operation, answer.plan) {
        (Some(operation), _) => operation::made(ctx, &client, &operation, waiting).await,
        (None, Some(plan)) => {
            let message = "quorate.v1.Plan";
            render::answer(ctx.global.output, &plan, message, None, |_| render::plan::plan(&plan))?;
            Ok(exit::DONE)
        }
        (None, None) => {
            let (schedule, would) =
                (answer.schedule.unwrap_or_default(), if change.dry_run { "would wait" } else { "waits" });
            let told =
                format!("the run of schedule {} {would} until its operation is over", safe(&schedule.name));
            if waiting.wait && !change.dry_run {
                // There is no operation yet that could be waited for, and nobody may take this for an end.
                let hint = format!("quorate schedule show {} tells what becomes of it", safe(&schedule.name));
                return Err(Failure::failed(told).with_code(exit::TIMED_OUT).with_hint(hint));
            }
            render::answer(ctx.global.output, &schedule, "quorate.v1.Schedule", None, |_| told)?;
            Ok(exit::DONE)
        }
    }
}

fn told(ctx: &Ctx, schedule: Option<v1::Schedule>, change: &Change, done: &str) -> Outcome {
    let schedule = schedule.unwrap_or_default();
    let would = if change.dry_run { "would be " } else { "" };
    render::answer(ctx.global.output, &schedule, "quorate.v1.Schedule", None, |_| {
        format!("schedule {} {would}{done}", safe(&schedule.name))
    })?;
    Ok(exit::DONE)
}

async fn declare(ctx: &Ctx, args: ScheduleArgs) -> Outcome {
    let change = args.change.clone();
    if let Some(file) = args.file {
        return apply::run(ctx, apply::ApplyArgs::of(file, change), Some("Schedule")).await;
    }
    let spec = spec(args)?;
    let request = v1::ApplyScheduleRequest {
        spec: Some(spec.clone()),
        options: Some(change.options()),
        ..Default::default()
    };
    let answer = call!(ctx.client()?, ScheduleServiceClient, apply_schedule, request)?;
    for warning in &answer.warnings {
        talk(&format!("warning: {}", safe(warning)));
    }
    let word = match (change.dry_run, answer.changed) {
        (true, true) => "would be applied",
        (false, true) => "applied",
        (_, false) => "unchanged",
    };
    // A dry run has declared nothing: what would be is shown as it was asked for.
    let shown = match answer.schedule {
        Some(schedule) if !change.dry_run => schedule,
        _ => v1::Schedule { name: spec.name.clone(), spec: Some(spec), ..Default::default() },
    };
    render::answer(ctx.global.output, &shown, "quorate.v1.Schedule", None, |_| {
        let spec = shown.spec.clone().unwrap_or_default();
        format!("schedule {} {word}: {}, {}", safe(&shown.name), work(&spec), rule(&spec))
    })?;
    Ok(exit::DONE)
}

/// What the words say.
fn spec(args: ScheduleArgs) -> Result<v1::ScheduleSpec, Failure> {
    let work = wanted(&args)?;
    let ScheduleArgs {
        schedule,
        file: _,
        restart: _,
        reload: _,
        backup: _,
        rotate: _,
        cron,
        once,
        zone,
        overlap,
        missed,
        paused,
        owner,
        max_unavailable: _,
        select: _,
        change,
    } = args;
    let reason = change.reason.filter(|reason| !reason.trim().is_empty()).ok_or_else(|| {
        Failure::usage("a schedule needs a reason: its operations carry it").with_hint("give --reason TEXT")
    })?;
    let overlap = match overlap {
        None => v1::ScheduleOverlap::Unspecified,
        Some(Overlap::Skip) => v1::ScheduleOverlap::Skip,
        Some(Overlap::BufferOne) => v1::ScheduleOverlap::BufferOne,
        Some(Overlap::CancelOther) => v1::ScheduleOverlap::CancelOther,
        Some(Overlap::AllowAll) => v1::ScheduleOverlap::AllowAll,
    };
    let missed = match missed {
        None => v1::ScheduleMissed::Unspecified,
        Some(Missed::Skip) => v1::ScheduleMissed::Skip,
        Some(Missed::RunOnce) => v1::ScheduleMissed::RunOnce,
    };
    Ok(v1::ScheduleSpec {
        name: schedule.unwrap_or_default(),
        zone: zone.unwrap_or_default(),
        when: once.map(When::Start).or(cron.map(When::Cron)),
        work: Some(work),
        overlap: overlap.into(),
        missed: missed.into(),
        paused,
        owner: owner.unwrap_or_default(),
        reason,
    })
}

fn wanted(args: &ScheduleArgs) -> Result<v1::WorkSpec, Failure> {
    let ScheduleArgs { restart, reload, backup, rotate, select, max_unavailable, .. } = args;
    let rolling = |group: &String, kind: v1::RollingKind| {
        if !select.is_empty() {
            return Err(Failure::usage("a rolling change covers its whole group; it takes no selection"));
        }
        let rolling = v1::RollingSpec {
            group: group.clone(),
            kind: kind.into(),
            max_unavailable: *max_unavailable,
            ..Default::default()
        };
        Ok(v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 0 })
    };
    match (restart, reload, backup, rotate) {
        (Some(group), ..) => rolling(group, v1::RollingKind::Restart),
        (_, Some(group), ..) => rolling(group, v1::RollingKind::Reload),
        (_, _, Some(service), _) => run::backup_spec(service, select, *max_unavailable),
        (_, _, _, Some(service)) => run::rotate_spec(service, select, *max_unavailable),
        (None, None, None, None) => Err(Failure::usage("nothing to do was named").with_hint(
            "give --restart GROUP, --reload GROUP, --backup SERVICE, --rotate SERVICE or -f FILE",
        )),
    }
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let (client, consistency) = (ctx.client()?, ctx.global.consistency());
    let client = &client;
    let (schedules, next_page_token) = pages(limit, |page_token, page_size| async move {
        let request = v1::ListSchedulesRequest { page_size, page_token, consistency };
        let answer = call!(client, ScheduleServiceClient, list_schedules, request)?;
        Ok((answer.schedules, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListSchedulesResponse { schedules, next_page_token };
    let message = "quorate.v1.ListSchedulesResponse";
    render::answer(ctx.global.output, &answer, message, Some("schedules"), |_| table(&answer.schedules))?;
    Ok(exit::DONE)
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetScheduleRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, ScheduleServiceClient, get_schedule, request)?;
    let schedule = answer.schedule.unwrap_or_default();
    render::answer(ctx.global.output, &schedule, "quorate.v1.Schedule", None, |_| {
        let spec = schedule.spec.clone().unwrap_or_default();
        format!(
            "{}\n\nReason      {}\nOwner       {}\nDue         {}\nOverlap     {}\nMissed      {}\nDeclared    by {} at {}\nWaiting     {}\n\n{}\n\n{}",
            table(std::slice::from_ref(&schedule)),
            dash(&spec.reason),
            dash(&spec.owner),
            rule(&spec),
            json::word("quorate.v1.ScheduleOverlap", spec.overlap),
            json::word("quorate.v1.ScheduleMissed", spec.missed),
            dash(&schedule.applied_by),
            time(schedule.created.as_ref(), "-"),
            time(schedule.waiting.as_ref(), "-"),
            next(&schedule),
            runs(&schedule),
        )
    })?;
    Ok(exit::DONE)
}
