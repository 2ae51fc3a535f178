//! The one door to sled: durable batches of small records.
//!
//! **Job.** Keep bytes under keys so that what was acknowledged survives a power cut, and so that bytes which did not
//! survive are noticed before anyone acts on them.
//!
//! **Invariants.**
//! - [`Durable::commit`] returns only after `apply_batch`, `flush` and `fdatasync` of sled's own data file. sled 0.34
//!   alone flushes with `sync_file_range`, which survives a killed process but not a power cut.
//! - A batch is there completely or not at all.
//! - Every record carries a version byte, its length and a CRC32C over key and value; a record that fails the check is
//!   an error, never a missing key. Totals over all records, kept in each batch and checked when opening, find records
//!   that are missing or old although each of them is sound.
//! - No stored value exceeds 4 KiB ([`MAX_STORED`]): larger ones make sled spill to blob files, which are not covered
//!   by the barrier. [`Batch::put_large`] cuts them into chunks with a manifest, in the same batch.
//! - A failed `fdatasync` ends the process. The kernel may have dropped the dirty pages and marked them clean, so a
//!   second, successful call proves nothing.
//! - A store that is missing, damaged, or behind its high-water mark does not open. It is moved aside and the caller
//!   gets an [`OpenError`]; what that means (rejoin, operator reset) is the caller's business.
//!
//! **Must never** interpret keys or values, keep a second copy of the truth, or retry a failed barrier.
//!
//! A directory `D` has neighbors of the same name: `D.lock` (one process only), `D.hw` (the high-water mark), `D.ballast`
//! (space given back when the disk is full), `D.failures` (what went wrong lately), and `D.new` while it is made. They lie
//! beside and not inside, so that restoring an old copy of `D` cannot bring an old high-water mark with it.

mod batch;
mod counters;
mod engine;
mod error;
pub mod failures;
pub mod files;
mod highwater;
mod lock;
mod memory;
mod open;
mod options;
mod probe;
mod read;
mod record;
mod sled_engine;
mod space;
mod store;
mod writer;

pub use batch::{Batch, MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_KEY, MAX_LARGE, MAX_VALUE};
pub use counters::CounterValues;
pub use engine::{Change, Engine, EngineError, Pair, SyncError};
pub use error::{LimitError, OpenError, StoreError};
pub use highwater::{HighWater, MARKS};
pub use memory::MemoryDisk;
pub use open::{forget, high_water_path, in_use};
pub use options::{Options, Probe, SpaceFloor};
pub use probe::{PROBE_ARGUMENT, probe_main};
pub use record::MAX_STORED;
pub use space::{LowSpace, SpaceUse, space_use};
pub use store::Durable;
pub use writer::Pace;
