//! `quorate window`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use quorate_proto::v1::window_spec::When;

use super::freeze::{nodes, services, time};
use super::{Ctx, Outcome, apply, pages};
use crate::args::{Change, Page, Select};
use crate::call;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};
use crate::render::{self, json};

/// Times in which disruptive work may start on what they cover
#[derive(Subcommand, Clone, Debug)]
pub enum WindowCommand {
    /// Every window, and when it opens
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One window: what it covers, whom to ask, its next five openings
    Show {
        /// Its name
        window: String,
    },
    /// Declares a window; of the whole fleet, when nothing else is said
    #[command(
        after_help = "Examples:\n  quorate window apply saturdays --cron '0 22 * * 6' --zone Europe/Berlin --duration 4h --reason 'agreed with the exchange'\n  quorate window apply christmas --once 2026-12-24T22:00 --zone UTC --duration 6h --service ledger --reason 'nobody trades' --announce 7d,1d\n  quorate window apply -f windows.yaml\n\nOn what a window covers, disruptive work starts only while it is open, and only if it fits in what is left. What no window covers\nmay be worked on at any time; where several cover the same, each of them will do. What has begun is brought to its end."
    )]
    Apply(Box<WindowArgs>),
    /// Deletes a window; what it held goes on
    #[command(
        alias = "rm",
        after_help = "Examples:\n  quorate window delete saturdays --reason 'the contract has ended' --yes"
    )]
    Delete {
        /// Its name
        window: String,
        #[command(flatten)]
        change: Change,
    },
}

/// A window, in words or in a file.
#[derive(Args, Clone, Debug)]
pub struct WindowArgs {
    /// Its name
    #[arg(required_unless_present = "file")]
    window: Option<String>,
    /// Fleet file with `kind: Window`; `-` for standard input
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["window", "services", "cron", "once", "zone", "duration", "owner", "announce", "quiet_openings", "nodes", "labels", "all"]
    )]
    file: Option<PathBuf>,
    /// When it opens, again and again: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION", required_unless_present_any = ["file", "once"], conflicts_with = "once")]
    cron: Option<String>,
    /// When it opens, once: a local time, for example 2026-12-24T22:00
    #[arg(long, value_name = "TIME")]
    once: Option<String>,
    /// Whose clocks it goes by, for example Europe/Berlin
    #[arg(long, value_name = "ZONE", required_unless_present = "file")]
    zone: Option<String>,
    /// How long it is open, one minute to seven days
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, required_unless_present = "file")]
    duration: Option<Duration>,
    /// Service, or group for the services of its members; may be given several times; all when it is not given
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',')]
    services: Vec<String>,
    /// Whom to ask
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// How long before an opening it is announced; 14d,7d,1d,1h when it is not given
    #[arg(long, value_name = "DURATION", value_delimiter = ',', value_parser = humantime::parse_duration)]
    announce: Vec<Duration>,
    /// Its openings are never announced
    #[arg(long, conflicts_with = "announce")]
    quiet_openings: bool,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    change: Change,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: WindowCommand) -> Outcome {
    match command {
        WindowCommand::List { page } => list(ctx, page.limit).await,
        WindowCommand::Show { window } => show(ctx, window).await,
        WindowCommand::Apply(args) => declare(ctx, *args).await,
        WindowCommand::Delete { window, change } => {
            let question = format!("Delete window {window}: what it covers may be worked on at any time");
            confirm::ask(&ctx.global, &change, &question)?;
            let options = Some(change.options());
            let request = v1::DeleteWindowRequest { name: window.clone(), options, ..Default::default() };
            call!(ctx.client()?, ScheduleServiceClient, delete_window, request)?;
            let would = if change.dry_run { "would be " } else { "" };
            render::print(&format!("{} {would}deleted", safe(&window)))?;
            Ok(exit::DONE)
        }
    }
}

