//! The sentences of a plan.

use alloc::format;
use alloc::string::String;

use crate::state::plan::{Change, Goal, HostVerb, Verb};

/// The heading.
pub(super) fn title(goal: &Goal) -> String {
    match goal {
        Goal::Rollout { group, change: Change::Restart } => format!("rolling restart of {group}"),
        Goal::Rollout { group, change: Change::Reload } => format!("rolling reload of {group}"),
        Goal::Run { service, verb, .. } => format!("{} {service}", verb_word(*verb)),
        Goal::Backup { service, .. } => format!("back up {service}"),
        Goal::Rotate { service, .. } => format!("rotate the logs of {service}"),
        Goal::Verify { backups } => match backups.as_slice() {
            [one] => format!("verify {one}"),
            many => format!("verify {} backups", many.len()),
        },
        Goal::Host { verb: HostVerb::Facts, .. } => String::from("read facts"),
        Goal::Host { verb: HostVerb::Diagnose, .. } => String::from("diagnose"),
    }
}

const fn verb_word(verb: Verb) -> &'static str {
    match verb {
        Verb::Status => "look at",
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Restart => "restart",
        Verb::Reload => "reload",
    }
}

/// The last, countable sentence.
pub(super) fn summary(change: usize, skip: usize) -> String {
    format!("{change} to change, {skip} to skip")
}
