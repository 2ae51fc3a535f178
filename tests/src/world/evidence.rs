//! What a run leaves behind for its judges: plain data, so that a checker can be shown a bad history.

use std::collections::BTreeMap;

use quorate_core::hash::Hash;

use super::board::Look;

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Acknowledged, with the log index in the answer.
    Acked(u64),
    /// Refused: it has no effect.
    Refused(String),
    /// It may have an effect, now or later.
    Unknown,
}

/// One write: labels of one node, under one request id, however often it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its request id.
    pub request: String,
    /// The node.
    pub node: String,
    /// What it sets.
    pub set: BTreeMap<String, String>,
    /// When it was sent first, in simulated microseconds.
    pub begun: u64,
    /// When its last answer came.
    pub ended: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// How it ended.
    pub end: End,
}

/// One linearizable read that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The node.
    pub node: String,
    /// When it was sent, in simulated microseconds.
    pub begun: u64,
    /// When the answer came.
    pub ended: u64,
    /// The log index it was served at.
    pub index: u64,
    /// What it saw.
    pub labels: BTreeMap<String, String>,
}

/// A request id that was sent again after its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// The request id.
    pub request: String,
    /// Whether what it asked for was the same.
    pub same: bool,
    /// How it ended.
    pub end: End,
}

/// A time without any fault, of `from` to `to` in simulated microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calm {
    /// Its begin.
    pub from: u64,
    /// Its end.
    pub to: u64,
}

/// One effect as the replicated audit tells it, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The request that caused it; none for the control plane's own.
    pub request: Option<String>,
    /// What, for example `node.set_labels`.
    pub action: String,
    /// On what.
    pub resource: String,
}

/// One member at the very end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Final {
    /// Log index its state stands at.
    pub revision: u64,
    /// Digest of its whole state.
    pub digest: Hash,
    /// Labels of every node.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    /// The audit's changes, oldest first.
    pub effects: Vec<Effect>,
    /// Whether the audit was trimmed: then it does not tell everything.
    pub trimmed: bool,
    /// Operations that have not ended.
    pub open: Vec<String>,
}

/// One verb that was begun on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The node.
    pub node: String,
    /// For example `restart`.
    pub verb: String,
    /// When it began, in simulated microseconds.
    pub from: u64,
    /// When it ended, or was cut off with its agent.
    pub to: u64,
    /// Whether it came to its end and had its effect.
    pub done: bool,
    /// For which execution, when its agent could tell.
    pub execution: Option<String>,
}

/// The highest fencing number that an agent was seen to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSeen {
    /// The node.
    pub node: String,
    /// When, in simulated microseconds.
    pub at: u64,
    /// The number.
    pub epoch: u64,
}

/// An execution as the replicated state tells it at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Its id.
    pub id: String,
    /// The node.
    pub node: String,
    /// Its state's word.
    pub state: String,
    /// Whether that state is final.
    pub ended: bool,
    /// Whether it held a grant to disturb.
    pub disruptive: bool,
    /// The operation it belongs to.
    pub operation: String,
    /// State of the step that it did, unless another execution did that step later.
    pub step: Option<String>,
    /// When it was decided, in simulated microseconds.
    pub created: u64,
}

/// An operation that was canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Its id.
    pub operation: String,
    /// When the acknowledgement came, in simulated microseconds.
    pub acked: u64,
}

/// A look that an agent really took at its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The node.
    pub node: String,
    /// When, in simulated microseconds.
    pub at: u64,
    /// Whether it ran.
    pub runs: bool,
}

/// What one execution that disturbs did on its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Its id.
    pub id: String,
    /// The node.
    pub node: String,
    /// It takes a release back.
    pub undoes: bool,
    /// Its state's word.
    pub state: String,
    /// Starts of the unit that came to their end.
    pub done: u64,
    /// Starts of the unit that were begun.
    pub begun: u64,
}

/// One rollout with at most one kill, when everything stands still after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Its number.
    pub number: u64,
    /// Its operation's id.
    pub operation: String,
    /// That operation's state.
    pub state: String,
    /// Whether that state is terminal.
    pub terminal: bool,
    /// The version that it brings; none when it brings none of its own.
    pub version: Option<String>,
    /// The release in use on each node before.
    pub before: BTreeMap<String, Option<String>>,
    /// And after.
    pub after: BTreeMap<String, Option<String>>,
    /// What the coordinators believe in use after.
    pub believed: BTreeMap<String, Option<String>>,
    /// When it began, in simulated microseconds.
    pub from: u64,
    /// When everything stood still.
    pub to: u64,
    /// Agents that were killed.
    pub killed: u64,
    /// What is left open: grants, obligations, executions, by whoever has it.
    pub open: Vec<String>,
    /// What its executions did.
    pub work: Vec<Work>,
}

impl Round {
    /// Whether a release is the one that it brings.
    #[must_use]
    pub fn brings(&self, used: Option<&String>) -> bool {
        match (&self.version, used) {
            (Some(version), Some(used)) => used.starts_with(&format!("{version}-")),
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    /// Whether an execution had nothing to do: what it brings was in use before, and it began nothing. Such a one is planned for
    /// an instance that is not healthy yet with what it was given last.
    #[must_use]
    pub fn was_done(&self, work: &Work) -> bool {
        let before = self.before.get(&work.node).and_then(Option::as_ref);
        self.version.is_some() && work.begun == 0 && !work.undoes && self.brings(before)
    }
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Voters the cluster was to have.
    pub members: u64,
    /// Writes, in the order in which they ended.
    pub writes: Vec<Write>,
    /// Reads, in the order in which they ended.
    pub reads: Vec<Read>,
    /// Repeated requests.
    pub repeats: Vec<Repeat>,
    /// Each member at each step at which something of it changed.
    pub looks: Vec<(u64, Look)>,
    /// State digests seen during the run: member, index, digest.
    pub digests: Vec<(u64, u64, Hash)>,
    /// Times without a fault.
    pub calms: Vec<Calm>,
    /// The members at the end.
    pub finals: BTreeMap<u64, Final>,
    /// What stopped that must not.
    pub broken: Vec<String>,
    /// Faults that happened, by name.
    pub faults: BTreeMap<String, u64>,
    /// Faults that must have happened.
    pub required: Vec<String>,
    /// Verbs that were begun on hosts.
    pub acts: Vec<Act>,
    /// What we really changed on hosts: node, simulated microseconds, whether the unit ran afterwards.
    pub changes: Vec<(String, u64, bool)>,
    /// What units did by themselves, which nobody asked for: node, simulated microseconds, whether it ran afterwards.
    pub falls: Vec<(String, u64, bool)>,
    /// Highest fencing numbers seen.
    pub epochs: Vec<EpochSeen>,
    /// Executions at the end.
    pub executions: Vec<Execution>,
    /// Times in which no coordinator ran, in simulated microseconds.
    pub dark: Vec<Calm>,
    /// Operations that were started.
    pub operations: u64,
    /// Cancels that were acknowledged.
    pub cancels: Vec<Cancel>,
    /// Voters of the group that is worked on.
    pub voters: Vec<String>,
    /// Looks at units.
    pub sights: Vec<Sight>,
    /// What was done to messages, by name.
    pub messages: BTreeMap<String, u64>,
    /// Rollouts with kills, in a run of kills.
    pub rounds: Vec<Round>,
    /// How many of them ended in which state.
    pub ends: BTreeMap<String, u64>,
    /// Kill points, by what was counted to find them.
    pub points: BTreeMap<String, u64>,
}

impl Evidence {
    /// Writes that were acknowledged.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write.end, End::Acked(_))).count()
    }
}
