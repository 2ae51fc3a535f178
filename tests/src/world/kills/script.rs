//! What is done in a round of kills, and by whom: a rollout from its request to its end, with everything that people and
//! calendars do to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_proto::v1;

use super::calls::Conductor;
pub use super::calls::NAME;
use crate::world::clients::Desk;
use crate::world::machine::SERVICE;
use crate::world::shelf::{CRASH, FADE, digest};

/// Between two looks at a running rollout.
const LOOK: Duration = Duration::from_millis(250);
/// What a canary is looked at for: longer than a release that fades needs.
const HOLD_S: i64 = 3;

/// What kind of rollout it is, and what comes in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// A release everywhere, one node after the other.
    Plain,
    /// A canary that promotes itself.
    Canary,
    /// A canary that a person promotes.
    Promote,
    /// A ramp.
    Ramp,
    /// A release that does not start, taken back.
    Crash,
    /// A release that ends by itself a little later, taken back.
    Fade,
    /// A release that does not start; the rollout halts and is aborted.
    Halt,
    /// Paused and resumed.
    Pause,
    /// Aborted in the middle.
    Abort,
    /// A freeze comes and goes.
    Freeze,
    /// It waits for a window.
    Window,
    /// Back to the release before.
    Undo,
    /// A restart, no release.
    Restart,
}

impl Script {
    /// All of them: a seed has one.
    pub const ALL: [Self; 13] = [
        Self::Plain,
        Self::Canary,
        Self::Promote,
        Self::Ramp,
        Self::Crash,
        Self::Fade,
        Self::Halt,
        Self::Pause,
        Self::Abort,
        Self::Freeze,
        Self::Window,
        Self::Undo,
        Self::Restart,
    ];

    /// The version that it needs, when not any will do.
    #[must_use]
    pub const fn version(self) -> Option<&'static str> {
        match self {
            Self::Crash | Self::Halt => Some(CRASH),
            Self::Fade => Some(FADE),
            Self::Plain
            | Self::Canary
            | Self::Promote
            | Self::Ramp
            | Self::Pause
            | Self::Abort
            | Self::Freeze
            | Self::Window
            | Self::Undo
            | Self::Restart => None,
        }
    }

    /// How it is cut into waves, and what becomes of a failure.
    fn policy(self) -> (Option<v1::WavePolicy>, v1::OnFailure) {
        use v1::OnFailure as F;
        let hold = Some(prost_types::Duration { seconds: HOLD_S, nanos: 0 });
        let held = Some(v1::WavePolicy { canary: 1, hold, ..Default::default() });
        match self {
            Self::Canary | Self::Crash | Self::Fade => (held, F::Rollback),
            Self::Halt => (held, F::Pause),
            Self::Promote => {
                let promotion = v1::Promotion::Canary as i32;
                (Some(v1::WavePolicy { canary: 1, promotion, ..Default::default() }), F::Abort)
            }
            Self::Ramp => {
                let ramp = vec!["1".to_owned(), "100%".to_owned()];
                (Some(v1::WavePolicy { ramp, ..Default::default() }), F::Rollback)
            }
            Self::Undo | Self::Restart => (None, F::Unspecified),
            Self::Plain | Self::Pause | Self::Abort | Self::Freeze | Self::Window => (None, F::Abort),
        }
    }

    const fn kind(self) -> v1::RollingKind {
        match self {
            Self::Undo => v1::RollingKind::Undo,
            Self::Restart => v1::RollingKind::Restart,
            Self::Plain
            | Self::Canary
            | Self::Promote
            | Self::Ramp
            | Self::Crash
            | Self::Fade
            | Self::Halt
            | Self::Pause
            | Self::Abort
            | Self::Freeze
            | Self::Window => v1::RollingKind::Release,
        }
    }

    pub(super) fn work(self, version: &str) -> v1::WorkSpec {
        let (kind, (waves, on_failure)) = (self.kind(), self.policy());
        let released = kind == v1::RollingKind::Release;
        let rolling = v1::RollingSpec {
            group: SERVICE.to_owned(),
            kind: kind as i32,
            version: if released { version.to_owned() } else { String::new() },
            artifact: if released { digest(version) } else { String::new() },
            waves,
            on_failure: on_failure as i32,
            ..Default::default()
        };
        v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 }
    }
}

