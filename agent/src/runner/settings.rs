//! The configuration in use, replaced whole at SIGHUP.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Config;

/// The configuration in use. Clones share it.
#[derive(Clone, Debug)]
pub struct Settings(Arc<RwLock<Arc<Config>>>);

impl Settings {
    /// Begins with this one.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// What holds now. Take it once for each decision.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what can change while running: policy, hooks, processes, limits, labels, and the addresses that are asked
    /// next. Says what only a restart changes.
    ///
    /// # Errors
    /// The keys that differ and stay as they were; nothing is replaced then.
    pub fn replace(&self, new: Config) -> Result<(), Vec<&'static str>> {
        let old = self.current();
        let fixed = [
            ("node", old.node != new.node),
            ("data_dir", old.data_dir != new.data_dir),
            ("helper_dir", old.helper_dir != new.helper_dir),
            ("helper_socket", old.helper_socket != new.helper_socket),
            ("metrics_listen", old.metrics_listen != new.metrics_listen),
            ("journal", old.journal != new.journal),
        ];
        let changed: Vec<_> = fixed.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        if !changed.is_empty() {
            return Err(changed);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}
