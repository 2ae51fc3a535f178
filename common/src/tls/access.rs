//! Whether a verified identity may still speak: asked at the handshake and again for every request.

use quorate_model::{AccessRole, NodeId, Principal, Serial};

/// What the allow-list knows about an identity that may speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessInfo {
    /// What a user may do; `None` for agents and coordinators, whose methods are fixed.
    pub access: Option<AccessRole>,
    /// An agent's node number: a node enrolled again under an old name is another node.
    pub node: Option<NodeId>,
}

/// Why an identity may not speak (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Denied {
    /// This serial number was never issued, or was replaced and its overlap has ended.
    #[error("the certificate's serial number is not on record")]
    UnknownSerial,
    /// The certificate was revoked.
    #[error("the certificate was revoked")]
    Revoked,
    /// The node, user or member was removed.
    #[error("the identity was removed")]
    Removed,
    /// The allow-list cannot be read now (state not loaded, no quorum for too long): unknown is unsafe.
    #[error("the allow-list is not available")]
    Unavailable,
}

impl Denied {
    /// The stable word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownSerial => "unknown_serial",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
            Self::Unavailable => "allow_list_unavailable",
        }
    }
}

/// The list of certificates that may speak, kept in the replicated state. Must answer from memory: it is asked per
/// request, on the handshake's thread.
pub trait AllowList: Send + Sync + 'static {
    /// Whether this certificate of this principal may speak.
    ///
    /// # Errors
    /// [`Denied`] with the reason.
    fn check(&self, serial: &Serial, principal: &Principal) -> Result<AccessInfo, Denied>;
}
