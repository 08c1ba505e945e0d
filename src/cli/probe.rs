//! The exec probe: calls a running sidecar on its socket, with a deadline.
//!
//! It is for images without a shell. Liveness never depends on Barbican: a sidecar that
//! answers "unavailable" is alive.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tonic::Code;

use super::client::{ClientError, Connection, KmsClient};
use crate::proto::{PROBE_UID, v2};

/// What to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Does it answer Status at all?
    Live,
    /// Is Status ok?
    Ready,
    /// Does it unwrap what it wraps?
    Deep,
}

/// What a probe has found.
#[derive(Debug)]
pub struct Found {
    /// The result in one line.
    pub line: String,
    /// What a deep probe wrapped and unwrapped.
    pub round_trip: Option<RoundTrip>,
}

/// One Encrypt and Decrypt of random bytes, to be printed.
#[derive(Debug)]
pub struct RoundTrip {
    /// What went into Encrypt. Random, and used for nothing.
    pub seed: Vec<u8>,
    /// What Encrypt returned, and kube-apiserver would store.
    pub wrapped: v2::EncryptResponse,
    /// What Decrypt returned for it.
    pub unwrapped: Vec<u8>,
}

/// Probes the sidecar at `socket`.
///
/// # Errors
/// When the answer is not the one that `depth` expects, or there is none in time.
pub async fn probe(socket: &Path, depth: Depth, timeout: Duration) -> Result<Found, ClientError> {
    tokio::time::timeout(timeout, ask(socket, depth))
        .await
        .unwrap_or(Err(ClientError::Timeout(timeout)))
}

async fn ask(socket: &Path, depth: Depth) -> Result<Found, ClientError> {
    let connection = Connection::open(socket).await?;
    let mut client = connection.kms();
    let status = match client.status(v2::StatusRequest {}).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if depth == Depth::Live && status.code() == Code::Unavailable => {
            let line = format!("alive, but not ready: {}", status.message());
            return Ok(Found {
                line,
                round_trip: None,
            });
        }
        Err(status) => {
            return Err(ClientError::Call {
                call: "Status",
                status,
            });
        }
    };
    if status.version != "v2" || status.healthz != "ok" {
        return Err(ClientError::Unhealthy {
            version: status.version,
            healthz: status.healthz,
        });
    }
    let key_id = status.key_id;
    let (line, round_trip) = match depth {
        Depth::Live => (format!("alive and ready, key {key_id}"), None),
        Depth::Ready => (format!("ready, key {key_id}"), None),
        Depth::Deep => {
            let round_trip = round_trip(&mut client).await?;
            (
                format!("ready, key {key_id} wraps and unwraps"),
                Some(round_trip),
            )
        }
    };
    Ok(Found { line, round_trip })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a seed to wrap, as kube-apiserver makes one"
)]
async fn round_trip(client: &mut KmsClient) -> Result<RoundTrip, ClientError> {
    let mut seed = vec![0; 32];
    getrandom::fill(&mut seed).map_err(|_| ClientError::NoRandomness)?;
    let uid = format!("{PROBE_UID}{}", std::process::id());
    let request = v2::EncryptRequest {
        plaintext: seed.clone(),
        uid: uid.clone(),
    };
    let wrapped = client
        .encrypt(request)
        .await
        .map_err(|status| ClientError::Call {
            call: "Encrypt",
            status,
        })?
        .into_inner();
    let request = v2::DecryptRequest {
        ciphertext: wrapped.ciphertext.clone(),
        uid,
        key_id: wrapped.key_id.clone(),
        annotations: wrapped.annotations.clone(),
    };
    let unwrapped = client
        .decrypt(request)
        .await
        .map_err(|status| ClientError::Call {
            call: "Decrypt",
            status,
        })?
        .into_inner()
        .plaintext;
    if unwrapped != seed {
        return Err(ClientError::Mismatch);
    }
    Ok(RoundTrip {
        seed,
        wrapped,
        unwrapped,
    })
}

impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Encrypt  plaintext   {}", hex(&self.seed))?;
        writeln!(f, "         key id      {}", self.wrapped.key_id)?;
        writeln!(f, "         ciphertext  {}", hex(&self.wrapped.ciphertext))?;
        for (name, value) in &self.wrapped.annotations {
            writeln!(f, "         annotation  {name} = {}", hex(value))?;
        }
        write!(f, "Decrypt  plaintext   {}", hex(&self.unwrapped))
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
