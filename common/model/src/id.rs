//! Every id and name as its own type, all registered here, because swapped strings type-check and newtypes do not.

use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a node, service, group, member (a DNS label, RFC 1035).
pub const NAME_MAX_BYTES: usize = 63;
/// Longest minted id or request id.
pub const ID_MAX_BYTES: usize = 64;

/// A text that is not a valid name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    /// What kind of name was expected, for the message.
    pub kind: &'static str,
    /// Why the text was refused.
    pub why: &'static str,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid {}: {}", self.kind, self.why)
    }
}

impl core::error::Error for InvalidName {}

/// Lower-case letters, digits, `-`, `.`, `_`; begins with a letter or digit; 1 to 63 bytes.
fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let why = match bytes.first() {
        None => "it is empty",
        Some(_) if bytes.len() > NAME_MAX_BYTES => "it is longer than 63 bytes",
        Some(b) if !(b.is_ascii_lowercase() || b.is_ascii_digit()) => {
            "it must begin with a lower-case letter or a digit"
        }
        Some(_)
            if !bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_')) =>
        {
            "only lower-case letters, digits, '-', '.' and '_' are allowed"
        }
        Some(_) if text.contains("..") => "it must not contain '..'",
        Some(_) => return Ok(()),
    };
    Err(InvalidName { kind, why })
}

/// Letters, digits, `-`, `.`, `_`, `:`, `@`; begins with a letter or digit; 1 to 64 bytes.
fn check_id(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let why = match bytes.first() {
        None => "it is empty",
        Some(_) if bytes.len() > ID_MAX_BYTES => "it is longer than 64 bytes",
        Some(b) if !b.is_ascii_alphanumeric() => "it must begin with a letter or a digit",
        Some(_)
            if !bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'@')) =>
        {
            "only letters, digits, '-', '.', '_', ':' and '@' are allowed"
        }
        Some(_) => return Ok(()),
    };
    Err(InvalidName { kind, why })
}

/// Length of a sha256 in hexadecimal.
pub const DIGEST_BYTES: usize = 64;

/// 64 lower-case hexadecimal digits.
fn check_digest(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    let why = match text.len() {
        0 => "it is empty",
        DIGEST_BYTES if text.bytes().all(hex) => return Ok(()),
        DIGEST_BYTES => "only the digits 0-9 and a-f are allowed",
        _ => "it must have 64 digits",
    };
    Err(InvalidName { kind, why })
}

/// Letters, digits, `.`, `+`, `~`, `:`, `_`, `-`, as in a Debian version; begins with a letter or digit; 1 to 64 bytes; it names
/// a directory, so no `..`.
fn check_version(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'~' | b':' | b'_' | b'-');
    let why = match bytes.first() {
        None => "it is empty",
        Some(_) if bytes.len() > ID_MAX_BYTES => "it is longer than 64 bytes",
        Some(b) if !b.is_ascii_alphanumeric() => "it must begin with a letter or a digit",
        Some(_) if !bytes.iter().all(fits) => {
            "only letters, digits, '.', '+', '~', ':', '_' and '-' are allowed"
        }
        Some(_) if text.contains("..") => "it must not contain '..'",
        Some(_) => return Ok(()),
    };
    Err(InvalidName { kind, why })
}

/// Longest name of a time zone; the longest there is has 32 bytes.
pub const ZONE_MAX_BYTES: usize = 64;

/// Letters, digits, `_`, `-`, `+` and `/`, as in `America/Argentina/Buenos_Aires`; begins with a letter. Whether there is such a
/// zone is known to those who have the zones.
fn check_zone(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/');
    let why = match bytes.first() {
        None => "it is empty",
        Some(_) if bytes.len() > ZONE_MAX_BYTES => "it is longer than 64 bytes",
        Some(b) if !b.is_ascii_alphabetic() => "it must begin with a letter",
        Some(_) if !bytes.iter().all(fits) => "only letters, digits, '_', '-', '+' and '/' are allowed",
        Some(_) => return Ok(()),
    };
    Err(InvalidName { kind, why })
}

/// `2026-12-24T22:00`: what a clock on the wall shows, without a zone. Whether there is such a day is known to those who have the
/// zones.
fn check_local_time(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    const SHAPE: &[u8; 16] = b"dddd-dd-ddTdd:dd";
    let fits = |(b, shape): (u8, &u8)| if *shape == b'd' { b.is_ascii_digit() } else { b == *shape };
    if text.len() == SHAPE.len() && text.bytes().zip(SHAPE).all(fits) {
        return Ok(());
    }
    Err(InvalidName { kind, why: "write it as 2026-12-24T22:00, without a zone" })
}

macro_rules! text_ids {
    ($($(#[$meta:meta])* $name:ident, $kind:literal, $check:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`InvalidName`] when the text has characters or a length that this kind does not allow.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                $check($kind, &text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> { Self::new(text) }
        }

        impl core::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> { Self::new(text) }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self { id.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str { &self.0 }
        }
    )+ };
}

