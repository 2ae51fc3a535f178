//! When a log is due, and the steps from what is seen to what should be. Pure.
//!
//! A crash may fall between any two steps. So nothing is remembered but the names in the folder, and each plan begins by
//! finishing what an earlier one left: a free slot in the row ends the shifting, an old log that was set aside is put into
//! its slot, a plain file beside its compressed one is compressed again.

use std::collections::BTreeMap;

use quorate_model::backup::LogRotation;
use quorate_model::{DurationMs, Timestamp};

/// Most rotated files of one log: S5 keeps 30 days, compliance logs are archived, not kept in a row.
pub(super) const KEEP_MAX: u32 = 1_000;

/// The log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogFile {
    pub(super) size: u64,
    /// When it came to be, if that is known.
    pub(super) born: Option<Timestamp>,
    /// In copying mode: too short to give away a whole block.
    pub(super) below_block: bool,
}

/// One rotated file; with both forms after a crash between the two steps of compressing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) plain: bool,
    pub(super) packed: bool,
    pub(super) modified: Timestamp,
    /// A process has the plain file open for writing.
    pub(super) held: bool,
}

/// What lies under the log's own temporary name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// A new log that did not take its place: empty, and nobody writes to it.
    Fresh,
    /// The old log on its way to slot 1.
    Old,
}

/// What is seen of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) log: Option<LogFile>,
    pub(super) slots: BTreeMap<u32, Slot>,
    pub(super) aside: Option<Aside>,
    /// An incomplete copy.
    pub(super) copy: bool,
    /// A complete copy; whether its bytes were cut from the log is not known.
    pub(super) cut: bool,
}

/// What will be done, one system call's worth of change each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Remove the compressed form of a slot whose plain one is there.
    DropPacked(u32),
    /// Remove a new log that did not take its place.
    DropAside,
    /// Remove an incomplete copy.
    DropCopy,
    /// Remove a rotated file that is past the number to keep.
    Delete(u32),
    /// Slot n becomes slot n + 1.
    Shift(u32),
    /// Make the new log aside.
    Fresh,
    /// Log and aside swap names.
    Swap,
    /// Make the log again that a crash left missing.
    Create,
    /// Copy the front of the log.
    Copy,
    /// Cut from the log what was copied, unless that happened already.
    Cut,
    /// What was set aside becomes slot 1.
    Place,
    /// The cut copy becomes slot 1.
    PlaceCut,
}

/// A plan for one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Slots to compress afterwards, oldest first.
    pub(super) pack: Vec<u32>,
    /// A writer holds, or will hold, a file that is no longer the log.
    pub(super) reload: bool,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The log is not there, and that is not fine.
    Missing,
    /// The oldest file would have to go and is still written to.
    Held(u32),
}

/// Checks a policy; the error names the field.
pub(super) fn check(policy: &LogRotation) -> Result<(), (&'static str, String)> {
    if !(1..=KEEP_MAX).contains(&policy.keep) {
        return Err(("keep", format!("{} is not between 1 and {KEEP_MAX}", policy.keep)));
    }
    if policy.create_mode & !0o777 != 0 {
        return Err(("create_mode", format!("{:o} is more than permission bits", policy.create_mode)));
    }
    if policy.delay_compress && !policy.compress {
        return Err(("delay_compress", "there is nothing to delay without compress".to_owned()));
    }
    Ok(())
}

/// Whether a log that is there should be rotated now.
pub(super) fn is_due(policy: &LogRotation, state: &State, log: LogFile, now: Timestamp) -> bool {
    if log.size == 0 && !policy.rotate_empty || policy.copy_truncate && log.below_block {
        return false;
    }
    if policy.size_bytes == 0 && policy.age == DurationMs::ZERO {
        return true;
    }
    if policy.size_bytes > 0 && log.size >= policy.size_bytes {
        return true;
    }
    // The newest rotated file was written to until it was rotated; a log that was quiet before tells its own birth.
    let newest = state.slots.first_key_value().map(|(_, slot)| slot.modified);
    let since = newest.max(log.born);
    policy.age > DurationMs::ZERO && since.is_none_or(|since| now.since(since) >= policy.age)
}

