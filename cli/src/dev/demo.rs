//! `quorate dev --demo`: the main job at once, and measured.
//!
//! A rolling restart of the sample group through the API; ten times a second every instance is asked who serves; in the
//! middle the leading coordinator is killed with SIGKILL. The numbers at the end are counted here, not reported by the
//! daemons under test.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use hyper::Method;
use quorate_proto::v1::{
    MemberState, Operation, OperationState, RollingKind, RollingSpec, StepKind, StepState, WorkSpec,
    work_spec,
};
use rustix::process::Signal;
use serde::Deserialize;

use super::api::{Api, until};
use super::config::CliContext;
use super::daemon::{Keeper, say};
use super::fleet::{Fleet, Instance, LEDGER, Slot};
use super::http::Call;
use screen::Screen;

mod screen;

/// How often the instances are asked.
const TICK: Duration = Duration::from_millis(100);
/// Deadline of one question.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the operation is asked for.
const OPERATION_TICK: Duration = Duration::from_millis(500);
/// Longest the rolling restart may take, the change of the leader included.
const LIMIT: Duration = Duration::from_secs(170);
/// Serving members below which the promise is broken: the majority of three.
const NEEDED: usize = 2;

/// The part of `/cluster/nodes` that is counted.
#[derive(Debug, Deserialize)]
struct ClusterView {
    nodes: Vec<ClusterNode>,
}

#[derive(Debug, Deserialize)]
struct ClusterNode {
    node: String,
    status: String,
    role: String,
    serving: bool,
}

/// One look at the whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// Fewest serving members that any answering instance saw; 0 when none answered.
    serving: usize,
    /// Node, and what is known of it: its role while it serves, its status otherwise.
    members: Vec<(String, String, bool)>,
}

/// What was counted.
#[derive(Debug, Default)]
struct Count {
    samples: u64,
    below: u64,
    min: Option<usize>,
}

impl Count {
    fn add(&mut self, serving: usize) {
        self.samples += 1;
        self.below += u64::from(serving < NEEDED);
        self.min = Some(self.min.map_or(serving, |min| min.min(serving)));
    }
}

/// Runs the demonstration; the fleet stays up after it.
///
/// # Errors
/// When the fleet cannot be talked to.
pub(super) async fn run(keeper: &Keeper, context: &CliContext) -> anyhow::Result<ExitCode> {
    let fleet = keeper.fleet();
    if fleet.instances.len() < 3 {
        bail!("the demonstration needs three agents");
    }
    let deadline = Instant::now() + LIMIT;
    let before = starts(&fleet.instances);
    let api = until("a coordinator answers", deadline, || Api::connect(context)).await?;
    let rolling =
        RollingSpec { group: LEDGER.to_owned(), kind: RollingKind::Restart.into(), ..Default::default() };
    let work = WorkSpec { kind: Some(work_spec::Kind::Rolling(rolling)), max_failures: 0 };
    let operation = api.start(work, "demonstration").await.context("the rolling restart was not accepted")?;
    say(&format!("{}: {}", operation.name, operation.title));
    let begun = Instant::now();
    let mut watch = Watch {
        keeper,
        context,
        api: Some(api),
        operation,
        killed: None,
        screen: Screen::new(),
        note: String::new(),
    };
    let count = watch.until_the_end(&fleet, deadline).await;
    Ok(summary(&watch, &count, &before, &starts(&fleet.instances), begun.elapsed()))
}

struct Watch<'a> {
    keeper: &'a Keeper,
    context: &'a CliContext,
    api: Option<Api>,
    operation: Operation,
    /// The coordinator that was killed.
    killed: Option<String>,
    screen: Screen,
    /// Who answers, or why nobody does.
    note: String,
}

