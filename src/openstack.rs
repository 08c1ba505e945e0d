//! The OpenStack client: credentials in, a key out.
//!
//! Called by the refresher through [`KeySource`], and step by step by `check`.
//! Invariant: no operation takes longer than [`Timing::operation`], and nothing
//! that is printed contains a secret.

mod barbican;
mod catalog;
mod connect;
mod credential;
mod error;
mod excerpt;
mod http;
mod json;
mod keystone;
mod proxy;
mod retry;
mod session;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode, Uri};
use tokio::time::Instant;

pub use barbican::{Metadata, Order};
pub use catalog::{Endpoint, EndpointError};
pub use connect::Peer;
pub use credential::{CredentialEnd, SOON, span};
pub use error::{Error, Problem, ReplyError, RequestError, RequestLine, TlsProblem};
pub use excerpt::{Excerpt, Speaker};
#[cfg(test)]
pub(crate) use http::Servers;
pub use keystone::{AccessRule, Account, ApplicationCredential, Fit, Session};
pub use proxy::ProxyError;
pub use retry::Timing;
pub use tls::{TlsError, Trust, authority_warnings};

use crate::config::{Cloud, Domain, Identity, Interface, Scope, User, redact};
use crate::instruments::Instruments;
use crate::key_id::KeyId;
use crate::keyring::{FetchError, KeySource};
use crate::secret::Kek;

/// Why a client cannot be made of the settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy variables.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Keystone's URL.
    #[error("auth-url is not an http or https URL")]
    Url,
}

/// A client of one cloud, as one user.
#[derive(Debug)]
pub struct OpenStack {
    http: http::Http,
    sessions: session::Sessions,
    interface: Interface,
    region: Option<String>,
    /// Barbican's place by the cloud-config, which counts before the catalog's.
    barbican: Option<Endpoint>,
    timing: Timing,
    trust: Trust,
}

/// A little more than that: Keystone counts whole seconds.
const A_SECOND: Duration = Duration::from_millis(1_100);

impl OpenStack {
    /// Prepares a client. Nothing is asked of anybody yet, and no file is read: the
    /// host's certificates wait for the first connection.
    ///
    /// # Errors
    /// When certificates, keys, proxies or the URL cannot be used.
    pub fn new(cloud: &Cloud, timing: Timing) -> Result<Self, SetupError> {
        Self::counted(cloud, timing, Arc::default())
    }

    /// The same, with its requests counted.
    ///
    /// # Errors
    /// As those of [`OpenStack::new`].
    pub fn counted(
        cloud: &Cloud,
        timing: Timing,
        instruments: Arc<Instruments>,
    ) -> Result<Self, SetupError> {
        let tls = tls::Settings::new(&cloud.tls)?;
        let trust = tls.trust();
        let proxies = Arc::new(proxy::Proxies::new(&cloud.proxy)?);
        let own = match &cloud.identity {
            Identity::Password { password: own, .. }
            | Identity::ApplicationCredentialId { secret: own, .. }
            | Identity::ApplicationCredentialName { secret: own, .. } => own.expose_text(),
            Identity::Token(token) => token.expose_text(),
        };
        // A server may repeat whom it was asked about; a secret can stand in any field.
        let named = named(cloud).filter(|text| !redact::is_public(text));
        let redactor = excerpt::Redactor::new(proxies.secrets().chain([own]).chain(named));
        let connector = connect::Connector::new(tls, proxies, timing.connect)?;
        let keystone = keystone::Keystone::new(cloud).ok_or(SetupError::Url)?;
        Ok(Self {
            http: http::Http::new(connector, redactor, &timing, instruments),
            sessions: session::Sessions::new(keystone, timing.clone()),
            interface: cloud.interface,
            region: cloud.region.clone(),
            barbican: cloud.barbican.clone().map(Endpoint::of_setting),
            timing,
            trust,
        })
    }

    /// The same client, answered by `servers`.
    #[cfg(test)]
    pub(crate) fn answered_by(mut self, servers: Arc<dyn Servers>) -> Self {
        self.http = self.http.answered_by(servers);
        self
    }

