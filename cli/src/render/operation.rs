//! Plans and operations as people read them.

use std::fmt::Write as _;

use quorate_proto::v1;

use super::json::word;
use super::style::{self, safe, title};
use super::table::{self, Columns, dash};

/// The id: last part of `operations/r-…`.
#[must_use]
pub fn id(operation: &v1::Operation) -> &str {
    operation.name.rsplit('/').next().unwrap_or_default()
}

/// `RUNNING`.
#[must_use]
pub fn state_word(operation: &v1::Operation) -> String {
    word("quorate.v1.OperationState", operation.state)
}

/// One line: id, title, state, wave, time.
#[must_use]
pub fn headline(operation: &v1::Operation) -> String {
    let mut text = format!(
        "{}  {}   {}",
        style::bold(id(operation)),
        safe(&operation.title),
        style::state(&state_word(operation))
    );
    if operation.waves > 1 && operation.current_wave > 0 {
        let _ = write!(text, "   wave {} of {}", operation.current_wave, operation.waves);
    }
    for condition in &operation.conditions {
        let _ = write!(text, "   {} {}", safe(&condition.r#type), safe(&condition.reason));
        if !condition.message.is_empty() {
            let _ = write!(text, ": {}", safe(&condition.message));
        }
    }
    text
}

/// One line of a step, for logs.
#[must_use]
pub fn step_line(step: &v1::Step) -> String {
    let kind = title(&word("quorate.v1.StepKind", step.kind)).to_ascii_lowercase();
    let mut text = format!(
        "wave {}  {}  {kind}  {}",
        step.wave,
        safe(&step.node),
        title(&word("quorate.v1.StepState", step.state))
    );
    if !step.message.is_empty() {
        let _ = write!(text, "  {}", safe(&step.message));
    }
    text
}

/// Head and one row per step.
#[must_use]
pub fn detail(operation: &v1::Operation, wide: bool) -> String {
    let took = table::span(operation.created.as_ref(), operation.ended.as_ref());
    let mut text = format!("{}   {took}\n", headline(operation));
    let mut columns = Columns::new(&["node", "wave", "state", "step", "for", "detail"]);
    for step in &operation.steps {
        columns.row([
            safe(&step.node),
            step.wave.to_string(),
            style::state(&word("quorate.v1.StepState", step.state)),
            title(&word("quorate.v1.StepKind", step.kind)).to_ascii_lowercase(),
            table::span(step.started.as_ref(), step.ended.as_ref()),
            dash(&step.message),
        ]);
    }
    text += &columns.finish("No steps.");
    if !operation.message.is_empty() {
        let _ = write!(text, "\n{}", safe(&operation.message));
    }
    if operation.open_obligations > 0 {
        let _ = write!(text, "\n! {} obligation(s) open", operation.open_obligations);
    }
    if wide {
        evidence(operation, &mut text);
    }
    text
}

fn evidence(operation: &v1::Operation, text: &mut String) {
    for step in &operation.steps {
        for reading in &step.readings {
            let verdict = if reading.ok { "ok" } else { "FAILED" };
            let _ = write!(
                text,
                "\n{}  {} from {}: {verdict} x{} {}",
                safe(&step.node),
                safe(&reading.probe),
                safe(&reading.from),
                reading.passes,
                safe(&reading.detail)
            );
        }
        if let Some(outcome) = &step.outcome {
            let _ = write!(text, "\n{}  {}", safe(&step.node), safe(&outcome.message));
            for line in outcome.output_tail.lines() {
                let _ = write!(text, "\n    {}", safe(line));
            }
            for finding in &outcome.findings {
                let _ = write!(
                    text,
                    "\n    {} {}: {}",
                    safe(&finding.level),
                    safe(&finding.subject),
                    safe(&finding.message)
                );
            }
        }
    }
}

/// What is printed when it ended.
#[must_use]
pub fn ending(operation: &v1::Operation) -> String {
    let mut text = detail(operation, false);
    let units = operation.steps.iter().filter_map(|s| s.outcome.as_ref().map(|o| (s, o)));
    for (step, outcome) in units {
        if let Some(unit) = &outcome.unit {
            let _ = write!(
                text,
                "\n{}  {} ({}), pid {}, restarts {}",
                safe(&step.node),
                safe(&unit.active),
                safe(&unit.sub),
                unit.main_pid,
                unit.restarts
            );
        }
        if let Some(backup) = &outcome.backup {
            let _ = write!(
                text,
                "\n{}  {}  {} in {} files",
                safe(&step.node),
                safe(&backup.path),
                table::bytes(backup.size_bytes),
                backup.files
            );
        }
        for finding in outcome.findings.iter().filter(|f| f.level != "ok") {
            let _ = write!(
                text,
                "\n{}  {} {}: {}",
                safe(&step.node),
                safe(&finding.level),
                safe(&finding.subject),
                safe(&finding.message)
            );
        }
    }
    text
}

/// A list.
#[must_use]
pub fn list(operations: &[v1::Operation]) -> String {
    let mut columns = Columns::new(&["id", "kind", "state", "title", "started", "took", "by"]);
    for operation in operations {
        columns.row([
            safe(id(operation)),
            title(&word("quorate.v1.OperationKind", operation.kind)),
            style::state(&state_word(operation)),
            safe(&operation.title),
            format!("{} ago", table::age(operation.created.as_ref())),
            table::span(operation.created.as_ref(), operation.ended.as_ref()),
            dash(&operation.created_by),
        ]);
    }
    columns.finish("No operations.")
}

/// A plan; its last line is one countable sentence.
#[must_use]
pub fn plan(plan: &v1::Plan) -> String {
    let mut text = format!("{}\n", style::bold(&safe(&plan.title)));
    for wave in &plan.waves {
        let mut last = "";
        for step in &wave.steps {
            let kind = title(&word("quorate.v1.StepKind", step.kind)).to_ascii_lowercase();
            if step.node == last {
                let _ = write!(text, ", {kind}");
                continue;
            }
            if !last.is_empty() {
                text.push('\n');
            }
            let label = if wave.label.is_empty() { String::new() } else { format!(" {}", safe(&wave.label)) };
            let head = format!("wave {}{label}", wave.number);
            let _ = write!(text, "  {head:<16} ~ {}   {kind}", safe(&step.node));
            last = &step.node;
        }
        text.push('\n');
    }
    for wave in &plan.waves {
        for quorum in &wave.quorum {
            let _ = writeln!(
                text,
                "  Quorum {:<10} {} voters, needs {}.  wave {}: up {} spare {}",
                safe(&quorum.group),
                quorum.voters,
                quorum.required,
                wave.number,
                quorum.up,
                quorum.spare
            );
        }
    }
    for note in &plan.notes {
        let _ = writeln!(text, "  {}", safe(note));
    }
    let _ = write!(
        text,
        "Plan {}: {} to change, {} to skip. Nothing was changed.",
        safe(&plan.plan_id),
        plan.to_change,
        plan.to_skip
    );
    text
}