impl Watch<'_> {
    /// Samples and draws until the operation ends or the deadline passes.
    async fn until_the_end(&mut self, fleet: &Fleet, deadline: Instant) -> Count {
        let mut count = Count::default();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        while !ended(&self.operation) && Instant::now() < deadline {
            tick.tick().await;
            let sample = look(&fleet.instances).await;
            count.add(sample.serving);
            if asked.elapsed() >= OPERATION_TICK {
                // Asking may wait for an election; the sampling must not.
                let mut asking = Box::pin(ask(self.api.take(), self.context, self.operation.name.clone()));
                loop {
                    tokio::select! {
                        (api, answer) = &mut asking => {
                            self.take(api, answer);
                            break;
                        }
                        _ = tick.tick() => {
                            let sample = look(&fleet.instances).await;
                            count.add(sample.serving);
                            self.screen.draw(&sample, &self.operation, &self.note);
                        }
                    }
                }
                asked = Instant::now();
                self.kill_the_leader_once().await;
            }
            self.screen.draw(&sample, &self.operation, &self.note);
        }
        self.screen.end();
        count
    }

    fn take(&mut self, api: Option<Api>, answer: anyhow::Result<Operation>) {
        self.api = api;
        match answer {
            Ok(operation) => {
                self.operation = operation;
                self.note.clear();
            }
            Err(error) => {
                self.api = None;
                self.note = format!("no answer from a leader: {}", error.root_cause());
            }
        }
    }

    /// Once the first node is restarted and more are to come: SIGKILL to the leading coordinator.
    async fn kill_the_leader_once(&mut self) {
        if self.killed.is_some() || !first_restarted(&self.operation) {
            return;
        }
        let Some(api) = &self.api else { return };
        let Ok(members) = api.members().await else { return };
        let Some(leader) = members.iter().find(|member| member.state() == MemberState::Leader) else {
            return;
        };
        let slot = Slot::Coordinator(leader.name.clone());
        let fleet = self.keeper.fleet();
        let Some((_, process)) = fleet.daemons().into_iter().find(|(known, _)| *known == slot) else {
            return;
        };
        if process.signal(Signal::KILL) {
            self.screen.end();
            say(&format!("killed {}, the leader (pid {}), in the middle of it", leader.name, process.pid));
            self.killed = Some(leader.name.clone());
        }
    }
}

async fn ask(
    api: Option<Api>,
    context: &CliContext,
    name: String,
) -> (Option<Api>, anyhow::Result<Operation>) {
    let api = match api {
        Some(api) => api,
        None => match Api::connect(context).await {
            Ok(api) => api,
            Err(error) => return (None, Err(error)),
        },
    };
    let answer = api.operation(&name).await;
    (Some(api), answer)
}

fn ended(operation: &Operation) -> bool {
    matches!(
        operation.state(),
        OperationState::Succeeded
            | OperationState::Failed
            | OperationState::Canceled
            | OperationState::RolledBack
    )
}

fn first_restarted(operation: &Operation) -> bool {
    let restarts = || operation.steps.iter().filter(|step| step.kind() == StepKind::Restart);
    restarts().any(|step| step.state() == StepState::Succeeded)
        && restarts().any(|step| step.state() != StepState::Succeeded)
}

/// Asks every instance at once.
async fn look(instances: &[Instance]) -> Sample {
    let asked = instances.iter().map(|instance| async {
        let call = Call::new(
            Method::GET,
            (Ipv4Addr::LOCALHOST, instance.port).into(),
            "/cluster/nodes",
            ASK_TIMEOUT,
        );
        let (status, body) = call.send().await.ok()?;
        let view: ClusterView = serde_json::from_slice(&body).ok()?;
        status.is_success().then_some((instance.node.clone(), view))
    });
    sample(
        &instances.iter().map(|instance| instance.node.as_str()).collect::<Vec<_>>(),
        join_all(asked).await,
    )
}

