//! Certificates for tests, made on the spot.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) chain_pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) key_pem: String,
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Settings for a certificate of 127.0.0.1 that is valid now.
pub(crate) fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(4000, 1, 1);
    params
}

/// Settings of a certificate whose time is over.
pub(crate) fn expired() -> CertificateParams {
    let mut params = params();
    params.not_after = date_time_ymd(2021, 1, 1);
    params
}

/// Settings of a certificate whose time has not begun.
pub(crate) fn future() -> CertificateParams {
    let mut params = params();
    params.not_before = date_time_ymd(3000, 1, 1);
    params
}

/// Settings of a certificate for other names.
pub(crate) fn elsewhere() -> CertificateParams {
    let mut params = params();
    params.subject_alt_names = vec![SanType::DnsName(
        "keystone.example".try_into().expect("a name"),
    )];
    params
}

/// As `openssl req -x509` makes them: an authority and a server in one.
pub(crate) fn self_signed(mut params: CertificateParams) -> Pair {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair {
        chain_pem: certificate.pem(),
        der: certificate.der().to_vec(),
        key_pem: key.serialize_pem(),
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, CertificateParams::default())
    }

    /// With other dates, for one.
    pub(crate) fn with(name: &str, mut params: CertificateParams) -> Self {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            chain_pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// A server with this certificate; `clients` must have signed the client's.
pub(crate) fn acceptor(server: &Pair, clients: Option<&Authority>) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from(server.der.clone())];
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

/// A server that shows a certificate of which it does not have the key.
pub(crate) fn impostor(
    shown: &Pair,
    own: &Pair,
    version: &'static SupportedProtocolVersion,
) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
    let key = provider
        .key_provider
        .load_private_key(key)
        .expect("a known kind");
    let chain = vec![CertificateDer::from(shown.der.clone())];
    let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(pair));
    TlsAcceptor::from(Arc::new(config))
}
