//! What a hook's end means. Pure.

use quorate_model::{ActionOutcome, HookName};

use crate::actions::{ActionError, HookReport};

/// Processes named in one sentence.
const NAMED_MAX: usize = 8;

/// The outcome of a hook that has ended; `canceled`: the execution was.
pub(in crate::actions) fn judge(
    hook: &HookName,
    report: HookReport,
    canceled: bool,
) -> Result<ActionOutcome, ActionError> {
    let HookReport { ok, ended, output_tail, output_bytes, output_sha256, exit_code, cut_off, leftovers } =
        report;
    let mut message = format!("hook {hook}: {ended}");
    if !leftovers.is_empty() {
        let named = leftovers.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = leftovers.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        message = format!("{message}; ended with it: {named}{more}");
    }
    let outcome = ActionOutcome {
        message: message.clone(),
        output_tail,
        output_bytes,
        output_sha256,
        exit_code,
        ..ActionOutcome::default()
    };
    if ok {
        return Ok(outcome);
    }
    if cut_off {
        let message = format!("{message}; what it did until then stays done");
        return Err(ActionError::CutOff { canceled, message, outcome: Box::new(outcome) });
    }
    Err(ActionError::Failed { message, outcome: Box::new(outcome) })
}
