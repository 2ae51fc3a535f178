//! What a plan rests on: any change of it makes the plan stale.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_model::{NodeName, ServiceName};

use super::targets::Job;
use crate::state::State;
use crate::state::plan::{Resource, Touch};

/// What the plan rests on.
pub(super) fn touches(state: &State, job: &Job) -> Vec<Touch> {
    let mut touches = Vec::new();
    let service: Option<&ServiceName> = job.service.as_ref();
    if let Some(found) = service.and_then(|name| state.services.get(name)) {
        touches
            .push(Touch { resource: Resource::Service(found.spec.name.clone()), revision: found.revision });
    }
    let groups = state.groups.values().filter(|group| {
        job.group.as_ref() == Some(&group.spec.name)
            || (service == Some(&group.spec.service)
                && job.targets.iter().any(|t| group.spec.voters.contains(&t.node)))
    });
    touches.extend(
        groups.map(|group| Touch {
            resource: Resource::Group(group.spec.name.clone()),
            revision: group.revision,
        }),
    );
    let nodes: BTreeSet<&NodeName> = job.targets.iter().map(|t| &t.node).collect();
    touches.extend(nodes.into_iter().filter_map(|name| {
        let node = state.nodes.present(name)?;
        Some(Touch { resource: Resource::Node(name.clone()), revision: node.revision })
    }));
    touches
}
