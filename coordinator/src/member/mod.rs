//! One member as a process: made by `init` or `join`, run by `serve`.
//!
//! Job: put the parts together in one place and end the process with the right code when one of them ends. Must never:
//! start a store that is not this member's, serve before its listeners hold their limits, or keep running after a storage
//! error (R8).

mod admit;
mod allow;
mod backend;
mod birth;
mod clock;
mod dial;
mod forward;
mod ground;
mod parts;
mod refound;
mod renew;
mod serve;
mod steady;

pub use birth::{BirthError, init, join, rejoin};
pub use clock::WrongClock;
pub use ground::{Clock, Ground, SystemClock};
pub use parts::Member;
pub use refound::{Recovered, RefoundError, Survivor, position, recover, restore};
pub use serve::{ServeError, serve};

use std::path::PathBuf;

use self::clock::now;
use crate::config::Config;
use crate::store::{StoreDirs, StoreOptions};

/// Where a member keeps its certificates and the CA.
fn tls_dir(config: &Config) -> PathBuf {
    config.data_dir.join("tls")
}

fn store_dirs(config: &Config) -> StoreDirs {
    StoreDirs::new(config.data_dir.join("raft"))
}

fn store_options(config: &Config) -> StoreOptions {
    let mut options = StoreOptions { cache_bytes: config.cache_bytes, ..StoreOptions::default() };
    options.space.min_free_bytes = config.min_free_bytes;
    options.space.min_free_percent = config.min_free_percent;
    options.space.ballast_bytes = config.ballast_bytes;
    options
}
