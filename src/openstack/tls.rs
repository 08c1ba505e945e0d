//! HTTPS: whom we trust, how we identify ourselves, and what went wrong.
//!
//! Used by `connect`. Invariant: unless verification is turned off, a server is
//! accepted only when its name and dates fit and it is vouched for by a trusted
//! certificate, or is itself one that `ca-file` contains.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};

use super::error::TlsProblem;
use crate::config::{self, ClientCertificate, Tls};

mod chain;
mod verifier;
mod words;

use verifier::{Authorities, Refusal, Verifier};

/// Why the TLS settings cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// A certificate of `ca-file` is not one.
    #[error("certificate number {number} of ca-file cannot be read: {}", words::certificate(.cause))]
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
    #[error("cert-file and key-file cannot be used: {}", words::pair(.0))]
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
    /// The host's store, or the roots bundled with this program where it has none.
    Host,
    /// Nobody is verified: anyone on the network path can read the key. Worth a loud
    /// warning.
    Unverified,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(count) => write!(f, "{count} of ca-file"),
            Self::Host => f.write_str(
                "those of the host's store, or the bundled ones if it has \
                                       none",
            ),
            Self::Unverified => f.write_str("none: certificates are not verified"),
        }
    }
}

/// Warnings about certificates of `ca-file` that are not valid at `now`. They vouch for
/// servers all the same: to webpki, an authority is a name and a key, without dates.
pub fn authority_warnings(tls: &Tls, now: SystemTime) -> Vec<String> {
    let (true, config::Roots::Only(certificates)) = (tls.verify, &tls.roots) else {
        return Vec::new();
    };
    let Ok(now) = Timestamp::try_from(now) else {
        return Vec::new();
    };
    let warning = |(at, der): (usize, &Vec<u8>)| {
        let certificate = chain::Certificate::read(der)?;
        let when = match (certificate.not_before, certificate.not_after) {
            (_, Some(end)) if end < now => format!("ended at {end}"),
            (Some(begin), _) if begin > now => format!("begins at {begin}"),
            _ => return None,
        };
        Some(format!(
            "certificate number {} of ca-file ({}) {when}: put its successor into ca-file; until \
             then, its servers are still accepted",
            at + 1,
            certificate.subject(),
        ))
    };
    let certificates = certificates.iter().enumerate();
    certificates.filter_map(warning).collect()
}

/// The settings, checked.
#[derive(Debug)]
pub(super) struct Settings {
    provider: Arc<CryptoProvider>,
    roots: Option<Roots>,
    client: Option<Arc<SingleCertAndKey>>,
}

/// Who vouches for servers.
#[derive(Debug)]
enum Roots {
    /// The certificates of `ca-file`.
    Only(Vec<CertificateDer<'static>>, Arc<RootCertStore>),
    Host,
}

impl Settings {
    /// Finds whatever is wrong with the settings; reads no file.
    pub(super) fn new(tls: &Tls) -> Result<Self, TlsError> {
        // Chosen here and not process-wide: nothing global.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = match &tls.roots {
            _ if !tls.verify => None,
            config::Roots::Only(certificates) => Some(only(certificates)?),
            config::Roots::Host => Some(Roots::Host),
        };
        let client = match &tls.client {
            None => None,
            Some(client) => {
                let (chain, key) = client_certificate(client)?;
                let certified =
                    CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::ClientPair)?;
                Some(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        Ok(Self {
            provider,
            roots,
            client,
        })
    }

    pub(super) fn trust(&self) -> Trust {
        match &self.roots {
            None => Trust::Unverified,
            Some(Roots::Only(own, _)) => Trust::CaFile(own.len()),
            Some(Roots::Host) => Trust::Host,
        }
    }

    /// Whether [`Settings::config`] takes its time: a store of 145 certificates, each in
    /// a file of its own, took 12 to 24 ms.
    pub(super) fn reads_files(&self) -> bool {
        matches!(self.roots, Some(Roots::Host))
    }

    /// Makes a TLS configuration; reads the host's store if that is what is wanted.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?);
        Ok(match &self.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let client: Arc<SingleCertAndKey> = Arc::clone(client);
                builder.with_client_cert_resolver(client)
            }
        })
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let provider = Arc::clone(&self.provider);
        let authorities = self.roots.as_ref().map(|roots| self.authorities(roots));
        Ok(Arc::new(Verifier {
            provider,
            authorities: authorities.transpose()?,
        }))
    }

    fn authorities(&self, roots: &Roots) -> Result<Authorities, TlsError> {
        let (own, roots) = match roots {
            Roots::Only(own, roots) => (own.clone(), Arc::clone(roots)),
            Roots::Host => (Vec::new(), Arc::new(of_host())),
        };
        let provider = Arc::clone(&self.provider);
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider)
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok(Authorities { inner, own, roots })
    }
}

fn only(certificates: &[Vec<u8>]) -> Result<Roots, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
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
    Ok(Roots::Only(own, Arc::new(roots)))
}

/// Honours `SSL_CERT_FILE` and `SSL_CERT_DIR`. Unreadable files are left out: what
/// matters is whether anything is found.
fn of_host() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    if let (0, _) = roots.add_parsable_certificates(found) {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
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

/// What is wrong, by the error that the library gives.
pub(super) fn problem(error: &Error) -> TlsProblem {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
    .map_or_else(|| words::problem(error), |Refusal(problem)| problem.clone())
}
