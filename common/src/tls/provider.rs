//! The one cryptography provider: aws-lc-rs, TLS 1.3, hybrid post-quantum key exchange first.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

use super::TlsError;

/// The provider every configuration here uses. X25519MLKEM768 comes first by rustls' `prefer-post-quantum`.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// Makes it the process default, for libraries that ask for one. First thing in each main; a second call does nothing.
pub fn install() {
    // An error only says that a default is set already.
    let _ = provider().as_ref().clone().install_default();
}

pub(super) fn server_builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsError> {
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}

pub(super) fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}