/// Plans one log.
pub(super) fn plan(policy: &LogRotation, state: &State, now: Timestamp) -> Result<Plan, Refused> {
    let mut plan = Plan::default();
    if state.copy {
        plan.steps.push(Step::DropCopy);
    }
    let mut slots = state.slots.clone();
    for (n, slot) in &mut slots {
        if slot.plain && slot.packed {
            plan.steps.push(Step::DropPacked(*n));
            slot.packed = false;
        }
    }
    if state.aside == Some(Aside::Fresh) {
        plan.steps.push(Step::DropAside);
    }
    if state.aside == Some(Aside::Old) {
        free_first(policy.keep, &mut slots, &mut plan.steps)?;
        place(Step::Place, &mut slots, &mut plan);
        if state.log.is_none() {
            plan.steps.push(Step::Create);
        }
    } else if state.cut {
        free_first(policy.keep, &mut slots, &mut plan.steps)?;
        plan.steps.push(Step::Cut);
        place(Step::PlaceCut, &mut slots, &mut plan);
    } else {
        fresh_rotation(policy, state, now, &mut slots, &mut plan)?;
    }
    plan.reload |= slots.values().any(|slot| slot.held);
    if policy.compress {
        let first = if policy.delay_compress { 2 } else { 1 };
        plan.pack = slots.iter().rev().filter(|(n, s)| **n >= first && s.plain).map(|(n, _)| *n).collect();
    }
    Ok(plan)
}

fn fresh_rotation(
    policy: &LogRotation,
    state: &State,
    now: Timestamp,
    slots: &mut BTreeMap<u32, Slot>,
    plan: &mut Plan,
) -> Result<(), Refused> {
    let Some(log) = state.log else {
        return if policy.missing_ok { Ok(()) } else { Err(Refused::Missing) };
    };
    if !is_due(policy, state, log, now) {
        return Ok(());
    }
    free_first(policy.keep, slots, &mut plan.steps)?;
    if policy.copy_truncate {
        plan.steps.extend([Step::Copy, Step::Cut]);
        place(Step::PlaceCut, slots, plan);
    } else {
        plan.steps.extend([Step::Fresh, Step::Swap]);
        place(Step::Place, slots, plan);
    }
    Ok(())
}

fn place(step: Step, slots: &mut BTreeMap<u32, Slot>, plan: &mut Plan) {
    plan.steps.push(step);
    slots.insert(1, Slot { plain: true, ..Slot::default() });
    plan.reload = true;
}

/// Makes slot 1 free. A gap in the row, which a crash left, takes the shift; only a full row loses its oldest file.
fn free_first(keep: u32, slots: &mut BTreeMap<u32, Slot>, steps: &mut Vec<Step>) -> Result<(), Refused> {
    let gap = (1..=keep).find(|n| !slots.contains_key(n));
    let surplus: Vec<u32> =
        slots.keys().copied().filter(|n| *n > keep || gap.is_none() && *n == keep).collect();
    for n in surplus.into_iter().rev() {
        if slots.get(&n).is_some_and(|slot| slot.held) {
            return Err(Refused::Held(n));
        }
        slots.remove(&n);
        steps.push(Step::Delete(n));
    }
    for n in (1..gap.unwrap_or(keep)).rev() {
        if let Some(slot) = slots.remove(&n) {
            slots.insert(n + 1, slot);
            steps.push(Step::Shift(n));
        }
    }
    Ok(())
}

/// How much of a log is cut in copying mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// This many bytes, whole blocks, fewer than the log has; nothing is lost.
    Blocks(u64),
    /// All of it, by truncation.
    Whole,
    /// The log is shorter than a block.
    Nothing,
}

/// Chooses the front. `can_cut` says whether the file system cuts blocks off the front of a file.
pub(super) fn front(size: u64, block_bytes: u64, can_cut: bool) -> Front {
    if !can_cut || block_bytes == 0 {
        return Front::Whole;
    }
    // The kernel refuses to cut up to the very end of a file.
    match size.saturating_sub(1) / block_bytes * block_bytes {
        0 => Front::Nothing,
        bytes => Front::Blocks(bytes),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
