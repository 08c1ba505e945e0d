//! From a URL to an open connection: name, proxy, TCP, TLS, under one deadline.
//!
//! Used by `http`. Invariant: every way to a connection passes [`Connector`], so
//! all of it together takes no longer than the connect timeout.

mod stream;

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use rustls::ClientConfig;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::error::{Problem, TlsProblem};
use super::proxy::{Proxies, ProxyServer};
use super::tls::{self, TlsError};
use crate::config::redact;

pub use stream::Peer;
use stream::Stream;

type BoxError = Box<dyn StdError + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Opens connections; the error is already a [`Problem`].
#[derive(Clone)]
pub(super) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    tcp: HttpConnector<Resolver>,
    tls: Arc<tls::Settings>,
    /// Made for the first connection with TLS: the host's certificates may have to be
    /// read.
    ready: OnceCell<HttpsConnector<Routed>>,
    proxies: Arc<Proxies>,
    limit: Duration,
}

impl Connector {
    /// Does no I/O.
    pub(super) fn new(
        tls: tls::Settings,
        proxies: Arc<Proxies>,
        limit: Duration,
    ) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared out among the addresses of a name, so that one dead address
        // does not use up the time of all.
        tcp.set_connect_timeout(Some(limit));
        let ready = if tls.reads_files() {
            None
        } else {
            Some(https(tls.config()?, &tcp, &proxies))
        };
        Ok(Self {
            shared: Arc::new(Shared {
                tcp,
                tls: Arc::new(tls),
                ready: OnceCell::new_with(ready),
                proxies,
                limit,
            }),
        })
    }

    pub(super) fn proxies(&self) -> &Proxies {
        &self.shared.proxies
    }
}

impl Shared {
    async fn https(&self) -> Result<HttpsConnector<Routed>, Problem> {
        let make = || async {
            let tls = Arc::clone(&self.tls);
            // Calls are served by the thread that we are on.
            let config = tokio::task::spawn_blocking(move || tls.config());
            let unusable = |cause: String| Problem::Tls(TlsProblem::Other(cause));
            match config.await {
                Ok(Ok(config)) => Ok(https(config, &self.tcp, &self.proxies)),
                Ok(Err(error)) => Err(unusable(error.to_string())),
                Err(error) => Err(unusable(error.to_string())),
            }
        };
        self.ready.get_or_try_init(make).await.cloned()
    }

    async fn connect(&self, url: Uri) -> Result<MaybeHttpsStream<Stream>, Problem> {
        let proxy = self.proxies.for_url(&url).map(ProxyServer::shown);
        let connected = if proxy.is_none() && url.scheme() == Some(&Scheme::HTTP) {
            let stream = self.tcp.clone().call(url).await;
            let stream = stream.map(MaybeHttpsStream::Http).map(Stream::direct);
            stream.map(MaybeHttpsStream::Http).map_err(BoxError::from)
        } else {
            self.https().await?.call(url).await
        };
        match connected {
            Ok(stream) => Ok(stream),
            Err(error) if timed_out(error.as_ref()) => {
                Err(Problem::ConnectTimeout { limit: self.limit })
            }
            Err(error) => Err(problem(error.as_ref(), proxy)),
        }
    }
}

fn https(
    tls: ClientConfig,
    tcp: &HttpConnector<Resolver>,
    proxies: &Arc<Proxies>,
) -> HttpsConnector<Routed> {
    let tls = Arc::new(tls);
    let routed = Routed {
        to_proxy: HttpsConnector::from((tcp.clone(), Arc::clone(&tls))),
        tcp: tcp.clone(),
        proxies: Arc::clone(proxies),
    };
    HttpsConnector::from((routed, tls))
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = Problem;
    type Future = BoxFuture<Self::Response, Problem>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let limit = shared.limit;
            let connected = tokio::time::timeout(limit, shared.connect(url)).await;
            connected.unwrap_or(Err(Problem::ConnectTimeout { limit }))
        })
    }
}

/// The share of one address has run out, which ends at the same time as ours.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// What a failed connection means.
fn problem(error: &(dyn StdError + 'static), proxy: Option<&str>) -> Problem {
    if let Some(Unresolved { host, cause }) = find(error) {
        return Problem::Name {
            host: redact::host(host).to_string(),
            cause: cause.to_string(),
        };
    }
    if let (Some(NoTunnel(reason)), Some(proxy)) = (find(error), proxy) {
        return Problem::Proxy {
            proxy: proxy.to_owned(),
            reason: reason.clone(),
        };
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return Problem::Tls(tls::problem(error));
    }
    let cause = innermost(error);
    Problem::Connect(match proxy {
        Some(proxy) => format!("{cause} (through the proxy {proxy})"),
        None => cause,
    })
}

/// The first error of type `T` in the chain, also inside of `io::Error`s, whose
/// `source` skips what they wrap.
pub(super) fn find<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The text of the last error in the chain: the outer ones only say "error".
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {cause}")]
struct Unresolved {
    host: String,
    cause: io::Error,
}

/// The proxy was reached and did not open a tunnel. hyper-util's error for that
/// has no public name, only a text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoTunnel(String);

/// The system's resolver; its errors can be told from those of connecting.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = BoxFuture<Self::Response, Unresolved>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let resolving = self.0.call(name);
        Box::pin(async move {
            match resolving.await {
                Ok(addresses) => Ok(addresses.collect::<Vec<_>>().into_iter()),
                Err(cause) => Err(Unresolved { host, cause }),
            }
        })
    }
}

/// Directly, or through the proxy that the rules name.
#[derive(Clone)]
struct Routed {
    tcp: HttpConnector<Resolver>,
    /// A proxy may itself be reached by HTTPS.
    to_proxy: HttpsConnector<HttpConnector<Resolver>>,
    proxies: Arc<Proxies>,
}

impl Service<Uri> for Routed {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.for_url(&url) else {
            let connecting = self.tcp.call(url);
            return Box::pin(async move {
                let stream = connecting.await?;
                Ok(Stream::direct(MaybeHttpsStream::Http(stream)))
            });
        };
        if url.scheme() == Some(&Scheme::HTTPS) {
            let mut tunnel = Tunnel::new(proxy.url.clone(), self.to_proxy.clone());
            if let Some(authorization) = proxy.authorization() {
                tunnel = tunnel.with_auth(authorization);
            }
            let connecting = tunnel.call(url);
            return Box::pin(async move {
                let inner = connecting.await.map_err(|error| match error.source() {
                    Some(_) => error.into(),
                    None => BoxError::from(NoTunnel(error.to_string())),
                })?;
                Ok(Stream::direct(inner))
            });
        }
        let connecting = self.to_proxy.call(proxy.url.clone());
        Box::pin(async move {
            Ok(Stream {
                inner: connecting.await?,
                absolute: true,
            })
        })
    }
}
