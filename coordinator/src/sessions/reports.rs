//! What an agent reports that must be durable: executions and obligations. One at a time and in order per session.

use std::sync::Arc;

use quorate_common::wire::agent::ToAgent;
use quorate_core::command::{ExecutionCommand, ObligationCommand, Report};
use quorate_core::{Command, Entry};
use quorate_model::session::{ExecutionReport, ObligationReport};
use quorate_model::{NodeName, ObligationState, Principal};
use tokio::sync::mpsc;

use crate::api::backend::{Backend, ProposeError};

/// Reports waiting in one session; an agent has a handful of executions (reliability.md §5.3 bounds the queue).
pub(super) const QUEUE: usize = 256;

/// One report with the sequence of its message.
pub(super) enum Item {
    /// An execution's progress.
    Execution(u64, Box<ExecutionReport>),
    /// An obligation's progress.
    Obligation(u64, ObligationReport),
}

/// Proposes reports until the session ends. A report whose proposal failed is not acknowledged: the agent sends it again.
pub(super) async fn run(
    backend: Arc<dyn Backend>,
    node: NodeName,
    mut items: mpsc::Receiver<Item>,
    out: mpsc::Sender<ToAgent>,
) {
    while let Some(item) = items.recv().await {
        let (sequence, subject, command) = match item {
            Item::Execution(sequence, report) => {
                let subject = report.execution.to_string();
                (sequence, subject, execution(&node, *report))
            }
            Item::Obligation(sequence, report) => {
                let subject = report.obligation.to_string();
                (sequence, subject, obligation(&node, report))
            }
        };
        let entry = Entry::new(backend.now(), Principal::Agent { node: node.clone() }, None, command);
        match backend.propose(entry).await {
            Ok((_, answer)) => {
                if let Some(refusal) = answer.refusal() {
                    // Durable all the same: the state has seen it and will never take it.
                    tracing::info!(%node, %subject, %refusal, "a report was refused");
                }
                if out.send(ToAgent::ReportAck { sequence, subject }).await.is_err() {
                    return;
                }
            }
            Err(error @ ProposeError::Stopped(_)) => {
                tracing::warn!(%node, %error, "reports are not taken any more");
                return;
            }
            Err(error) => {
                tracing::warn!(%node, %subject, %error, "a report waits for the agent to send it again")
            }
        }
    }
}

fn execution(node: &NodeName, report: ExecutionReport) -> Command {
    let ExecutionReport { execution, state, reason, outcome, at: _, epoch } = report;
    let report = Report { execution, node: node.clone(), epoch, state, reason, outcome };
    Command::Execution(Box::new(ExecutionCommand::Report(report)))
}

fn obligation(node: &NodeName, report: ObligationReport) -> Command {
    let ObligationReport { obligation, execution, state, description, deadline, message: _ } = report;
    Command::Obligation(match state {
        ObligationState::Open => ObligationCommand::Open {
            id: obligation,
            node: node.clone(),
            execution,
            what: description,
            due_at: deadline,
        },
        ObligationState::Discharged | ObligationState::ExpiredDischarged | ObligationState::Failed => {
            ObligationCommand::Close { id: obligation, node: node.clone(), state }
        }
    })
}