    /// Which authorities vouch for servers. [`Trust::Unverified`] deserves a
    /// loud warning, once, by the caller.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The URL of Keystone's logins.
    pub fn keystone(&self) -> &Uri {
        self.sessions.keystone().url()
    }

    /// The proxy on the way to `url`, as host and port.
    pub fn proxy(&self, url: &Uri) -> Option<&str> {
        self.http.proxy(url)
    }

    /// The addresses of the first host on the way to `url`: the proxy's if there
    /// is one, which then resolves the server's name.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn resolve(&self, url: &Uri) -> Result<Vec<SocketAddr>, Error> {
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = url.host().unwrap_or_default();
        let first = match self.http.proxy_address(url) {
            Some(proxy) => proxy.to_owned(),
            None => format!("{host}:{port}"),
        };
        let shown = redact::host(&first).to_string();
        let limit = self.timing.connect;
        let found = tokio::time::timeout(limit, addresses_of(&first)).await;
        let problem = match found {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(cause)) => Problem::Name {
                host: shown,
                cause: cause.to_string(),
            },
            Err(_) => Problem::NameTimeout { host: shown, limit },
        };
        Err(Error::Unavailable(RequestError {
            asked: RequestLine {
                method: Method::CONNECT,
                url: excerpt::printable_url(url),
            },
            problem,
        }))
    }

    /// Opens a connection to the server of `url`, proxy and TLS included, and
    /// closes it again.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(&self, url: &Uri) -> Result<Peer, Error> {
        self.http.connect(url).await.map_err(Error::Unavailable)
    }

    /// Logs in, unless there is a session in force.
    ///
    /// # Errors
    /// [`Error::Login`] or [`Error::Unavailable`].
    pub async fn login(&self) -> Result<Arc<Session>, Error> {
        let deadline = self.deadline();
        self.sessions.session(&self.http, None, deadline).await
    }

    /// Logs in once more, and asks whether the application credential of `session` ends.
    /// Two tokens that end at the same moment say so too, but not sooner than a token's
    /// life before that moment.
    ///
    /// # Errors
    /// As those of [`OpenStack::login`].
    pub async fn credential_end(&self, session: &Arc<Session>) -> Result<CredentialEnd, Error> {
        if session.account().application_credential.is_some()
            && self.sessions.credential_end() == CredentialEnd::Unknown
        {
            // Keystone counts whole seconds: within one, any two tokens end together.
            tokio::time::sleep(A_SECOND).await;
            let deadline = self.deadline();
            self.sessions
                .session(&self.http, Some(session), deadline)
                .await?;
        }
        Ok(self.sessions.credential_end())
    }

    /// Where Barbican is, by the cloud-config or else by the catalog of `session`.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn endpoint(&self, session: &Session) -> Result<Endpoint, Error> {
        let Some(endpoint) = &self.barbican else {
            return self.endpoint_of_catalog(session);
        };
        // Barbican takes no token that is for no project.
        let account = session.account();
        if session.catalog.is_empty() && account.project_id.is_none() && account.project.is_none() {
            return Err(Error::Endpoint(EndpointError::NoCatalog));
        }
        Ok(endpoint.clone())
    }

    /// Where Barbican is by the catalog, whatever the cloud-config says.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn endpoint_of_catalog(&self, session: &Session) -> Result<Endpoint, Error> {
        catalog::endpoint(&session.catalog, self.interface, self.region.as_deref())
            .map_err(Error::Endpoint)
    }

    /// What Barbican records about a key. A credential that is limited to
    /// payloads is [`Error::Denied`] here; that is no reason to log in again.
    ///
    /// # Errors
    /// Any but [`Error::Login`] and [`Error::NotAKey`].
    pub async fn metadata(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        id: KeyId,
    ) -> Result<Metadata, Error> {
        let deadline = self.deadline();
        barbican::metadata(&self.http, &self.timing, session, endpoint, id, deadline).await
    }

    /// What an order with this id has made. A refusal says nothing, like any other
    /// failure: then it is `None`.
    pub async fn order(&self, session: &Session, endpoint: &Endpoint, id: KeyId) -> Option<Order> {
        barbican::order(&self.http, session, endpoint, id, self.deadline()).await
    }

    /// Downloads a key with this very session.
    ///
    /// # Errors
    /// Any but [`Error::Login`].
    pub async fn payload(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        id: KeyId,
    ) -> Result<Kek, Error> {
        let deadline = self.deadline();
        barbican::payload(&self.http, &self.timing, session, endpoint, id, deadline).await
    }

    /// Downloads a key: logs in if need be, and once more if the token is
    /// refused, unless that has been in vain for this key a moment ago.
    ///
    /// # Errors
    /// Any.
    pub async fn key(&self, id: KeyId) -> Result<Kek, Error> {
        let deadline = self.deadline();
        let session = self.sessions.session(&self.http, None, deadline).await?;
        let outcome = self.read(&session, id, deadline).await;
        match is_token_taken(&outcome) {
            Some(false) if self.sessions.may_be_stale(&session, &id) => {}
            Some(true) => {
                self.sessions.trust(&id);
                return outcome;
            }
            _ => return outcome,
        }
        let session = self
            .sessions
            .session(&self.http, Some(&session), deadline)
            .await?;
        let outcome = self.read(&session, id, deadline).await;
        if is_token_taken(&outcome) == Some(false) {
            self.sessions.distrust(id);
        }
        outcome
    }

    async fn read(
        &self,
        session: &Arc<Session>,
        id: KeyId,
        deadline: Instant,
    ) -> Result<Kek, Error> {
        let endpoint = self.endpoint(session).inspect_err(|_| {
            // The catalog comes with the token only: look again next time.
            self.sessions.forget(session);
        })?;
        barbican::payload(&self.http, &self.timing, session, &endpoint, id, deadline).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timing.operation
    }
}

