//! `quorate freeze`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;

use super::{Ctx, Outcome, apply, pages};
use crate::args::{Change, Page, Select};
use crate::call;
use crate::client::Client;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};
use crate::render::{self, json};

/// Times in which nothing disruptive may start
#[derive(Subcommand, Clone, Debug)]
pub enum FreezeCommand {
    /// Every freeze, those that have ended too
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One freeze: what it covers, who declared it, until when
    Show {
        /// Its name
        freeze: String,
    },
    /// Declares a freeze; at once for the whole fleet, when nothing else is said
    #[command(
        after_help = "Examples:\n  quorate freeze apply incident-7 --reason 'we look for the cause'\n  quorate freeze apply year-end --reason 'the books are closed' --from 2026-12-24T18:00:00Z --until 2027-01-02T06:00:00Z\n  quorate freeze apply ledger-audit --reason 'an audit' --service ledger -l zone=a --for 2h\n  quorate freeze apply -f freezes.yaml\n\nWhat has begun is brought to its end. Everything else waits and goes on by itself when the freeze ends or is deleted."
    )]
    Apply(FreezeArgs),
    /// Deletes a freeze; what it held goes on
    #[command(
        alias = "rm",
        after_help = "Examples:\n  quorate freeze delete incident-7 --reason 'the cause is found' --yes"
    )]
    Delete {
        /// Its name
        freeze: String,
        #[command(flatten)]
        change: Change,
    },
}

/// A freeze, in words or in a file.
#[derive(Args, Clone, Debug)]
pub struct FreezeArgs {
    /// Its name
    #[arg(required_unless_present = "file")]
    freeze: Option<String>,
    /// Fleet file with `kind: Freeze`; `-` for standard input
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["freeze", "services", "from", "until", "span", "nodes", "labels", "all"]
    )]
    file: Option<PathBuf>,
    /// Service, or group for the services of its members; may be given several times; all when it is not given
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',')]
    services: Vec<String>,
    /// From when, for example 2026-12-24T18:00:00Z; at once when it is not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<jiff::Timestamp>,
    /// Until when; until it is deleted when neither this nor --for is given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<jiff::Timestamp>,
    /// How long, from its beginning
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until", value_parser = humantime::parse_duration)]
    span: Option<Duration>,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    change: Change,
}

fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| {
        "write a time with its zone, for example 2026-12-24T18:00:00Z or 2026-12-24T19:00:00+01:00".to_owned()
    })
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: FreezeCommand) -> Outcome {
    match command {
        FreezeCommand::List { page } => list(ctx, page.limit).await,
        FreezeCommand::Show { freeze } => show(ctx, freeze).await,
        FreezeCommand::Apply(args) => declare(ctx, args).await,
        FreezeCommand::Delete { freeze, change } => {
            confirm::ask(&ctx.global, &change, &format!("Delete freeze {freeze}: what it holds goes on"))?;
            let options = Some(change.options());
            let request = v1::DeleteFreezeRequest { name: freeze.clone(), options, ..Default::default() };
            call!(ctx.client()?, ScheduleServiceClient, delete_freeze, request)?;
            let would = if change.dry_run { "would be " } else { "" };
            render::print(&format!("{} {would}deleted", safe(&freeze)))?;
            Ok(exit::DONE)
        }
    }
}

