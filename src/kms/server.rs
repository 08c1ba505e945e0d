//! gRPC over HTTP/2 on the unix listener: accept, serve, drain.
//!
//! Directly on hyper, since tonic's server would bring a web framework along.
//! Invariant: no client can hold up another. Connections, streams, header and message
//! sizes are bounded; silent clients are cut off.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as _};
use tracing::{debug, info, warn};

use super::Kms;
use super::connections::{Activity, Connections};
use super::introspection::IntrospectionService;
use super::socket::{Listener, SocketOptions};
use crate::instruments::{Instruments, Method};
use crate::log::error_chain::ErrorChain;
use crate::log::throttle::{ACCEPT_QUIET_PERIOD, LogThrottle, SUMMARY_INTERVAL};
use crate::proto::introspection::introspection_server::IntrospectionServer;
use crate::proto::v2::key_management_service_server::KeyManagementServiceServer;

/// kube-apiserver has a cold start's decrypts in flight, a few dozen at most.
const STREAMS_PER_CONNECTION: u32 = 256;

/// A request carries at most 1 KiB of ciphertext, 1 KiB of key id and 32 KiB of
/// annotations (k8s.io/apiserver, kmsv2/envelope.go); gRPC adds little.
const MESSAGE_BYTES: usize = 64 * 1024;

/// All headers of a request. kube-apiserver sends about 200 bytes.
const HEADER_BYTES: u32 = 16 * 1024;

/// How long a new connection may take for its HTTP/2 preface and settings.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that sends nothing for this long gets a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// And is closed if it does not answer the ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one call may take from its first header to its answer. kube-apiserver
/// gives up after 3 s; this ends calls whose body never arrives.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Paths of the service that is our own.
const INTROSPECTION: &str = "/barbican_kms.v1.";

/// Pause after `accept` fails, which happens when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the socket's file is checked: it is deleted by hand, and kube-apiserver
/// calls every few seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the end waits for the socket's file to be removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, then removes the socket's file and lets calls in flight
/// finish for at most `drain`.
pub async fn serve(
    mut listener: Listener,
    kms: Kms,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) {
    let services = Services::new(kms);
    let graceful = GracefulShutdown::new();
    let mut open_connections = Connections::default();
    let mut accepting = LogThrottle::new(SUMMARY_INTERVAL);
    let mut renewal = pin!(renewed(listener.options().clone()));
    let mut connections = JoinSet::new();
    // Dropped when no more connections are accepted.
    let (open, closing) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    if let Some(failures) = accepting.on_success(ACCEPT_QUIET_PERIOD, Instant::now().into_std()) {
                        info!(failures, "connections are accepted again");
                    }
                    let activity = open_connections.make_room();
                    let services = services.clone();
                    let ends = Ends { drain: graceful.watcher(), closing: closing.clone() };
                    let serving = connection(stream, services, ends, activity.clone());
                    open_connections.add(activity, connections.spawn(serving));
                }
                Err(error) => {
                    if let Some(failures) = accepting.on_failure(error.kind(), Instant::now().into_std()) {
                        warn!(
                            failures,
                            "cannot accept a connection, retrying: {}", ErrorChain(&error)
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            new = &mut renewal => {
                renewal.set(renewed(new.options().clone()));
                // Nobody can reach the old one any more.
                drop(std::mem::replace(&mut listener, new).close());
            },
        }
    }
    // Close the listener first: a new client is then refused at once, instead of
    // waiting for an answer that does not come. Connections still in the backlog, or
    // without a first frame, get nothing; their clients connect again.
    let removed = listener.close();
    drop(open);
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        warn!(
            drain_seconds = drain.as_secs(),
            "calls in flight were cut off"
        );
    }
    let _ = tokio::time::timeout(REMOVAL_TIMEOUT, removed).await;
}

/// Looks after the socket's file, and listens again after it has been deleted.
async fn renewed(options: SocketOptions) -> Listener {
    let mut throttle = LogThrottle::new(SUMMARY_INTERVAL);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match Listener::bind_if_lost(&options).await {
            Ok(None) => {}
            Ok(Some(listener)) => {
                warn!("the socket's file was deleted; it has been created again");
                return listener;
            }
            Err(error) => {
                let kind = std::error::Error::source(&error)
                    .and_then(|source| source.downcast_ref::<io::Error>())
                    .map_or(ErrorKind::Other, io::Error::kind);
                if let Some(failures) = throttle.on_failure(kind, Instant::now().into_std()) {
                    warn!(
                        failures,
                        "the socket's file was deleted and cannot be created again, retrying: {}",
                        ErrorChain(&error)
                    );
                }
            }
        }
    }
}

