//! `Snapshot`: all that a request needs to know, immutable, swapped as a whole.
//!
//! Transitions are pure: they take the time as an argument and return the next
//! snapshot. Only the refresher calls them. Invariant: the write key, if there is one, has a
//! slot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listing::ContainerProblem;
use super::usage::{Use, Uses};
use crate::config::Ring;
use crate::envelope::{Fingerprint, Untagged, WrappingKey};
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::{Kek, Protection};

/// The ring at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    write: Option<KeyId>,
    source: RingSource,
    slots: BTreeMap<KeyId, Slot>,
    untagged: Untagged,
    max_cache_age: Option<Duration>,
}

/// What says which keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingSource {
    /// The cloud-config.
    File,
    /// A container, and what keeps it from being followed, if anything.
    Container(Option<ContainerProblem>),
}

/// One key of the ring.
#[derive(Clone, Debug)]
pub struct Slot {
    key: Option<Arc<WrappingKey>>,
    /// Of the key that is held, or was until it was wiped.
    fingerprint: Option<Fingerprint>,
    confirmed: Option<Instant>,
    problem: Option<KeyProblem>,
    /// Shared by all snapshots that have the key, as readers note it.
    used: Arc<Uses>,
}

/// Barbican payloads are written once, so this cannot happen in good order.
#[derive(Debug, thiserror::Error)]
#[error(
    "Barbican's payload differs from the key that is or was held; the sidecar never uses other \
     bytes for the same id. Find out who changed the secret, and rotate to a new key"
)]
pub(super) struct AlteredKey;

/// The problem that prevents a key from being loaded or confirmed. Each has one fixed text, which
/// kube-apiserver may show to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// Not tried yet.
    Pending,
    /// OpenStack did not answer.
    Unavailable,
    /// Keystone refused the credentials.
    Login,
    /// Barbican refused access.
    Denied,
    /// Barbican has no such secret, or it has expired.
    NotFound,
    /// The payload is not an AES key.
    NotAKey,
    /// Another user has created it than the configuration says.
    Foreign,
    /// The payload differs from the one that is held.
    Altered,
    /// The download has panicked.
    Crashed,
    /// Wiped: unconfirmed for longer than `max-cache-age`, and no attempt has failed:
    /// the last one still goes on.
    Unconfirmed,
}

impl KeyProblem {
    /// The word used in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unavailable => "unavailable",
            Self::Login => "login-refused",
            Self::Denied => "access-denied",
            Self::NotFound => "not-found",
            Self::NotAKey => "not-a-key",
            Self::Foreign => "foreign",
            Self::Altered => "altered",
            Self::Crashed => "crashed",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// Whether Barbican itself has said that it will not give this key out, whoever waits.
    pub(super) fn is_refusal(self) -> bool {
        self.is_final() || matches!(self, Self::Denied | Self::Foreign)
    }

    /// Whether Barbican itself has said that there is no such key to be had.
    pub fn is_final(self) -> bool {
        matches!(self, Self::NotFound | Self::NotAKey)
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "it is being loaded",
            Self::Unavailable => "OpenStack is unavailable",
            Self::Login => "Keystone refuses the login",
            Self::Denied => "Barbican refuses access to it",
            Self::NotFound => "Barbican has no such secret",
            Self::NotAKey => "the secret is not an AES key",
            Self::Foreign => "another user has created it than key-container-owner says",
            Self::Altered => "the secret has changed in Barbican",
            Self::Crashed => "its download crashed, which is a bug",
            Self::Unconfirmed => "Barbican has not confirmed it within max-cache-age",
        })
    }
}

impl Slot {
    fn empty() -> Self {
        Self {
            key: None,
            fingerprint: None,
            confirmed: None,
            problem: Some(KeyProblem::Pending),
            used: Arc::default(),
        }
    }

    /// Notes that a call is given the key, at `second` of the coarse clock.
    pub(super) fn note_use(&self, usage: Use, second: u64) {
        // Nothing is ordered by it.
        self.used.of(usage).store(second, Ordering::Relaxed);
    }

    /// The second of the coarse clock at which a call was last given the key for this.
    pub(super) fn last(&self, usage: Use) -> Option<u64> {
        let second = self.used.of(usage).load(Ordering::Relaxed);
        (second > 0).then_some(second)
    }

    /// The second of the coarse clock at which a call last used the key.
    pub(super) fn last_use(&self) -> Option<u64> {
        self.last(Use::Wrap).max(self.last(Use::Unwrap))
    }

    /// The key, when it is held.
    pub fn key(&self) -> Option<&Arc<WrappingKey>> {
        self.key.as_ref()
    }

    /// The key that a download comes to: the one that is held, when it says the same.
    pub(super) fn key_from(&self, kek: &Kek) -> Result<Arc<WrappingKey>, AlteredKey> {
        match &self.key {
            Some(held) if held.is_made_from(kek) => Ok(Arc::clone(held)),
            Some(_) if mutation::active(Mutation::OtherBytesAreTaken) => {
                Ok(Arc::new(WrappingKey::new(kek)))
            }
            Some(_) => Err(AlteredKey),
            None => {
                let key = WrappingKey::new(kek);
                let known = self.fingerprint;
                if known.is_some_and(|known| known != key.fingerprint()) {
                    return Err(AlteredKey);
                }
                Ok(Arc::new(key))
            }
        }
    }

