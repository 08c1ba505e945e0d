//! The exec probe: asks a running sidecar over its socket, under a deadline.
//!
//! Made for images without a shell. Liveness never depends on Barbican: a sidecar that
//! answers "unavailable" is alive.

pub mod connection;
pub mod status;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

use self::connection::{Connection, KmsClient};
use crate::config::shown;
use crate::proto::v2;

/// What is asked.
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
    /// One line that says it.
    pub line: String,
    /// What a deep probe wrapped and unwrapped.
    pub round_trip: Option<RoundTrip>,
}

/// One Encrypt and Decrypt of random bytes, for looking at.
#[derive(Debug)]
pub struct RoundTrip {
    /// What went into Encrypt. Random, and used for nothing.
    pub seed: Vec<u8>,
    /// What Encrypt gave, and kube-apiserver would store.
    pub wrapped: v2::EncryptResponse,
    /// What Decrypt made of it.
    pub unwrapped: Vec<u8>,
}

/// Why a probe fails.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens.
    #[error("{}: nobody answers on the socket", shown::path(path))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody listens who does not speak HTTP/2.
    #[error("{}: what listens here does not speak gRPC", shown::path(path))]
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
    #[error("what was wrapped does not unwrap to the same bytes")]
    Mismatch,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The next step where the sidecar is there and has no key.
const CHECK: &str = "`barbican-kms check --cloud-config FILE` says in detail what is in the way";

impl ProbeError {
    /// What to do next.
    pub fn next_step(&self) -> &'static str {
        const LOG: &str = "see the sidecar's log";
        const OTHER: &str = "--socketpath names another program's socket: correct it";
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "start the sidecar, or correct --socketpath; a sidecar that has ended says why \
                     in its last log line"
                }
                io::ErrorKind::ConnectionRefused => {
                    "the sidecar has ended: its last log line says why"
                }
                io::ErrorKind::PermissionDenied => {
                    "ask as the user that the sidecar runs as, or as root"
                }
                _ => "correct --socketpath",
            },
            Self::Timeout(_) => {
                "the sidecar hangs, or the machine is too busy: give a longer --timeout-ms, and see \
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

/// Probes the sidecar at `socket`.
///
/// # Errors
/// When the answer is not the one that `depth` asks for, or none comes in time.
pub async fn probe(socket: &Path, depth: Depth, timeout: Duration) -> Result<Found, ProbeError> {
    tokio::time::timeout(timeout, ask(socket, depth))
        .await
        .unwrap_or(Err(ProbeError::Timeout(timeout)))
}

async fn ask(socket: &Path, depth: Depth) -> Result<Found, ProbeError> {
    let connection = Connection::open(socket).await?;
    let mut client = connection.kms();
    let status = match client.status(v2::StatusRequest {}).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if depth == Depth::Live && status.code() == Code::Unavailable => {
            let line = format!("alive, not ready: {}", status.message());
            return Ok(Found {
                line,
                round_trip: None,
            });
        }
        Err(status) => {
            return Err(ProbeError::Call {
                call: "Status",
                status,
            });
        }
    };
    if status.version != "v2" || status.healthz != "ok" {
        return Err(ProbeError::Unhealthy {
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

async fn round_trip(client: &mut KmsClient) -> Result<RoundTrip, ProbeError> {
    let mut seed = vec![0; 32];
    getrandom::fill(&mut seed).map_err(|_| ProbeError::NoRandomness)?;
    let uid = format!("probe-{}", std::process::id());
    let request = v2::EncryptRequest {
        plaintext: seed.clone(),
        uid: uid.clone(),
    };
    let wrapped = client
        .encrypt(request)
        .await
        .map_err(|status| ProbeError::Call {
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
        .map_err(|status| ProbeError::Call {
            call: "Decrypt",
            status,
        })?
        .into_inner()
        .plaintext;
    if unwrapped != seed {
        return Err(ProbeError::Mismatch);
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
