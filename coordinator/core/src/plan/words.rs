//! The sentences of a plan.

use alloc::format;
use alloc::string::String;

use quorate_model::{MembershipVerb, Release};

use crate::state::plan::{Change, Goal, HostVerb, Verb};

/// The heading. `release` is what the planner found, for a goal that does not name one.
pub(super) fn title(goal: &Goal, release: Option<&Release>) -> String {
    match goal {
        Goal::Rollout { group, change: Change::Restart } => format!("rolling restart of {group}"),
        Goal::Rollout { group, change: Change::Run { hook } } => {
            format!("run {hook} on each member of {group}")
        }
        Goal::Rollout { group, change: Change::Secret { secret } } => {
            format!("rotate {secret} of {group} in two phases")
        }
        Goal::Rollout { group, change: Change::Reload } => format!("rolling reload of {group}"),
        Goal::Rollout { group, change: Change::Release(release) } => {
            format!("rolling upgrade of {group} to {}", release.version)
        }
        Goal::Rollout { group, change: Change::Undo } => {
            let version = release.map_or("what was before", |release| release.version.as_str());
            format!("rolling return of {group} to {version}")
        }
        Goal::Rollout { group, change: Change::Config { config, release } } => {
            format!("rolling change of {config} of {group} to {}", release.version)
        }
        Goal::Rollout { group, change: Change::ConfigUndo { config } } => {
            let version = release.map_or("what was before", |release| release.version.as_str());
            format!("rolling return of {config} of {group} to {version}")
        }
        Goal::Rollout { group, change: Change::ConfigDiff { config, release } } => {
            format!("compare {config} of {group} with {}", release.version)
        }
        Goal::Run { service, verb, .. } => format!("{} {service}", verb_word(*verb)),
        Goal::Backup { service, .. } => format!("back up {service}"),
        Goal::Rotate { service, .. } => format!("rotate the logs of {service}"),
        Goal::Verify { backups } => match backups.as_slice() {
            [one] => format!("verify {one}"),
            many => format!("verify {} backups", many.len()),
        },
        Goal::Rebuild { group, node } => format!("rebuild {node} of {group}"),
        Goal::Membership { group, node, change: MembershipVerb::Add, .. } => format!("add {node} to {group}"),
        Goal::Membership { group, node, change: MembershipVerb::Remove, .. } => {
            format!("remove {node} from {group}")
        }
        Goal::Failover { group, planned: true, .. } => format!("switchover of {group}"),
        Goal::Failover { group, planned: false, .. } => format!("failover of {group}"),
        Goal::Rejoin { group, node } => format!("return of {node} to {group}"),
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
