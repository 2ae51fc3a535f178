//! One file per noun: reads flags, calls the API, hands the answer to `render`.
//!
//! Must never: decide what is safe; a client asks. Every function returns the exit code of the contract.

pub mod action;
pub mod apply;
pub mod approval;
pub mod artifact;
pub mod audit;
pub mod backup;
pub mod cluster;
pub mod config;
pub mod context;
pub mod diff;
pub mod explain;
pub mod failover;
pub mod freeze;
pub mod group;
pub mod log;
pub mod node;
pub mod operation;
pub mod policy;
pub mod quorum;
pub mod rollout;
pub mod run;
pub mod schedule;
pub mod schema;
pub mod service;
pub mod snapshot;
pub mod status;
pub mod token;
pub mod window;

use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;

/// What every command gets.
pub struct Ctx {
    /// Flags of every command.
    pub global: Global,
}

impl Ctx {
    /// Connects.
    ///
    /// # Errors
    /// When the context cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.global)
    }
}

/// Exit code of a command, or why it failed.
pub type Outcome = Result<u8, Failure>;

/// Collects every page of a list, up to a limit. `page(token, size)` gives the items and the next token.
///
/// # Errors
/// What a page gives.
pub async fn pages<T, F, Fut>(limit: Option<u32>, mut page: F) -> Result<(Vec<T>, String), Failure>
where
    F: FnMut(String, u32) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    /// Pages of one call; with 200 a page, 200,000 things.
    const MAX_PAGES: usize = 1_000;
    let mut all = Vec::new();
    let mut token = String::new();
    for _ in 0..MAX_PAGES {
        let left = limit.map(|l| l.saturating_sub(u32::try_from(all.len()).unwrap_or(u32::MAX)));
        let (items, next) = page(token, left.unwrap_or(0).min(1_000)).await?;
        all.extend(items);
        token = next;
        let full = limit.is_some_and(|l| all.len() >= l as usize);
        if token.is_empty() || full {
            break;
        }
    }
    Ok((all, token))
}
