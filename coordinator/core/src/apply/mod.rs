//! The only door through which the state changes.
//!
//! Job: take one log entry, check it, change the state, answer, and leave a line in the audit. Must never: plan, look at
//! observations, read a clock, or use `crate::plan` and `crate::next`; replicas of different releases must agree here.
//!
//! **Architecture Invariant:** every family checks first and changes afterwards, so a refused entry leaves the state as it
//! was, but for clock, revision, the kept answer and the audit.

mod alarm;
mod artifact;
mod backup;
mod calendar;
mod cluster;
mod declared;
mod execution;
mod failover;
mod history;
mod identity;
mod instance;
mod lease;
mod membership;
mod migration;
mod node;
mod obligation;
pub(crate) mod operation;
mod policy;
mod rebuild;
mod release;
mod schedule;
pub(crate) mod step;
mod token;
mod validate;

#[cfg(test)]
mod tests;

use alloc::string::String;

use quorate_model::{
    Epoch, ExecutionId, MemberId, NodeId, NodeName, OperationId, PlanId, Principal, Reason, Refusal,
    Revision, Timestamp, TokenId,
};
use serde::{Deserialize, Serialize};

use crate::command::{AuditCommand, Command, Entry};
use crate::state::State;
use crate::state::audit::{AUDIT_BATCH_MAX, AuditDraft, AuditResult};

/// What an entry gave. Kept 24 hours for repeated request ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or already so.
    Done {
        /// Log index.
        revision: Revision,
    },
    /// Refused; nothing was changed.
    Refused(Refusal),
    /// A member was admitted.
    Member {
        /// Log index.
        revision: Revision,
        /// Its number.
        member: MemberId,
    },
    /// A node was admitted.
    Node {
        /// Log index.
        revision: Revision,
        /// Its name.
        node: NodeName,
        /// Its number.
        number: NodeId,
    },
    /// A token was made.
    Token {
        /// Log index.
        revision: Revision,
        /// Its public part.
        token: TokenId,
    },
    /// A plan was stored.
    Plan {
        /// Log index.
        revision: Revision,
        /// Its id.
        plan: PlanId,
    },
    /// An operation was started.
    Operation {
        /// Log index.
        revision: Revision,
        /// Its id.
        operation: OperationId,
    },
    /// An execution was started.
    Execution {
        /// Log index.
        revision: Revision,
        /// Its id.
        execution: ExecutionId,
        /// Its fencing number.
        epoch: Epoch,
    },
}

impl Answer {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Done { .. }
            | Self::Member { .. }
            | Self::Node { .. }
            | Self::Token { .. }
            | Self::Plan { .. }
            | Self::Operation { .. }
            | Self::Execution { .. } => None,
        }
    }

    /// The answer as a result.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_result(self) -> Result<Self, Refusal> {
        if let Self::Refused(refusal) = self { Err(refusal) } else { Ok(self) }
    }

    /// Log index at which it was done; none for a refusal.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        match self {
            Self::Refused(_) => None,
            Self::Done { revision }
            | Self::Member { revision, .. }
            | Self::Node { revision, .. }
            | Self::Token { revision, .. }
            | Self::Plan { revision, .. }
            | Self::Operation { revision, .. }
            | Self::Execution { revision, .. } => Some(*revision),
        }
    }
}

/// What a family knows of the entry it handles.
pub(crate) struct Context<'a> {
    /// The entry's time: never before the state's clock.
    pub(crate) now: Timestamp,
    /// The entry's log index.
    pub(crate) revision: Revision,
    /// Who asks.
    pub(crate) principal: &'a Principal,
}

impl Context<'_> {
    /// The plain answer.
    pub(crate) const fn done(&self) -> Answer {
        Answer::Done { revision: self.revision }
    }
}

/// A line for the audit.
#[derive(Default)]
pub(crate) struct Note {
    resource: String,
    details: String,
    operation: Option<OperationId>,
}

/// What a family did: its answer, and a note when something changed.
pub(crate) struct Effect {
    answer: Answer,
    note: Option<Note>,
}

impl Effect {
    /// Something changed.
    pub(crate) fn changed(answer: Answer, resource: impl Into<String>, details: impl Into<String>) -> Self {
        let note = Note { resource: resource.into(), details: details.into(), operation: None };
        Self { answer, note: Some(note) }
    }

    /// It was so already: nothing changed, no line in the audit.
    pub(crate) const fn unchanged(answer: Answer) -> Self {
        Self { answer, note: None }
    }

