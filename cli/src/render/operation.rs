//! Operations as people read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_proto::v1;

use super::json::word;
use super::style::{self, Tone, safe, title};
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

/// One line: id, title, state, wave.
#[must_use]
pub fn headline(operation: &v1::Operation) -> String {
    let mut text = format!(
        "{}  {}   {}",
        style::bold(&safe(id(operation))),
        safe(&style::capital(&operation.title)),
        style::state(&state_word(operation))
    );
    if operation.waves > 1 && operation.current_wave > 0 {
        let _ = write!(text, "   wave {} of {}", operation.current_wave, operation.waves);
    }
    text
}

/// One line of a step, for logs.
#[must_use]
pub fn step_line(step: &v1::Step) -> String {
    let kind = kind_words(step.kind);
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

/// Head, the quorum of its group when that is known, and one row per node.
#[must_use]
pub fn detail(operation: &v1::Operation, group: Option<&v1::Group>, wide: bool) -> String {
    let took = table::span(operation.created.as_ref(), operation.ended.as_ref());
    let mut text = format!("{}   {took}\n", headline(operation));
    for condition in &operation.conditions {
        let _ = writeln!(text, "{}", waits(operation, condition));
    }
    let approvals = approvals(operation);
    if !approvals.is_empty() {
        let _ = writeln!(text, "{approvals}");
    }
    if let Some(line) = waves(operation) {
        let _ = writeln!(text, "{line}");
    }
    if let Some(group) = group {
        let _ = writeln!(text, "{}", quorum(group));
    }
    let mut columns = Columns::new(&["node", "wave", "state", "step", "for", "detail"]);
    for (_, steps) in lanes(operation) {
        columns.row(lane(operation, &steps, group));
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

/// `ledger  ●●○  2 of 3 up, needs 2, spare 0`.
#[must_use]
pub fn quorum(group: &v1::Group) -> String {
    format!(
        "{}  {}  {} of {} up, needs {}, spare {}",
        safe(&group.name),
        style::dots(group.available, group.voters),
        group.available,
        group.voters,
        group.required,
        group.margin
    )
}

/// One line per policy and per decision; empty when no policy covers it.
#[must_use]
pub fn approvals(operation: &v1::Operation) -> String {
    let Some(approval) = &operation.approval else { return String::new() };
    let state = title(&word("quorate.v1.ApprovalState", approval.state)).to_ascii_lowercase();
    let mut lines = vec![format!("approval  {state}  plan {}", safe(&approval.plan_hash))];
    for want in &approval.wants {
        let given = want.approvals.saturating_sub(want.missing);
        lines.push(format!(
            "  policy {}: {given} of {} by {}",
            safe(&want.policy),
            want.approvals,
            safe(&want.approvers)
        ));
    }
    for decision in &approval.decisions {
        let word = if decision.approved { "approved" } else { "rejected" };
        lines.push(format!("  {word} by {}: {}", safe(&decision.by), safe(&decision.reason)));
    }
    lines.join("\n")
}

fn waits(operation: &v1::Operation, condition: &v1::Condition) -> String {
    let mut text = format!("! {} {}", safe(&condition.r#type), safe(&condition.reason));
    if !condition.message.is_empty() {
        let _ = write!(text, ": {}", safe(&condition.message));
    }
    let id = safe(id(operation));
    match condition.reason.as_str() {
        "PROMOTION" => {
            let _ = write!(text, "; quorate rollout promote {id}");
        }
        "APPROVAL" => {
            let _ = write!(text, "; quorate approval approve {id}");
        }
        "FAILURE" => {
            let _ = write!(text, "; quorate rollout resume {id}, or abort {id}");
        }
        _ => {}
    }
    text
}

/// `waves  1 canary promotable · 2 pending`, where they do not simply follow one another.
fn waves(operation: &v1::Operation) -> Option<String> {
    let states = &operation.wave_states;
    let told = states.iter().any(|w| w.promote || w.hold.is_some() || w.label == "rollback");
    let one = |wave: &v1::WaveStatus| {
        let state = title(&word("quorate.v1.WaveState", wave.state)).to_ascii_lowercase();
        let label = if wave.label.is_empty() { String::new() } else { format!("{} ", safe(&wave.label)) };
        format!("{} {label}{state}", wave.number)
    };
    told.then(|| format!("waves  {}", states.iter().map(one).collect::<Vec<_>>().join(style::separator())))
}

/// The releases of a group's service.
#[must_use]
pub fn releases(releases: &[v1::ServiceRelease]) -> String {
    let mut columns = Columns::new(&["version", "artifact", "size", "since", "by"]);
    for release in releases {
        columns.row([
            safe(&release.version),
            safe(release.artifact.get(..12).unwrap_or(&release.artifact)),
            table::bytes(release.size_bytes),
            format!("{} ago", table::age(release.at.as_ref())),
            safe(release.operation.rsplit('/').next().unwrap_or_default()),
        ]);
    }
    columns.finish("No releases.")
}

/// The steps of each node, in the order in which the nodes come.
fn lanes(operation: &v1::Operation) -> Vec<(u32, Vec<&v1::Step>)> {
    let mut lanes: Vec<(u32, Vec<&v1::Step>)> = Vec::new();
    let mut known: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    for step in &operation.steps {
        let place = *known.entry((step.wave, &step.node)).or_insert_with(|| {
            lanes.push((step.wave, Vec::new()));
            lanes.len().saturating_sub(1)
        });
        if let Some((_, steps)) = lanes.get_mut(place) {
            steps.push(step);
        }
    }
    lanes
}

/// One row: where a node stands in the operation.
fn lane(operation: &v1::Operation, steps: &[&v1::Step], group: Option<&v1::Group>) -> [String; 6] {
    use v1::StepState as S;
    let over = |s: &&&v1::Step| matches!(s.state(), S::Succeeded | S::Skipped | S::Compensated);
    let done = steps.iter().filter(over).count();
    let bad = steps.iter().find(|s| matches!(s.state(), S::Failed | S::Compensating | S::Compensated));
    let next = steps.iter().find(|s| !over(s));
    let begun = done > 0 || steps.iter().any(|s| s.started.is_some());
    let ended = crate::watch::is_terminal(operation.state());
    let skipped = !steps.is_empty() && steps.iter().all(|s| s.state() == S::Skipped);
    let first = steps.first().copied();
    let (node, wave) = first.map_or(("", 0), |s| (s.node.as_str(), s.wave));
    let (state, shown) = match (bad.or(next), begun) {
        _ if skipped => (style::mark(Tone::Quiet, "Skipped"), None),
        (None, _) => (style::mark(Tone::Good, "Done"), None),
        (Some(step), _) if bad.is_some() => {
            (style::state(&word("quorate.v1.StepState", step.state)), Some(*step))
        }
        (Some(step), _) if step.state() == S::Blocked => (style::mark(Tone::Warning, "Blocked"), Some(*step)),
        (Some(_), false) if ended => (style::mark(Tone::Quiet, "Not done"), None),
        (Some(_), false) => (style::mark(Tone::Quiet, "Waiting"), None),
        (Some(step), true) => (style::mark(Tone::Busy, "Running"), Some(*step)),
    };
    let step = shown.map_or_else(
        || "-".to_owned(),
        |step| {
            let position = steps.iter().position(|s| s.index == step.index).unwrap_or(0).saturating_add(1);
            format!("{} ({position} of {})", kind_words(step.kind), steps.len())
        },
    );
    let last = steps.iter().rev().find(|s| s.started.is_some());
    let end = if shown.is_some() && !ended { None } else { last.and_then(|s| s.ended.as_ref()) };
    let took = if begun { table::span(first.and_then(|s| s.started.as_ref()), end) } else { "-".to_owned() };
    let detail = shown.map_or_else(|| resting(steps, done, node, group), |step| telling(step, group));
    [safe(node), wave.to_string(), state, step, took, dash(&detail)]
}

/// `restart`, `wait for its gates`.
#[must_use]
pub fn kind_words(kind: i32) -> String {
    if kind == i32::from(v1::StepKind::Gate) {
        return "gates".to_owned();
    }
    title(&word("quorate.v1.StepKind", kind)).to_ascii_lowercase()
}

/// What there is to say of a node at rest: what its gates said, or why it is not its turn.
fn resting(steps: &[&v1::Step], done: usize, node: &str, group: Option<&v1::Group>) -> String {
    let readings = || steps.iter().flat_map(|s| &s.readings);
    if done > 0 {
        let all = readings().count();
        if all > 0 {
            return format!("{} of {all} gates passed", readings().filter(|r| r.ok).count());
        }
        return steps
            .iter()
            .rev()
            .find(|s| !s.message.is_empty())
            .map(|s| s.message.clone())
            .unwrap_or_default();
    }
    let leads = |m: &v1::GroupMember| {
        m.node == node && matches!(m.role(), v1::InstanceRole::Leader | v1::InstanceRole::Primary)
    };
    if group.is_some_and(|g| g.members.iter().any(leads)) {
        "leader, goes last".to_owned()
    } else {
        String::new()
    }
}

/// How a member stands: `starting`, `soaking, lagging`.
fn stand(member: &v1::GroupMember) -> String {
    let observed = title(&word("quorate.v1.InstanceState", member.observed)).to_ascii_lowercase();
    match member.sync() {
        v1::InstanceSync::Lagging => format!("{observed}, lagging"),
        v1::InstanceSync::Unspecified | v1::InstanceSync::Unknown | v1::InstanceSync::CaughtUp => observed,
    }
}

/// What there is to say of a step at work.
fn telling(step: &v1::Step, group: Option<&v1::Group>) -> String {
    if !step.message.is_empty() {
        return step.message.clone();
    }
    let passed = step.readings.iter().filter(|r| r.ok).count();
    match step.readings.iter().find(|r| !r.ok) {
        Some(reading) => {
            let why = if reading.detail.is_empty() { "not yet" } else { &reading.detail };
            format!(
                "{passed} of {} pass; {} from {}: {why}",
                step.readings.len(),
                reading.probe,
                reading.from
            )
        }
        None if passed > 0 => format!("{passed} of {passed} pass, must stay so"),
        // Readings come with the end of a gate; until then the member itself says how far it is.
        None => {
            group.and_then(|g| g.members.iter().find(|m| m.node == step.node)).map_or_else(String::new, stand)
        }
    }
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
pub fn ending(operation: &v1::Operation, group: Option<&v1::Group>) -> String {
    let mut text = detail(operation, group, false);
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

/// The line that a log of changes begins with: headline, and why it waits.
#[must_use]
pub fn log_line(operation: &v1::Operation) -> String {
    let mut text = headline(operation);
    for condition in &operation.conditions {
        let _ = write!(text, "   {}", waits(operation, condition));
    }
    text
}

#[cfg(test)]
mod tests;
