//! What to do with a unit, and what its state proves. Pure.

use quorate_model::service::UnitStatus;

/// What a wanted verb comes to, given the unit as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actions) enum Decision {
    /// Nothing to do.
    Already(&'static str),
    /// Do it.
    Act,
    /// It can not be done; why.
    Impossible(&'static str),
}

/// Whether the unit runs.
pub(in crate::actions) fn is_up(unit: &UnitStatus) -> bool {
    matches!(unit.active.as_str(), "active" | "reloading")
}

/// Whether nothing of the unit runs.
pub(in crate::actions) fn is_down(unit: &UnitStatus) -> bool {
    matches!(unit.active.as_str(), "inactive" | "failed")
}

fn loadable(unit: &UnitStatus) -> Result<(), &'static str> {
    match unit.load.as_str() {
        "not-found" => Err("there is no such unit"),
        "masked" => Err("the unit is masked"),
        "error" => Err("the unit's file is broken"),
        _ => Ok(()),
    }
}

/// `service.start`.
pub(in crate::actions) fn start(unit: &UnitStatus) -> Decision {
    match loadable(unit) {
        Err(why) => Decision::Impossible(why),
        Ok(()) if is_up(unit) => Decision::Already("it was running already"),
        Ok(()) => Decision::Act,
    }
}

/// `service.stop`. A unit that is gone or masked can still run and still be stopped.
pub(in crate::actions) fn stop(unit: &UnitStatus) -> Decision {
    if !is_down(unit) {
        return Decision::Act;
    }
    match loadable(unit) {
        Err("there is no such unit") => Decision::Impossible("there is no such unit"),
        Ok(()) | Err(_) => Decision::Already("it was stopped already"),
    }
}

/// The stopping half of `service.restart`: [`Decision::Already`] means that only the start is left.
///
/// A unit that could not be started again is not stopped in the first place.
pub(in crate::actions) fn restart(unit: &UnitStatus) -> Decision {
    match loadable(unit) {
        Err(why) => Decision::Impossible(why),
        Ok(()) if is_down(unit) => Decision::Already("it was stopped"),
        Ok(()) => Decision::Act,
    }
}

/// `service.reload`.
pub(in crate::actions) fn reload(unit: &UnitStatus) -> Decision {
    match loadable(unit) {
        Err(why) => Decision::Impossible(why),
        Ok(()) if is_up(unit) => Decision::Act,
        Ok(()) => Decision::Impossible("it does not run"),
    }
}

/// Whether the unit runs after a start.
pub(in crate::actions) fn started(after: &UnitStatus) -> Result<(), String> {
    if is_up(after) {
        return Ok(());
    }
    Err(format!(
        "it is {} ({}) after the start; the last run ended as {} {}",
        word(&after.active),
        word(&after.sub),
        word(&after.result),
        after.exit_status
    ))
}

/// Whether a restart left another run than before.
pub(in crate::actions) fn new_run(before: &UnitStatus, after: &UnitStatus) -> Result<(), String> {
    started(after)?;
    if after.invocation_id.is_empty() {
        return Err("the supervisor gives no invocation id, so a new run can not be proved".to_owned());
    }
    if after.invocation_id == before.invocation_id {
        return Err(format!("it is still run {}: nothing was restarted", after.invocation_id));
    }
    Ok(())
}

/// Whether a reload left the same run going.
pub(in crate::actions) fn same_run(before: &UnitStatus, after: &UnitStatus) -> Result<(), String> {
    started(after)?;
    if after.invocation_id != before.invocation_id {
        return Err(format!(
            "the reload replaced run {} by {}",
            word(&before.invocation_id),
            word(&after.invocation_id)
        ));
    }
    Ok(())
}

/// One line about a unit.
pub(in crate::actions) fn describe(unit: &UnitStatus) -> String {
    format!(
        "{} ({}), pid {}, {} restarts, run {}",
        word(&unit.active),
        word(&unit.sub),
        unit.main_pid,
        unit.restarts,
        word(&unit.invocation_id)
    )
}

fn word(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
