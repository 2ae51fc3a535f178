//! Plans as people read them: one compact block, and one countable sentence at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_proto::v1;

use super::operation::kind_words;
use super::style::{bold, capital, safe, separator};

/// Column at which the text of a line begins.
const INDENT: usize = 16;

/// A plan.
#[must_use]
pub fn plan(plan: &v1::Plan) -> String {
    let mut text = format!("{} ({})\n", bold(&safe(&capital(&plan.title))), counted(plan.to_change));
    let common = common_steps(plan);
    for wave in &plan.waves {
        let label = if wave.label.is_empty() { String::new() } else { format!(" {}", safe(&wave.label)) };
        let mut head = format!("wave {}{label}", wave.number);
        for (node, steps) in nodes_of(wave) {
            let words = if common.is_some() && !is_stage(wave) {
                String::new()
            } else {
                format!("   {}", steps_text(&steps, false))
            };
            let change = steps.iter().find(|s| s.kind() == v1::StepKind::Activate && !s.message.is_empty());
            let change = change.map(|s| format!("   {}", safe(&s.message))).unwrap_or_default();
            let _ = writeln!(text, "  {head:<INDENT$}~ {}{change}{words}", safe(node));
            head.clear();
        }
        if let Some(pause) = pause(wave) {
            let _ = writeln!(text, "  {:<INDENT$}  {pause}", "");
        }
    }
    if let Some(steps) = common {
        let _ = writeln!(text, "  {:<INDENT$}{}", "Each node", steps_text(&steps, true));
    }
    for line in quorums(plan) {
        let _ = writeln!(text, "  {line}");
    }
    // The last note is the server's own counted sentence; ours below says it with the plan's id.
    for note in plan.notes.iter().filter(|note| !is_count(note, plan)) {
        let _ = writeln!(text, "  {:<INDENT$}{}", "", safe(note));
    }
    if let Some(estimate) = &plan.estimate {
        let _ = writeln!(text, "  {:<INDENT$}{}", "Time", time(estimate));
    }
    let _ = write!(text, "{}", ending(plan));
    text
}

/// How long it will take.
fn time(estimate: &v1::PlanEstimate) -> String {
    let span = |span: &prost_types::Duration| {
        quorate_model::DurationMs::from_secs(u64::try_from(span.seconds).unwrap_or(0)).to_string()
    };
    let most = estimate.at_most.as_ref().map(span).unwrap_or_default();
    match &estimate.typical {
        Some(typical) => format!("about {}, at most {most}: {}", span(typical), safe(&estimate.basis)),
        None => format!("at most {most}: {}", safe(&estimate.basis)),
    }
}

/// The same instance by instance: from what to what, in which wave, by which steps, in the order in which they are taken.
#[must_use]
pub fn diff(plan: &v1::Plan) -> String {
    let mut text = format!("{} ({})\n", bold(&safe(&capital(&plan.title))), counted(plan.to_change));
    let mut lanes: Vec<(&str, Vec<&v1::Step>)> = Vec::new();
    // Those that disturb come in the order of the change; what only brings the artifact comes with it.
    for wave in plan.waves.iter().filter(|wave| !is_stage(wave)) {
        lanes.extend(
            nodes_of(wave)
                .into_iter()
                .filter(|(node, _)| !lanes.iter().any(|(n, _)| n == node))
                .collect::<Vec<_>>(),
        );
    }
    if lanes.is_empty() {
        lanes = plan.waves.iter().flat_map(nodes_of).collect();
    }
    for (node, steps) in &lanes {
        let staged = plan.waves.iter().filter(|wave| is_stage(wave)).flat_map(|wave| &wave.steps);
        let staged = staged.filter(|step| step.node == *node && !steps.contains(step));
        let all: Vec<&v1::Step> = staged.chain(steps.iter().copied()).collect();
        let change = steps.iter().find(|s| s.kind() == v1::StepKind::Activate && !s.message.is_empty());
        let change = change.map(|s| format!("{}   ", safe(&s.message))).unwrap_or_default();
        let number = steps.first().map_or(0, |step| step.wave);
        let _ = writeln!(text, "~ {}   {change}wave {number}   {}", safe(node), steps_text(&all, false));
    }
    for note in plan.notes.iter().filter(|note| !is_count(note, plan)) {
        let _ = writeln!(text, "! {}", safe(note));
    }
    let _ = write!(text, "{}", ending(plan));
    text
}

/// The last, countable sentence.
fn ending(plan: &v1::Plan) -> String {
    format!(
        "Plan {}: {} to change, {} to skip. Nothing was changed.",
        safe(&plan.plan_id),
        plan.to_change,
        plan.to_skip
    )
}

