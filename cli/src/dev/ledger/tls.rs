//! The sample over TLS, beside its plain port: what a renewal of certificates is tried on.
//!
//! Must never: drop the certificate that is shown because the next one cannot be read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

/// Where it is served over TLS, and with what. Both files are read at every start and on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Its port, beside the plain one.
    pub port: u16,
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM; the same file when both are one.
    pub key: PathBuf,
}

/// The certificate that is shown now.
#[derive(Debug)]
pub(super) struct Shown {
    config: TlsConfig,
    current: Mutex<Arc<ServerConfig>>,
}

impl Shown {
    /// Reads both files.
    pub(super) fn load(config: TlsConfig) -> anyhow::Result<Self> {
        let current = Mutex::new(read(&config)?);
        Ok(Self { config, current })
    }

    /// Reads both files again; what cannot be used changes nothing.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        let fresh = read(&self.config)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(current)
    }
}

fn read(config: &TlsConfig) -> anyhow::Result<Arc<ServerConfig>> {
    let cannot = |path: &Path| format!("cannot read {}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&config.certificate)
        .with_context(|| cannot(&config.certificate))?
        .collect();
    let chain = chain.with_context(|| cannot(&config.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).with_context(|| cannot(&config.key))?;
    let server = ServerConfig::builder_with_provider(quorate_common::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not belong together")?;
    Ok(Arc::new(server))
}
