//! `Roster`: which keys a ring has and which of them is the write key, by what a
//! container has said so far. Pure: time and what is held are arguments.
//!
//! The refresher has one for each ring that follows a container. Invariants: the write
//! key never goes back to one with an earlier time, and is never dropped; a key that is
//! held is dropped only when two readings, an interval apart, no longer list it and
//! Barbican still gives it out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};

/// What the refresher knows of a key's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Payload {
    /// In memory, and usable.
    pub(super) held: bool,
    /// Barbican itself has said that it will not give it out.
    pub(super) refused: bool,
    /// When Barbican last gave it out.
    pub(super) confirmed: Option<Instant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    keys: BTreeMap<KeyId, Entry>,
    /// The write key in force, and its time: it only grows.
    newest: Option<(SystemTime, KeyId)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// From when on it is the write key; `None` when it is only readable.
    pub(super) active_from: Option<SystemTime>,
    /// Whether the newest reading lists it.
    pub(super) listed: bool,
    /// Since when the container does not list it, though it lists a write key.
    absent: Option<Absence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Absence {
    since: Instant,
    /// A later reading, an interval after the first, did not list it either.
    again: Option<Instant>,
}

impl Entry {
    fn time_has_come(&self, wall: SystemTime) -> bool {
        self.active_from.is_some_and(|time| time <= wall)
    }
}

impl Roster {
    /// Takes a reading over. Returns the keys that must be asked for before they can be
    /// dropped. A reading that lists no key whose time has come adds keys and misses none.
    pub(super) fn read(
        &mut self,
        listed: &BTreeMap<KeyId, Option<SystemTime>>,
        apart: Duration,
        wall: SystemTime,
        now: Instant,
    ) -> Vec<KeyId> {
        for (id, active_from) in listed {
            let entry = Entry {
                active_from: *active_from,
                listed: true,
                absent: None,
            };
            self.keys.insert(*id, entry);
        }
        let is_whole = listed.values().flatten().any(|time| *time <= wall);
        let mut leaving = Vec::new();
        for (id, entry) in &mut self.keys {
            entry.listed = listed.contains_key(id);
            if entry.listed || !is_whole {
                continue;
            }
            let absence = entry.absent.get_or_insert(Absence {
                since: now,
                again: None,
            });
            let late = now.saturating_duration_since(absence.since) >= apart
                || mutation::active(Mutation::OneReadingDrops);
            if absence.again.is_none() && late {
                absence.again = Some(now);
                leaving.push(*id);
            }
        }
        leaving
    }

    /// Drops what has been retired, as far as nothing can be lost by it.
    pub(super) fn drop_retired(&mut self, payload: impl Fn(&KeyId) -> Payload) {
        let newest = self.newest.map(|(_, id)| id);
        self.keys.retain(|id, entry| {
            let Some(again) = entry.absent.and_then(|absence| absence.again) else {
                return true;
            };
            let Payload {
                held, confirmed, ..
            } = payload(id);
            let given_out = confirmed.is_some_and(|confirmed| confirmed >= again)
                || mutation::active(Mutation::GoneKeysAreDropped);
            // What is not held cannot be saved by keeping its name.
            Some(*id) == newest || (held && !given_out)
        });
    }

    /// The write key at `wall`: of the keys whose time has come, and that are held, the one
    /// with the latest time. At the beginning, a key that can still come is waited for.
    pub(super) fn write(
        &mut self,
        wall: SystemTime,
        payload: impl Fn(&KeyId) -> Payload,
    ) -> Option<KeyId> {
        let mut due: Vec<(SystemTime, KeyId)> = self
            .keys
            .iter()
            .filter(|(_, entry)| entry.listed && entry.time_has_come(wall))
            .filter_map(|(id, entry)| Some((entry.active_from?, *id)))
            .filter(|key| {
                self.newest.is_none_or(|newest| *key > newest)
                    || mutation::active(Mutation::WriteKeyGoesBack)
            })
            .collect();
        due.sort_unstable_by(|one, other| other.cmp(one));
        if self.newest.is_none() {
            let awaited = due.iter().find(|(_, id)| !payload(id).refused);
            let chosen = awaited.or(due.first())?;
            if payload(&chosen.1).held {
                self.newest = Some(*chosen);
            }
            return Some(chosen.1);
        }
        let usable =
            |id: &KeyId| payload(id).held || mutation::active(Mutation::MissingKeyIsActivated);
        if let Some(next) = due.iter().find(|(_, id)| usable(id)) {
            self.newest = Some(*next);
        }
        self.newest.map(|(_, id)| id)
    }

    /// The next change of the write key that is planned.
    pub(super) fn next_activation(&self, wall: SystemTime) -> Option<(SystemTime, KeyId)> {
        self.keys
            .iter()
            .filter(|(_, entry)| entry.listed)
            .filter_map(|(id, entry)| Some((entry.active_from?, *id)))
            .filter(|(time, _)| *time > wall)
            .min()
    }

    /// Whether a key is listed whose time has come.
    pub(super) fn has_active(&self, wall: SystemTime) -> bool {
        let mut entries = self.keys.values();
        entries.any(|entry| entry.listed && entry.time_has_come(wall))
    }

    /// Whether no key has been in use yet, and the time of none has come.
    pub(super) fn is_before_all(&self, wall: SystemTime) -> bool {
        self.newest.is_none() && !self.has_active(wall)
    }

    /// Keeps to the write key of another reading of the same container.
    pub(super) fn keep_up_with(&mut self, other: &Self) {
        if let Some((time, id)) = other.newest
            && self.newest < other.newest
        {
            self.newest = Some((time, id));
            self.keys.entry(id).or_default().active_from = Some(time);
        }
    }

    /// Every key that is or was listed, and has not been dropped.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&KeyId, &Entry)> {
        self.keys.iter()
    }
}

#[cfg(test)]
mod tests;
