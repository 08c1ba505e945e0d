//! The keys in use: [`Keyring`] for the many readers, [`Refresher`] as the single writer.
//!
//! A reader clones an `Arc` out of the current snapshot. It waits only for a key that
//! is configured but not loaded, and only for a limited time.

mod clock;
mod follow;
mod follower;
mod key_problem;
mod key_set;
mod listing;
mod loader;
mod refresh;
mod reload;
mod report;
mod roster;
mod rotation;
mod schedule;
mod slot;
mod snapshot;
mod source;
mod usage;
mod write_key_stays;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::envelope::{Untagged, WrappingKey};
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::{self, Protection};

pub use clock::Clock;
pub use key_problem::KeyProblem;
pub use listing::{ContainerProblem, ListedKeys, Listing, Reference};
pub use refresh::Refresher;
pub use reload::ConfigUpdate;
pub use report::{ContainerReport, DroppedKey, ListedKey, ReloadOutcome, Report};
pub use schedule::MISS_WAIT;
pub use slot::Slot;
pub use snapshot::{RingSource, Snapshot};
pub use source::{Cause, FetchError, KeySource, ListError, UpstreamError};
pub use usage::Use;

/// Why a request gets no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key id is neither `key-id` nor one of `decrypt-key-ids`. Nothing was asked
    /// of Barbican: who can write to etcd must not choose what is read there.
    #[error("the key id is not configured")]
    NotInRing,
    /// Nothing says whether it is of the ring, or which key is the write key: the container
    /// has not been read.
    #[error("the key container cannot be followed: {0}")]
    NoList(ContainerProblem),
    /// The key is configured, and could not be loaded in time.
    #[error("the key-encryption key is not loaded: {0}")]
    NotLoaded(KeyProblem),
}

/// The readers' side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keyring {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    /// Whether it notes when calls use the keys.
    notes: bool,
}

/// The key that Encrypt uses, with the id that goes with it.
#[derive(Clone, Debug)]
pub struct WriteKey {
    /// Its id.
    pub id: KeyId,
    /// The key.
    pub key: Arc<WrappingKey>,
}

/// A key for Decrypt, with the policy of the same snapshot.
#[derive(Clone, Debug)]
pub struct DecryptKey {
    /// The key.
    pub key: Arc<WrappingKey>,
    /// What to do with data that carries no tag.
    pub untagged: Untagged,
}

/// The state that the single writer publishes.
#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    report: ArcSwap<Report>,
    clock: Clock,
    /// Since when the coarse clock counts.
    begin: Instant,
    /// The coarse clock: seconds since `begin`, plus one. The writer sets it at least
    /// once a minute, so that a call can record when it used a key without reading a
    /// clock.
    second: AtomicU64,
    /// A caller has asked for the health of the write key while it was missing.
    status_missed: Notify,
}

impl Shared {
    /// The current snapshot, for one answer.
    fn current(&self) -> Guard<Arc<Snapshot>> {
        #[cfg(test)]
        tests::interleaving::pause();
        self.snapshot.load()
    }
}

/// What readers ask of the writer.
#[derive(Debug)]
enum Request {
    /// Load this key soon, and drop the sender when an attempt has ended.
    Load(KeyId, oneshot::Sender<()>),
    /// Read the container soon, in the same way.
    List(oneshot::Sender<()>),
    /// Confirm every key now.
    Revalidate,
}

impl Keyring {
    /// The same for calls that are not kube-apiserver's: when they use a key is not noted.
    #[must_use]
    pub fn without_notes(&self) -> Self {
        Self {
            notes: false,
            ..self.clone()
        }
    }

    /// The id of the write key if that key is held: the answer to Status. No waiting;
    /// where the key is missing, the next try comes sooner, as soon as it may.
    ///
    /// # Errors
    /// The problem that prevents the write key from being held.
    pub fn status(&self) -> Result<KeyId, KeyError> {
        let snapshot = self.shared.current();
        if mutation::active(Mutation::StatusIsConstant) {
            return write_id(&snapshot);
        }
        write_id(&snapshot)
            .and_then(|id| self.held(&snapshot, &id).map(|_| id))
            .inspect_err(|_| self.shared.status_missed.notify_one())
    }

    /// The write key and its id, from one snapshot.
    ///
    /// # Errors
    /// When the key is not held, and does not come within [`MISS_WAIT`].
    pub async fn write_key(&self) -> Result<WriteKey, KeyError> {
        self.wait_for_key(|snapshot| {
            let id = write_id(snapshot).map_err(|error| (None, error))?;
            self.taken(snapshot, &id, Use::Wrap)
                .map(|key| WriteKey { id, key })
                .map_err(|error| (Some(id), error))
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
            self.taken(snapshot, id, Use::Unwrap)
                .map(|key| DecryptKey {
                    key,
                    untagged: snapshot.untagged(),
                })
                .map_err(|error| (Some(*id), error))
        })
        .await
    }

