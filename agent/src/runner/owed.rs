//! How what is owed is told to people and to the coordinators.

use quorate_model::ObligationId;
use quorate_model::session::ObligationReport;

use super::journal::Owed;

impl Owed {
    /// Whether what it was owed for has ended, so that it waits for nobody.
    pub(super) fn is_over(&self) -> bool {
        let silence = self.maintenance.as_ref().and_then(|told| told.silence.as_ref());
        silence.is_some_and(|silence| silence.over)
    }
}

/// What its undo does, in a few words.
pub(super) fn describe(owed: &Owed) -> String {
    match (&owed.hook, &owed.traffic) {
        (Some(hook), _) => format!("hook {hook} for {}", owed.instance),
        (None, Some(to)) => format!("put {} back into the pool {}", owed.instance, to.traffic.backend),
        (None, None) => match (&owed.config, &owed.maintenance) {
            (Some(file), _) => format!("put {} of {} back as it was", file.config.path, owed.instance),
            (None, Some(told)) => match &told.silence {
                Some(silence) if told.file.is_empty() => {
                    format!("end the silence of {} at {}", owed.instance, silence.silence.url)
                }
                None if told.file.is_empty() => format!("end the maintenance of {}", owed.instance),
                Some(_) | None => format!("end the maintenance of {} in {}", owed.instance, told.file),
            },
            (None, None) => format!("something for {}", owed.instance),
        },
    }
}

/// As the coordinators are told of it.
pub(super) fn report(id: &ObligationId, owed: &Owed) -> ObligationReport {
    ObligationReport {
        obligation: id.clone(),
        execution: owed.execution.clone(),
        state: owed.state,
        description: describe(owed),
        deadline: owed.due_at,
        message: owed.message.clone(),
    }
}
