//! The OpenStack client: credentials in, a key out.
//!
//! Called by the refresher through [`crate::keyring::KeySource`], and step by step by `check`.
//! Invariant: no operation takes longer than [`Timing::operation`], and nothing
//! that is printed contains a secret.

mod barbican;
mod catalog;
mod connect;
mod container;
mod credential;
mod error;
mod excerpt;
mod hedge;
mod http;
mod json;
mod keystone;
mod proxy;
mod reading;
mod retry;
mod session;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::http::{Method, Uri};
use tokio::time::Instant;

pub use barbican::{Metadata, Order};
pub use catalog::{Endpoint, EndpointError};
pub use connect::Peer;
pub use container::{Access, Container, ContainerError};
pub use credential::{CredentialEnd, SOON, time_left};
pub use error::{Error, Problem, ReplyError, RequestError, RequestLine, TlsProblem};
pub use excerpt::{Excerpt, Responder};
#[cfg(test)]
pub(crate) use http::Servers;
pub use keystone::{AccessRule, Account, ApplicationCredential, RuleMatch, Session};
pub use proxy::ProxyError;
use retry::Budget;
pub use retry::Timing;
pub use tls::{TlsError, Trust, authority_warnings};

use crate::config::{Cloud, Identity, Interface, redact};
use crate::instruments::Instruments;
use crate::key_id::{ContainerId, KeyId};
use crate::secret::Kek;

/// Why a client cannot be created from the settings.
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
    /// Barbican's endpoint from the cloud-config, which takes precedence over the catalog.
    barbican: Option<Endpoint>,
    timing: Timing,
    trust: Trust,
    /// Whether the last fetch ended with an answer. Before the first there has been none.
    answered: AtomicBool,
}

/// A little more than that: Keystone counts whole seconds.
const A_SECOND: Duration = Duration::from_millis(1_100);

impl OpenStack {
    /// Prepares a client. It sends no request and reads no file: the host's
    /// certificates are read at the first connection.
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
        let names = cloud.login_names().into_iter();
        let hidden = names.filter(|text| !redact::is_public(text));
        let redactor = excerpt::Redactor::new(proxies.secrets().chain([own]).chain(hidden));
        let connector = connect::Connector::new(tls, proxies, timing.connect)?;
        let keystone = keystone::Keystone::new(cloud).ok_or(SetupError::Url)?;
        Ok(Self {
            http: http::Http::new(connector, redactor, timing.clone(), instruments),
            sessions: session::Sessions::new(keystone, timing.clone()),
            interface: cloud.interface,
            region: cloud.region.clone(),
            barbican: cloud.barbican.clone().map(Endpoint::of_setting),
            timing,
            trust,
            answered: AtomicBool::new(false),
        })
    }

    /// The same client, answered by `servers`.
    #[cfg(test)]
    pub(crate) fn answered_by(mut self, servers: Arc<dyn Servers>) -> Self {
        self.http = self.http.answered_by(servers);
        self
    }

    /// The authorities that are trusted for servers. [`Trust::Unverified`] deserves a
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

    /// Logs in, unless there is a current session.
    ///
    /// # Errors
    /// [`Error::Login`] or [`Error::Unavailable`].
    pub async fn login(&self) -> Result<Arc<Session>, Error> {
        let budget = self.budget();
        self.sessions.session(&self.http, None, budget).await
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
            let budget = self.budget();
            self.sessions
                .session(&self.http, Some(session), budget)
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
        // Barbican accepts no token without a project.
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
        let budget = self.budget();
        barbican::metadata(&self.http, &self.timing, session, endpoint, id, budget).await
    }

    /// What an order with this id has created. `None` after a refusal or any other failure.
    pub async fn order(&self, session: &Session, endpoint: &Endpoint, id: KeyId) -> Option<Order> {
        barbican::order(&self.http, session, endpoint, id, self.budget()).await
    }

    /// Reads a container with this very session.
    ///
    /// # Errors
    /// Any but of a login.
    pub async fn container_with(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        id: ContainerId,
    ) -> Result<Container, ContainerError> {
        let (http, timing, budget) = (&self.http, &self.timing, self.budget());
        Ok(container::read(http, timing, session, endpoint, id, budget).await?)
    }

    /// Asks who may use a container; `None` when the answer does not say. A credential that is
    /// limited to what a sidecar reads is [`Error::Denied`] here.
    ///
    /// # Errors
    /// As those of [`OpenStack::metadata`].
    pub async fn container_access(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        id: ContainerId,
    ) -> Result<Option<Access>, Error> {
        let (http, timing, budget) = (&self.http, &self.timing, self.budget());
        container::access(http, timing, session, endpoint, id, budget).await
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
        let budget = self.budget();
        barbican::payload(&self.http, &self.timing, session, endpoint, id, budget).await
    }

    fn budget(&self) -> Budget {
        Budget::until(Instant::now() + self.timing.operation)
    }
}

async fn addresses_of(host: &str) -> std::io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(host).await?.collect())
}