async fn declare(ctx: &Ctx, args: WindowArgs) -> Outcome {
    let change = args.change.clone();
    if let Some(file) = args.file {
        return apply::run(ctx, apply::ApplyArgs::of(file, change), Some("Window")).await;
    }
    let spec = spec(args)?;
    let request = v1::ApplyWindowRequest {
        spec: Some(spec.clone()),
        options: Some(change.options()),
        ..Default::default()
    };
    let answer = call!(ctx.client()?, ScheduleServiceClient, apply_window, request)?;
    let word = match (change.dry_run, answer.changed) {
        (true, true) => "would be applied",
        (false, true) => "applied",
        (_, false) => "unchanged",
    };
    // A dry run has declared nothing: what would be is shown as it was asked for.
    let shown = match answer.window {
        Some(window) if !change.dry_run => window,
        _ => v1::Window { name: spec.name.clone(), spec: Some(spec), ..Default::default() },
    };
    render::answer(ctx.global.output, &shown, "quorate.v1.Window", None, |_| {
        format!("window {} {word}: {}", safe(&shown.name), covers(&shown))
    })?;
    Ok(exit::DONE)
}

/// What the words say.
fn spec(args: WindowArgs) -> Result<v1::WindowSpec, Failure> {
    let WindowArgs {
        window,
        file: _,
        cron,
        once,
        zone,
        duration,
        services,
        owner,
        announce,
        quiet_openings,
        select,
        change,
    } = args;
    let reason = change.reason.filter(|reason| !reason.trim().is_empty()).ok_or_else(|| {
        Failure::usage("a window needs a reason: it is told to everybody who is held up")
            .with_hint("give --reason TEXT")
    })?;
    Ok(v1::WindowSpec {
        name: window.unwrap_or_default(),
        selector: select.selector()?,
        services,
        zone: zone.unwrap_or_default(),
        when: once.map(When::Start).or(cron.map(When::Cron)),
        duration: duration.map(span).transpose()?,
        owner: owner.unwrap_or_default(),
        announce: announce.into_iter().map(span).collect::<Result<_, _>>()?,
        quiet: quiet_openings,
        reason,
    })
}

fn span(span: Duration) -> Result<prost_types::Duration, Failure> {
    prost_types::Duration::try_from(span).map_err(|_| Failure::usage("a duration is too long"))
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let (client, consistency) = (ctx.client()?, ctx.global.consistency());
    let client = &client;
    let (windows, next_page_token) = pages(limit, |page_token, page_size| async move {
        let request = v1::ListWindowsRequest { page_size, page_token, consistency };
        let answer = call!(client, ScheduleServiceClient, list_windows, request)?;
        Ok((answer.windows, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListWindowsResponse { windows, next_page_token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListWindowsResponse", Some("windows"), |_| {
        table(&answer.windows)
    })?;
    Ok(exit::DONE)
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetWindowRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, ScheduleServiceClient, get_window, request)?;
    let window = answer.window.unwrap_or_default();
    render::answer(ctx.global.output, &window, "quorate.v1.Window", None, |_| {
        let spec = window.spec.clone().unwrap_or_default();
        format!(
            "{}\n\nReason      {}\nOwner       {}\nOpens       {}\nAnnounced   {}\nDeclared    by {} at {}\n\n{}",
            table(std::slice::from_ref(&window)),
            dash(&spec.reason),
            dash(&spec.owner),
            rule(&spec),
            announcements(&spec),
            dash(&window.applied_by),
            time(window.created.as_ref(), "-"),
            openings(&window),
        )
    })?;
    Ok(exit::DONE)
}

fn table(windows: &[v1::Window]) -> String {
    let mut columns = Columns::new(&["window", "state", "opens", "closes", "nodes", "services", "reason"]);
    for window in windows {
        let spec = window.spec.clone().unwrap_or_default();
        let next = window.openings.first();
        columns.row([
            safe(&window.name),
            style::state(&json::word("quorate.v1.WindowState", window.state)),
            time(next.and_then(|o| o.start.as_ref()), "-"),
            time(next.and_then(|o| o.end.as_ref()), "-"),
            nodes(spec.selector.as_ref()),
            services(&spec.services),
            dash(&spec.reason),
        ]);
    }
    columns.finish(
        "No windows: everything may be worked on at any time. `quorate window apply NAME` declares one.",
    )
}

/// The next openings, by the clocks of the zone and in UTC.
fn openings(window: &v1::Window) -> String {
    let mut columns = Columns::new(&["opens", "closes", "opens (UTC)", "closes (UTC)"]);
    for opening in &window.openings {
        columns.row([
            dash(&opening.local_start),
            dash(&opening.local_end),
            time(opening.start.as_ref(), "-"),
            time(opening.end.as_ref(), "-"),
        ]);
    }
    let none = if window.known_until.is_none() {
        "Its openings are being worked out."
    } else {
        "No opening is known."
    };
    columns.finish(none)
}

fn rule(spec: &v1::WindowSpec) -> String {
    let when = match &spec.when {
        Some(When::Start(start)) => start.clone(),
        Some(When::Cron(cron)) => format!("cron {cron}"),
        None => "-".to_owned(),
    };
    safe(&format!("{when}, {}, for {}", spec.zone, lasting(spec.duration.as_ref())))
}

fn announcements(spec: &v1::WindowSpec) -> String {
    if spec.announce.is_empty() {
        return "never".to_owned();
    }
    let before: Vec<String> = spec.announce.iter().map(|before| lasting(Some(before))).collect();
    format!("{} before", before.join(", "))
}

fn lasting(span: Option<&prost_types::Duration>) -> String {
    let ms =
        span.map(|span| span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos / 1_000_000)));
    quorate_model::DurationMs(u64::try_from(ms.unwrap_or_default()).unwrap_or_default()).to_string()
}

