//! Refusals: a `no` with the numbers behind it, because the operator's next question is "why?".

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{GroupName, NodeName, OperationId};
use crate::reason::Reason;
use crate::time::DurationMs;

words! {
    /// Why a voter counts as out.
    pub enum OutReason {
        /// Its node is not heard.
        Unreachable = "unreachable",
        /// Nothing is known of it.
        Unknown = "unknown",
        /// Its reading is too old.
        Stale = "stale reading",
        /// Stopped.
        Stopped = "stopped",
        /// Its probes fail.
        Unhealthy = "unhealthy",
        /// Not caught up with its peers.
        Lagging = "not caught up",
        /// Another step works on it.
        Granted = "being worked on",
        /// Drained, or in maintenance.
        Drained = "drained",
    }
}

/// A voter that does not count as available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutMember {
    /// Where.
    pub node: NodeName,
    /// Why.
    pub why: OutReason,
    /// Since how long, when known.
    pub lasting: Option<DurationMs>,
}

/// A refusal of a change. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// A step would take a group below its quorum.
    QuorumMargin {
        /// What was asked: `restarting`, `stopping`, `draining`, …
        doing: String,
        /// The nodes that would be disturbed.
        nodes: Vec<NodeName>,
        /// The group.
        group: GroupName,
        /// Declared voters.
        voters: u32,
        /// Available now.
        up: u32,
        /// Available during the step.
        after: u32,
        /// Needed.
        required: u32,
        /// Spare wanted on top.
        spare: u32,
        /// Who is out already.
        already_out: Vec<OutMember>,
    },
    /// `max_unavailable` of the group is used up.
    MaxUnavailable {
        /// The group.
        group: GroupName,
        /// Its limit.
        limit: u32,
        /// Nodes being worked on.
        busy: Vec<NodeName>,
    },
    /// A reading is missing or too old.
    EvidenceStale {
        /// Whose.
        node: NodeName,
        /// Its age; none when there is no reading.
        age: Option<DurationMs>,
        /// The limit.
        limit: DurationMs,
    },
    /// Another operation holds the node.
    NodeLease {
        /// Which node.
        node: NodeName,
        /// Who holds it.
        holder: OperationId,
    },
    /// Any other refusal: code, one line, details, hint.
    Other {
        /// The code.
        reason: Reason,
        /// What was refused and why, one line without a full stop.
        what: String,
        /// Further facts, subject and text.
        details: Vec<(String, String)>,
        /// What to do; empty for the reason's own advice.
        hint: String,
    },
}

impl Refusal {
    /// A refusal without further numbers.
    #[must_use]
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self::Other { reason, what: what.into(), details: Vec::new(), hint: String::new() }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Other { hint, .. } = &mut self {
            *hint = text.into();
        }
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_detail(mut self, subject: impl Into<String>, text: impl Into<String>) -> Self {
        if let Self::Other { details, .. } = &mut self {
            details.push((subject.into(), text.into()));
        }
        self
    }

    /// Its stable code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::QuorumMargin { .. } => Reason::QuorumMargin,
            Self::MaxUnavailable { .. } => Reason::MaxUnavailable,
            Self::EvidenceStale { .. } => Reason::EvidenceStale,
            Self::NodeLease { .. } => Reason::NodeLease,
            Self::Other { reason, .. } => *reason,
        }
    }

    /// What was refused, one line, without `refused:`.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::QuorumMargin { doing, nodes, group, spare, .. } => {
                let spare = if *spare > 0 { format!(" and a spare of {spare}") } else { String::new() };
                format!("{doing} {group} on {} would leave the group without quorum{spare}", join(nodes))
            }
            Self::MaxUnavailable { group, limit, .. } => {
                format!("{group} already has {limit} unavailable, the most it allows")
            }
            Self::EvidenceStale { node, age: None, .. } => format!("nothing is known of {node}"),
            Self::EvidenceStale { node, age: Some(age), limit } => {
                format!("what is known of {node} is {age} old, {limit} is the limit")
            }
            Self::NodeLease { node, holder } => format!("{node} is being worked on by {holder}"),
            Self::Other { what, .. } => what.clone(),
        }
    }

    /// The facts behind it, subject and text.
    #[must_use]
    pub fn why(&self) -> Vec<(String, String)> {
        match self {
            Self::QuorumMargin { group, voters, up, after, required, already_out, .. } => {
                let mut lines = alloc::vec![(
                    format!("group {group}"),
                    format!("{voters} voters, {up} up, {after} up after this step, needs {required}"),
                )];
                for out in already_out {
                    let lasting = out.lasting.map(|d| format!(" {d}")).unwrap_or_default();
                    lines.push(("already out".to_string(), format!("{} ({}{lasting})", out.node, out.why)));
                }
                lines
            }
            Self::MaxUnavailable { busy, .. } => alloc::vec![("busy".to_string(), join(busy))],
            Self::EvidenceStale { .. } | Self::NodeLease { .. } => Vec::new(),
            Self::Other { details, .. } => details.clone(),
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::QuorumMargin { nodes, already_out, .. } => {
                let check = format!("quorate quorum check --down {}", nodes_list(nodes));
                match already_out.first() {
                    Some(out) => format!("{check}, or bring {} back first", out.node),
                    None => check,
                }
            }
            Self::NodeLease { holder, .. } => format!("quorate explain {holder}"),
            Self::MaxUnavailable { .. } | Self::EvidenceStale { .. } => {
                self.reason().what_to_do().to_string()
            }
            Self::Other { hint, reason, .. } if hint.is_empty() => reason.what_to_do().to_string(),
            Self::Other { hint, .. } => hint.clone(),
        }
    }
}

fn nodes_list(nodes: &[NodeName]) -> String {
    let mut text = String::new();
    for node in nodes {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(node.as_str());
    }
    text
}

fn join(nodes: &[NodeName]) -> String {
    nodes_list(nodes).replace(',', ", ")
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what(), self.reason())
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorum_refusal_reads_as_the_contract_shows_it() {
        let node = |n: &str| NodeName::new(n).unwrap();
        let refusal = Refusal::QuorumMargin {
            doing: "restarting".into(),
            nodes: alloc::vec![node("node3")],
            group: GroupName::new("ledger").unwrap(),
            voters: 3,
            up: 2,
            after: 1,
            required: 2,
            spare: 0,
            already_out: alloc::vec![OutMember {
                node: node("node2"),
                why: OutReason::Unreachable,
                lasting: Some(DurationMs(252_000)),
            }],
        };
        assert_eq!(refusal.what(), "restarting ledger on node3 would leave the group without quorum");
        assert_eq!(
            refusal.why(),
            [
                ("group ledger".to_string(), "3 voters, 2 up, 1 up after this step, needs 2".to_string()),
                ("already out".to_string(), "node2 (unreachable 4m12s)".to_string()),
            ]
        );
        assert_eq!(refusal.hint(), "quorate quorum check --down node3, or bring node2 back first");
    }
}
