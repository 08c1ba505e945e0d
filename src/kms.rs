//! The three KMS v2 calls: message in, domain call, message out.
//!
//! The only place where an error becomes a gRPC status. Texts on the wire are fixed
//! and short, because kube-apiserver shows them to its clients in `/readyz?verbose`.

mod call_guard;
mod connections;
mod error;
mod introspection;
pub mod server;
pub mod socket;
mod unknown_key_ids;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::audit::Trail;
use crate::envelope::{self, BLOCK_BYTES, TAG_ANNOTATION};
use crate::instruments::{Format, Instruments, Operation};
use crate::key_id::{KeyId, KeyIdError};
use crate::keyring::{KeyError, Keyring};
use crate::proto::v2::key_management_service_server::KeyManagementService;
use crate::proto::{PROBE_UID, v2};

use call_guard::CallGuard;
use error::CallError;
use unknown_key_ids::UnknownKeyIds;

/// The API version. It must never change while kube-apiserver lives
/// (k8s.io/apiserver, encryptionconfig/config.go).
const VERSION: &str = "v2";

/// The value that kube-apiserver accepts as healthy. With another value and a key id,
/// it would continue to write with the old seed forever, so an unhealthy answer is an
/// error.
const HEALTHY: &str = "ok";

/// The KMS v2 service over a keyring.
#[derive(Clone, Debug)]
pub struct Kms {
    keyring: Keyring,
    instruments: Arc<Instruments>,
    trail: Option<Trail>,
    unknown_key_ids: UnknownKeyIds,
}

impl Kms {
    /// The service that answers from `keyring`, counts what it does, and notes it on
    /// `trail`.
    pub fn new(keyring: Keyring, instruments: Arc<Instruments>, trail: Option<Trail>) -> Self {
        Self {
            keyring,
            instruments,
            trail,
            unknown_key_ids: UnknownKeyIds::default(),
        }
    }

    /// The keyring for a call with this uid. A probe's calls are not noted: `scripts/rotate-key`
    /// concludes from the use of a key what kube-apiserver does.
    fn keyring(&self, uid: &str) -> Cow<'_, Keyring> {
        if uid.starts_with(PROBE_UID) {
            Cow::Owned(self.keyring.without_notes())
        } else {
            Cow::Borrowed(&self.keyring)
        }
    }

    async fn encrypt(
        keyring: &Keyring,
        plaintext: &[u8],
    ) -> Result<(KeyId, envelope::Sealed), CallError> {
        let write = keyring.write_key().await?;
        let mut iv = [0; BLOCK_BYTES];
        #[expect(clippy::disallowed_methods, reason = "nobody may foresee an IV")]
        getrandom::fill(&mut iv).map_err(|_| CallError::NoRandomness)?;
        Ok((
            write.id,
            envelope::seal(&write.key, &write.id, plaintext, &iv)?,
        ))
    }

    async fn decrypt(
        &self,
        keyring: &Keyring,
        id: Result<KeyId, KeyIdError>,
        request: &v2::DecryptRequest,
    ) -> Result<Vec<u8>, CallError> {
        let id = id?;
        let found = keyring.key(&id).await.map_err(|error| match error {
            KeyError::NotInRing => {
                self.unknown_key_ids
                    .log(id, self.keyring.report().reloads.applied);
                CallError::NotInRing(id)
            }
            KeyError::NotLoaded(_) | KeyError::NoList(_) => CallError::Key(error),
        })?;
        let tag = request.annotations.get(TAG_ANNOTATION).map(Vec::as_slice);
        Ok(envelope::open(
            &found.key,
            &id,
            &request.ciphertext,
            tag,
            found.untagged,
        )?)
    }
}

#[tonic::async_trait]
impl KeyManagementService for Kms {
    async fn status(
        &self,
        _: Request<v2::StatusRequest>,
    ) -> Result<Response<v2::StatusResponse>, Status> {
        let key_id = self.keyring.status().map_err(CallError::from)?;
        Ok(Response::new(v2::StatusResponse {
            version: VERSION.to_owned(),
            healthz: HEALTHY.to_owned(),
            key_id: key_id.to_string(),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<v2::EncryptRequest>,
    ) -> Result<Response<v2::EncryptResponse>, Status> {
        let request = request.into_inner();
        let keyring = self.keyring(&request.uid);
        let mut call = CallGuard::new(Operation::Encrypt, self.trail.as_ref(), request.uid);
        let outcome = Self::encrypt(&keyring, &request.plaintext).await;
        call.set_key_id(outcome.as_ref().map(|(id, _)| *id).ok());
        call.finish(outcome.as_ref().err());
        let (id, sealed) = outcome?;
        self.instruments
            .key_operation(Operation::Encrypt, Format::Tagged);
        Ok(Response::new(v2::EncryptResponse {
            ciphertext: sealed.ciphertext,
            key_id: id.to_string(),
            annotations: HashMap::from([(TAG_ANNOTATION.to_owned(), sealed.tag.to_vec())]),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v2::DecryptRequest>,
    ) -> Result<Response<v2::DecryptResponse>, Status> {
        let mut request = request.into_inner();
        let uid = std::mem::take(&mut request.uid);
        let keyring = self.keyring(&uid);
        let mut call = CallGuard::new(Operation::Decrypt, self.trail.as_ref(), uid);
        let id = request.key_id.parse();
        call.set_key_id(id.ok());
        let outcome = self.decrypt(&keyring, id, &request).await;
        match &outcome {
            Ok(_) => self
                .instruments
                .key_operation(Operation::Decrypt, format(&request)),
            Err(error) => {
                if let Some(reason) = error.refusal() {
                    self.instruments.decrypt_refused(reason);
                }
            }
        }
        call.finish(outcome.as_ref().err());
        Ok(Response::new(v2::DecryptResponse {
            plaintext: outcome?,
        }))
    }
}

fn format(request: &v2::DecryptRequest) -> Format {
    if request.annotations.contains_key(TAG_ANNOTATION) {
        Format::Tagged
    } else {
        Format::Legacy
    }
}
