//! HTTPS: whom we trust, how we identify ourselves, and what went wrong.
//!
//! Used by `connect`. Invariant: unless verification is turned off, a server is
//! accepted only when its name and dates fit and it is vouched for by a trusted
//! certificate, or is itself one that `ca-file` contains.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::error::TlsProblem;
use crate::config::{ClientCertificate, Roots, Tls};

/// Why the TLS settings cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// A certificate of `ca-file` is not one.
    #[error("certificate number {number} of ca-file cannot be read: {cause}")]
    Authority {
        /// From 1.
        number: usize,
        /// What is wrong with it.
        cause: Error,
    },
    /// `cert-file` has no certificate in it.
    #[error("cert-file contains no PEM certificate")]
    ClientChain,
    /// `key-file` has no usable key in it.
    #[error("key-file contains no PEM private key; an encrypted key must be decrypted first")]
    ClientKey,
    /// The two do not belong together, or are of an unknown kind.
    #[error("cert-file and key-file cannot be used: {0}")]
    ClientPair(Error),
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Which authorities are in use, for logs and `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of `ca-file`, so many.
    CaFile(usize),
    /// The host's store, so many.
    Host(usize),
    /// The roots bundled with this program: the host has no store.
    Bundled(usize),
    /// Nobody is verified: whoever is on the way can read the key. Worth a loud
    /// warning.
    Unverified,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(count) => write!(f, "{count} of ca-file"),
            Self::Host(count) => write!(f, "{count} of the host's store"),
            Self::Bundled(count) => write!(f, "{count} bundled with this program"),
            Self::Unverified => f.write_str("none: certificates are not verified"),
        }
    }
}

/// Makes a TLS configuration; reads the host's store if that is what is wanted.
pub(super) fn configure(tls: &Tls) -> Result<(ClientConfig, Trust), TlsError> {
    // Chosen here and not process-wide: nothing global.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (verifier, trust) = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_certificate(client)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::ClientPair)?
        }
    };
    Ok((config, trust))
}

fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ServerCertVerifier>, Trust), TlsError> {
    if !tls.verify {
        let verifier = Arc::new(Unverified(Arc::clone(provider)));
        return Ok((verifier, Trust::Unverified));
    }
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    let trust = match &tls.roots {
        Roots::Only(certificates) => {
            for (at, der) in certificates.iter().enumerate() {
                let der = CertificateDer::from(der.clone());
                roots
                    .add(der.clone())
                    .map_err(|cause| TlsError::Authority {
                        number: at + 1,
                        cause,
                    })?;
                own.push(der);
            }
            Trust::CaFile(own.len())
        }
        Roots::Host => {
            // Honours SSL_CERT_FILE and SSL_CERT_DIR. Unreadable files are left
            // out: what matters is whether anything is found.
            let found = rustls_native_certs::load_native_certs().certs;
            match roots.add_parsable_certificates(found) {
                (0, _) => {
                    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                    Trust::Bundled(roots.len())
                }
                (count, _) => Trust::Host(count),
            }
        }
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok((Arc::new(Verifier { inner, own }), trust))
}

fn client_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(&client.chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::ClientChain)?;
    if chain.is_empty() {
        return Err(TlsError::ClientChain);
    }
    let key = PrivateKeyDer::from_pem_slice(client.key_pem.expose_text().as_bytes())
        .map_err(|_| TlsError::ClientKey)?;
    Ok((chain, key))
}

/// webpki's verifier, except that a server may use a certificate of `ca-file`
/// itself.
///
/// `openssl req -x509` makes certificates that are marked as an authority, and
/// small clouds use them on their servers directly. Go accepts one that is
/// given as `ca-file`; webpki does not let an authority be a server.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca-file`.
    own: Vec<CertificateDer<'static>>,
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
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error) if is_authority_as_server(&error) && self.own.contains(end_entity) => {
                // webpki looks at the dates before it looks at this mark, and at
                // the name after it; the tests hold it to that.
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
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

/// Accepts every certificate, as `tls-insecure = true` asks for. The handshake's
/// signature is still checked, as Go does.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS error means for the person who configures this.
pub(super) fn problem(error: &Error) -> TlsProblem {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                TlsProblem::Dates(certificate.to_string())
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::Name(certificate.to_string())
            }
            other => TlsProblem::Certificate(other.to_string()),
        },
        // The first bytes are no TLS record.
        Error::InvalidMessage(_) => TlsProblem::NotTls,
        Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied),
        ) => TlsProblem::ClientCertificate(format!("{alert:?}")),
        Error::AlertReceived(alert) => TlsProblem::Alert(format!("{alert:?}")),
        other => TlsProblem::Other(other.to_string()),
    }
}
