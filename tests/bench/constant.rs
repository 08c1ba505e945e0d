//! gRPC and nothing behind it: no server on hyper and tonic can be faster.

use std::collections::HashMap;
use std::path::Path;

use barbican_kms::proto::v2;
use barbican_kms::proto::v2::key_management_service_server::{
    KeyManagementService, KeyManagementServiceServer,
};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

/// As long as kube-apiserver's.
pub(crate) const SEED: &[u8; 32] = b"a seed that only benchmarks read";

/// Serves until it is dropped.
pub(crate) async fn serve(socket: &Path) {
    let listener = tokio::net::UnixListener::bind(socket).expect("a free socket");
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = KeyManagementServiceServer::new(Constant);
        let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut service = service.clone();
            async move { service.call(request).await }
        });
        connections.spawn(async move {
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), handler);
            // The client has gone.
            let _ = served.await;
        });
    }
}

struct Constant;

#[tonic::async_trait]
impl KeyManagementService for Constant {
    async fn status(
        &self,
        _: Request<v2::StatusRequest>,
    ) -> Result<Response<v2::StatusResponse>, Status> {
        Ok(Response::new(v2::StatusResponse {
            version: "v2".to_owned(),
            healthz: "ok".to_owned(),
            key_id: "b5309dfb-b326-4148-b0ad-e9cd1ec223a8".to_owned(),
        }))
    }

    async fn encrypt(
        &self,
        _: Request<v2::EncryptRequest>,
    ) -> Result<Response<v2::EncryptResponse>, Status> {
        Ok(Response::new(v2::EncryptResponse {
            ciphertext: vec![7; 64],
            key_id: "b5309dfb-b326-4148-b0ad-e9cd1ec223a8".to_owned(),
            annotations: HashMap::from([(
                "hmac-sha256.kms.barbican.openstack.org".to_owned(),
                vec![7; 32],
            )]),
        }))
    }

    async fn decrypt(
        &self,
        _: Request<v2::DecryptRequest>,
    ) -> Result<Response<v2::DecryptResponse>, Status> {
        Ok(Response::new(v2::DecryptResponse {
            plaintext: SEED.to_vec(),
        }))
    }
}