/// What lies between a wave and the next one.
fn pause(wave: &v1::Wave) -> Option<String> {
    let hold = wave.hold.as_ref().map(|hold| {
        let seconds = u64::try_from(hold.seconds).unwrap_or(0);
        format!("looked at for {}", quorate_model::DurationMs::from_secs(seconds))
    });
    let promote = wave.promote.then(|| "waits for `quorate rollout promote`".to_owned());
    let parts: Vec<String> = hold.into_iter().chain(promote).collect();
    (!parts.is_empty()).then(|| parts.join(", then "))
}

/// A wave that only brings the artifact.
fn is_stage(wave: &v1::Wave) -> bool {
    wave.steps.iter().all(|step| step.kind() == v1::StepKind::Stage)
}

fn counted(nodes: u32) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

fn is_count(note: &str, plan: &v1::Plan) -> bool {
    *note == format!("{} to change, {} to skip", plan.to_change, plan.to_skip)
}

/// The nodes of a wave in order, each with its steps.
fn nodes_of(wave: &v1::Wave) -> Vec<(&str, Vec<&v1::Step>)> {
    let mut nodes: Vec<(&str, Vec<&v1::Step>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &wave.steps {
        let place = *places.entry(&step.node).or_insert_with(|| {
            nodes.push((&step.node, Vec::new()));
            nodes.len().saturating_sub(1)
        });
        if let Some((_, steps)) = nodes.get_mut(place) {
            // The gate that looks on after the first one is told with the wave.
            let gates = |step: &v1::Step| step.kind() == v1::StepKind::Gate;
            if !(gates(step) && steps.last().is_some_and(|last| gates(last))) {
                steps.push(step);
            }
        }
    }
    nodes
}

/// The steps that every node takes, when they are the same for all.
fn common_steps(plan: &v1::Plan) -> Option<Vec<&v1::Step>> {
    let changing = plan.waves.iter().filter(|wave| !is_stage(wave));
    let mut all = changing.flat_map(nodes_of).map(|(_, steps)| steps);
    let first = all.next()?;
    let shape = |steps: &[&v1::Step]| steps.iter().map(|s| steps_text(&[s], true)).collect::<Vec<_>>();
    let wanted = shape(&first);
    all.all(|steps| shape(&steps) == wanted).then_some(first)
}

fn steps_text(steps: &[&v1::Step], in_full: bool) -> String {
    let one = |step: &&v1::Step| {
        let mut text = kind_words(step.kind);
        if let (true, Some(deadline)) = (in_full, &step.deadline) {
            let seconds = u64::try_from(deadline.seconds).unwrap_or(0);
            let _ = write!(text, " (at most {})", quorate_model::DurationMs::from_secs(seconds));
        }
        // From what to what is told with the node, and each node has a copy of its own.
        let own = matches!(step.kind(), v1::StepKind::Activate | v1::StepKind::Backup);
        if in_full && !step.message.is_empty() && !own {
            let _ = write!(text, ": {}", safe(&step.message));
        }
        text
    };
    steps.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One line per group: who votes, and what each wave leaves.
fn quorums(plan: &v1::Plan) -> Vec<String> {
    let mut groups: BTreeMap<&str, (&v1::WaveQuorum, Vec<String>)> = BTreeMap::new();
    for wave in &plan.waves {
        for quorum in &wave.quorum {
            let entry = groups.entry(&quorum.group).or_insert_with(|| (quorum, Vec::new()));
            entry.1.push(format!("wave {}: up {} spare {}", wave.number, quorum.up, quorum.spare));
        }
    }
    let line = |(name, (quorum, waves)): (&str, (&v1::WaveQuorum, Vec<String>))| {
        let head = format!("Quorum {}", safe(name));
        let rest = waves.join(separator());
        format!("{head:<INDENT$}{} voters, needs {}.  {rest}", quorum.voters, quorum.required)
    };
    groups.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(node: &str, kind: v1::StepKind) -> v1::Step {
        let deadline = Some(prost_types::Duration { seconds: 90, nanos: 0 });
        v1::Step { node: node.into(), kind: kind.into(), deadline, ..v1::Step::default() }
    }

    fn wave(number: u32, label: &str, node: &str) -> v1::Wave {
        let quorum = v1::WaveQuorum { group: "ledger".into(), voters: 3, up: 2, required: 2, spare: 0 };
        v1::Wave {
            number,
            label: label.into(),
            steps: vec![step(node, v1::StepKind::Restart), step(node, v1::StepKind::Gate)],
            quorum: vec![quorum],
            ..v1::Wave::default()
        }
    }

    #[test]
    fn a_release_says_what_changes_and_what_lies_between_its_waves() {
        let stage = v1::Wave {
            number: 1,
            label: "stage".into(),
            steps: vec![step("node2", v1::StepKind::Stage), step("node1", v1::StepKind::Stage)],
            ..v1::Wave::default()
        };
        let mut canary = wave(2, "canary", "node2");
        canary.steps[0] = step("node2", v1::StepKind::Activate);
        canary.steps[0].message = "1.0.0 -> 1.1.0\u{1b}[2J".into();
        canary.steps.push(step("node2", v1::StepKind::Gate));
        canary.hold = Some(prost_types::Duration { seconds: 600, nanos: 0 });
        canary.promote = true;
        let mut last = wave(3, "leader", "node1");
        last.steps[0] = step("node1", v1::StepKind::Activate);
        let shown = plan(&v1::Plan { waves: vec![stage, canary, last], to_change: 2, ..v1::Plan::default() });
        let text = anstream::adapter::strip_str(&shown).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "  wave 1 stage    ~ node2   stage");
        assert!(lines[3].starts_with("  wave 2 canary   ~ node2   1.0.0 -> 1.1.0"), "{text}");
        assert!(!shown.contains("\u{1b}[2J"), "escaped");
        assert_eq!(
            lines[4],
            "                    looked at for 10m, then waits for `quorate rollout promote`"
        );
        assert!(text.contains("Each node       activate (at most 1m30s), gates (at most 1m30s)"), "{text}");
    }

    #[test]
    fn a_difference_is_one_line_per_instance_in_the_order_of_the_change() {
        let mut stage = wave(1, "stage", "node1");
        stage.steps = vec![step("node1", v1::StepKind::Stage), step("node2", v1::StepKind::Stage)];
        let change = |number, node: &str| {
            let mut one = wave(number, "", node);
            one.steps[0] = step(node, v1::StepKind::Activate);
            one.steps[0].message = "1.0.0 -> 1.1.0\u{1b}[2J".into();
            one.steps.iter_mut().for_each(|step| step.wave = number);
            one
        };
        let waves = vec![stage, change(2, "node2"), change(3, "node1")];
        let notes = vec!["node3 has 1.1.0 already".to_owned(), "2 to change, 1 to skip".to_owned()];
        let shown = diff(&v1::Plan { waves, notes, to_change: 2, to_skip: 1, ..v1::Plan::default() });
        let text = anstream::adapter::strip_str(&shown).to_string();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines[0].starts_with("~ node2   1.0.0 -> 1.1.0"), "{text}");
        assert!(lines[0].ends_with("wave 2   stage, activate, gates"), "{text}");
        assert!(lines[1].starts_with("~ node1   ") && lines[1].contains("wave 3"), "{text}");
        assert_eq!(lines[2], "! node3 has 1.1.0 already");
        assert!(lines[3].ends_with("2 to change, 1 to skip. Nothing was changed."), "{text}");
        assert!(!shown.contains("\u{1b}[2J"), "escaped");
    }

    #[test]
    fn a_rolling_plan_is_one_block_that_ends_with_a_count() {
        let shown = plan(&v1::Plan {
            plan_id: "p-93c1".into(),
            title: "rolling restart of ledger".into(),
            to_change: 2,
            notes: vec!["one more failure stops writes".into(), "2 to change, 0 to skip".into()],
            waves: vec![wave(1, "", "node3"), wave(2, "leader", "node1")],
            ..v1::Plan::default()
        });
        let text = anstream::adapter::strip_str(&shown).to_string();
        let wanted = [
            "Rolling restart of ledger (2 nodes)",
            "  wave 1          ~ node3",
            "  wave 2 leader   ~ node1",
            "  Each node       restart (at most 1m30s), gates (at most 1m30s)",
            "  Quorum ledger   3 voters, needs 2.  wave 1: up 2 spare 0 · wave 2: up 2 spare 0",
            "                  one more failure stops writes",
            "Plan p-93c1: 2 to change, 0 to skip. Nothing was changed.",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn nodes_that_differ_say_what_is_done_to_each() {
        let mut other = wave(1, "", "node3");
        other.steps.truncate(1);
        let waves = vec![other, wave(2, "", "node1")];
        let text = plan(&v1::Plan { waves, to_change: 2, ..v1::Plan::default() });
        assert!(
            text.contains("~ node3   restart\n") && text.contains("~ node1   restart, gates\n"),
            "{text}"
        );
        assert!(!text.contains("Each node"), "{text}");
    }
}
