//! The verifiers of servers' certificates.
//!
//! Used by `tls`. Invariant: as there; whoever is accepted has signed the handshake with
//! the key of the certificate that it showed.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::chain;
use crate::openstack::error::TlsProblem;

/// Verifies servers, and their signatures of the handshake in any case, as Go does.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    /// `None` accepts every certificate, as `tls-insecure = true` asks for.
    pub(super) authorities: Option<Authorities>,
}

/// webpki's verifier, except that a server may use a certificate of `ca-file`
/// itself.
///
/// Small clouds use certificates of `openssl req -x509`, which are marked as an
/// authority, on their servers directly, and others give the server's certificate
/// without that of its authority. Go accepts whatever stands in `ca-file`, and looks
/// at no issuer then; webpki lets no authority be a server, and wants an issuer.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca-file`.
    pub(super) own: Vec<CertificateDer<'static>>,
    /// All that are trusted.
    pub(super) roots: Arc<RootCertStore>,
}

/// A refusal of which more is known than the library says, on its way through it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) TlsProblem);

impl Refusal {
    fn instead_of(error: Error, problem: Option<TlsProblem>) -> Error {
        problem.map_or(error, |problem| {
            let other = OtherError(Arc::new(Self(problem)));
            Error::InvalidCertificate(CertificateError::Other(other))
        })
    }
}

impl Authorities {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error) if is_of_issuer(&error) && self.own.contains(end_entity) => {
                // webpki looks at dates and purpose before it looks at this mark or for
                // an issuer, and at the name after it; the tests hold it to that. That
                // the server has the key is seen in the handshake, as for all others.
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => {
                let sent: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
                let problem = chain::refusal(&error, &sent, &self.roots.roots);
                Err(Refusal::instead_of(error, problem))
            }
            verified => verified,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.authorities {
            None => Ok(ServerCertVerified::assertion()),
            Some(authorities) => {
                authorities.verify(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
            .map_err(|error| of_handshake(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
            .map_err(|error| of_handshake(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn of_handshake(error: Error, server: &CertificateDer<'_>) -> Error {
    let problem = chain::handshake(&error, server);
    Refusal::instead_of(error, problem)
}

/// Whether dates, purpose and form are right, and it is the issuer that is missing or
/// does not fit, or the mark of an authority that is in the way.
fn is_of_issuer(error: &Error) -> bool {
    is_authority_as_server(error)
        || matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                    | CertificateError::BadSignature
                    | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                    | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            )
        )
}

/// webpki's `CaUsedAsEndEntity`. rustls passes it on without a name of its own,
/// and webpki is no direct dependency, so it is known by its text.
fn is_authority_as_server(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.to_string() == "CaUsedAsEndEntity"
    )
}
