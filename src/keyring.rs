//! The keys in force: [`Keyring`] for its many readers, [`Refresher`] as the single
//! writer.
//!
//! A reader clones an `Arc` out of the current snapshot and lets go. The only
//! waiting is for a key that is configured and not loaded, and it is bounded.

mod clock;
mod key_set;
mod loader;
mod refresh;
mod reload;
mod report;
mod schedule;
mod snapshot;
mod writer;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::envelope::{Untagged, WrappingKey};
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::{self, Kek, Protection};

pub use clock::Clock;
pub use refresh::Refresher;
pub use reload::ConfigUpdate;
pub use report::{DroppedKey, ReloadOutcome, Report};
pub use schedule::MISS_WAIT;
pub use snapshot::{KeyProblem, Slot, Snapshot};

/// Where keys come from. The one thing tests replace.
pub trait KeySource: Send + Sync + 'static {
    /// Downloads one key. Retries of single requests, logins and deadlines are
    /// the source's business; when to try again later is the caller's.
    fn fetch(&self, id: KeyId) -> impl Future<Output = Result<Kek, FetchError>> + Send;
}

/// Why a key could not be had; each variant is a different thing to do next.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answered, or with a passing error: try again soon.
    #[error("OpenStack is unavailable")]
    Unavailable {
        /// The source's own error.
        #[source]
        cause: Cause,
        /// How long the server has asked not to be asked again, if it has.
        retry_after: Option<Duration>,
    },
    /// Keystone refuses the credentials: try again rarely, repeated failures can
    /// lock the account.
    #[error("Keystone refuses the login")]
    Login {
        /// The source's own error.
        #[source]
        cause: Cause,
        /// How long the source will not ask Keystone again.
        again_in: Duration,
    },
    /// Barbican knows us and refuses this key (401 after a new login, or 403).
    #[error("Barbican refuses access to the key")]
    Denied(#[source] Cause),
    /// Barbican has no such key: deleted, expired or never there (404).
    #[error("Barbican has no such key")]
    NotFound(#[source] Cause),
    /// Barbican's answer is not an AES key.
    #[error("Barbican holds something else than an AES key")]
    NotAKey(#[source] Cause),
    /// The source has panicked.
    #[error("the download crashed, which is a bug: please report what the log says before this")]
    Crashed,
}

/// The error of an edge, of which the core knows only the text.
pub type Cause = Box<dyn Error + Send + Sync>;

impl FetchError {
    fn problem(&self) -> KeyProblem {
        match self {
            Self::Unavailable { .. } => KeyProblem::Unavailable,
            Self::Login { .. } => KeyProblem::Login,
            Self::Denied(_) => KeyProblem::Denied,
            Self::NotFound(_) => KeyProblem::NotFound,
            Self::NotAKey(_) => KeyProblem::NotAKey,
            Self::Crashed => KeyProblem::Crashed,
        }
    }

    /// For how long another fetch is unwelcome, or of no use.
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Login { again_in, .. } => Some(*again_in),
            Self::Denied(_) | Self::NotFound(_) | Self::NotAKey(_) | Self::Crashed => None,
        }
    }
}

/// Why a request gets no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key id is neither `key-id` nor one of `decrypt-key-ids`. Nothing was asked
    /// of Barbican: who can write to etcd must not choose what is read there.
    #[error("the key id is not configured")]
    NotInRing,
    /// The key is configured, and could not be loaded in time.
    #[error("the key-encryption key is not loaded: {0}")]
    NotLoaded(KeyProblem),
}

/// The readers' side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keyring {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// The key that Encrypt uses, with the id that goes with it.
#[derive(Clone, Debug)]
pub struct WriteKey {
    /// Its id.
    pub id: KeyId,
    /// The key.
    pub key: Arc<WrappingKey>,
}

/// A key for Decrypt, with the policy that was in force with it.
#[derive(Clone, Debug)]
pub struct DecryptKey {
    /// The key.
    pub key: Arc<WrappingKey>,
    /// What to do with data that carries no tag.
    pub untagged: Untagged,
}

/// What the single writer publishes.
#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    report: ArcSwap<Report>,
    clock: Clock,
    /// Since when the coarse clock counts.
    begin: Instant,
    /// The coarse clock: seconds since `begin`, and one. The writer sets it at least once
    /// a minute, so that a call need read no clock to note when it used a key.
    second: AtomicU64,
}

