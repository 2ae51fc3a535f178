//! `quorate quorum`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;

use super::{Ctx, Outcome};
use crate::call;
use crate::failure::{Failure, exit};
use crate::render::style::{Tone, mark, safe, title};
use crate::render::table::{Columns, age};
use crate::render::{self, json, talk};

/// The arithmetic: who is up, how many are needed, what is spare
#[derive(Subcommand, Clone, Debug)]
pub enum QuorumCommand {
    /// Every quorum, the coordinators' own first
    #[command(after_help = "Examples:\n  quorate quorum status\n  quorate quorum status -o json")]
    Status,
    /// What would be left with these nodes down; exit code 3 when any quorum would be lost
    #[command(after_help = "Examples:\n  quorate quorum check --down node1,node2")]
    Check {
        /// Nodes to think away
        #[arg(long, value_delimiter = ',', required = true, value_name = "NODE")]
        down: Vec<String>,
    },
}

/// Runs it.
///
/// # Errors
/// What the API gives.
pub async fn run(ctx: &Ctx, command: QuorumCommand) -> Outcome {
    let consistency = ctx.global.consistency();
    let client = ctx.client()?;
    match command {
        QuorumCommand::Status => {
            let request = v1::GetQuorumRequest { consistency };
            let answer = call!(client, GroupServiceClient, get_quorum, request)?;
            render::answer(
                ctx.global.output,
                &answer,
                "quorate.v1.GetQuorumResponse",
                Some("groups"),
                |_| lines(&answer.groups, "up"),
            )?;
            Ok(exit::DONE)
        }
        QuorumCommand::Check { down } => {
            let request = v1::CheckQuorumRequest { down: down.clone(), consistency };
            let answer = call!(client, GroupServiceClient, check_quorum, request)?;
            render::answer(
                ctx.global.output,
                &answer,
                "quorate.v1.CheckQuorumResponse",
                Some("groups"),
                |_| lines(&answer.groups, "left"),
            )?;
            let lost: Vec<&str> = answer.groups.iter().filter(|g| !g.ok).map(|g| g.name.as_str()).collect();
            if lost.is_empty() {
                return Ok(exit::DONE);
            }
            let what = format!("with {} down, {} would have no quorum", down.join(", "), lost.join(", "));
            talk(&format!("error: {}", safe(&what)));
            Err(Failure::failed("").with_code(exit::REFUSED))
        }
    }
}

fn lines(groups: &[v1::QuorumLine], up: &str) -> String {
    let mut columns = Columns::new(&["group", "kind", "voters", up, "needs", "spare", "status"]);
    let (mut out, mut raised) = (Vec::new(), Vec::new());
    for group in groups {
        columns.row([
            safe(&group.name),
            safe(&group.kind),
            group.voters.to_string(),
            group.available.to_string(),
            group.required.to_string(),
            group.margin.to_string(),
            verdict(group),
        ]);
        out.extend(group.out.iter().map(|line| format!("{}: {}", safe(&group.name), safe(line))));
        let alarm = group.alarm.as_ref().and_then(|alarm| alarm_line(&group.name, alarm));
        raised.extend(alarm);
    }
    let mut text = columns.finish("No quorum is declared.");
    for (heading, lines) in [("Out", out), ("Alarms", raised)] {
        if !lines.is_empty() {
            text += &format!("\n\n{heading}\n  {}", lines.join("\n  "));
        }
    }
    text
}

/// `! Warning ledger for 4m12s: 2 up, needs 2`, or none while it is not raised.
pub(super) fn alarm_line(name: &str, alarm: &v1::QuorumAlarm) -> Option<String> {
    let word = json::word("quorate.v1.AlarmLevel", alarm.level);
    let lasting =
        if alarm.since.is_none() { String::new() } else { format!(" for {}", age(alarm.since.as_ref())) };
    let tone = match alarm.level() {
        v1::AlarmLevel::Unspecified | v1::AlarmLevel::None => return None,
        v1::AlarmLevel::Warning => Tone::Warning,
        v1::AlarmLevel::Critical => Tone::Bad,
    };
    let text =
        format!("{} {}{lasting}: {} up, needs {}", title(&word), safe(name), alarm.available, alarm.required);
    Some(mark(tone, &text))
}

fn verdict(group: &v1::QuorumLine) -> String {
    match (group.ok, group.margin) {
        (true, 1..) => mark(Tone::Good, "Safe"),
        (true, _) => mark(Tone::Warning, "At the limit: no further node may go"),
        (false, _) => mark(Tone::Bad, "Quorum lost"),
    }
}
