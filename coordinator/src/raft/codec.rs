//! MessagePack with field names, the one encoding of log, snapshots and peer payloads.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that do not decode, or a value that does not encode.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Decoding failed.
    #[error("malformed {what}")]
    Decode {
        /// What was expected.
        what: &'static str,
        /// Why.
        #[source]
        source: rmp_serde::decode::Error,
    },
    /// Encoding failed.
    #[error("cannot encode {what}")]
    Encode {
        /// What was given.
        what: &'static str,
        /// Why.
        #[source]
        source: rmp_serde::encode::Error,
    },
}

pub(crate) fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
    rmp_serde::to_vec_named(value).map_err(|source| CodecError::Encode { what, source })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    rmp_serde::from_slice(bytes).map_err(|source| CodecError::Decode { what, source })
}
