//! What the standing of a lease means for a promotion. Pure.

use quorate_model::{Epoch, GroupName};

use crate::actions::LeaseNow;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is good for long enough.
    Begin,
    /// It may become so.
    Wait,
    /// It does not any more.
    Refuse(String),
}

pub(super) fn begin(now: &LeaseNow) -> Next {
    match now {
        LeaseNow::Live { left, needed } if left >= needed => Next::Begin,
        // The grant and this execution come on ways of their own; a renewal that is due gives it time.
        LeaseNow::Live { .. } | LeaseNow::NotYet => Next::Wait,
        LeaseNow::Over(why) => Next::Refuse(why.clone()),
    }
}

/// Why it was waited for in vain.
pub(super) fn in_vain(now: &LeaseNow, group: &GroupName, epoch: Epoch) -> String {
    match now {
        LeaseNow::NotYet => {
            format!("no lease of {group}, epoch {epoch}, lives here: no renewal was answered")
        }
        LeaseNow::Live { left, needed } => {
            format!("the lease of {group}, epoch {epoch}, is good for {left} only, {needed} are needed")
        }
        LeaseNow::Over(why) => why.clone(),
    }
}

/// Whether it is over, and why.
pub(super) fn is_over(now: &LeaseNow, group: &GroupName, epoch: Epoch) -> Option<String> {
    match now {
        LeaseNow::Live { .. } => None,
        LeaseNow::NotYet | LeaseNow::Over(_) => Some(in_vain(now, group, epoch)),
    }
}