/// One line: what a window covers, and when it is open.
fn covers(window: &v1::Window) -> String {
    let spec = window.spec.clone().unwrap_or_default();
    let nodes =
        if spec.selector.is_none() { "the whole fleet".to_owned() } else { nodes(spec.selector.as_ref()) };
    let services =
        if spec.services.is_empty() { String::new() } else { format!(", {}", services(&spec.services)) };
    format!("{nodes}{services}, open {}", rule(&spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn a_window_reads_as_one_line() {
        let spec = v1::WindowSpec {
            zone: "UTC".into(),
            when: Some(When::Start("2026-12-24T22:00".into())),
            duration: Some(secs(5_400)),
            ..Default::default()
        };
        let bare = v1::Window { spec: Some(spec), ..Default::default() };
        assert_eq!(covers(&bare), "the whole fleet, open 2026-12-24T22:00, UTC, for 1h30m");
        let spec = v1::WindowSpec {
            selector: Some(v1::Selector { labels: "zone=a".into(), ..Default::default() }),
            services: vec!["ledger".into()],
            zone: "Europe/Berlin".into(),
            when: Some(When::Cron("0 22 * * 6".into())),
            duration: Some(secs(4 * 3_600)),
            announce: vec![secs(14 * 86_400), secs(3_600)],
            ..Default::default()
        };
        assert_eq!(announcements(&spec), "14d, 1h before");
        let full = v1::Window { spec: Some(spec), ..Default::default() };
        assert_eq!(covers(&full), "zone=a, ledger, open cron 0 22 * * 6, Europe/Berlin, for 4h");
    }

    #[test]
    fn openings_are_told_in_the_zone_and_in_utc() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let opening = v1::WindowOpening {
            start: at(1_798_146_000),
            end: at(1_798_160_400),
            local_start: "2026-12-24T22:00:00+01:00[Europe/Berlin]".into(),
            local_end: "2026-12-25T02:00:00+01:00[Europe/Berlin]".into(),
        };
        let text = openings(&v1::Window { openings: vec![opening], ..Default::default() });
        for wanted in
            ["2026-12-24T22:00:00+01:00[Europe/Berlin]", "2026-12-24T21:00:00Z", "2026-12-25T01:00:00Z"]
        {
            assert!(text.contains(wanted), "{text}");
        }
        assert_eq!(openings(&v1::Window::default()), "Its openings are being worked out.");
    }
}