text_ids! {
    /// A host in the fleet.
    NodeName, "node name", check_name;
    /// A managed workload definition.
    ServiceName, "service name", check_name;
    /// The instances that form one cluster.
    GroupName, "group name", check_name;
    /// A service or a group, where either may be named.
    WorkloadName, "service or group name", check_name;
    /// A time in which nothing disruptive may start.
    FreezeName, "freeze name", check_name;
    /// A time in which disruptive work may start.
    WindowName, "window name", check_name;
    /// A rule on which operations need somebody's approval.
    PolicyName, "policy name", check_name;
    /// What starts operations by itself, at times.
    ScheduleName, "schedule name", check_name;
    /// A time zone by its IANA name, for example `Europe/Berlin`.
    ZoneName, "time zone", check_zone;
    /// A date and a time of day as a clock on the wall shows them.
    LocalTime, "local time", check_local_time;
    /// One coordinator process, by name.
    MemberName, "member name", check_name;
    /// A person or an automation.
    UserName, "user name", check_name;
    /// sha256 of an artifact's bytes, by which it is found everywhere.
    Digest, "sha256 digest", check_digest;
    /// A release's version, for example `1.9.2` or `2:1.9.2-1+deb12u1`.
    Version, "version", check_version;
    /// A named probe of a service.
    ProbeName, "probe name", check_name;
    /// A hook that the host itself allows, by name.
    HookName, "hook name", check_name;
    /// A configuration file of a service.
    ConfigName, "config name", check_name;
    /// A secret of a service.
    SecretName, "secret name", check_name;
    /// One rotation of a secret: minted with its plan.
    RotationId, "rotation id", check_id;
    /// A load balancer that the host itself declares, by name.
    BalancerName, "balancer name", check_name;
    /// The coordinator cluster; minted at `init`, part of every certificate and Raft call.
    ClusterId, "cluster id", check_id;
    /// The durable unit of work that users start, watch, pause and cancel.
    OperationId, "operation id", check_id;
    /// A computed plan.
    PlanId, "plan id", check_id;
    /// One run of an action on one node; the agent's journal is keyed by it.
    ExecutionId, "execution id", check_id;
    /// One stored, hashed copy.
    BackupId, "backup id", check_id;
    /// What was put aside at once of one instance's data; the folders are named by it.
    QuarantineId, "quarantine id", check_id;
    /// An undo owed for a temporary state.
    ObligationId, "obligation id", check_id;
    /// A single-use right to join; public part of the token, the secret is never stored.
    TokenId, "token id", check_id;
    /// The caller's own id of a request: same id, same answer.
    RequestId, "request id", check_id;
    /// A certificate's serial number, lower-case hex.
    Serial, "serial number", check_id;
}

macro_rules! number_ids {
    ($($(#[$meta:meta])* $name:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next number, saturating.
            #[must_use]
            pub const fn next(self) -> Self { Self(self.0.saturating_add(1)) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
        }
    )+ };
}

number_ids! {
    /// A Raft member's number, handed out by the state machine, never used twice.
    MemberId;
    /// A node's number, handed out at enrolment, never used twice: a node enrolled again under an old name is another node.
    NodeId;
    /// A fencing number: grows with every disruption grant; a holder with an older one is stale.
    Epoch;
    /// The Raft log index at which something was last changed or read.
    Revision;
}

/// One service on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The host.
    pub node: NodeName,
    /// The workload on it.
    pub service: ServiceName,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.node)
    }
}

/// Makes an id text from a prefix and 64 random bits handed in by the caller, for example `r-0f3a…`.
#[must_use]
pub fn minted(prefix: &str, bits: u64) -> String {
    let mut text = prefix.to_string();
    text.push('-');
    for shift in (0..12).rev() {
        let nibble = ((bits >> (shift * 4)) & 0xf) as u32;
        text.push(core::char::from_digit(nibble, 16).unwrap_or('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for bad in ["", "-a", "A", "a b", "a/b", "a\nb", "a..b", "é", "a;b", "../x", &"x".repeat(64)] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(NodeName::new("node1.eu-west_1").is_ok());
    }

    #[test]
    fn a_digest_is_hex_and_nothing_a_path_could_be() {
        assert!(Digest::new("0123456789abcdef".repeat(4)).is_ok());
        let (upper, long) = ("A".repeat(64), "a".repeat(65));
        let climbs = alloc::format!("../{}", "a".repeat(61));
        for bad in ["", "abc", &upper, &long, &climbs, &"g".repeat(64), &"\0".repeat(64)] {
            assert!(Digest::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn zones_and_local_times_have_their_shape() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(ZoneName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/etc", "..", "Europe/Berlin ", "é", &"x".repeat(65)] {
            assert!(ZoneName::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(LocalTime::new("2026-12-24T22:00").is_ok());
        for bad in [
            "",
            "2026-12-24",
            "2026-12-24 22:00",
            "2026-12-24T22:00Z",
            "2026-12-24T22:00:00",
            "+026-12-24T22:00",
        ] {
            assert!(LocalTime::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn minted_ids_are_valid_and_twelve_digits() {
        let text = minted("r", 0xffff_0123_4567_89ab);
        assert_eq!(text, "r-0123456789ab");
        assert!(OperationId::new(text).is_ok());
    }
}
