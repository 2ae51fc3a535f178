//! What the helper must still know after a crash, in sled behind [`Durable`].
//!
//! Job: make an execution's acceptance, INTENT and RESULT, the highest epoch and every obligation durable before what
//! rests on them. Must never: interpret an action, or report a missing record as an empty one.
//!
//! One key for each thing: `m` the journal itself, `e/<id>` an execution, `o/<id>` an obligation, `t/<id>` the tombstone
//! of a confirmed execution, `l/<group>` a lease. A value is a format byte and MessagePack with field names. Format 1 is
//! frozen since 2026-11-21; its bytes are in the tests.

mod records;

use std::path::Path;

use quorate_durable::{Batch, Durable, MemoryDisk, OpenError, Options, Probe, SpaceFloor, StoreError, files};
use quorate_model::session::{Assignment, NodeInstance};
use quorate_model::{
    ActionOutcome, DurationMs, Epoch, ExecutionId, ExecutionState, GroupName, ObligationId, Reason, Timestamp,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::records::{Leased, Owed, OwedConfig, OwedMaintenance, OwedSilence, OwedTraffic};
use super::machine::Digest;
use crate::config::JournalConfig;
use crate::host::RunEvidence;

/// Format of the values written here.
pub const FORMAT: u8 = 1;
const META: &[u8] = b"m";
/// Records read at once; far above what can be there.
const SCAN_MAX: usize = 100_000;

/// Why the journal can not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A read or write failed.
    #[error("the journal failed")]
    Store(#[from] StoreError),
    /// A record is not what this release writes.
    #[error("journal record {key} can not be read: {why}")]
    Record {
        /// Which.
        key: String,
        /// Why.
        why: String,
    },
    /// A file beside it could not be read or written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl JournalError {
    /// Whether it means that what was done before is not known.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Open(error) => error.is_loss(),
            Self::Store(StoreError::Corrupt { .. }) | Self::Record { .. } => true,
            Self::Store(_) | Self::Io { .. } => false,
        }
    }
}

/// What is known of the journal itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Made when the journal was begun.
    pub incarnation: String,
    /// Starts of the helper since then.
    pub starts: u64,
    /// Highest epoch accepted.
    pub highest_epoch: Epoch,
}

/// An execution was about to have its effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// When, wall clock.
    pub at: Timestamp,
    /// When, time since boot.
    pub uptime: DurationMs,
    /// The unit before, for `service.*`.
    #[serde(default)]
    pub evidence: Option<RunEvidence>,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Final, or `UNKNOWN`.
    pub state: ExecutionState,
    /// Why, when it is not good.
    pub reason: Option<Reason>,
    /// What it gave back.
    pub outcome: Option<ActionOutcome>,
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was asked for.
    pub assignment: Assignment,
    /// The instance it works on, as it was known then.
    #[serde(default)]
    pub instance: Option<NodeInstance>,
    /// Digest of the request, lower-case hex.
    pub digest: String,
    /// The kernel's boot id then.
    pub boot_id: String,
    /// It must have begun before this time since boot.
    #[serde(default)]
    pub begin_before: Option<DurationMs>,
    /// When this record was last written, wall clock.
    pub at: Timestamp,
    /// The effect may have begun.
    #[serde(default)]
    pub intent: Option<Intent>,
    /// It is over.
    #[serde(default)]
    pub end: Option<End>,
}

/// The end of a confirmed execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Digest of the request, lower-case hex.
    pub digest: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// How it ended.
    pub state: ExecutionState,
    /// When.
    pub at: Timestamp,
}

/// Everything that was found when opening.
#[derive(Debug, Default)]
pub struct Contents {
    /// Executions by id.
    pub entries: Vec<(ExecutionId, Entry)>,
    /// Tombstones by id.
    pub tombstones: Vec<(ExecutionId, Tombstone)>,
    /// Obligations by id.
    pub owed: Vec<(ObligationId, Owed)>,
    /// Leases by group.
    pub leases: Vec<(GroupName, Leased)>,
}

/// The open journal. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Durable,
    lost: Option<String>,
}