    /// The protection of the least protected held key; before a key is held, the
    /// protection that it would get.
    pub fn protection(&self) -> Protection {
        let snapshot = self.shared.current();
        snapshot.protection().unwrap_or_else(secret::protection)
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// What the writer has done so far.
    pub fn report(&self) -> Arc<Report> {
        self.shared.report.load_full()
    }

    /// The clock of the times in snapshots.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// How long ago a call was last given the key of `slot` for this, to within a minute;
    /// `None` for never.
    pub fn last_use(&self, slot: &Slot, usage: Use) -> Option<Duration> {
        let second = slot.last(usage)?;
        let since = self
            .shared
            .clock
            .now()
            .saturating_duration_since(self.shared.begin);
        Some(Duration::from_secs(
            (since.as_secs() + 1).saturating_sub(second),
        ))
    }

    /// Asks for every key to be confirmed now.
    pub fn revalidate(&self) {
        // If the queue is full, the writer is already busy.
        let _ = self.requests.try_send(Request::Revalidate);
    }

    /// The key `id` for a call, which is noted unless it is not kube-apiserver's.
    fn taken(
        &self,
        snapshot: &Snapshot,
        id: &KeyId,
        usage: Use,
    ) -> Result<Arc<WrappingKey>, KeyError> {
        let (slot, key) = self.held(snapshot, id)?;
        if self.notes {
            slot.note_use(usage, self.shared.second.load(Ordering::Relaxed));
        }
        Ok(Arc::clone(key))
    }

    fn held<'a>(
        &self,
        snapshot: &'a Snapshot,
        id: &KeyId,
    ) -> Result<(&'a Slot, &'a Arc<WrappingKey>), KeyError> {
        let slot = snapshot.slot(id).ok_or_else(|| stranger(snapshot))?;
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
        look: impl Fn(&Snapshot) -> Result<T, (Option<KeyId>, KeyError)>,
    ) -> Result<T, KeyError> {
        let (missing, error) = match look(&self.shared.current()) {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        let Some(first) = self.awaited(missing, error) else {
            return Err(error);
        };
        // Either way the snapshot says what came of it.
        let limit = if mutation::active(Mutation::MissesWaitLong) {
            2 * MISS_WAIT
        } else {
            MISS_WAIT
        };
        let _ = tokio::time::timeout(limit, self.obtain(first, &look)).await;
        look(&self.shared.current()).map_err(|(_, error)| error)
    }

    /// Has what is missing loaded: the list of keys, if need be, and then the key.
    async fn obtain<T>(
        &self,
        first: Awaited,
        look: &impl Fn(&Snapshot) -> Result<T, (Option<KeyId>, KeyError)>,
    ) {
        let (mut awaited, mut asked) = (first, Vec::new());
        while !asked.contains(&awaited) {
            let (done, attempt) = oneshot::channel();
            let request = match awaited {
                Awaited::Key(id) => Request::Load(id, done),
                Awaited::List => Request::List(done),
            };
            if self.requests.send(request).await.is_err() {
                return;
            }
            let _ = attempt.await;
            asked.push(awaited);
            let next = look(&self.shared.current()).err();
            match next.and_then(|(missing, error)| self.awaited(missing, error)) {
                Some(next) => awaited = next,
                None => return,
            }
        }
    }

    /// What has to come before a call can be answered otherwise; `None` when waiting is of
    /// no use.
    fn awaited(&self, missing: Option<KeyId>, error: KeyError) -> Option<Awaited> {
        match error {
            KeyError::NotLoaded(_) => missing.map(Awaited::Key),
            KeyError::NoList(_) => Some(Awaited::List),
            KeyError::NotInRing => match self.shared.current().source() {
                RingSource::File => None,
                RingSource::Container(_) => Some(Awaited::List),
            },
        }
    }
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Key(KeyId),
    List,
}

fn write_id(snapshot: &Snapshot) -> Result<KeyId, KeyError> {
    let pending = ContainerProblem::Pending;
    snapshot.write_id().ok_or(match snapshot.source() {
        RingSource::File => KeyError::NoList(pending),
        RingSource::Container(problem) => KeyError::NoList(problem.unwrap_or(pending)),
    })
}

/// Why there is no slot for a key.
fn stranger(snapshot: &Snapshot) -> KeyError {
    match snapshot.source() {
        RingSource::Container(Some(problem)) => KeyError::NoList(problem),
        RingSource::File | RingSource::Container(None) => KeyError::NotInRing,
    }
}

#[cfg(test)]
mod tests;
