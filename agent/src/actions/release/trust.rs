//! Who must have signed an artifact, and whether its bytes are what was signed. The host's own pinned keys decide; pure.
//!
//! Must never: take a legacy signature (it signs the file itself, which would have to be held in memory), or a key that came
//! with the request.

use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
use quorate_model::release::SIGNATURE_MAX_BYTES;

use crate::actions::ActionError;
use crate::policy::InstallRules;

/// Whose word an artifact stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actions) enum Trust {
    /// Nobody's: the host lets unsigned artifacts through.
    Unsigned,
    /// A pinned key.
    Key {
        /// Its name on this host.
        name: String,
        /// The key itself, so that another one under the same name is told apart.
        key: String,
    },
}

impl Trust {
    /// Name of the key; empty for none.
    pub(in crate::actions) fn name(&self) -> &str {
        match self {
            Self::Unsigned => "",
            Self::Key { name, .. } => name,
        }
    }

    /// The key; empty for none.
    pub(in crate::actions) fn key(&self) -> &str {
        match self {
            Self::Unsigned => "",
            Self::Key { key, .. } => key,
        }
    }
}

fn untrusted(why: impl Into<String>) -> ActionError {
    ActionError::Untrusted { why: why.into() }
}

/// Which of the pinned keys the signature claims to be of. What it is worth is seen with the bytes ([`check`]).
pub(super) fn choose(rules: &InstallRules, signature: &str) -> Result<Trust, ActionError> {
    if signature.is_empty() {
        return if rules.unsigned {
            Ok(Trust::Unsigned)
        } else {
            Err(untrusted("it is not signed, and [policy] unsigned of this host is false"))
        };
    }
    let signature = decode(signature)?;
    for (name, key) in &rules.keys {
        let Ok(public) = PublicKey::from_base64(key) else { continue };
        match public.verify_stream(&signature) {
            Ok(_) => return Ok(Trust::Key { name: name.clone(), key: key.clone() }),
            Err(Error::UnsupportedLegacyMode) => {
                return Err(untrusted(
                    "its signature is of the legacy kind: sign it with minisign 0.10 or later",
                ));
            }
            Err(_) => {}
        }
    }
    Err(untrusted("its signature is by none of the keys in [policy] keys of this host"))
}

fn decode(text: &str) -> Result<Signature, ActionError> {
    if text.len() > SIGNATURE_MAX_BYTES {
        return Err(untrusted("its signature is longer than a minisign signature can be"));
    }
    Signature::decode(text).map_err(|e| untrusted(format!("its signature can not be read: {e}")))
}

/// Reads bytes through a visitor and says whether the signature is of exactly these.
pub(super) fn check<T>(
    trust: &Trust,
    signature: &str,
    read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<T, ActionError>,
) -> Result<T, ActionError> {
    let Trust::Key { name, key } = trust else { return read(&mut |_| {}) };
    let signature = decode(signature)?;
    let public = PublicKey::from_base64(key).map_err(|e| untrusted(format!("key {name}: {e}")))?;
    let mut verifier: StreamVerifier<'_> =
        public.verify_stream(&signature).map_err(|e| untrusted(format!("key {name}: {e}")))?;
    let done = read(&mut |bytes| verifier.update(bytes))?;
    verifier.finalize().map_err(|_| untrusted(format!("its bytes are not what key {name} signed")))?;
    Ok(done)
}