    /// The operation it belongs to.
    pub(crate) fn of(mut self, id: &OperationId) -> Self {
        if let Some(note) = &mut self.note {
            note.operation = Some(id.clone());
        }
        self
    }
}

/// Applies one log entry. Every replica calls it in the same order with the same entries and gets the same answers.
pub fn apply(state: &mut State, index: u64, entry: &Entry) -> Answer {
    state.clock = state.clock.max(entry.at);
    state.revision = Revision(index);
    let now = state.clock;
    history::forget_answers(state, now);
    let intent = match history::recall(state, entry) {
        history::Recalled::Again(answer) => return answer,
        history::Recalled::New(intent) => intent,
    };
    let context = Context { now, revision: Revision(index), principal: &entry.principal };
    let answer = match family(state, &context, &entry.command) {
        Ok(effect) => {
            if let Some(note) = effect.note {
                record(state, entry, now, note, AuditResult::Ok, entry.origin.reason.clone());
            }
            effect.answer
        }
        Err(refusal) => {
            if is_audited(entry, &refusal) {
                let note = Note { details: in_full(&refusal), ..Note::default() };
                record(state, entry, now, note, AuditResult::Refused, refusal.reason().as_str().into());
            }
            Answer::Refused(refusal)
        }
    };
    history::remember(state, entry, intent, now, &answer);
    history::prune(state, now);
    answer
}

/// One door per family.
fn family(state: &mut State, context: &Context<'_>, command: &Command) -> Result<Effect, Refusal> {
    match command {
        Command::Cluster(command) => cluster::apply(state, context, command),
        Command::Token(command) => token::apply(state, context, command),
        Command::Identity(command) => identity::apply(state, context, command),
        Command::Node(command) => node::apply(state, context, command),
        Command::Declared(command) => declared::apply(state, context, command),
        Command::Calendar(command) => calendar::apply(state, context, command),
        Command::Policy(command) => policy::apply(state, context, command),
        Command::Schedule(command) => schedule::apply(state, context, command),
        Command::Instance(command) => instance::apply(state, context, command),
        Command::Operation(command) => operation::apply(state, context, command),
        Command::Step(command) => step::apply(state, context, command),
        Command::Execution(command) => execution::apply(state, context, command),
        Command::Obligation(command) => obligation::apply(state, context, command),
        Command::Backup(command) => backup::apply(state, context, command),
        Command::Artifact(command) => artifact::apply(state, context, command),
        Command::Audit(AuditCommand::Append { records }) => append(state, context, records),
        Command::Alarm(command) => alarm::apply(state, context, command),
        Command::Lease(command) => lease::apply(state, context, command),
    }
}

/// Appends a batch of summaries; they are records themselves, so the batch leaves no line of its own.
fn append(state: &mut State, context: &Context<'_>, records: &[AuditDraft]) -> Result<Effect, Refusal> {
    if records.len() > AUDIT_BATCH_MAX {
        return Err(Refusal::new(Reason::LimitReached, "too many audit records at once"));
    }
    for record in records {
        state.audit.append(record.clone());
    }
    Ok(Effect::unchanged(context.done()))
}

/// The ticker may propose the same thing twice around a leader change; "it is so already" from it is no event.
fn is_audited(entry: &Entry, refusal: &Refusal) -> bool {
    entry.principal != Principal::System
        || !matches!(refusal.reason(), Reason::WrongState | Reason::NotFound | Reason::AlreadyExists)
}

/// A refusal with its facts: a denied join tells its caller nothing, the audit holds the cause.
fn in_full(refusal: &Refusal) -> String {
    let mut text = refusal.what();
    for (subject, fact) in refusal.why() {
        text = alloc::format!("{text}; {subject}: {fact}");
    }
    text
}

fn record(state: &mut State, entry: &Entry, now: Timestamp, note: Note, result: AuditResult, reason: String) {
    let event_type = match result {
        AuditResult::Ok => "change",
        AuditResult::Refused | AuditResult::Denied | AuditResult::Failed => "refusal",
    };
    state.audit.append(AuditDraft {
        at: now,
        event_type: event_type.into(),
        client_ip: entry.origin.client_ip.clone(),
        principal: entry.principal.clone(),
        action: entry.command.name().into(),
        resource: note.resource,
        result,
        reason,
        details: note.details,
        request_id: entry.request_id.clone(),
        operation: note.operation,
    });
}