async fn declare(ctx: &Ctx, args: FreezeArgs) -> Outcome {
    let FreezeArgs { freeze, file, services, from, until, span, select, change } = args;
    let name = match (freeze, file) {
        (_, Some(file)) => return apply::run(ctx, apply::ApplyArgs::of(file, change), Some("Freeze")).await,
        (Some(name), None) => name,
        (None, None) => return Err(Failure::usage("name the freeze, or give --file FILE")),
    };
    let reason = change.reason.clone().filter(|reason| !reason.trim().is_empty()).ok_or_else(|| {
        Failure::usage("a freeze needs a reason: it is told to everybody who is held up")
            .with_hint("give --reason TEXT")
    })?;
    let spec = v1::FreezeSpec {
        name,
        selector: select.selector()?,
        services,
        reason,
        starts: from.map(stamp),
        ends: end(from, until, span)?.map(stamp),
    };
    let request = v1::ApplyFreezeRequest {
        spec: Some(spec.clone()),
        options: Some(change.options()),
        ..Default::default()
    };
    let answer = call!(ctx.client()?, ScheduleServiceClient, apply_freeze, request)?;
    let word = match (change.dry_run, answer.changed) {
        (true, true) => "would be applied",
        (false, true) => "applied",
        (_, false) => "unchanged",
    };
    // A dry run has declared nothing: what would be is shown as it was asked for.
    let shown = match answer.freeze {
        Some(freeze) if !change.dry_run => freeze,
        _ => v1::Freeze { name: spec.name.clone(), spec: Some(spec), ..Default::default() },
    };
    render::answer(ctx.global.output, &shown, "quorate.v1.Freeze", None, |_| {
        format!("freeze {} {word}: {}", safe(&shown.name), covers(&shown))
    })?;
    Ok(exit::DONE)
}

fn stamp(at: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// The end that was asked for; `--for` counts from `--from`, or from now by this machine's clock.
fn end(
    from: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    span: Option<Duration>,
) -> Result<Option<jiff::Timestamp>, Failure> {
    let Some(span) = span else { return Ok(until) };
    let begin = from.unwrap_or_else(jiff::Timestamp::now);
    let end = begin.checked_add(span).map_err(|e| Failure::usage(format!("--for: {e}")))?;
    Ok(Some(end))
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let (freezes, token) = freezes(ctx, &client, limit).await?;
    let answer = v1::ListFreezesResponse { freezes, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListFreezesResponse", Some("freezes"), |_| {
        table(&answer.freezes)
    })?;
    Ok(exit::DONE)
}

async fn freezes(
    ctx: &Ctx,
    client: &Client,
    limit: Option<u32>,
) -> Result<(Vec<v1::Freeze>, String), Failure> {
    let consistency = ctx.global.consistency();
    pages(limit, |page_token, page_size| async move {
        let request = v1::ListFreezesRequest { page_size, page_token, consistency };
        let answer = call!(client, ScheduleServiceClient, list_freezes, request)?;
        Ok((answer.freezes, answer.next_page_token))
    })
    .await
}

/// Those that hold something now, one line each, for the screen that shows everything.
///
/// # Errors
/// What the API gives.
pub async fn active(ctx: &Ctx, client: &Client) -> Result<Vec<String>, Failure> {
    let (freezes, _) = freezes(ctx, client, None).await?;
    let on = freezes.iter().filter(|freeze| freeze.state() == v1::FreezeState::Active);
    Ok(on
        .map(|freeze| {
            let reason = freeze.spec.as_ref().map(|spec| spec.reason.as_str()).unwrap_or_default();
            let (by, since) = (safe(&freeze.applied_by), time(freeze.since.as_ref(), "-"));
            format!("{}: {} ({}; by {by} since {since})", safe(&freeze.name), safe(reason), covers(freeze))
        })
        .collect())
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetFreezeRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, ScheduleServiceClient, get_freeze, request)?;
    let freeze = answer.freeze.unwrap_or_default();
    render::answer(ctx.global.output, &freeze, "quorate.v1.Freeze", None, |_| {
        let spec = freeze.spec.clone().unwrap_or_default();
        format!(
            "{}\n\nReason      {}\nDeclared    by {} at {}",
            table(std::slice::from_ref(&freeze)),
            dash(&spec.reason),
            dash(&freeze.applied_by),
            time(freeze.created.as_ref(), "-"),
        )
    })?;
    Ok(exit::DONE)
}

