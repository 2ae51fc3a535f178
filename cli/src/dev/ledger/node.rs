//! One running instance: its shared state and the tasks that move it.
//!
//! Lock order: `writes`, then `view` or `store`; `view` and `store` are never held together nor across an await.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hyper::Method;
use hyper::body::Bytes;

use super::config::{LedgerConfig, Misbehave, PeerConfig};
use super::logfile::LogFile;
use super::metrics::Metrics;
use super::record::{self, Decoded, Version};
use super::store::{Store, StoreError};
use super::tls::Shown;
use super::token::Tokens;
use super::view::{Report, Standing, Status, View};
use crate::dev::http::{Call, CallError};

/// How often a peer is polled and the instance looks at itself.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// Deadline of one poll: three silent ones make a peer down, after about a second.
const POLL_TIMEOUT: Duration = Duration::from_millis(300);
/// Deadline of an announcement; a peer that misses it learns by its next poll.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(300);
/// Deadline of one page of records.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of records asked for at a time; many pages make a whole.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// A learner's pretended lag falls by one in this many milliseconds.
const LAG_UNIT_MS: u64 = 10;
/// The lag shown by an instance that never catches up.
const STUCK_LAG: u64 = 1000;

/// Everything the tasks and the handlers share.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: LedgerConfig,
    pub(super) log: LogFile,
    pub(super) metrics: Metrics,
    /// What is shown over TLS, where it is.
    pub(super) shown: Option<Shown>,
    /// Who may write.
    pub(super) tokens: Tokens,
    /// One write at a time, from its sequence number to the last copy.
    pub(super) writes: tokio::sync::Mutex<()>,
    view: Mutex<View>,
    store: Arc<Mutex<Store>>,
    misbehave: Mutex<Misbehave>,
    started: Instant,
    generation: u64,
    changes: AtomicU64,
    stopping: AtomicBool,
    bad_misbehave: AtomicBool,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(super) fn new(
        config: LedgerConfig,
        log: LogFile,
        store: Store,
        standing: Standing,
        misbehave: Misbehave,
        (shown, tokens): (Option<Shown>, Tokens),
    ) -> Self {
        let view = View::new(config.id, config.peers.iter().map(|peer| peer.id), standing)
            .with_members(&config.members);
        Self {
            config,
            log,
            metrics: Metrics::default(),
            shown,
            tokens,
            writes: tokio::sync::Mutex::new(()),
            view: Mutex::new(view),
            store: Arc::new(Mutex::new(store)),
            misbehave: Mutex::new(misbehave),
            started: Instant::now(),
            generation: u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0),
            changes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            bad_misbehave: AtomicBool::new(false),
        }
    }

    /// Looks at the group under the lock.
    pub(super) fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&guard(&self.view))
    }

    /// Changes the group's picture; a changed standing is written down before anybody hears of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = guard(&self.view);
        let before = view.standing;
        let out = change(&mut view);
        if view.standing != before
            && let Err(error) = save_standing(&self.standing_path(), &view.standing)
        {
            self.log.line("ERROR", &format!("cannot save {}: {error}", self.standing_path().display()));
        }
        out
    }

    /// Works on the store beside the async threads: an fsync may take long.
    pub(super) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&mut guard(&store))).await {
            Ok(out) => out,
            Err(error) => match error.try_into_panic() {
                // Passed on as it is.
                Ok(panic) => std::panic::resume_unwind(panic),
                // Canceled: the runtime ends, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    pub(super) fn misbehave(&self) -> Misbehave {
        guard(&self.misbehave).clone()
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.change(|view| view.status = Status::Down);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) async fn report(&self) -> Report {
        let head = self.store(|store| store.head()).await;
        let change = self.changes.fetch_add(1, Ordering::SeqCst);
        self.look(|view| Report {
            node_id: self.config.id,
            generation: self.generation,
            change,
            status: view.status,
            lag: view.lag,
            standing: view.standing,
            head,
        })
    }

    pub(super) fn peer_config(&self, id: u32) -> Option<&PeerConfig> {
        self.config.peers.iter().find(|peer| peer.id == id)
    }

    /// Ids, nodes and addresses of all members, this one included.
    pub(super) fn members(&self) -> BTreeMap<u32, (&str, SocketAddr)> {
        let own = (self.config.id, (self.config.node.as_str(), self.config.at()));
        let peers = self.config.peers.iter().map(|peer| (peer.id, (peer.node.as_str(), peer.at())));
        peers.chain(std::iter::once(own)).collect()
    }

    fn standing_path(&self) -> PathBuf {
        self.config.store_dir().join("standing.json")
    }

    /// Tells every peer this instance's report and takes over their answers. Returns who answered.
    pub(super) async fn announce(&self, report: &Report) -> Vec<u32> {
        let Ok(body) = serde_json::to_vec(report) else { return Vec::new() };
        let body = Bytes::from(body);
        let calls = self.config.peers.iter().map(|peer| {
            let call = Call::new(Method::POST, peer.at(), "/cluster/announce", ANNOUNCE_TIMEOUT)
                .header("content-type", "application/json")
                .body(body.clone());
            async move { (peer.id, call.send().await) }
        });
        let mut heard = Vec::new();
        for (id, answer) in join_all(calls).await {
            if self.take_answer(id, answer) {
                heard.push(id);
            }
        }
        heard
    }

    fn take_answer(&self, id: u32, answer: Result<(hyper::StatusCode, Bytes), CallError>) -> bool {
        let report = match &answer {
            Ok((status, body)) if status.is_success() => serde_json::from_slice::<Report>(body).ok(),
            Ok(_) | Err(_) => None,
        };
        match report.filter(|report| report.node_id == id) {
            Some(report) => {
                self.change(|view| view.heard(report));
                true
            }
            None => {
                let refused = matches!(answer, Err(CallError::Refused(_)));
                self.change(|view| view.missed(id, refused));
                false
            }
        }
    }

    /// Polls one peer for ever.
    pub(super) async fn poll_peer(self: Arc<Self>, id: u32, to: SocketAddr) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let answer = Call::new(Method::GET, to, "/cluster/self", POLL_TIMEOUT).send().await;
            self.take_answer(id, answer);
            if !self.stopping() && self.change(View::claim) {
                let report = self.report().await;
                self.log.line("INFO", &format!("leader of term {}", report.standing.term));
                self.announce(&report).await;
            }
        }
    }

    /// Moves this instance through its life, for ever: starting, learner, voter, and what the tests ask for.
    pub(super) async fn live(self: Arc<Self>) {
        // Four times the poll rate: the delays of a start are short and should be kept to.
        let mut tick = tokio::time::interval(POLL / 4);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.stopping() {
                return;
            }
            self.reread_misbehave();
            let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (next, lag) =
                next_status(self.look(|view| view.status), elapsed_ms, &self.config, &self.misbehave());
            // Who is no member has caught up for nothing: it serves nobody.
            let serves = next != Status::Serving || self.look(|view| view.is_member(self.config.id));
            let (next, lag) = if serves { (next, lag) } else { (Status::CatchingUp, 1) };
            self.enter(next, lag).await;
        }
    }

    async fn enter(&self, next: Status, lag: u64) {
        let now = self.look(|view| view.status);
        if next == Status::Serving && now != Status::Serving {
            if !self.synced().await {
                self.change(|view| (view.status, view.lag) = (Status::CatchingUp, 1));
                return;
            }
            // The peers hear it first: whoever sees this instance as a voter here sees it so everywhere.
            let mut report = self.report().await;
            (report.status, report.lag) = (Status::Serving, 0);
            self.announce(&report).await;
        }
        if self.stopping() {
            return;
        }
        self.change(|view| (view.status, view.lag) = (next, lag));
        if now != next {
            self.log.line("INFO", &format!("{now:?} -> {next:?}"));
        }
    }

    /// Takes over the misbehaviour asked for now.
    pub(super) fn reread_misbehave(&self) {
        match self.config.misbehave_now() {
            Ok(now) => {
                *guard(&self.misbehave) = now;
                self.bad_misbehave.store(false, Ordering::SeqCst);
            }
            // It may be half written; what was asked last holds until it can be read.
            Err(error) => {
                if !self.bad_misbehave.swap(true, Ordering::SeqCst) {
                    self.log.line("WARN", &format!("{:#}", anyhow::Error::from(error)));
                }
            }
        }
    }

    /// Copies what the furthest peer has and this instance lacks. True when nothing is left to copy.
    pub(super) async fn synced(&self) -> bool {
        loop {
            let own = self.store(|store| store.head()).await;
            let Some(peer) = self.furthest_peer(own) else { return true };
            match self.pull(peer, own).await {
                Ok(true) => {}
                // The peer claims a newer head but has nothing to give: ask again at the next tick.
                Ok(false) => return false,
                Err(error) => {
                    self.log.line("WARN", &format!("cannot copy from {peer}: {error:#}"));
                    return false;
                }
            }
        }
    }

    fn furthest_peer(&self, own: Version) -> Option<SocketAddr> {
        self.look(|view| {
            let ahead = view.peers().filter(|report| report.head > own);
            let best = ahead.max_by_key(|report| report.head)?;
            self.peer_config(best.node_id).map(PeerConfig::at)
        })
    }

    async fn pull(&self, to: SocketAddr, after: Version) -> anyhow::Result<bool> {
        let path = format!("/replica/log?term={}&seq={}", after.term, after.seq);
        let (status, body) = Call::new(Method::GET, to, path, SYNC_TIMEOUT).send().await?;
        anyhow::ensure!(status.is_success(), "status {status}");
        let stored = self.store(move |store| store_frames(store, &body)).await?;
        Ok(stored > 0)
    }
}