/// What readers ask of the writer.
#[derive(Debug)]
enum Request {
    /// Load this key soon; drop the sender when an attempt has ended.
    Load(KeyId, oneshot::Sender<()>),
    /// Confirm every key now.
    Revalidate,
}

impl Keyring {
    /// The id of the write key if that key is held: the answer to Status. No waiting.
    ///
    /// # Errors
    /// What keeps the write key from being held.
    pub fn status(&self) -> Result<KeyId, KeyError> {
        let snapshot = self.shared.snapshot.load();
        if mutation::active(Mutation::StatusIsConstant) {
            return Ok(snapshot.write_id());
        }
        self.held(&snapshot, &snapshot.write_id())
            .map(|_| snapshot.write_id())
    }

    /// The write key and its id, from one snapshot.
    ///
    /// # Errors
    /// When the key is not held, and does not come within [`MISS_WAIT`].
    pub async fn write_key(&self) -> Result<WriteKey, KeyError> {
        self.wait_for_key(|snapshot| {
            let id = snapshot.write_id();
            self.taken(snapshot, &id)
                .map(|key| WriteKey { id, key })
                .map_err(|error| (id, error))
        })
        .await
    }

    /// The key `id` for Decrypt.
    ///
    /// # Errors
    /// When `id` is not of the ring, or its key is not held and does not come within
    /// [`MISS_WAIT`].
    pub async fn key(&self, id: &KeyId) -> Result<DecryptKey, KeyError> {
        self.wait_for_key(|snapshot| {
            self.taken(snapshot, id)
                .map(|key| DecryptKey {
                    key,
                    untagged: snapshot.untagged(),
                })
                .map_err(|error| (*id, error))
        })
        .await
    }

    /// How the keys that are held are protected, the least protected of them counting;
    /// before one is held, how it would be.
    pub fn protection(&self) -> Protection {
        let snapshot = self.shared.snapshot.load();
        snapshot.protection().unwrap_or_else(secret::protection)
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// What the writer has done so far.
    pub fn report(&self) -> Arc<Report> {
        self.shared.report.load_full()
    }

    /// The clock that the times of snapshots are from.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Asks for every key to be confirmed now.
    pub fn revalidate(&self) {
        // A full queue means that the writer has much to do already.
        let _ = self.requests.try_send(Request::Revalidate);
    }

    /// The key `id` for a call, which is noted.
    fn taken(&self, snapshot: &Snapshot, id: &KeyId) -> Result<Arc<WrappingKey>, KeyError> {
        let (slot, key) = self.held(snapshot, id)?;
        slot.note_use(self.shared.second.load(Ordering::Relaxed));
        Ok(Arc::clone(key))
    }

    fn held<'a>(
        &self,
        snapshot: &'a Snapshot,
        id: &KeyId,
    ) -> Result<(&'a Slot, &'a Arc<WrappingKey>), KeyError> {
        let slot = snapshot.slot(id).ok_or(KeyError::NotInRing)?;
        let key = slot.key().ok_or(KeyProblem::Pending);
        key.and_then(|key| {
            // The writer wipes it, but a machine that was suspended may ask first. The
            // clock is only read where keys have an age.
            match snapshot.max_cache_age() {
                Some(age)
                    if slot.is_stale(age, self.shared.clock.now())
                        && !mutation::active(Mutation::OldKeysAreUsed) =>
                {
                    Err(KeyProblem::Unconfirmed)
                }
                _ => Ok((slot, key)),
            }
        })
        .map_err(|otherwise| KeyError::NotLoaded(slot.problem().unwrap_or(otherwise)))
    }

    async fn wait_for_key<T>(
        &self,
        look: impl Fn(&Snapshot) -> Result<T, (KeyId, KeyError)>,
    ) -> Result<T, KeyError> {
        let missing = match look(&self.shared.snapshot.load()) {
            Ok(found) => return Ok(found),
            Err((id, KeyError::NotLoaded(_))) => id,
            Err((_, refused)) => return Err(refused),
        };
        let loading = async {
            let (done, attempt) = oneshot::channel();
            if self
                .requests
                .send(Request::Load(missing, done))
                .await
                .is_ok()
            {
                let _ = attempt.await;
            }
        };
        // Either way the snapshot says what came of it.
        let limit = if mutation::active(Mutation::MissesWaitLong) {
            2 * MISS_WAIT
        } else {
            MISS_WAIT
        };
        let _ = tokio::time::timeout(limit, loading).await;
        look(&self.shared.snapshot.load()).map_err(|(_, error)| error)
    }
}

#[cfg(test)]
mod tests;
