//! What waits for an acknowledgement. Pure: time comes in.

use std::collections::BTreeMap;

use quorate_common::wire::agent::FromAgent;
use quorate_model::session::{ExecutionReport, ObligationReport};
use quorate_model::{DurationMs, ExecutionId, ExecutionState, ObligationId, ObligationState};

/// How long an acknowledgement may take before the report is sent again. A commit takes milliseconds; a change of the
/// leader loses proposals and takes seconds.
pub(super) const RESEND_AFTER: DurationMs = DurationMs(3_000);

/// Something that is to become durable with the coordinators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Execution(Box<ExecutionReport>),
    Obligation(ObligationReport),
}

/// What the helper is told once it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    Execution(ExecutionId),
    Obligation(ObligationId, ObligationState),
}

impl Report {
    fn subject(&self) -> String {
        match self {
            Self::Execution(report) => report.execution.to_string(),
            Self::Obligation(report) => report.obligation.to_string(),
        }
    }

    pub(super) fn body(&self) -> FromAgent {
        match self {
            Self::Execution(report) => FromAgent::Execution(report.clone()),
            Self::Obligation(report) => FromAgent::Obligation(report.clone()),
        }
    }

    /// Nothing follows it.
    fn confirmed(&self) -> Option<Confirmed> {
        match self {
            // UNKNOWN is not final: its truth may still come, so the journal keeps it.
            Self::Execution(report) if report.state.is_final() && report.state != ExecutionState::Unknown => {
                Some(Confirmed::Execution(report.execution.clone()))
            }
            Self::Obligation(report) => match report.state {
                ObligationState::Discharged | ObligationState::ExpiredDischarged => {
                    Some(Confirmed::Obligation(report.obligation.clone(), report.state))
                }
                ObligationState::Open | ObligationState::Failed => None,
            },
            Self::Execution(_) => None,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    report: Report,
    /// Sequence in this session and when; `None` when it was not sent yet.
    sent: Option<(u64, DurationMs)>,
}

/// The newest report of each subject that no coordinator has acknowledged. Bounded by the helper's journal.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<String, Waiting>,
}

impl Outbox {
    /// Takes a report; a newer one of the same subject replaces it. The same again changes nothing.
    pub(super) fn put(&mut self, report: Report) {
        let subject = report.subject();
        if self.waiting.get(&subject).is_some_and(|old| old.report == report) {
            return;
        }
        self.waiting.insert(subject, Waiting { report, sent: None });
    }

    /// A new session knows nothing of what an earlier one was sent.
    pub(super) fn session_began(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.sent = None;
        }
    }

    /// What is to be sent now: new ones, and those whose acknowledgement is overdue.
    pub(super) fn due(&self, now: DurationMs) -> Vec<(String, Report)> {
        self.waiting
            .iter()
            .filter(|(_, w)| w.sent.is_none_or(|(_, at)| now.minus(at) >= RESEND_AFTER))
            .map(|(subject, w)| (subject.clone(), w.report.clone()))
            .collect()
    }

    /// It was sent. Nothing, when another report took its place meanwhile.
    pub(super) fn sent(&mut self, subject: &str, report: &Report, sequence: u64, now: DurationMs) {
        if let Some(waiting) = self.waiting.get_mut(subject)
            && waiting.report == *report
        {
            waiting.sent = Some((sequence, now));
        }
    }

    /// A coordinator keeps what was sent under this sequence; says what the helper may forget.
    pub(super) fn acknowledged(&mut self, subject: &str, sequence: u64) -> Option<Confirmed> {
        let found = self.waiting.get(subject)?;
        // An acknowledgement of an earlier report about the same thing says nothing about this one.
        if found.sent.is_none_or(|(sent, _)| sent != sequence) {
            return None;
        }
        let confirmed = found.report.confirmed();
        self.waiting.remove(subject);
        confirmed
    }

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::{Epoch, Timestamp};

    use super::*;

    fn report(state: ExecutionState) -> Report {
        Report::Execution(Box::new(ExecutionReport {
            execution: ExecutionId::new("x-1").unwrap(),
            state,
            reason: None,
            outcome: None,
            at: Timestamp(1),
            epoch: Epoch(1),
        }))
    }

    #[test]
    fn a_report_is_sent_until_its_own_acknowledgement() {
        let mut outbox = Outbox::default();
        outbox.put(report(ExecutionState::Running));
        let now = DurationMs(10);
        assert_eq!(outbox.due(now).len(), 1);
        outbox.sent("x-1", &report(ExecutionState::Running), 5, now);
        assert!(outbox.due(now).is_empty());
        assert_eq!(outbox.due(now.plus(RESEND_AFTER)).len(), 1, "the acknowledgement is overdue");
        outbox.put(report(ExecutionState::Succeeded));
        assert_eq!(outbox.acknowledged("x-1", 5), None, "that was about RUNNING");
        assert_eq!(outbox.due(now).len(), 1);
        outbox.sent("x-1", &report(ExecutionState::Succeeded), 6, now);
        outbox.session_began();
        assert_eq!(outbox.due(now).len(), 1, "a new session is told again");
        outbox.sent("x-1", &report(ExecutionState::Succeeded), 2, now);
        let want = Confirmed::Execution(ExecutionId::new("x-1").unwrap());
        assert_eq!(outbox.acknowledged("x-1", 2), Some(want));
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn an_unknown_one_is_not_forgotten_by_the_journal() {
        let mut outbox = Outbox::default();
        outbox.put(report(ExecutionState::Unknown));
        outbox.sent("x-1", &report(ExecutionState::Unknown), 1, DurationMs(0));
        assert_eq!(outbox.acknowledged("x-1", 1), None);
        assert_eq!(outbox.len(), 0);
    }
}
