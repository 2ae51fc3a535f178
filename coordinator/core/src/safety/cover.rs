//! What a freeze or a window covers.

use quorate_model::{InstanceId, NodeName, OperationId, Selector, ServiceName, WorkloadName};

use crate::state::State;

/// Whether a node is meant; without a selector, each is. A node of which nothing is known counts as covered.
pub(super) fn node(state: &State, selector: Option<&Selector>, node: &NodeName) -> bool {
    let Some(selector) = selector else { return true };
    state.nodes.present(node).is_none_or(|found| selector.matches(found.name.as_str(), &found.labels))
}

/// Whether a service on a node is meant; without names, each is. Without a service, whether any that runs on the node is.
pub(super) fn service(
    state: &State,
    names: &[WorkloadName],
    node: &NodeName,
    service: Option<&ServiceName>,
) -> bool {
    if names.is_empty() {
        return true;
    }
    let named = |service: &ServiceName| names.iter().any(|name| is_of(state, name, node, service));
    match service {
        Some(service) => named(service),
        None => services_on(state, node).any(named),
    }
}

/// The services declared for a node; for one of which nothing is known, all of them.
pub(super) fn services_on<'a>(state: &'a State, node: &'a NodeName) -> impl Iterator<Item = &'a ServiceName> {
    let labels = state.nodes.present(node).map(|found| &found.labels);
    state
        .services
        .values()
        .filter(move |found| labels.is_none_or(|labels| found.spec.nodes.matches(node.as_str(), labels)))
        .map(|found| &found.spec.name)
}

/// A name stands for the service of that name, and for the members of the group of that name.
fn is_of(state: &State, name: &WorkloadName, node: &NodeName, service: &ServiceName) -> bool {
    name.as_str() == service.as_str()
        || state.groups_of(service, node).any(|group| group.spec.name.as_str() == name.as_str())
}

/// Whether an operation has begun on an instance: what it has begun there it may end.
pub(super) fn has_begun(state: &State, instance: &InstanceId, operation: Option<&OperationId>) -> bool {
    state.grants.values().any(|g| g.instance == *instance && operation == Some(&g.operation))
}
