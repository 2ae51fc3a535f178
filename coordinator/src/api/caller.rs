//! Who calls, as far as the certificate and the replicated state prove it.

use std::sync::{Arc, OnceLock};

use quorate_core::State;
use quorate_model::{AccessRole, Principal, RequestId, Serial, Timestamp};

/// What the listener knows of a connection after the handshake; it puts this into the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Serial number of the verified certificate.
    pub serial: Serial,
    /// The principal in it.
    pub principal: Principal,
    /// Where the connection comes from; no port.
    pub client_ip: String,
    /// End of the certificate's life.
    pub not_after: Timestamp,
}

/// The caller of one request, authenticated and authorised.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// What a user may do.
    pub access: Option<AccessRole>,
    /// Serial number of its certificate.
    pub serial: Serial,
    /// End of its certificate's life.
    pub not_after: Timestamp,
    /// Where the call came from first, also when a follower passed it on.
    pub client_ip: String,
    /// The request id of the call: the caller's own, from metadata or message, or one that was minted.
    pub request: CallId,
}

/// The request id of one call. The message's own takes the place of the minted one; errors and answers carry it.
#[derive(Clone, Debug)]
pub struct CallId {
    minted: RequestId,
    chosen: Arc<OnceLock<RequestId>>,
}

impl CallId {
    /// With an id for callers that give none.
    #[must_use]
    pub fn new(minted: RequestId) -> Self {
        Self { minted, chosen: Arc::default() }
    }

    /// Takes the message's own id. The first one stands.
    pub fn choose(&self, id: RequestId) {
        self.chosen.get_or_init(|| id);
    }

    /// The id.
    #[must_use]
    pub fn get(&self) -> &RequestId {
        self.chosen.get().unwrap_or(&self.minted)
    }
}

/// Why a certificate is not accepted. Goes to the audit; callers get one text for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// No certificate came with the connection.
    NoCertificate,
    /// The replicated state does not list it.
    UnknownSerial,
    /// It is listed for somebody else.
    OtherPrincipal,
    /// It was revoked, or what it stands for was removed.
    Revoked,
    /// Its life is over.
    Expired,
}

impl NotAccepted {
    /// For the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no certificate",
            Self::UnknownSerial => "the serial number is not listed",
            Self::OtherPrincipal => "the serial number is listed for somebody else",
            Self::Revoked => "it was revoked",
            Self::Expired => "its life is over",
        }
    }
}

/// What the state says of a certificate now.
///
/// # Errors
/// [`NotAccepted`].
pub fn accepted(
    state: &State,
    serial: &Serial,
    now: Timestamp,
) -> Result<(Principal, Option<AccessRole>, Timestamp), NotAccepted> {
    let identity = state.identities.get(serial).ok_or(NotAccepted::UnknownSerial)?;
    if identity.revoked_at.is_some() {
        return Err(NotAccepted::Revoked);
    }
    if !identity.is_valid(now) {
        return Err(NotAccepted::Expired);
    }
    Ok((identity.principal.clone(), identity.access, identity.not_after))
}