impl Journal {
    /// Opens or begins the journal. `known` says that this host had one before: then a missing one is lost, not new.
    ///
    /// # Errors
    /// [`JournalError`]; see [`JournalError::is_loss`].
    pub fn open(dir: &Path, known: bool, config: &JournalConfig, probe: Probe) -> Result<Self, JournalError> {
        let space = SpaceFloor {
            min_free_bytes: config.min_free_bytes,
            min_free_percent: 0,
            ballast_bytes: config.ballast_bytes,
        };
        let options = Options {
            cache_bytes: config.cache_bytes,
            must_exist: known,
            probe,
            space,
            ..Options::agent(dir)
        };
        Ok(Self { store: Durable::open(options)?, lost: None })
    }

    /// A journal in memory for a helper whose own was lost: reads are answered, changes are refused.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn lost(why: String) -> Result<Self, JournalError> {
        let store = Durable::open_engine(MemoryDisk::new().engine(), false, true)?;
        Ok(Self { store, lost: Some(why) })
    }

    /// A journal over an engine of the caller, for tests.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn in_memory(disk: &MemoryDisk) -> Result<Self, JournalError> {
        Ok(Self { store: Durable::open_engine(disk.engine(), false, true)?, lost: None })
    }

    /// A journal over a store of the caller, for simulations.
    #[must_use]
    pub const fn over(store: Durable) -> Self {
        Self { store, lost: None }
    }

    /// Why the real journal can not be used, when this one stands in for it.
    #[must_use]
    pub fn why_lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Whether there is room for new work.
    ///
    /// # Errors
    /// One sentence.
    pub fn check_space(&self) -> Result<(), String> {
        self.store.check_space().map_err(|e| e.to_string())
    }

    /// Counts this start, and gives the meta record with it; begins a new one when there is none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn begin(&self, fresh_incarnation: &str) -> Result<Meta, JournalError> {
        let mut meta = match self.store.get(META)? {
            Some(bytes) => decode::<Meta>("m", &bytes)?,
            None => Meta { incarnation: fresh_incarnation.to_owned(), ..Meta::default() },
        };
        meta.starts = meta.starts.saturating_add(1);
        self.commit(|batch| put(batch, META, &meta)).await?;
        Ok(meta)
    }

    /// Everything in it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn contents(&self) -> Result<Contents, JournalError> {
        Ok(Contents {
            entries: self.all("e/")?,
            tombstones: self.all("t/")?,
            owed: self.all("o/")?,
            leases: self.all("l/")?,
        })
    }

    /// Accepts an execution: its record and the highest epoch in one batch.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn accept(&self, id: &ExecutionId, entry: &Entry, meta: &Meta) -> Result<(), JournalError> {
        self.commit(|batch| {
            put(batch, META, meta)?;
            put(batch, key("e/", id.as_str()).as_slice(), entry)
        })
        .await
    }

    /// Writes an execution: its INTENT before the effect, its RESULT before the report.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn write(&self, id: &ExecutionId, entry: &Entry) -> Result<(), JournalError> {
        self.commit(|batch| put(batch, key("e/", id.as_str()).as_slice(), entry)).await
    }

    /// Replaces a confirmed execution by its tombstone.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn bury(&self, id: &ExecutionId, stone: &Tombstone) -> Result<(), JournalError> {
        self.commit(|batch| {
            batch.delete(&key("e/", id.as_str())).map_err(limit)?;
            put(batch, key("t/", id.as_str()).as_slice(), stone)
        })
        .await
    }

    /// Removes a tombstone.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn drop_tombstone(&self, id: &ExecutionId) -> Result<(), JournalError> {
        self.commit(|batch| batch.delete(&key("t/", id.as_str())).map(|_| ()).map_err(limit)).await
    }

    /// Writes an obligation.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn owe(&self, id: &ObligationId, owed: &Owed) -> Result<(), JournalError> {
        self.commit(|batch| put(batch, key("o/", id.as_str()).as_slice(), owed)).await
    }

    /// Writes a lease.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn lease(&self, group: &GroupName, leased: &Leased) -> Result<(), JournalError> {
        self.commit(|batch| put(batch, key("l/", group.as_str()).as_slice(), leased)).await
    }

    /// Removes an obligation that was paid and reported.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn forget_owed(&self, id: &ObligationId) -> Result<(), JournalError> {
        self.commit(|batch| batch.delete(&key("o/", id.as_str())).map(|_| ()).map_err(limit)).await
    }

    /// Writes what is under way and closes. Blocks for one barrier.
    pub fn close(&self) {
        self.store.close();
    }

    async fn commit(
        &self,
        fill: impl FnOnce(&mut Batch) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut batch = Batch::new();
        fill(&mut batch)?;
        self.store.commit(batch).await?;
        Ok(())
    }

    fn all<Id, T>(&self, prefix: &'static str) -> Result<Vec<(Id, T)>, JournalError>
    where
        Id: TryFrom<String, Error = quorate_model::id::InvalidName>,
        T: DeserializeOwned,
    {
        let last = key(prefix, "\u{7f}");
        let mut found = Vec::new();
        for (name, bytes) in self.store.scan(prefix.as_bytes().to_vec()..=last, SCAN_MAX)? {
            let text = String::from_utf8_lossy(&name).into_owned();
            let bad = |why: String| JournalError::Record { key: text.clone(), why };
            let id = text.strip_prefix(prefix).unwrap_or_default().to_owned();
            let id = Id::try_from(id).map_err(|e| bad(e.to_string()))?;
            found.push((id, decode(&text, &bytes)?));
        }
        Ok(found)
    }
}