/// Decodes and appends a page of records; a damaged page is refused from its first bad record on.
pub(super) fn store_frames(store: &mut Store, mut frames: &[u8]) -> anyhow::Result<usize> {
    let mut stored = 0;
    while !frames.is_empty() {
        let Decoded::Record(record, len) = record::decode(frames) else {
            anyhow::bail!("damaged record in the answer");
        };
        frames = &frames[len..];
        if record.version > store.head() {
            store.append(record).map_err(|error: StoreError| anyhow::Error::from(error))?;
            stored += 1;
        }
    }
    Ok(stored)
}

/// The status that time and the wanted misbehaviour call for. Pure.
pub(super) fn next_status(
    now: Status,
    elapsed_ms: u64,
    config: &LedgerConfig,
    misbehave: &Misbehave,
) -> (Status, u64) {
    let starting_ms = config.starting_ms.max(misbehave.slow_start_ms.unwrap_or(0));
    let caught_up_ms = starting_ms.saturating_add(config.catch_up_ms);
    if misbehave.unhealthy_after_ms.is_some_and(|after| elapsed_ms >= after) {
        return (Status::Down, 0);
    }
    if now == Status::Serving {
        return (Status::Serving, 0);
    }
    if elapsed_ms < starting_ms {
        return (Status::Starting, 0);
    }
    if misbehave.never_catch_up {
        return (Status::CatchingUp, STUCK_LAG);
    }
    if elapsed_ms < caught_up_ms {
        return (Status::CatchingUp, (caught_up_ms - elapsed_ms).div_ceil(LAG_UNIT_MS));
    }
    (Status::Serving, 0)
}

/// Writes the standing whole or not at all.
fn save_standing(path: &std::path::Path, standing: &Standing) -> std::io::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(standing)?)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
