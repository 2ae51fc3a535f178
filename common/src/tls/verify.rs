//! Verifiers and resolvers that read the live material at every handshake, so a rotation needs no new listener.

use std::fmt;
use std::sync::Arc;

use quorate_model::{ClusterId, Principal, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::live::{ExpectedServer, LiveTls};
use super::{AllowList, Fingerprint, Identity, Refused, fingerprint, provider};

/// Most certificates after the leaf: ours sends one, the CA; a rotation may add its cross-signed twin.
const CHAIN_MAX: usize = 4;

/// The three signature methods of both verifier traits; TLS 1.2 stays unreachable because no configuration offers it.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use signatures;

/// Server side: chain, identity, cluster, allow-list.
pub(super) struct LiveClientVerifier {
    pub(super) live: Arc<LiveTls>,
    pub(super) allow: Arc<dyn AllowList>,
}

impl fmt::Debug for LiveClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveClientVerifier")
    }
}

impl ClientCertVerifier for LiveClientVerifier {
    /// None: strangers learn nothing about the CA.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_chain_length(others)?;
        let material = self.live.current();
        let verified = material.client_verifier().verify_client_cert(leaf, others, now)?;
        let identity = Identity::from_verified(leaf).map_err(Refused::into_rustls)?;
        if identity.cluster != material.identity().cluster {
            return Err(Refused::WrongCluster.into_rustls());
        }
        self.allow
            .check(&identity.serial, &identity.principal)
            .map_err(|denied| Refused::Denied(denied).into_rustls())?;
        Ok(verified)
    }

    signatures!();
}

/// Client side: chain, dialled name, identity is a coordinator of this cluster, and the member that was meant.
#[derive(Debug)]
pub(super) struct LiveServerVerifier {
    pub(super) live: Arc<LiveTls>,
    pub(super) expected: ExpectedServer,
}

impl ServerCertVerifier for LiveServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain_length(others)?;
        let material = self.live.current();
        let verified = material.server_verifier().verify_server_cert(leaf, others, name, &[], now)?;
        check_coordinator(leaf, &material.identity().cluster, self.expected).map_err(Refused::into_rustls)?;
        Ok(verified)
    }

    signatures!();
}

/// Enrolment: the only trust is the CA's hash from the token. The server sends that CA behind its leaf.
#[derive(Debug)]
pub(super) struct PinnedServerVerifier {
    pub(super) ca: Fingerprint,
    pub(super) cluster: ClusterId,
}

impl ServerCertVerifier for PinnedServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain_length(others)?;
        let pinned = others.iter().find(|ca| fingerprint(ca) == self.ca);
        let pinned = pinned.ok_or_else(|| Refused::WrongPin.into_rustls())?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| Refused::WrongPin.into_rustls())?;
        let verified = verifier.verify_server_cert(leaf, others, name, &[], now)?;
        check_coordinator(leaf, &self.cluster, ExpectedServer::AnyCoordinator)
            .map_err(Refused::into_rustls)?;
        Ok(verified)
    }

    signatures!();
}

fn check_chain_length(others: &[CertificateDer<'_>]) -> Result<(), Error> {
    if others.len() > CHAIN_MAX { Err(Refused::ChainTooLong.into_rustls()) } else { Ok(()) }
}

fn check_coordinator(leaf: &[u8], cluster: &ClusterId, expected: ExpectedServer) -> Result<(), Refused> {
    let identity = Identity::from_verified(leaf)?;
    if identity.cluster != *cluster {
        return Err(Refused::WrongCluster);
    }
    if identity.principal.role() != Some(Role::Coordinator) {
        return Err(Refused::WrongRole);
    }
    match expected {
        ExpectedServer::AnyCoordinator => Ok(()),
        ExpectedServer::Member(member) if identity.principal == (Principal::Coordinator { member }) => Ok(()),
        ExpectedServer::Member(_) => Err(Refused::WrongMember),
    }
}

/// Hands out the live certificate, to clients and to servers.
#[derive(Debug)]
pub(super) struct LiveResolver(pub(super) Arc<LiveTls>);

impl ResolvesServerCert for LiveResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().certified())
    }
}

impl ResolvesClientCert for LiveResolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