fn key(prefix: &str, id: &str) -> Vec<u8> {
    format!("{prefix}{id}").into_bytes()
}

fn limit(error: quorate_durable::LimitError) -> JournalError {
    JournalError::Record { key: "batch".to_owned(), why: error.to_string() }
}

fn put<T: Serialize>(batch: &mut Batch, key: &[u8], value: &T) -> Result<(), JournalError> {
    let bytes = encode(value)
        .map_err(|why| JournalError::Record { key: String::from_utf8_lossy(key).into_owned(), why })?;
    batch.put_large(key, &bytes).map(|_| ()).map_err(limit)
}

/// A value as it is stored.
///
/// # Errors
/// When it can not be expressed, which no value of ours is.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = vec![FORMAT];
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A value as it was stored.
///
/// # Errors
/// [`JournalError::Record`] for another format, or bytes that are none.
pub fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, JournalError> {
    let bad = |why: String| JournalError::Record { key: key.to_owned(), why };
    match bytes.split_first() {
        Some((&FORMAT, rest)) => rmp_serde::from_slice(rest).map_err(|e| bad(e.to_string())),
        Some((other, _)) => Err(bad(format!("it has format {other}, this release knows {FORMAT}"))),
        None => Err(bad("it is empty".to_owned())),
    }
}

/// Lower-case hex of a digest.
#[must_use]
pub fn digest_hex(digest: &Digest) -> String {
    crate::host::exec::hex(digest)
}

/// The digest of a hex text; all zeros, which no request has, for anything else.
#[must_use]
pub fn digest_of(text: &str) -> Digest {
    let mut digest = [0_u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return digest;
    }
    for (slot, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let byte = std::str::from_utf8(pair).ok().and_then(|t| u8::from_str_radix(t, 16).ok());
        *slot = byte.unwrap_or(0);
    }
    digest
}

/// Reads the marker of this installation, or makes it: 32 hex digits in `<dir>/installation`. `true` when it was there.
///
/// # Errors
/// [`JournalError::Io`].
pub fn installation(dir: &Path) -> Result<(String, bool), JournalError> {
    let path = dir.join("installation");
    let io = |what: &str| {
        let what = format!("cannot {what} {}", path.display());
        move |source| JournalError::Io { what, source }
    };
    // 32 digits and a line break; anything longer is not ours.
    if let Some(bytes) = files::read_limited(&path, 64).map_err(io("read"))? {
        return Ok((String::from_utf8_lossy(&bytes).trim().to_owned(), true));
    }
    Ok((uuid::Uuid::new_v4().simple().to_string(), false))
}

/// Stores the marker, once the journal exists.
///
/// # Errors
/// [`JournalError::Io`].
pub fn mark_installation(dir: &Path, installation: &str) -> Result<(), JournalError> {
    let path = dir.join("installation");
    files::write_atomic(&path, format!("{installation}\n").as_bytes())
        .map_err(|source| JournalError::Io { what: format!("cannot write {}", path.display()), source })
}

#[cfg(test)]
mod tests;
