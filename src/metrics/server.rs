//! HTTP/1 on `--metrics-address`: `/metrics`, `/livez` and `/readyz`.
//!
//! Invariant: whatever happens here, the key service does not notice. An address that
//! cannot be bound is an error in the log and is tried again; connections, header sizes
//! and times are bounded, and one connection carries one request.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Exposition, Metrics};
use crate::log::throttle::{ACCEPT_QUIET_PERIOD, LogThrottle, REPEAT_INTERVAL, SUMMARY_INTERVAL};

/// A Prometheus or two, and somebody with curl.
const CONNECTIONS: usize = 16;

/// From accept to the last byte of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The least that hyper accepts; a scrape's header has some hundred bytes.
const HEADER_BYTES: usize = 8 * 1024;

/// How long to wait before an address that is taken is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(15);

/// Pause after `accept` fails, which is for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves for as long as it is polled.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> Infallible {
    let metrics = Arc::new(metrics);
    let listener = bind(address).await;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut accepting = LogThrottle::new(SUMMARY_INTERVAL);
    loop {
        tokio::select! {
            accepted = accept(&listener, &room) => match accepted {
                Ok((stream, permit)) => {
                    if let Some(failures) = accepting.on_success(ACCEPT_QUIET_PERIOD, Instant::now().into_std()) {
                        info!(%address, failures, "connections for metrics are accepted again");
                    }
                    connections.spawn(connection(stream, Arc::clone(&metrics), permit));
                }
                Err(error) => {
                    if let Some(failures) = accepting.on_failure(error.kind(), Instant::now().into_std()) {
                        warn!(
                            %address, failures,
                            "cannot accept a connection for metrics, retrying: {error}"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Until it works: the process that has the address may end, or an interface may come up.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut binding = LogThrottle::new(REPEAT_INTERVAL);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                let failures = binding
                    .on_success(Duration::ZERO, Instant::now().into_std())
                    .unwrap_or(0);
                info!(%address, failures, "serving metrics");
                return listener;
            }
            Err(error) => match binding.on_failure(error.kind(), Instant::now().into_std()) {
                None => debug!(%address, "still cannot listen for metrics: {error}"),
                Some(failures) => {
                    let hint = hint(error.kind());
                    let retry_seconds = BIND_PAUSE.as_secs();
                    error!(
                        %address, failures, retry_seconds,
                        "no metrics; Encrypt and Decrypt are not affected: {error}; {hint}"
                    );
                }
            },
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => {
            "another process uses this port (`ss -ltnp` shows which): stop it, or use another \
             --metrics-address"
        }
        ErrorKind::AddrNotAvailable => {
            "this host has no such address: --metrics-address must be an address of this host, or \
             127.0.0.1"
        }
        ErrorKind::PermissionDenied => "ports below 1024 need privileges: use a higher one",
        _ => "use another --metrics-address",
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so there always is a permit.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    Ok((listener.accept().await?.0, permit))
}

async fn connection(
    stream: TcpStream,
    metrics: Arc<Metrics>,
    _permit: Option<OwnedSemaphorePermit>,
) {
    let handler = service_fn(move |request| {
        let answer = answer(&metrics, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), handler);
    match tokio::time::timeout(REQUEST_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("metrics connection ended: {error}"),
        Err(_) => debug!("metrics connection closed: it took too long"),
    }
}

fn answer(metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let exposition = requested(request.headers().get(ACCEPT));
            let kind = HeaderValue::from_static(match exposition {
                Exposition::OpenMetrics => {
                    "application/openmetrics-text; version=1.0.0; charset=utf-8"
                }
                Exposition::Classic => "text/plain; version=0.0.4; charset=utf-8",
            });
            let mut page = plain(StatusCode::OK, metrics.text(exposition));
            page.headers_mut().insert(CONTENT_TYPE, kind);
            page
        }
        // A client that gets this answer knows that the only thread is not stuck.
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match metrics.ready() {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /metrics, /livez and /readyz\n",
        ),
    }
}

fn requested(accept: Option<&HeaderValue>) -> Exposition {
    let accept = accept.and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        Exposition::OpenMetrics
    } else {
        Exposition::Classic
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
