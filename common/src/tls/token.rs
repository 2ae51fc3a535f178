//! The enrolment token: one text that lets its holder join once, and tells whom to trust while doing so.
//!
//! `quorate-join-v1.` and base64url of: purpose (1 byte); cluster id, token id, each with a length byte; CA SHA-256 (32);
//! secret (32); number of addresses and each with a length byte; the first 4 bytes of SHA-256 over all of it, so that a
//! typing error is called one. Only the SHA-256 of the secret is ever stored.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_model::{ClusterId, Role, TokenId};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::connect::Address;
use super::{Fingerprint, TlsError};

/// Longest token text.
pub const TOKEN_MAX_BYTES: usize = 4 * 1024;
const PREFIX: &str = "quorate-join-v1.";
const CHECKSUM_BYTES: usize = 4;
/// Most addresses of a token: coordinators are 3 or 5, some dialled under two names.
const ADDRESSES_MAX: usize = 16;

/// 32 random bytes. Zeroized when dropped, never printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    /// A new one from the operating system's generator.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn generate() -> Result<Self, TlsError> {
        let mut secret = Self([0; 32]);
        aws_lc_rs::rand::fill(&mut secret.0)
            .map_err(|_| TlsError::unusable("random generator", "it gave no bytes"))?;
        Ok(secret)
    }

    /// From bytes that were received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to send over a connection whose server was verified.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        secret_hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// SHA-256 of a secret as received; what the stored hash is compared with.
#[must_use]
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Compares without telling by its time where two byte strings differ.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Why a text is no token. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too long, or too many or too long parts.
    #[error("the token is longer than {TOKEN_MAX_BYTES} bytes or has too many parts")]
    TooLong,
    /// It does not begin as one.
    #[error("this is not a join token: it must begin with \"{PREFIX}\"")]
    NotAToken,
    /// A character is missing, added or changed.
    #[error("the token is damaged: copy it again, completely")]
    Damaged,
}

/// A parsed enrolment token.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// What its holder may join as.
    pub purpose: Role,
    /// The cluster to join.
    pub cluster: ClusterId,
    /// Its public part: under this id the hash is stored.
    pub id: TokenId,
    /// SHA-256 of the CA certificate to trust.
    pub ca: Fingerprint,
    /// The secret part.
    pub secret: Secret,
    /// Where to enrol: `host:port` of coordinators' HTTPS ports, in order of preference.
    pub addresses: Vec<Address>,
}

impl JoinToken {
    /// The text to hand over. It holds the secret: print it once, to the person who asked.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] with more than 16 addresses.
    pub fn encode(&self) -> Result<Zeroizing<String>, TokenError> {
        let Self { purpose, cluster, id, ca, secret, addresses } = self;
        // One allocation that is large enough: growing would leave copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_MAX_BYTES));
        bytes.push(match purpose {
            Role::Agent => b'a',
            Role::Coordinator => b'c',
            Role::User => b'u',
        });
        let put = |bytes: &mut Vec<u8>, text: &str| -> Result<(), TokenError> {
            bytes.push(u8::try_from(text.len()).map_err(|_| TokenError::TooLong)?);
            bytes.extend_from_slice(text.as_bytes());
            Ok(())
        };
        put(&mut bytes, cluster.as_str())?;
        put(&mut bytes, id.as_str())?;
        bytes.extend_from_slice(ca);
        bytes.extend_from_slice(secret.expose());
        if addresses.len() > ADDRESSES_MAX {
            return Err(TokenError::TooLong);
        }
        bytes.push(u8::try_from(addresses.len()).map_err(|_| TokenError::TooLong)?);
        for address in addresses {
            put(&mut bytes, &address.to_string())?;
        }
        let sum = secret_hash(&bytes);
        bytes.extend_from_slice(&sum[..CHECKSUM_BYTES]);
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_MAX_BYTES * 2));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        if text.len() > TOKEN_MAX_BYTES { Err(TokenError::TooLong) } else { Ok(text) }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let payload = text.trim_ascii().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let mut bytes = Zeroizing::new(vec![0_u8; TOKEN_MAX_BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(payload, &mut bytes).map_err(|_| TokenError::Damaged)?;
        let (body, sum) = bytes[..length]
            .split_at_checked(length.wrapping_sub(CHECKSUM_BYTES))
            .ok_or(TokenError::Damaged)?;
        if !constant_time_eq(&secret_hash(body)[..CHECKSUM_BYTES], sum) {
            return Err(TokenError::Damaged);
        }
        Reader(body).token().ok_or(TokenError::Damaged)
    }
}

/// Takes parts off the front; `None` when there are not enough bytes or they are not what they should be.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    fn token(mut self) -> Option<JoinToken> {
        let purpose = match self.byte()? {
            b'a' => Role::Agent,
            b'c' => Role::Coordinator,
            b'u' => Role::User,
            _ => return None,
        };
        let cluster = ClusterId::new(self.text()?).ok()?;
        let id = TokenId::new(self.text()?).ok()?;
        let ca = self.take(32)?.try_into().ok()?;
        let secret = Secret::from_bytes(self.take(32)?.try_into().ok()?);
        let count = usize::from(self.byte()?);
        if count > ADDRESSES_MAX {
            return None;
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            addresses.push(self.text()?.parse().ok()?);
        }
        self.0.is_empty().then_some(JoinToken { purpose, cluster, id, ca, secret, addresses })
    }
}

#[cfg(test)]
mod tests;
