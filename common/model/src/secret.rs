//! Secrets of a service: where one lies on a host, where the next one comes from, and what shows that it is used.
//!
//! Must never: hold a secret, or anything made of one. What travels and is stored are places and names; the content is read
//! and written by the host alone.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::config::ConfigApply;
use crate::id::{HookName, SecretName};
use crate::time::DurationMs;

/// Most secrets of one service.
pub const SECRETS_MAX: usize = 16;
/// Largest secret in bytes: a PEM bundle of a chain and its key is far smaller.
pub const SECRET_MAX_BYTES: u64 = 64 * 1024;
/// Shortest time in which both secrets are valid everywhere.
pub const GRACE_MIN: DurationMs = DurationMs::from_secs(1);
/// Longest time in which both secrets are valid: 90 days.
pub const GRACE_MAX: DurationMs = DurationMs::from_secs(90 * 24 * 3_600);

/// Where the next secret of a host comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A file that the operator's own tool has put on the host; absolute, `${…}` variables allowed.
    Candidate(String),
    /// A hook of the host that writes one into the file it is given.
    Generate(HookName),
}

/// One secret of a service. The host's own policy must allow its places and its hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Its name in the service.
    pub name: SecretName,
    /// The secret in use; absolute, `${…}` variables allowed.
    pub file: String,
    /// The one before it, which the service accepts as well; absolute, `${…}` variables allowed.
    pub previous: String,
    /// Where the next one comes from.
    pub source: SecretSource,
    /// The hook of the host that is given the file and shows that the service works with it.
    pub confirm: HookName,
    /// What makes the service read both files again.
    pub apply: ConfigApply,
    /// How long both are valid after every member has confirmed the new one.
    pub grace: DurationMs,
}

/// What is done with a secret on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretVerb {
    /// The next one is taken from its source and looked at; nothing is put to use.
    Stage,
    /// It is put in place, and the one in use beside it.
    Install,
    /// Somebody has seen the service work with it.
    Confirm,
    /// The one before is removed.
    Retire,
    /// The one before is put in place again, and the new one beside it.
    Revert,
}
