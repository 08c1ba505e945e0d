//! A gRPC connection to the sidecar's socket.
//!
//! Directly on hyper, as the server is. Dropping it closes the connection.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::config::redact;
use crate::proto::v2::key_management_service_client::KeyManagementServiceClient;

/// What kube-apiserver sends as `:authority` from 1.32 on; paths are refused by h2.
const ORIGIN: &str = "http://localhost";

/// Why a question to the sidecar has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("{}: nobody answers on the socket", redact::path(path))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody listens who does not speak HTTP/2.
    #[error("{}: what listens here does not speak gRPC", redact::path(path))]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What the HTTP library says.
        source: hyper::Error,
    },
    /// The deadline has passed.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The call was answered with an error.
    #[error("{call} failed: {}: {}", status.code(), status.message())]
    Call {
        /// The method.
        call: &'static str,
        /// The gRPC status.
        status: Status,
    },
    /// Status does not say what kube-apiserver wants to hear.
    #[error("status is not ok: version {version:?}, healthz {healthz:?}")]
    Unhealthy {
        /// Its version.
        version: String,
        /// Its healthz.
        healthz: String,
    },
    /// Decrypt gave something else than Encrypt was given.
    #[error("the wrapped seed does not unwrap to the same bytes")]
    Mismatch,
    /// The system gives no random numbers.
    #[error("the system provides no random numbers")]
    NoRandomness,
}

/// The next step where the sidecar is there and has no key.
pub(super) const CHECK: &str = "`barbican-kms check --cloud-config FILE` shows the cause in detail";

impl ClientError {
    /// What to do next.
    pub fn next_step(&self) -> &'static str {
        const LOG: &str = "see the sidecar's log";
        const OTHER: &str = "--socketpath names the socket of another program: correct it";
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "start the sidecar, or correct --socketpath; if the sidecar has exited, its \
                     last log line says why"
                }
                io::ErrorKind::ConnectionRefused => {
                    "the sidecar has exited: its last log line says why"
                }
                io::ErrorKind::PermissionDenied => {
                    "run the command as the user of the sidecar, or as root"
                }
                _ => "correct --socketpath",
            },
            Self::Timeout(_) => {
                "the sidecar hangs, or the machine is too busy: use a longer --timeout-ms, and see \
                 the sidecar's log"
            }
            Self::Call { status, .. } => match status.code() {
                Code::Unavailable => CHECK,
                Code::Unimplemented => OTHER,
                _ => LOG,
            },
            Self::Protocol { .. } | Self::Unhealthy { .. } => OTHER,
            Self::Mismatch => "this is a bug or broken memory: please report what the log says",
            Self::NoRandomness => "see what the kernel's log says",
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    /// Drives the connection.
    _driver: JoinSet<()>,
}

/// A client for the sidecar's own service.
pub type IntrospectionClient =
    crate::proto::introspection::introspection_client::IntrospectionClient<Channel>;

/// A client for KMS v2 calls.
pub type KmsClient = KeyManagementServiceClient<Channel>;

impl Connection {
    /// Connects to `socket`.
    ///
    /// # Errors
    /// When nobody listens there, or nobody who speaks HTTP/2.
    pub async fn open(socket: &Path) -> Result<Self, ClientError> {
        let path = || socket.to_owned();
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| ClientError::Connect {
                path: path(),
                source,
            })?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Protocol {
                path: path(),
                source,
            })?;
        let mut tasks = JoinSet::new();
        // Its error, if any, is the error of the call that was under way.
        tasks.spawn(async move { driver.await.unwrap_or_default() });
        Ok(Self {
            channel: Channel { sender },
            _driver: tasks,
        })
    }

    /// A client for KMS v2 calls on this connection.
    pub fn kms(&self) -> KmsClient {
        KeyManagementServiceClient::with_origin(self.channel.clone(), Uri::from_static(ORIGIN))
    }

    /// A client for the sidecar's own service on this connection.
    pub fn introspection(&self) -> IntrospectionClient {
        IntrospectionClient::with_origin(self.channel.clone(), Uri::from_static(ORIGIN))
    }
}

/// What tonic's generated clients run on.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: SendRequest<Body>,
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
