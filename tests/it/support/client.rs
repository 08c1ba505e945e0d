//! Our own KMS v2 client: one connection to a socket.

use std::path::Path;

use barbican_kms::cli::client::ClientError;
use barbican_kms::cli::client::{Connection, KmsClient};
use barbican_kms::proto::v2;
use tonic::{Code, Status};

/// Closes its connection when it is dropped.
pub(crate) struct Client {
    kms: KmsClient,
    _connection: Connection,
}

impl Client {
    pub(crate) async fn open(socket: &Path) -> Result<Self, ClientError> {
        let connection = Connection::open(socket).await?;
        Ok(Self {
            kms: connection.kms(),
            _connection: connection,
        })
    }

    pub(crate) async fn status(&self) -> Result<v2::StatusResponse, Status> {
        let answer = self.kms.clone().status(v2::StatusRequest {}).await;
        answer.map(tonic::Response::into_inner)
    }

    pub(crate) async fn encrypt(&self, seed: &[u8]) -> Result<v2::EncryptResponse, Status> {
        let request = v2::EncryptRequest {
            plaintext: seed.to_vec(),
            uid: "test-encrypt".to_owned(),
        };
        let answer = self.kms.clone().encrypt(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Unwraps what Encrypt gave, as kube-apiserver would.
    pub(crate) async fn decrypt(&self, wrapped: &v2::EncryptResponse) -> Result<Vec<u8>, Status> {
        self.send(request(wrapped)).await
    }

    pub(crate) async fn send(&self, request: v2::DecryptRequest) -> Result<Vec<u8>, Status> {
        let answer = self.kms.clone().decrypt(request).await;
        answer.map(|answer| answer.into_inner().plaintext)
    }

    /// Wraps and unwraps a seed; panics unless that works.
    pub(crate) async fn round_trip(&self) -> v2::EncryptResponse {
        let wrapped = self.encrypt(SEED).await.expect("Encrypt works");
        let seed = self.decrypt(&wrapped).await.expect("Decrypt works");
        assert_eq!(seed, SEED);
        wrapped
    }
}

/// What the tests wrap: as long as kube-apiserver's, and easy to find in output.
pub(crate) const SEED: &[u8; 32] = b"a seed that nobody may ever read";

pub(crate) fn request(wrapped: &v2::EncryptResponse) -> v2::DecryptRequest {
    v2::DecryptRequest {
        ciphertext: wrapped.ciphertext.clone(),
        uid: "test-decrypt".to_owned(),
        key_id: wrapped.key_id.clone(),
        annotations: wrapped.annotations.clone(),
    }
}

/// Code and text of a call that must fail.
pub(crate) fn refusal<T>(outcome: Result<T, Status>) -> (Code, String) {
    match outcome {
        Ok(_) => panic!("the call was served"),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}
