//! A gRPC connection to the sidecar's socket.
//!
//! Directly on hyper, as the server is. Dropping it closes the connection.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::probe::ProbeError;
use crate::proto::v2::key_management_service_client::KeyManagementServiceClient;

/// What kube-apiserver sends as `:authority` from 1.32 on; paths are refused by h2.
const ORIGIN: &str = "http://localhost";

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
    pub async fn open(socket: &Path) -> Result<Self, ProbeError> {
        let path = || socket.to_owned();
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| ProbeError::Connect {
                path: path(),
                source,
            })?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|source| ProbeError::Protocol {
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