fn sample(nodes: &[&str], views: Vec<Option<(String, ClusterView)>>) -> Sample {
    let views: Vec<(String, ClusterView)> = views.into_iter().flatten().collect();
    let serving = views
        .iter()
        .map(|(_, view)| view.nodes.iter().filter(|member| member.serving).count())
        .min()
        .unwrap_or(0);
    let word = |node: &str| {
        // Its own word if it answers, else what another one says of it.
        let of = |view: &ClusterView| {
            view.nodes.iter().find(|member| member.node == node).map(|member| {
                (if member.serving { member.role.clone() } else { member.status.clone() }, member.serving)
            })
        };
        let own = views.iter().find(|(asked, _)| asked == node).and_then(|(_, view)| of(view));
        own.or_else(|| views.iter().find_map(|(_, view)| of(view)))
            .unwrap_or_else(|| ("unknown".to_owned(), false))
    };
    let members = nodes
        .iter()
        .map(|node| {
            let (word, serving) = word(node);
            ((*node).to_owned(), word, serving)
        })
        .collect();
    Sample { serving, members }
}

/// Lines of each instance's `starts.log`.
fn starts(instances: &[Instance]) -> Vec<usize> {
    let lines = |instance: &Instance| {
        std::fs::read_to_string(instance.dir.join("starts.log")).map(|text| text.lines().count())
    };
    instances.iter().map(|instance| lines(instance).unwrap_or(0)).collect()
}

fn summary(watch: &Watch<'_>, count: &Count, before: &[usize], after: &[usize], took: Duration) -> ExitCode {
    let min = count.min.unwrap_or(0);
    let grown: Vec<usize> =
        after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect();
    let succeeded = watch.operation.state() == OperationState::Succeeded;
    let good = succeeded && min >= NEEDED && grown.iter().all(|grown| *grown == 1);
    let state = watch.operation.state().as_str_name().trim_start_matches("OPERATION_STATE_");
    let starts: Vec<String> = grown.iter().zip(1..).map(|(grown, id)| format!("node{id} +{grown}")).collect();
    let lines = [
        format!("operation       {} {state}  {}", watch.operation.name, watch.operation.message),
        format!("serving         never fewer than {min} of {}; needed {NEEDED}", grown.len()),
        format!("samples         {}, of them {} below {NEEDED}", count.samples, count.below),
        format!("starts          {}", starts.join("  ")),
        format!("leader killed   {}", watch.killed.as_deref().unwrap_or("none (the operation ended first)")),
        format!(
            "{}: rolling restart of {} instances in {:.1} s, {} samples, min {min} serving.",
            if good { "OK" } else { "FAILED" },
            grown.len(),
            took.as_secs_f32(),
            count.samples
        ),
    ];
    // A reader that has gone (`| head -1`) changes nothing of what was counted.
    let _ = crate::render::print(&lines.join("\n"));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(rows: &[(&str, bool)]) -> ClusterView {
        let node = |(node, serving): &(&str, bool)| ClusterNode {
            node: (*node).to_owned(),
            status: if *serving { "serving" } else { "down" }.to_owned(),
            role: if *serving { "voter" } else { "unknown" }.to_owned(),
            serving: *serving,
        };
        ClusterView { nodes: rows.iter().map(node).collect() }
    }

    #[test]
    fn the_worst_view_counts_and_silence_is_zero() {
        let nodes = ["a", "b", "c"];
        assert_eq!(sample(&nodes, vec![None, None, None]).serving, 0);
        let all = view(&[("a", true), ("b", true), ("c", true)]);
        let one = view(&[("a", false), ("b", true), ("c", false)]);
        let seen = sample(&nodes, vec![Some(("a".to_owned(), all)), Some(("b".to_owned(), one)), None]);
        assert_eq!(seen.serving, 1);
        assert_eq!(seen.members[1], ("b".to_owned(), "voter".to_owned(), true));
    }

    #[test]
    fn the_minimum_is_kept() {
        let mut count = Count::default();
        for serving in [3, 2, 3, 1, 3] {
            count.add(serving);
        }
        assert_eq!((count.samples, count.below, count.min), (5, 1, Some(1)));
    }
}
