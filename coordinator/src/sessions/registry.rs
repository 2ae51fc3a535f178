//! Which nodes have a session here. The newest session of a node wins; the older one is closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_common::task::Shutdown;
use quorate_model::NodeName;

/// Sessions of this member. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    live: BTreeMap<NodeName, Live>,
}

#[derive(Debug)]
struct Live {
    number: u64,
    installation: String,
    close: Shutdown,
}

/// A session's place; left when dropped.
#[derive(Debug)]
pub struct Place {
    registry: Registry,
    node: NodeName,
    number: u64,
    /// Triggered when a newer session of the same node takes its place.
    pub close: Shutdown,
    /// Another host with the same identity held the place: a clone.
    pub clone_of: Option<String>,
}

impl Registry {
    /// Takes the place of a node; a session that was there is closed.
    #[must_use]
    pub fn enter(&self, node: &NodeName, installation: &str, shutdown: &Shutdown) -> Place {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.next = inner.next.saturating_add(1);
        let (number, close) = (inner.next, shutdown.child());
        let live = Live { number, installation: installation.to_owned(), close: close.clone() };
        let before = inner.live.insert(node.clone(), live);
        let mut clone_of = None;
        if let Some(before) = before {
            before.close.trigger();
            if !installation.is_empty() && before.installation != installation {
                clone_of = Some(before.installation);
            }
        }
        Place { registry: self.clone(), node: node.clone(), number, close, clone_of }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).live.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Place {
    /// Whether this is still the node's newest session here.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let inner = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.live.get(&self.node).is_some_and(|live| live.number == self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.live.get(&self.node).is_some_and(|live| live.number == self.number) {
            inner.live.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_session_wins_and_a_clone_is_noticed() {
        let (registry, shutdown) = (Registry::default(), Shutdown::new());
        let node = NodeName::new("n1").unwrap();
        let first = registry.enter(&node, "a", &shutdown);
        let second = registry.enter(&node, "a", &shutdown);
        assert!(first.close.is_triggered() && !first.is_current() && second.is_current());
        assert_eq!(second.clone_of, None);
        let third = registry.enter(&node, "b", &shutdown);
        assert_eq!(third.clone_of.as_deref(), Some("a"));
        drop(first);
        drop(second);
        assert_eq!(registry.len(), 1);
        drop(third);
        assert!(registry.is_empty());
    }
}