fn table(freezes: &[v1::Freeze]) -> String {
    let mut columns = Columns::new(&["freeze", "state", "from", "until", "nodes", "services", "reason"]);
    for freeze in freezes {
        let spec = freeze.spec.clone().unwrap_or_default();
        columns.row([
            safe(&freeze.name),
            style::state(&json::word("quorate.v1.FreezeState", freeze.state)),
            time(freeze.since.as_ref(), "-"),
            time(spec.ends.as_ref(), "deleted"),
            nodes(spec.selector.as_ref()),
            services(&spec.services),
            dash(&spec.reason),
        ]);
    }
    columns.finish("No freezes. `quorate freeze apply NAME --reason TEXT` declares one.")
}

/// One line: what a freeze covers, and until when.
fn covers(freeze: &v1::Freeze) -> String {
    let spec = freeze.spec.clone().unwrap_or_default();
    let from = spec.starts.as_ref().map(|at| format!("from {} ", time(Some(at), "-"))).unwrap_or_default();
    let until = time(spec.ends.as_ref(), "it is deleted");
    let nodes =
        if spec.selector.is_none() { "the whole fleet".to_owned() } else { nodes(spec.selector.as_ref()) };
    let services =
        if spec.services.is_empty() { String::new() } else { format!(", {}", services(&spec.services)) };
    format!("{nodes}{services}, {from}until {until}")
}

/// The nodes that a freeze or a window covers.
pub(super) fn nodes(selector: Option<&v1::Selector>) -> String {
    let Some(selector) = selector else { return "all".to_owned() };
    let mut parts = selector.names.clone();
    if !selector.labels.is_empty() {
        parts.push(selector.labels.clone());
    }
    if parts.is_empty() { "all".to_owned() } else { safe(&parts.join(" ")) }
}

/// The services that a freeze or a window covers.
pub(super) fn services(services: &[String]) -> String {
    if services.is_empty() { "all".to_owned() } else { safe(&services.join(",")) }
}

/// A moment in UTC.
pub(super) fn time(at: Option<&prost_types::Timestamp>, none: &str) -> String {
    at.map_or_else(|| none.to_owned(), |at| quorate_model::Timestamp(at.seconds.saturating_mul(1_000)).utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        moment(text).unwrap()
    }

    #[test]
    fn a_span_counts_from_the_beginning_that_was_asked_for() {
        let from = at("2026-12-24T18:00:00Z");
        let span = Some(Duration::from_secs(7_200));
        assert_eq!(end(Some(from), None, span).unwrap(), Some(at("2026-12-24T20:00:00Z")));
        assert_eq!(end(Some(from), Some(from), None).unwrap(), Some(from));
        assert_eq!(end(None, None, None).unwrap(), None);
        assert!(end(None, None, span).unwrap().unwrap() > jiff::Timestamp::now());
        assert_eq!(end(None, None, Some(Duration::MAX)).unwrap_err().code, exit::USAGE);
    }

    #[test]
    fn times_need_their_zone() {
        assert_eq!(at("2026-12-24T19:00:00+01:00"), at("2026-12-24T18:00:00Z"));
        for bad in ["tomorrow", "2026-12-24", "2026-12-24T18:00:00", ""] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_freeze_reads_as_one_line() {
        let bare = v1::Freeze { spec: Some(v1::FreezeSpec::default()), ..Default::default() };
        assert_eq!(covers(&bare), "the whole fleet, until it is deleted");
        let selector = v1::Selector { labels: "zone=a".into(), ..Default::default() };
        let spec = v1::FreezeSpec {
            selector: Some(selector),
            services: vec!["ledger".into(), "web".into()],
            starts: Some(stamp(at("2026-12-24T18:00:00Z"))),
            ends: Some(stamp(at("2026-12-24T20:00:00Z"))),
            ..Default::default()
        };
        let full = v1::Freeze { spec: Some(spec), ..Default::default() };
        assert_eq!(covers(&full), "zone=a, ledger,web, from 2026-12-24T18:00:00Z until 2026-12-24T20:00:00Z");
    }
}