    /// Whether its key is or was held, so that other bytes are refused.
    pub(super) fn has_history(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Whether it holds a key that must be wiped, because it was not confirmed for `max_age`.
    pub(super) fn is_stale(&self, max_age: Duration, now: Instant) -> bool {
        let fresh = |confirmed| now.saturating_duration_since(confirmed) < max_age;
        self.key.is_some() && !self.confirmed.is_some_and(fresh)
    }

    /// When the key that it holds becomes stale and is wiped; `None` when it holds none.
    pub fn expiry(&self, max_age: Duration) -> Option<Instant> {
        self.key.as_ref()?;
        self.confirmed?.checked_add(max_age)
    }

    /// When Barbican last returned this key's bytes. Kept when the key is wiped.
    pub fn confirmed(&self) -> Option<Instant> {
        self.confirmed
    }

    /// What has gone wrong since, if anything.
    pub fn problem(&self) -> Option<KeyProblem> {
        self.problem
    }
}

impl Snapshot {
    /// A ring of which nothing is loaded yet.
    pub fn new(ring: &Ring) -> Self {
        Self {
            write: ring.write,
            source: match ring.container {
                None => RingSource::File,
                Some(_) => RingSource::Container(Some(ContainerProblem::Pending)),
            },
            slots: ring.ids().map(|id| (id, Slot::empty())).collect(),
            untagged: untagged(ring),
            max_cache_age: ring.max_cache_age,
        }
    }

    /// The id of the key that Encrypt uses; `None` while only a container can say it.
    pub fn write_id(&self) -> Option<KeyId> {
        self.write
    }

    /// What says which keys there are.
    pub fn source(&self) -> RingSource {
        self.source
    }

    /// With what keeps the container from being followed, if anything.
    #[must_use]
    pub(super) fn with_source(&self, source: RingSource) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// The slot of `id`, unless `id` is not of this ring.
    pub fn slot(&self, id: &KeyId) -> Option<&Slot> {
        self.slots.get(id)
    }

    /// Every slot, by id.
    pub fn slots(&self) -> impl Iterator<Item = (&KeyId, &Slot)> {
        self.slots.iter()
    }

    /// What Decrypt does with data that carries no tag.
    pub fn untagged(&self) -> Untagged {
        self.untagged
    }

    /// How long a key may be unconfirmed before it is wiped.
    pub fn max_cache_age(&self) -> Option<Duration> {
        self.max_cache_age
    }

    /// Whether the key of `id` is held.
    pub fn holds(&self, id: &KeyId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.key.is_some())
    }

    /// The protection of the least protected held key.
    pub fn protection(&self) -> Option<Protection> {
        let keys = self.slots.values().filter_map(Slot::key);
        keys.map(|key| key.protection()).min()
    }

    /// Whether any key is held.
    pub fn holds_any(&self) -> bool {
        self.slots.values().any(|slot| slot.key.is_some())
    }

    /// With `id` loaded, or confirmed where it was loaded before.
    #[must_use]
    pub fn loaded(&self, id: &KeyId, key: Arc<WrappingKey>, now: Instant) -> Self {
        self.with_slot(id, |slot| Slot {
            fingerprint: Some(key.fingerprint()),
            key: Some(key),
            confirmed: Some(now),
            problem: slot
                .problem
                .filter(|_| mutation::active(Mutation::ProblemIsKept)),
            used: Arc::clone(&slot.used),
        })
    }

    /// With a failed attempt recorded; a held key stays.
    #[must_use]
    pub fn failing(&self, id: &KeyId, problem: KeyProblem) -> Self {
        self.with_slot(id, |slot| Slot {
            problem: Some(problem),
            ..slot.clone()
        })
    }

    /// When the next key must be wiped, unless it is confirmed before.
    pub fn next_expiry(&self, max_age: Duration) -> Option<Instant> {
        let slots = self.slots.values();
        slots.filter_map(|slot| slot.expiry(max_age)).min()
    }

    /// Without the keys that are older than `max_age`; which those were, and what has
    /// kept each from being confirmed. `None` when there are none.
    pub fn expired(
        &self,
        max_age: Duration,
        now: Instant,
    ) -> Option<(Self, Vec<(KeyId, KeyProblem)>)> {
        // The cause is kept: an operator who sees that the key is missing must see why.
        let wiped: Vec<(KeyId, KeyProblem)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_stale(max_age, now))
            .map(|(id, slot)| (*id, slot.problem.unwrap_or(KeyProblem::Unconfirmed)))
            .collect();
        if wiped.is_empty() {
            return None;
        }
        let next = wiped.iter().fold(self.clone(), |snapshot, (id, problem)| {
            snapshot.with_slot(id, |slot| Slot {
                key: None,
                problem: Some(*problem),
                ..slot.clone()
            })
        });
        Some((next, wiped))
    }

    /// The snapshot of a new ring: keys that `staged` holds as they are there, other keys
    /// as they are here, unknown ones empty.
    #[must_use]
    pub fn replaced_by(&self, ring: &Ring, staged: &Self) -> Self {
        let slot = |id: KeyId| {
            let old = self.slot(&id);
            let staged = staged.slot(&id).filter(|slot| slot.key.is_some());
            let mut slot = staged.or(old).cloned().unwrap_or_else(Slot::empty);
            if let Some(old) = old {
                slot.used = Arc::clone(&old.used);
            }
            (id, slot)
        };
        Self {
            write: ring.write,
            source: staged.source,
            slots: ring.ids().map(slot).collect(),
            untagged: if mutation::active(Mutation::ReloadIsPartial) {
                self.untagged
            } else {
                untagged(ring)
            },
            max_cache_age: ring.max_cache_age,
        }
    }

    fn with_slot(&self, id: &KeyId, change: impl FnOnce(&Slot) -> Slot) -> Self {
        let mut next = self.clone();
        if let Some(slot) = next.slots.get_mut(id) {
            *slot = change(slot);
        }
        next
    }
}

fn untagged(ring: &Ring) -> Untagged {
    if ring.require_authentication {
        Untagged::Refuse
    } else {
        Untagged::Accept
    }
}

#[cfg(test)]
mod tests;
