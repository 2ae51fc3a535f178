//! Does one undo that is owed: a hook of the host's own, or the way back into a load balancer's pool.

use std::sync::Arc;
use std::time::Duration;

use super::hooks::Hooks;
use super::journal::{Owed, OwedTraffic};
use super::settings::Settings;
use crate::actions::maintenance::Announced;
use crate::actions::{Balancers, HookRunner, config as config_file, host_driver, maintenance, traffic};
use crate::host::{Host, clock};

/// Longest run of one undo, beside the time that health must hold.
const UNDO_LIMIT: Duration = Duration::from_secs(60);

/// The hand that undoes.
pub(super) struct Undoer {
    host: Arc<dyn Host>,
    settings: Settings,
    hooks: Arc<Hooks>,
}

impl Undoer {
    /// Over the real host.
    pub(super) fn new(host: Arc<dyn Host>, settings: Settings, hooks: Hooks) -> Self {
        Self { host, settings, hooks: Arc::new(hooks) }
    }

    /// Whether the host still lets this Alertmanager be told.
    pub(super) fn allows_alertmanager(&self, url: &str) -> Result<(), String> {
        self.settings.current().policy.allows_alertmanager(url)
    }

    /// Does it once, and says what was done, or why not, in one line.
    pub(super) async fn undo(&self, owed: &Owed) -> Result<String, String> {
        match (&owed.hook, &owed.traffic, &owed.maintenance) {
            (Some(hook), _, _) => match self.hooks.run(hook, &owed.instance, UNDO_LIMIT).await {
                Ok(report) if report.ok => Ok(format!("hook {hook} was run by the helper alone")),
                Ok(report) => Err(format!("hook {hook}: {}", report.ended)),
                Err(error) => Err(error.message),
            },
            (None, Some(wanted), _) => self.put_back(owed, wanted).await,
            (None, None, Some(told)) => {
                let silence = told.silence.as_ref().map(|silence| (&silence.silence, silence.until));
                let (file, operation) = (told.file.as_str(), &told.operation);
                let announced = Announced { instance: &owed.instance, file, operation, silence };
                maintenance::undo(&self.settings.current().policy, announced, clock::now()).await
            }
            (None, None, None) if owed.config.is_some() => self.file(owed).await,
            (None, None, None) => Err("the journal does not say what is owed".to_owned()),
        }
    }

    /// The configuration file from before.
    async fn file(&self, owed: &Owed) -> Result<String, String> {
        let Some(file) = &owed.config else { return Err("the journal does not say which file".to_owned()) };
        let config = self.settings.current();
        let driver = host_driver(Arc::clone(&self.host), file.driver.clone());
        let releases_dir = config.releases_dir();
        let what = config_file::PutBack {
            roots: &config.policy.install().configs,
            releases_dir: &releases_dir,
            instance: &owed.instance,
            driver: driver.as_ref(),
            stop_timeout: file.stop_timeout,
            start_timeout: file.start_timeout,
            config: &file.config,
            digest: file.digest.as_str(),
        };
        config_file::put_back(what).await
    }

    async fn put_back(&self, owed: &Owed, wanted: &OwedTraffic) -> Result<String, String> {
        let out = |why: String| format!("kept out of the pool {}: {why}", wanted.traffic.backend);
        let config = self.settings.current();
        let hooks = Arc::clone(&self.hooks) as Arc<dyn HookRunner>;
        let pool = Balancers::new(Arc::clone(&self.host), config.balancers.clone())
            .pool(&wanted.traffic, &owed.instance, hooks)
            .map_err(|e| out(e.message))?;
        let settle = config.balancers.get(&wanted.traffic.adapter).map_or(Duration::ZERO, |b| b.settle);
        let driver = host_driver(Arc::clone(&self.host), wanted.driver.clone());
        let limit = UNDO_LIMIT.saturating_add(settle);
        match tokio::time::timeout(limit, traffic::undo(&pool, driver.as_ref())).await {
            Ok(done) => done.map_err(out),
            Err(_) => Err(out(format!("it was not shown to be healthy within {limit:?}"))),
        }
    }
}
