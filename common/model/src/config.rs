//! Configuration files of a service: where one lies on a host, who checks it, and how it is put to use.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{ConfigName, HookName};
use crate::time::DurationMs;

/// Most configuration files of one service.
pub const CONFIGS_MAX: usize = 16;
/// Largest configuration file in bytes: 1 MiB.
pub const CONFIG_MAX_BYTES: u64 = 1024 * 1024;
/// Shortest time until an unconfirmed file is put back: a gate needs a moment.
pub const CONFIRM_MIN: DurationMs = DurationMs::from_secs(1);
/// Longest time until an unconfirmed file is put back: a day.
pub const CONFIRM_MAX: DurationMs = DurationMs::from_secs(24 * 3_600);
/// Permission bits that a configuration file may have: no setuid, no setgid, no sticky bit.
pub const CONFIG_MODE_BITS: u32 = 0o777;

words! {
    /// What makes a service use a new file.
    pub enum ConfigApply {
        /// It reads its configuration again.
        Reload = "RELOAD",
        /// It is stopped and started.
        Restart = "RESTART",
        /// Nothing: it looks at the file by itself.
        None = "NONE",
    }
}

/// One configuration file of a service. The host's own policy must allow the place and the hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSpec {
    /// Its name in the service.
    pub name: ConfigName,
    /// Absolute; `${…}` variables allowed.
    pub path: String,
    /// Permission bits; 0 keeps those of the file in place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// The hook of the host that is given the candidate and says whether it is good; none when nothing checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<HookName>,
    /// What makes the service use it.
    pub apply: ConfigApply,
    /// The host alone puts the previous file back after this time, unless it was told that the new one is good.
    pub confirm: DurationMs,
    /// Its content is shown to nobody: differences are counted, and not told.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub sensitive: bool,
}

/// serde asks with a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if gives a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}
