//! The software of an agent's host: the real runner over a journal that loses what had no barrier, the real session.
//! The host's power fails as a whole, so both halves go and come together.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_agent::actions::{FactsSource, PortError};
use quorate_agent::config::Config;
use quorate_agent::facts::{Collector, MetricsPage};
use quorate_agent::helper::Inside;
use quorate_agent::host::Host;
use quorate_agent::runner::journal::Journal;
use quorate_agent::runner::{Parts, Runner, Settings, Status};
use quorate_agent::session::{Calling, Ground, run_on};
use quorate_common::task::{Shutdown, TaskSet};
use quorate_common::tls::{ExpectedServer, LiveTls};
use quorate_durable::{Durable, MemoryDisk, Pace};
use quorate_model::node::Facts;

use super::board::Board;
use super::evidence::EpochSeen;
use super::machine::{Machine, SERVICE};
use super::member::{Slowness, address};
use super::net::Caller;
use super::trace::{self, Trace};

/// Time between looks at the highest epoch.
const LOOK: Duration = Duration::from_millis(100);

/// Folder of the releases, below a node's own.
pub const APP: &str = "app";

/// One node; outlives its crashes.
#[derive(Clone)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Members that it may call.
    pub members: u64,
    /// The journal's disk.
    pub disk: MemoryDisk,
    /// What a barrier of it takes.
    pub pace: Pace,
    /// How slow it is, and whether the host stands still.
    pub slowness: Slowness,
    /// The machine.
    pub machine: Machine,
    /// How it calls coordinators.
    pub caller: Caller,
    /// Its certificate.
    pub live: Arc<LiveTls>,
    /// Epochs it was seen to hold.
    pub epochs: Arc<Mutex<Vec<EpochSeen>>>,
    /// Folder of what it keeps beside the journal; none where it may install nothing.
    pub home: Option<PathBuf>,
    /// How its runner stood when it was asked last; none while it does not run.
    pub standing: Arc<Mutex<Option<Status>>>,
    /// Where what must not happen is told.
    pub board: Board,
    /// The trace.
    pub trace: Trace,
}

/// Nobody asks for facts in a simulation.
struct NoFacts;

impl FactsSource for NoFacts {
    fn facts(&self) -> BoxFuture<'_, Result<Facts, PortError>> {
        async { Err(PortError::new(quorate_model::Reason::Internal, "a simulated host has no facts")) }
            .boxed()
    }
}

impl Site {
    /// How its runner stood when it was asked last; none while it does not run.
    #[must_use]
    pub fn standing(&self) -> Option<Status> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it had an execution in hand, or has a verb under way.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let in_hand = self.standing().is_some_and(|standing| !standing.in_hand.is_empty());
        in_hand || self.machine.begun().last().is_some_and(|act| act.to == u64::MAX)
    }

    /// Its agent is gone.
    pub fn gone(&self) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn config(&self) -> Result<Config, String> {
        let coordinators: Vec<String> = (1..=self.members).map(|id| format!("\"{}\"", address(id))).collect();
        let name = &self.name;
        let home = self.home.clone().unwrap_or_else(|| PathBuf::from(format!("/nonexistent/{name}")));
        let dir = home.display();
        let (actions, install) = if self.home.is_some() {
            ("\"service.*\", \"artifact.*\"", format!("install = [\"{dir}/{APP}\"]\nunsigned = true\n"))
        } else {
            ("\"service.*\"", String::new())
        };
        let text = format!(
            "node = \"{name}\"\ndata_dir = \"{dir}\"\nhelper_socket = \"/nonexistent/{name}/socket\"\n\
             coordinators = [{}]\n[policy]\nactions = [{actions}]\nservices = [\"{SERVICE}\"]\n{install}\
             [limits]\nreserve = \"0B\"\n",
            coordinators.join(", ")
        );
        Config::parse(&text).map_err(|e| format!("{e}"))
    }

    /// One life of the node's agent.
    ///
    /// # Errors
    /// Never: what must not happen goes to the board.
    pub async fn run(self) -> turmoil::Result {
        let (board, name) = (self.board.clone(), self.name.clone());
        if let Err(why) = self.live().await {
            board.broke(format!("the agent of {name} stopped by itself: {why}"));
        }
        Ok(())
    }

    async fn live(self) -> Result<(), String> {
        let settings = Settings::new(self.config()?);
        let store = Durable::open_engine_paced(self.disk.engine(), false, self.pace.clone());
        let journal = Journal::over(store.map_err(|e| e.to_string())?);
        let host: Arc<dyn Host> = Arc::new(self.machine.clone());
        let parts = Parts {
            host: Arc::clone(&host),
            settings: settings.clone(),
            journal,
            installation: format!("installation-{}", self.name),
            facts: Arc::new(NoFacts),
        };
        let shutdown = Shutdown::new();
        let (runner, life) = Runner::start(parts, shutdown.clone()).await.map_err(|e| e.to_string())?;
        self.machine.asks(runner.clone());
        self.trace.say(&self.name, "the agent starts");
        let inside = Inside::new(runner.clone(), host, settings.clone());
        let caller = self.caller.clone();
        let calling: Calling =
            Arc::new(move |address, _| caller.channel(&address.to_string(), ExpectedServer::AnyCoordinator));
        let mut tasks = TaskSet::new(shutdown.clone());
        let facts = Arc::new(NoFacts);
        let live = self.live.clone();
        // A simulated host has no /proc: what this machine's says differs from run to run.
        let page = Arc::new(MetricsPage::new(Collector::at(Path::new("/nonexistent"))));
        let ground = Ground { settings, live, calling, way: inside.way(), facts, page };
        run_on(ground, &mut tasks).map_err(|e| e.to_string())?;
        tasks.spawn("units", inside.units(shutdown.clone()));
        let watching = watch(runner, &self);
        tokio::select! {
            end = tasks.supervise() => Err(format!("{end:?}")),
            ended = life => Err(format!("the runner ended: {ended:?}")),
            () = watching => Err("the runner does not answer".to_owned()),
        }
    }
}

/// Notes how the runner stands, and the highest epoch whenever it differs.
async fn watch(runner: Runner, site: &Site) {
    let (node, epochs) = (&site.name, &site.epochs);
    let mut last = None;
    while let Ok(status) = runner.status().await {
        let epoch = status.highest_epoch.0;
        *site.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        if last != Some(epoch) {
            let at = u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX);
            let seen = EpochSeen { node: node.clone(), at, epoch };
            epochs.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            last = Some(epoch);
        }
        tokio::time::sleep(LOOK).await;
    }
}