/// The services of the socket.
#[derive(Clone)]
struct Services {
    kms: KeyManagementServiceServer<Kms>,
    introspection: IntrospectionServer<IntrospectionService>,
    instruments: Arc<Instruments>,
}

impl Services {
    fn new(kms: Kms) -> Self {
        let describe = IntrospectionService::new(kms.keyring.clone(), Arc::clone(&kms.instruments));
        Self {
            instruments: Arc::clone(&kms.instruments),
            kms: KeyManagementServiceServer::new(kms)
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
            introspection: IntrospectionServer::new(describe)
                .max_decoding_message_size(MESSAGE_BYTES),
        }
    }

    /// Each answers paths that it does not know with UNIMPLEMENTED.
    fn route(&self, request: Request<Incoming>) -> BoxFuture<Response<Body>, Infallible> {
        if request.uri().path().starts_with(INTROSPECTION) {
            self.introspection.clone().call(request)
        } else {
            self.kms.clone().call(request)
        }
    }
}

/// How a connection learns of the shutdown.
struct Ends {
    /// Lets the calls of a connection finish.
    drain: Watcher,
    closing: watch::Receiver<()>,
}

async fn connection(stream: UnixStream, services: Services, ends: Ends, activity: Activity) {
    let instruments = Arc::clone(&services.instruments);
    let _open = instruments.connections.enter();
    let greeted = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Greeting {
        stream,
        received: 0,
        greeted: Arc::clone(&greeted),
    });
    let handler = service_fn(move |request| call(&services, activity.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // gRPC does not ask for one.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, handler);
    tokio::select! {
        ended = ends.drain.watch(connection) => if let Err(error) = ended {
            debug!("connection ended: {}", ErrorChain(&error));
        },
        () = silence(&greeted, ends.closing) => debug!("connection closed: the client sent nothing"),
    }
}

/// The request goes into the service's box first: hyper moves what is returned several times.
fn call(
    services: &Services,
    activity: Activity,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let instruments = Arc::clone(&services.instruments);
    let method = method(request.uri().path());
    let answer = services.route(request);
    async move {
        let timer = instruments.call_began(method);
        let answer = tokio::time::timeout(CALL_TIMEOUT, answer).await;
        if answer.is_ok() {
            activity.answered();
        }
        let answer = answer.unwrap_or_else(|_| {
            Ok(tonic::Status::deadline_exceeded("the request did not arrive in time").into_http())
        });
        timer.answered(answer.as_ref().map_or(UNKNOWN, code));
        answer
    }
}

fn method(path: &str) -> Method {
    match path {
        "/v2.KeyManagementService/Status" => Method::Status,
        "/v2.KeyManagementService/Encrypt" => Method::Encrypt,
        "/v2.KeyManagementService/Decrypt" => Method::Decrypt,
        "/barbican_kms.v1.Introspection/Describe" => Method::Describe,
        _ => Method::Other,
    }
}

/// An error stands in the head of the answer; without one the body says OK.
fn code(answer: &Response<Body>) -> usize {
    let status = answer.headers().get("grpc-status");
    status.map_or(0, |status| {
        let text = status.to_str().ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN)
    })
}

/// gRPC's code for an internal error.
const UNKNOWN: usize = 2;

/// Ends when the client has sent nothing in time, or before the socket closes.
async fn silence(greeted: &AtomicBool, mut closing: watch::Receiver<()>) {
    let _ = tokio::time::timeout(HELLO_TIMEOUT, closing.changed()).await;
    if greeted.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Records when the client's preface and the head of its first frame have arrived: from
/// then on pings show whether it is alive.
struct Greeting {
    stream: UnixStream,
    received: usize,
    greeted: Arc<AtomicBool>,
}

/// The preface and one frame header (RFC 9113, sections 3.4 and 4.1).
const HELLO_BYTES: usize = 24 + 9;

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.received < HELLO_BYTES {
            self.received += buffer.filled().len() - before;
            if self.received >= HELLO_BYTES {
                self.greeted.store(true, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
