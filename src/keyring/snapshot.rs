//! `Snapshot`: all that a request needs to know, immutable, swapped as a whole.
//!
//! Transitions are pure: they take the time as an argument and return the next
//! snapshot. Only the refresher calls them. Invariant: the write key, if there is one, has a
//! slot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key_problem::KeyProblem;
use super::listing::ContainerProblem;
use super::slot::Slot;
use crate::config::Ring;
use crate::envelope::{Untagged, WrappingKey};
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::Protection;

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
        self.slots.get(id).is_some_and(|slot| slot.key().is_some())
    }

    /// The protection of the least protected held key.
    pub fn protection(&self) -> Option<Protection> {
        let keys = self.slots.values().filter_map(Slot::key);
        keys.map(|key| key.protection()).min()
    }

    /// Whether any key is held.
    pub fn holds_any(&self) -> bool {
        self.slots.values().any(|slot| slot.key().is_some())
    }

    /// With `id` loaded, or confirmed where it was loaded before.
    #[must_use]
    pub fn loaded(&self, id: &KeyId, key: Arc<WrappingKey>, now: Instant) -> Self {
        self.with_slot(id, |slot| slot.loaded(key, now))
    }

    /// With a failed attempt recorded; a held key stays.
    #[must_use]
    pub fn failing(&self, id: &KeyId, problem: KeyProblem) -> Self {
        self.with_slot(id, |slot| slot.failing(problem))
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
        let wiped: Vec<(KeyId, KeyProblem)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_stale(max_age, now))
            .map(|(id, slot)| (*id, slot.unconfirmed_because()))
            .collect();
        if wiped.is_empty() {
            return None;
        }
        let next = wiped.iter().fold(self.clone(), |snapshot, (id, _)| {
            snapshot.with_slot(id, Slot::wiped)
        });
        Some((next, wiped))
    }

    /// The snapshot of a new ring: keys that `staged` holds as they are there, other keys
    /// as they are here, unknown ones empty.
    #[must_use]
    pub fn replaced_by(&self, ring: &Ring, staged: &Self) -> Self {
        let slot = |id: KeyId| {
            let old = self.slot(&id);
            let staged = staged.slot(&id).filter(|slot| slot.key().is_some());
            let slot = staged.or(old).cloned().unwrap_or_else(Slot::empty);
            let slot = match old {
                Some(old) => slot.with_uses_of(old),
                None => slot,
            };
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
