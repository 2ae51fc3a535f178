//! One instance at work: writes one after the other, and the stream from the primary to its standby.
//!
//! The standby asks for what follows its last line, and by asking says that it has that line on disk: this is what a primary
//! waits for before it acknowledges a write.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, watch};

use super::config::PairConfig;
use super::record::{self, Record};
use super::store::{Role, Standing, Store};
use crate::dev::http::Call;

/// How long a question for more lines is held open when there are none.
pub(super) const HELD: Duration = Duration::from_millis(500);
/// A peer that was silent for longer is not there.
const HEARD: Duration = Duration::from_secs(2);
/// How long a write waits until the standby has it.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);
/// Between two tries of a standby to reach its primary.
const RETRY: Duration = Duration::from_millis(100);
/// Most lines of one answer: about a MiB.
pub(super) const LINES_MAX: usize = 1_000;

/// Who wrote, in the answers of a stream.
pub(super) const NODE: &str = "x-node";
/// The epoch that somebody believes in.
pub(super) const EPOCH: &str = "x-epoch";
/// The last sequence number of a primary.
pub(super) const POSITION: &str = "x-position";

/// Microseconds since this machine started, those it slept in included.
pub(super) fn boot_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1_000)
}

/// The last word of the other one.
#[derive(Debug, Clone)]
struct Heard {
    node: String,
    at: Instant,
    position: u64,
}

/// What can be told without waiting for the disk.
#[derive(Debug)]
struct View {
    standing: Standing,
    last: u64,
    heard: Option<Heard>,
    /// The primary does not have this standby's last line.
    diverged: bool,
}

/// Why a write was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("this is a standby")]
    Standby,
    #[error("the epoch here is {0}")]
    Epoch(u64),
    #[error("outcome unknown: the standby does not say that it has line {0}")]
    Unconfirmed(u64),
    #[error("{0:#}")]
    Broken(anyhow::Error),
}

/// A write that is on disk wherever it has to be.
#[derive(Debug, serde::Serialize)]
pub(super) struct Written {
    pub(super) node: String,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// The standby has it too.
    pub(super) standby: bool,
}

/// One question of a standby.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Ask {
    node: String,
    /// The newest epoch it knows.
    epoch: u64,
    /// Its last line, and the epoch of it.
    after: u64,
    of: u64,
}

/// One instance.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: PairConfig,
    /// It acknowledges alone whenever the standby does not answer.
    asynchronous: bool,
    /// Held for a whole write, its confirmation included.
    writes: tokio::sync::Mutex<()>,
    /// Held while the disk is used. Always taken after `writes`.
    store: Arc<tokio::sync::Mutex<Store>>,
    view: Mutex<View>,
    /// The last line here.
    grew: watch::Sender<u64>,
    /// The last line that the standby has.
    confirmed: watch::Sender<u64>,
    /// What this process accepted.
    accepted: Mutex<File>,
}

impl Node {
    pub(super) fn new(config: PairConfig, asynchronous: bool) -> anyhow::Result<Self> {
        let first = if config.first { Role::Primary } else { Role::Standby };
        let store = Store::open(&config.data_dir, first)?;
        let name = format!("accepted-{}-{}.log", boot_us(), std::process::id());
        let accepted = File::create(config.data_dir.join(name)).context("cannot keep what is accepted")?;
        let (standing, last) = (store.standing().clone(), store.last());
        Ok(Self {
            config,
            asynchronous,
            writes: tokio::sync::Mutex::default(),
            store: Arc::new(tokio::sync::Mutex::new(store)),
            view: Mutex::new(View { standing, last, heard: None, diverged: false }),
            grew: watch::channel(last).0,
            confirmed: watch::channel(0).0,
            accepted: Mutex::new(accepted),
        })
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        self.view().standing.clone()
    }