impl KeySource for OpenStack {
    async fn fetch(&self, id: KeyId) -> Result<Kek, FetchError> {
        Ok(self.key(id).await?)
    }
}

/// What a configuration says to name those who log in and what for.
fn named(cloud: &Cloud) -> impl Iterator<Item = &str> {
    let mut texts = Vec::new();
    let user = match &cloud.identity {
        Identity::Password { user, .. } => Some(user),
        Identity::ApplicationCredentialId { id, .. } => {
            texts.push(id);
            None
        }
        Identity::ApplicationCredentialName { name, user, .. } => {
            texts.push(name);
            Some(user)
        }
        Identity::Token(_) => None,
    };
    let mut domains = Vec::new();
    match user {
        None => {}
        Some(User::Id(id)) => texts.push(id),
        Some(User::Name { name, domain }) => {
            texts.push(name);
            domains.push(domain);
        }
    }
    match &cloud.scope {
        Scope::Unscoped => {}
        Scope::ProjectId(id) | Scope::Trust(id) => texts.push(id),
        Scope::ProjectName { name, domain } => {
            texts.push(name);
            domains.push(domain);
        }
        Scope::Domain(domain) => domains.push(domain),
    }
    let domains = domains.into_iter().map(|domain| match domain {
        Domain::Id(text) | Domain::Name(text) => text,
    });
    texts.into_iter().chain(domains).map(String::as_str)
}

async fn addresses_of(host: &str) -> std::io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(host).await?.collect())
}

/// What Barbican thinks of the token; `None` when it has not come to that.
fn is_token_taken(outcome: &Result<Kek, Error>) -> Option<bool> {
    match outcome {
        Err(Error::Denied { refusal }) => {
            Some(refusal.problem.status() != Some(StatusCode::UNAUTHORIZED))
        }
        Ok(_) | Err(Error::NotFound(_) | Error::NotAKey(_) | Error::NotBytes(_)) => Some(true),
        Err(Error::Unavailable(_) | Error::Login { .. } | Error::Endpoint(_)) => None,
    }
}
