//! The generated gRPC code, with manual `Debug` implementations.
//!
//! Messages that can carry plaintext print sizes only.

mod codec;

use std::fmt;

pub use codec::SmallCodec;

/// Kubernetes KMS v2 (`proto/kms_v2.proto`).
pub mod v2 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::all,
        reason = "generated"
    )]
    tonic::include_proto!("v2");
}

/// What a sidecar reports about itself (`proto/barbican_kms_v1.proto`).
pub mod introspection {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::all,
        reason = "generated"
    )]
    tonic::include_proto!("barbican_kms.v1");
}

/// How the uid of a call begins that only tests the sidecar. kube-apiserver's are UUIDs.
pub const PROBE_UID: &str = "probe-";

impl fmt::Debug for v2::EncryptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptRequest")
            .field("uid", &self.uid)
            .field("plaintext_bytes", &self.plaintext.len())
            .finish()
    }
}

impl fmt::Debug for v2::EncryptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptResponse")
            .field("key_id", &self.key_id)
            .field("ciphertext_bytes", &self.ciphertext.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v2::DecryptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptRequest")
            .field("uid", &self.uid)
            .field("key_id", &self.key_id)
            .field("ciphertext_bytes", &self.ciphertext.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v2::DecryptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptResponse")
            .field("plaintext_bytes", &self.plaintext.len())
            .finish_non_exhaustive()
    }
}