    /// Uses the disk; afterwards everybody sees what became of it.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let store: OwnedMutexGuard<Store> = Arc::clone(&self.store).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let mut store = store;
            let result = work(&mut store);
            (store, result)
        });
        let (store, result) = done.await?;
        {
            let mut view = self.view();
            (view.standing, view.last) = (store.standing().clone(), store.last());
        }
        self.grew.send_if_modified(|last| std::mem::replace(last, store.last()) != store.last());
        result
    }

    /// Accepts one write, or says why not.
    pub(super) async fn write(
        &self,
        key: String,
        value: String,
        believed: Option<u64>,
    ) -> Result<Written, Refused> {
        let _turn = self.writes.lock().await;
        let Standing { role, epoch, .. } = self.standing();
        if believed.is_some_and(|believed| believed != epoch) {
            return Err(Refused::Epoch(epoch));
        }
        if role != Role::Primary {
            return Err(Refused::Standby);
        }
        let began = boot_us();
        let append = move |store: &mut Store| {
            let sequence = store.last() + 1;
            store.append(&[Record { epoch, sequence, key, value, at: began }])?;
            Ok(sequence)
        };
        let sequence = self.with_store(append).await.map_err(Refused::Broken)?;
        let standby = self.confirmed(sequence).await;
        if !standby && !self.asynchronous && !self.standing().alone {
            return Err(Refused::Unconfirmed(sequence));
        }
        let line = format!("{epoch} {sequence} {began} {}\n", boot_us());
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.write_all(line.as_bytes()).map_err(|error| Refused::Broken(error.into()))?;
        Ok(Written { node: self.config.node.clone(), epoch, sequence, standby })
    }

    /// Waits until the standby has a line. One that is not there is waited for only by who may not go on without it.
    async fn confirmed(&self, sequence: u64) -> bool {
        let may_go_on = self.asynchronous || self.standing().alone;
        if may_go_on && self.heard().is_none() {
            return false;
        }
        let mut confirmed = self.confirmed.subscribe();
        let reached = confirmed.wait_for(|last| *last >= sequence);
        tokio::time::timeout(CONFIRM_LIMIT, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    fn heard(&self) -> Option<Heard> {
        self.view().heard.clone().filter(|heard| heard.at.elapsed() < HEARD)
    }

    fn hear(&self, node: &str, position: u64) {
        self.view().heard = Some(Heard { node: node.to_owned(), at: Instant::now(), position });
    }

    /// What follows a standby's last line, once there is something; the error is a status and a reason.
    pub(super) async fn lines(&self, ask: &Ask) -> Result<(Standing, u64, String), (StatusCode, String)> {
        let standing = self.standing();
        if standing.role != Role::Primary {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "this is a standby".to_owned()));
        }
        if ask.epoch > standing.epoch {
            let why =
                format!("{} knows epoch {}, this primary is of {}", ask.node, ask.epoch, standing.epoch);
            return Err((StatusCode::PRECONDITION_FAILED, why));
        }
        if self.store.lock().await.epoch_at(ask.after) != Some(ask.of) {
            let why = format!("line {} of epoch {} is not in this log", ask.after, ask.of);
            return Err((StatusCode::CONFLICT, why));
        }
        self.hear(&ask.node, ask.after);
        self.confirmed.send_if_modified(|last| {
            let more = ask.after > *last;
            *last = ask.after.max(*last);
            more
        });
        self.end_alone(ask.after).await;
        let mut grew = self.grew.subscribe();
        // Nothing for a while is an answer too: it says that the primary is there.
        let _ = tokio::time::timeout(HELD, grew.wait_for(|last| *last > ask.after)).await;
        let store = self.store.lock().await;
        let text = store.after(ask.after, LINES_MAX).iter().map(|record| format!("{record}\n")).collect();
        Ok((store.standing().clone(), store.last(), text))
    }

    /// Who was told to go on alone does so until a standby has everything. No write is half way through then: the next one waits
    /// for the standby.
    async fn end_alone(&self, has: u64) {
        let Ok(_turn) = self.writes.try_lock() else { return };
        let (standing, last) = (self.standing(), self.view().last);
        if !standing.alone || has < last {
            return;
        }
        let together = Standing { alone: false, ..standing };
        match self.with_store(move |store| store.set_standing(together)).await {
            Ok(()) => say("the standby has everything: no write is acknowledged without it any more"),
            Err(error) => say(&format!("cannot leave being alone: {error:#}")),
        }
    }

    /// Makes this the primary of an epoch; told again it changes nothing. The error says why not.
    pub(super) async fn promote(&self, epoch: u64, alone: bool) -> anyhow::Result<Standing> {
        let _turn = self.writes.lock().await;
        let promote = move |store: &mut Store| {
            let now = store.standing();
            let done = now.role == Role::Primary && now.epoch == epoch;
            if !done && epoch <= now.epoch {
                anyhow::bail!("epoch {epoch} is not above {}, the newest that was seen here", now.epoch);
            }
            let alone = alone || (done && now.alone);
            store.set_standing(Standing { role: Role::Primary, epoch, alone, follows: None })?;
            Ok(store.standing().clone())
        };
        let standing = self.with_store(promote).await?;
        say(&format!("primary of epoch {epoch}"));
        Ok(standing)
    }

    /// Follows the primary as long as this is a standby.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut told = String::new();
        while self.standing().role == Role::Standby {
            if let Err(error) = self.once().await {
                let text = format!("{error:#}");
                if text != told {
                    say(&text);
                    told = text;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn once(&self) -> anyhow::Result<()> {
        let standing = self.standing();
        let (after, of) = {
            let store = self.store.lock().await;
            (store.last(), store.epoch_at(store.last()).unwrap_or(0))
        };
        let to = standing.follows.unwrap_or_else(|| self.config.peer());
        let (node, epoch) = (&self.config.node, standing.epoch);
        let path = format!("/log?node={node}&epoch={epoch}&after={after}&of={of}");
        let (status, headers, body) = Call::new(Method::GET, to, path, HELD * 3).send_for_headers().await?;
        let text = String::from_utf8_lossy(&body);
        self.view().diverged = status == StatusCode::CONFLICT;
        anyhow::ensure!(status == StatusCode::OK, "{to}: {status}: {text}");
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name| header(name).and_then(|text| text.parse::<u64>().ok());
        let (Some(primary), Some(epoch), Some(position)) = (header(NODE), number(EPOCH), number(POSITION))
        else {
            anyhow::bail!("{to} does not say who it is");
        };
        let records = record::parse_all(&text).map_err(|line| anyhow::anyhow!("{line:?} is no line"))?;
        self.with_store(move |store| {
            let standing = store.standing().clone();
            // Between the question and the answer somebody may have promoted this one.
            anyhow::ensure!(standing.role == Role::Standby, "this is no standby any more");
            anyhow::ensure!(epoch >= standing.epoch, "a primary of epoch {epoch} is an old one");
            store.set_standing(Standing { epoch, ..standing })?;
            store.append(&records)
        })
        .await?;
        self.hear(primary, position);
        Ok(())
    }

    /// What a membership probe reads: this one, and the other one while it is there.
    pub(super) fn status(&self) -> Value {
        let heard = self.heard();
        let view = self.view();
        let primary = view.standing.role == Role::Primary;
        // What the primary had when it was heard last is still what a standby lacks.
        let lag =
            if primary { Some(0) } else { view.heard.as_ref().map(|h| h.position.saturating_sub(view.last)) };
        let mut members = vec![json!({
            "node": self.config.node,
            "role": view.standing.role,
            "serving": !view.diverged,
            "position": view.last,
            "lag": lag,
        })];
        members.extend(heard.map(|heard| {
            json!({
                "node": heard.node,
                "role": if primary { Role::Standby } else { Role::Primary },
                "serving": true,
                "position": heard.position,
                "lag": if primary { view.last.saturating_sub(heard.position) } else { 0 },
            })
        }));
        json!({
            "node": self.config.node,
            "epoch": view.standing.epoch,
            "alone": view.standing.alone,
            "members": members,
        })
    }

    pub(super) fn is_diverged(&self) -> bool {
        self.view().diverged
    }

    /// What a former primary needs to find the last common line.
    pub(super) async fn outline(&self) -> super::Outlined {
        let store = self.store.lock().await;
        let Standing { role, epoch, .. } = *store.standing();
        super::Outlined { node: self.config.node.clone(), role, epoch, outline: store.outline() }
    }

    /// The newest value of a key.
    pub(super) async fn read(&self, key: &str) -> Option<Record> {
        self.store.lock().await.records().iter().rev().find(|record| record.key == key).cloned()
    }
}

/// One line of what happens, for whoever keeps this process's output.
pub(super) fn say(text: &str) {
    eprintln!("{} pair: {text}", jiff::Timestamp::now());
}
