//! What can go wrong with TLS.
//!
//! Used by `problem`, made by `tls`. Invariant: as in [`super`].

/// What is wrong with TLS, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// No trusted authority has signed it.
    #[error(
        "the server's certificate is not signed by a trusted authority: the certificate of its \
         issuer {0} is neither among the trusted ones nor sent by the server"
    )]
    UnknownIssuer(String),
    /// It is self-signed, and not in `ca-file`.
    #[error(
        "the server's certificate is not signed by a trusted authority: it is self-signed, and \
         not itself in ca-file"
    )]
    SelfSigned,
    /// Too old, or the clock is wrong.
    #[error("the server's certificate is not valid at this time ({0}): renew it, or set the clock")]
    Dates(String),
    /// For another host.
    #[error(
        "the server's certificate is for another name ({0}): the URL's host must be among the \
         certificate's subject alternative names"
    )]
    Name(String),
    /// A certificate is signed in a way that is not accepted.
    #[error("{whose} is signed with {algorithm}, which is not accepted")]
    Signature {
        /// The certificate.
        whose: String,
        /// With what it is signed.
        algorithm: String,
    },
    /// A key that is not accepted.
    #[error("the RSA key of {whose} has {bits} bits; fewer than 2048 are not accepted")]
    ShortKey {
        /// The certificate, or the authority.
        whose: String,
        /// How long the key is.
        bits: usize,
    },
    /// The signature is not of the key that the trusted authority has.
    #[error(
        "the server's certificate is not signed by a trusted authority: its issuer {0} has the \
         name of a trusted authority, but another key"
    )]
    WrongAuthority(String),
    /// The certificate may be correct, but the server does not have its key.
    #[error("the server does not have the private key of its certificate")]
    OtherKey,
    /// No version and cipher that both have.
    #[error(
        "the server offers none of TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20 ({0})"
    )]
    NothingInCommon(String),
    /// Anything else about the certificate.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// The server does not speak TLS.
    #[error("the server does not speak TLS on this port: is the URL http instead of https?")]
    NotTls,
    /// The server ended the handshake.
    #[error("the server ended the TLS handshake: {0}")]
    Alert(String),
    /// The server wants a client certificate.
    #[error(
        "the server ended the TLS handshake: {0}; it expects another client certificate: check \
         cert-file and key-file"
    )]
    ClientCertificate(String),
    /// Anything else.
    #[error("TLS fails: {0}")]
    Other(String),
}

impl TlsProblem {
    /// The next thing to do; each kind has its own.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::UnknownIssuer(_) => {
                "if that issuer is the cloud's authority, put its certificate into ca-file; if it \
                 is an intermediate authority, configure the server to send its certificate too: \
                 `openssl s_client -connect HOST:PORT -showcerts` shows what it sends"
            }
            Self::SelfSigned => "put the server's certificate itself into ca-file",
            Self::Dates(_) => {
                "renew the certificate; if its dates are right, set this machine's clock"
            }
            Self::Name(_) => {
                "use one of the certificate's names in the URL, or issue a certificate for the \
                 host of the URL"
            }
            Self::Signature { .. } => "issue that certificate again, signed with SHA-256 or better",
            Self::ShortKey { .. } => {
                "create a new key there, RSA of 2048 bits or more or ECDSA on P-256, and issue the \
                 certificates again with it"
            }
            Self::WrongAuthority(_) => {
                "put the authority's current certificate into ca-file: the one there was replaced \
                 by another of the same name, or belongs to another cloud"
            }
            Self::OtherKey => {
                "configure the server with a certificate and its key; if they match, something on \
                 the way pretends to be the server"
            }
            Self::NothingInCommon(_) => {
                "enable TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM, on the server, and use an RSA \
                 key, or an ECDSA key on P-256 or P-384"
            }
            Self::Certificate(_) => "issue a certificate without this problem",
            Self::NotTls => {
                "write http instead of https into the URL, or use the port that has TLS"
            }
            Self::Alert(_) => {
                "see the log of the server, or of the proxy that terminates TLS in \
                               front of it"
            }
            Self::ClientCertificate(_) => {
                "set cert-file and key-file to a certificate that the server's authority has issued"
            }
            Self::Other(_) => "check whether something on the way intercepts TLS, such as a proxy",
        }
    }
}