/// What is to be done next, and how far it is. The driver and the conductor share it.
#[derive(Debug, Default)]
pub struct Sheet {
    /// What to begin: the round, the script, the version.
    pub next: Option<(u64, Script, &'static str)>,
    /// The rollout's id, once it is known.
    pub operation: Option<String>,
    /// It has ended, by its own word.
    pub ended: Option<String>,
}

/// The sheet. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Order(Arc<Mutex<Sheet>>);

impl Order {
    /// Opens it.
    pub fn sheet(&self) -> MutexGuard<'_, Sheet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conductor {
    /// What is done once, some time after the rollout began.
    async fn interfere(&mut self, script: Script, name: &str) {
        match script {
            Script::Pause => {
                self.pause(500, 5_000).await;
                self.paused(name).await;
                self.pause(500, 2_000).await;
            }
            Script::Abort => {
                self.pause(500, 8_000).await;
                self.aborted(name).await;
            }
            Script::Freeze => {
                self.pause(200, 5_000).await;
                self.frozen(true).await;
                self.pause(500, 2_500).await;
                self.frozen(false).await;
            }
            Script::Window => {
                self.pause(500, 2_000).await;
                self.window(Some("0 8 * * *")).await;
            }
            Script::Plain
            | Script::Canary
            | Script::Promote
            | Script::Ramp
            | Script::Crash
            | Script::Fade
            | Script::Halt
            | Script::Undo
            | Script::Restart => {}
        }
    }

    /// Looks until the rollout has ended, and does what it waits for.
    async fn follow(&mut self, script: Script, name: &str) -> String {
        use v1::OperationState as S;
        loop {
            if let Some(seen) = self.look(name).await {
                match seen.state() {
                    S::Succeeded | S::Failed | S::Canceled | S::RolledBack => {
                        return format!("{:?}", seen.state());
                    }
                    // A person goes on where it halts by itself, or was paused by us.
                    S::Paused if script == Script::Halt => self.aborted(name).await,
                    S::Paused => self.resumed(name).await,
                    _ if seen.wave_states.iter().any(|wave| wave.state() == v1::WaveState::Promotable) => {
                        self.promote(name).await;
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn round(&mut self, number: u64, script: Script, version: &'static str) {
        if script == Script::Window {
            // Not in this season.
            self.window(Some("0 3 1 7 *")).await;
        }
        self.desk.trace.say(NAME, format!("round {number}: {script:?} {version}"));
        let ended = match self.start(script, version).await {
            Some(name) => {
                self.desk.notebook.seen().operations += 1;
                self.desk.trace.say(NAME, format!("round {number} is {name}"));
                self.order.sheet().operation = Some(name.trim_start_matches("operations/").to_owned());
                self.interfere(script, &name).await;
                self.follow(script, &name).await
            }
            None => "never started".to_owned(),
        };
        if script == Script::Window {
            self.window(None).await;
        }
        self.desk.trace.say(NAME, format!("round {number} ended: {ended}"));
        self.order.sheet().ended = Some(ended);
    }

    async fn run(mut self) {
        while !self.desk.notebook.seen().go {
            self.pause(100, 100).await;
        }
        self.declare().await;
        loop {
            let next = self.order.sheet().next.take();
            if let Some((number, script, version)) = next {
                self.round(number, script, version).await;
            }
            self.pause(50, 50).await;
        }
    }
}

/// The conductor's host.
///
/// # Errors
/// Never.
pub async fn host(desk: Desk, order: Order, apps: Vec<(String, String)>, seed: u64) -> turmoil::Result {
    let entropy = Entropy::seeded(seed ^ 0x00c0_4d5c);
    Conductor { desk, order, apps, entropy, requests: 0 }.run().await;
    Ok(())
}
