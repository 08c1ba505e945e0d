//! `Writer`: what the refresher works on, and how it publishes what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tracing::warn;

use super::follower::Follower;
use super::key_set::KeySet;
use super::report::{DroppedKey, ReloadOutcome};
use super::{FetchError, KeySource, Report, Shared, Slot, Snapshot};
use crate::chance::Chance;
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::Kek;

pub(super) struct Writer<S, C> {
    /// Makes a source from cloud settings, without I/O.
    pub(super) connect: C,
    pub(super) shared: Arc<Shared>,
    pub(super) ring: KeySet<S>,
    /// Readers that wait for a key.
    pub(super) waiting: BTreeMap<KeyId, Vec<oneshot::Sender<()>>>,
    pub(super) candidate: Option<Candidate<S>>,
    pub(super) chance: Chance,
}

/// A configuration whose keys are being loaded.
pub(super) struct Candidate<S> {
    pub(super) keys: KeySet<S>,
    /// Whether every key has to be read with the new settings, held or not.
    pub(super) proves_all: bool,
    pub(super) missing: BTreeSet<KeyId>,
    /// A change counts as failed once, however often it is tried.
    pub(super) failed: bool,
}

impl<S: KeySource> Candidate<S> {
    /// Whether nothing is missing any more.
    pub(super) fn is_ready(&self) -> bool {
        let listed = self.keys.follower.as_ref().is_none_or(Follower::is_read);
        listed && self.missing.is_empty() && self.keys.ring.write.is_some()
    }

    /// Without these keys it cannot come into force: all of the file; of a container the
    /// write key, and with new credentials all that would be lost without them.
    fn needed(&self, in_force: &KeySet<S>) -> BTreeSet<KeyId> {
        let ring = &self.keys.ring;
        let by_file = self.keys.follower.is_none();
        let held = |id: &KeyId| self.proves_all && in_force.slots.holds(id);
        ring.ids()
            .filter(|id| by_file || Some(*id) == ring.write || held(id))
            .collect()
    }

    /// How old its keys may be; `in_force` is the limit of the configuration that it is
    /// to replace. Whoever sets a limit means all copies, so the smaller one counts.
    pub(super) fn max_age(&self, in_force: Option<Duration>) -> Option<Duration> {
        let ages = [in_force, self.keys.live.ring.max_cache_age];
        ages.into_iter().flatten().min()
    }

    /// Finds out what is missing, at the beginning and again: keys that were there may
    /// have been wiped since, here or in the ring in force.
    pub(super) fn update_missing(&mut self, ring: &KeySet<S>, wall: SystemTime, now: Instant) {
        if let Some(age) = self.max_age(ring.live.ring.max_cache_age) {
            self.keys.wipe(age, now);
        }
        if let (Some(coming), Some(in_force)) = (&mut self.keys.follower, &ring.follower)
            && coming.container.id == in_force.container.id
        {
            coming.roster.keep_up_with(&in_force.roster);
        }
        let elsewhere = (!self.proves_all).then_some(&*ring.slots);
        self.keys.follow(elsewhere, wall);
        let needed = self.needed(ring);
        self.missing.retain(|id| needed.contains(id));
        for id in needed {
            let held = self.keys.slots.holds(&id);
            if held || (!self.proves_all && ring.slots.holds(&id)) {
                self.missing.remove(&id);
            } else if self.missing.insert(id) {
                let schedule = &mut self.keys.loader.schedule;
                if schedule.knows(&id) {
                    schedule.expedite(&id, now);
                } else {
                    schedule.add(id, now);
                }
            }
        }
    }
}

impl<S: KeySource, C> Writer<S, C> {
    pub(super) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// Sets the coarse clock.
    pub(super) fn tick(&self) {
        let second = self.coarse(self.now());
        self.shared.second.store(second, Ordering::Relaxed);
    }

    fn coarse(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.shared.begin).as_secs() + 1
    }

    /// The date of a second of the coarse clock.
    pub(super) fn date_of(&self, second: u64) -> SystemTime {
        let ago = self.coarse(self.now()).saturating_sub(second);
        let wall = self.shared.clock.wall();
        wall.checked_sub(Duration::from_secs(ago)).unwrap_or(wall)
    }

    /// Publishes the current ring to readers.
    pub(super) fn publish(&self) {
        self.shared.snapshot.store(Arc::clone(&self.ring.slots));
    }

    /// Barbican has answered a request of `source`, so that Keystone accepts its login: whatever
    /// waits for either is asked for again, in the ring and in the one that is to come. A key
    /// whose login is said to be refused would page somebody for a credential that works.
    pub(super) fn source_answered(&mut self, source: &Arc<S>) {
        let now = self.now();
        let coming = self.candidate.iter_mut();
        let sets = coming.map(|candidate| &mut candidate.keys);
        for keys in sets.chain([&mut self.ring]) {
            if Arc::ptr_eq(&keys.loader.source, source) {
                keys.source_answered(now);
            }
        }
    }

    pub(super) fn note_contact(&self, outcome: &Result<Kek, FetchError>) {
        self.update_report(|report| match outcome {
            Ok(_) => {
                report.last_contact = Some(self.shared.clock.wall());
                if !mutation::active(Mutation::FailuresAreKept) {
                    report.consecutive_failures = 0;
                }
            }
            Err(_) => report.consecutive_failures += 1,
        });
    }

    /// Records the keys that have left the ring, with their last use in `before`.
    pub(super) fn drop_keys(&self, before: &Snapshot, removed: &[KeyId]) {
        let at = self.shared.clock.wall();
        let dropped: Vec<DroppedKey> = removed
            .iter()
            .map(|id| DroppedKey {
                id: *id,
                at,
                last_used: before
                    .slot(id)
                    .and_then(Slot::last_use)
                    .map(|second| self.date_of(second)),
            })
            .collect();
        warn_of_those_in_use(&dropped);
        self.update_report(|report| report.drops(&dropped, &self.ring.ring, at));
    }

    /// Entries when the ring in force is asked about next.
    pub(super) fn note_plan(&self) {
        let clock = &self.shared.clock;
        let (now, wall) = (clock.now(), clock.wall());
        let due = self.ring.loader.schedule.next_due();
        let next = due.map(|due| wall + due.saturating_duration_since(now));
        self.update_report(|report| report.next_fetch = next);
    }

    pub(super) fn record_reload(&self, outcome: ReloadOutcome, message: String) {
        self.update_report(|report| report.reloaded(outcome, message, self.shared.clock.wall()));
    }

    pub(super) fn update_report(&self, change: impl FnOnce(&mut Report)) {
        let mut report = Report::clone(&self.shared.report.load());
        change(&mut report);
        self.shared.report.store(Arc::new(report));
    }
}

fn warn_of_those_in_use(dropped: &[DroppedKey]) {
    for key in dropped.iter().filter(|key| key.was_in_use()) {
        let used = key
            .last_used
            .and_then(|used| key.at.duration_since(used).ok());
        warn!(
            key_id = %key.id,
            key_id_hash = key.id.sha256_label(),
            last_used_seconds_ago = used.unwrap_or_default().as_secs(),
            "a key that was in use within the last day was removed from the ring: data that it has \
             wrapped cannot be read any more; if there is such data, add the key to \
             decrypt-key-ids again"
        );
    }
}

/// Key ids for a log line, separated by commas.
pub(super) fn list<'a>(ids: impl IntoIterator<Item = &'a KeyId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
    ids.join(",")
}
