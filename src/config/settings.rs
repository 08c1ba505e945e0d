//! What a configuration means: typed settings, all of them checked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::redact;
use crate::key_id::{ContainerId, KeyId};
use crate::secret::{Password, PrivateKeyPem, Token};

/// Everything that a cloud-config and the files that it names say.
///
/// Equality decides whether a changed file changes anything, so the contents of
/// certificates and keys are part of it, not their paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    /// How to reach OpenStack.
    pub cloud: Cloud,
    /// Which keys to hold and how.
    pub ring: Ring,
}

impl Live {
    /// A hash that tells configurations apart without their content: nodes with the same
    /// settings and version have the same. Secrets are not part of it.
    pub fn digest(&self) -> String {
        // Secrets print as "redacted", so what is printed is what may be known.
        short_digest(&format!("{self:?}"))
    }
}

/// Enough of a SHA-256 to tell a handful of texts apart.
pub(crate) fn short_digest(text: &str) -> String {
    const DIGEST_BYTES: usize = 8;
    let digest = Sha256::digest(text);
    let bytes = digest.iter().take(DIGEST_BYTES);
    bytes.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// How to reach Keystone and Barbican, and as whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Keystone's base, `http` or `https`, whose path ends in `/v3` without a
    /// slash.
    pub keystone: http::Uri,
    /// Who logs in, and how that is proved.
    pub identity: Identity,
    /// The scope of the token.
    pub scope: Scope,
    /// Only catalog endpoints of this region (by `region` or `region_id`).
    pub region: Option<String>,
    /// Which of the catalog's interfaces is used.
    pub interface: Interface,
    /// Barbican's base in place of the catalog's: `http` or `https`, whose path ends in
    /// `/v1` without a slash.
    pub barbican: Option<http::Uri>,
    /// How HTTPS servers are verified, and our client certificate.
    pub tls: Tls,
    /// Proxies from the environment.
    pub proxy: Proxy,
}

/// The `identity` part of a Keystone login.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// Method `password`.
    Password {
        /// Whose password.
        user: User,
        /// The password.
        password: Password,
    },
    /// Method `application_credential`, named by its id.
    ApplicationCredentialId {
        /// The credential's id.
        id: String,
        /// Its secret.
        secret: Password,
    },
    /// Method `application_credential`, named by its owner and name.
    ApplicationCredentialName {
        /// The credential's name.
        name: String,
        /// Its owner.
        user: User,
        /// Its secret.
        secret: Password,
    },
    /// Method `token`.
    Token(Token),
}

/// A Keystone user.
#[derive(Debug, PartialEq, Eq)]
pub enum User {
    /// By id, which is unique in all domains.
    Id(String),
    /// By name within a domain.
    Name {
        /// The user's name.
        name: String,
        /// The user's domain.
        domain: Domain,
    },
}

/// A Keystone domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// The `scope` part of a Keystone login.
#[derive(Debug, PartialEq, Eq)]
pub enum Scope {
    /// No scope is sent: what the identity itself carries (an application
    /// credential's project), or none.
    Unscoped,
    /// A project by its id.
    ProjectId(String),
    /// A project by its name within a domain.
    ProjectName {
        /// The project's name.
        name: String,
        /// The project's domain.
        domain: Domain,
    },
    /// A domain.
    Domain(Domain),
    /// A trust (OS-TRUST), by its id.
    Trust(String),
}

/// An interface of the service catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// `public`, the default.
    #[default]
    Public,
    /// `internal`.
    Internal,
    /// `admin`.
    Admin,
}

impl Interface {
    /// The word that the catalog uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// Settings for HTTPS.
#[derive(Debug, PartialEq, Eq)]
pub struct Tls {
    /// Which certificate authorities are trusted.
    pub roots: Roots,
    /// The client certificate, where the servers ask for one.
    pub client: Option<ClientCertificate>,
    /// False turns verification off.
    pub verify: bool,
}

/// The certificate authorities that are trusted.
#[derive(Debug, PartialEq, Eq)]
pub enum Roots {
    /// The host's store, or the bundled ones where the host has none.
    Host,
    /// Those of `ca-file` and nothing else, as the Go plugin does: the
    /// `CERTIFICATE` blocks in DER form, at least one.
    Only(Vec<Vec<u8>>),
}

/// A client certificate with its private key.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate chain in PEM form.
    pub chain_pem: Vec<u8>,
    /// The private key in PEM form.
    pub key_pem: PrivateKeyPem,
}

/// Proxies, as Go's net/http reads them from the environment: `HTTP_PROXY`,
/// `HTTPS_PROXY`, `NO_PROXY` in upper or lower case, and never `ALL_PROXY`.
///
/// A proxy URL may carry a password, so none of it is printed; of the exceptions what may
/// be shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// For `http` URLs.
    pub http: ProxyUrl,
    /// For `https` URLs.
    pub https: ProxyUrl,
    /// Hosts that are reached directly.
    pub no_proxy: String,
}

/// A proxy's URL as the environment has it; empty for none. In locked memory, as it may
/// carry a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyUrl(Option<Arc<Password>>);

impl ProxyUrl {
    /// The text in clear.
    pub fn expose_text(&self) -> &str {
        self.0.as_deref().map_or("", Password::expose_text)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<String> for ProxyUrl {
    /// Takes the text over and wipes the original.
    fn from(text: String) -> Self {
        let url = (!text.is_empty()).then(|| Arc::new(Password::new(text)));
        Self(url)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.no_proxy.split(',').map(|entry| {
            let (host, bits) = entry.split_once('/').unwrap_or((entry, ""));
            format!("{}/{}", redact::host(host.trim()), redact::name(bits))
        });
        f.debug_struct("Proxy")
            .field("http", &!self.http.is_empty())
            .field("https", &!self.https.is_empty())
            .field("no_proxy", &hosts.collect::<Vec<_>>())
            .finish()
    }
}

/// The keys to hold, and the rules for using them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The key that Encrypt uses; `None` while only a container can say it.
    pub write: Option<KeyId>,
    /// Further keys that Decrypt may use, in the order of the file, without
    /// duplicates and without the write key.
    pub decrypt: Vec<KeyId>,
    /// The list in Barbican that names the write key and further keys.
    pub container: Option<Container>,
    /// Whether Decrypt refuses data without an authentication tag.
    pub require_authentication: bool,
    /// How often each held key is confirmed with Barbican, before jitter.
    pub revalidate_interval: Duration,
    /// How long a key may go unconfirmed before it is wiped; `None` for ever.
    pub max_cache_age: Option<Duration>,
}

/// A container in Barbican that lists keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Keys that another user has created are refused.
    pub owner: Option<String>,
}

impl Ring {
    /// Every key of the ring, the write key first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.write.into_iter().chain(self.decrypt.iter().copied())
    }
}
