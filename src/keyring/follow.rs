//! A ring that follows a container: from what the container says to the keys in force.
//!
//! The refresher's half for this. Invariant: keys come and go here by the rules of the
//! roster, and readers see each change as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::follower::{ListResult, Moment, Standing};
use super::key_problem::KeyProblem;
use super::key_set::KeySet;
use super::report::{ContainerReport, ListedKey};
use super::roster::{Entry, Payload};
use super::slot::Slot;
use super::snapshot::{RingSource, Snapshot};
use super::writer::{Writer, list};
use super::{Cause, KeySource};
use crate::config::{Cloud, Ring};
use crate::key_id::KeyId;

impl<S: KeySource> KeySet<S> {
    /// Brings the ring to what the container says by now. `elsewhere` may hold keys as well.
    /// Returns whether readers have something new to see.
    pub(super) fn follow(&mut self, elsewhere: Option<&Snapshot>, wall: SystemTime) -> bool {
        let Some(follower) = &mut self.follower else {
            return false;
        };
        let slots = &self.slots;
        let payload = |id: &KeyId| {
            let other = elsewhere.and_then(|slots| slots.slot(id));
            payload(slots.slot(id), other)
        };
        follower.roster.drop_retired(payload);
        let write = follower.roster.write(wall, payload);
        let pinned = self.live.ring.decrypt.iter().copied();
        let listed = follower.roster.keys().map(|(id, _)| *id);
        let mut decrypt: Vec<KeyId> = Vec::new();
        for id in pinned.chain(listed) {
            if Some(id) != write && !decrypt.contains(&id) {
                decrypt.push(id);
            }
        }
        let source = RingSource::Container(follower.problem(wall));
        if self.ring.write == write && self.ring.decrypt == decrypt {
            let news = self.slots.source() != source;
            if news {
                self.slots = Arc::new(self.slots.with_source(source));
            }
            return news;
        }
        self.ring = Ring {
            write,
            decrypt,
            ..self.live.ring.clone()
        };
        let slots = self.slots.replaced_by(&self.ring, &self.slots);
        self.slots = Arc::new(slots.with_source(source));
        self.loader.first = write;
        true
    }

    /// A reading of the container has ended. Returns whether Barbican itself has answered.
    pub(super) fn settle_list(&mut self, listed: ListResult, moment: &Moment) -> bool {
        let Some(follower) = &mut self.follower else {
            return false;
        };
        for id in follower.settle(listed, moment) {
            self.loader.schedule.order(&id, moment.now);
        }
        follower.has_answer()
    }

    /// Whether the write key is held.
    pub(super) fn serves(&self) -> bool {
        self.ring.write.is_some_and(|id| self.slots.holds(&id))
    }

    /// Plans the keys that have come, and forgets those that have gone.
    fn replan(&mut self, before: &Snapshot, now: Instant) -> (Vec<KeyId>, Vec<KeyId>) {
        let ids = |slots: &Snapshot| slots.slots().map(|(id, _)| *id).collect();
        let (old, new): (BTreeSet<KeyId>, BTreeSet<KeyId>) = (ids(before), ids(&self.slots));
        let added: Vec<KeyId> = new.difference(&old).copied().collect();
        let removed: Vec<KeyId> = old.difference(&new).copied().collect();
        for id in &added {
            self.loader.schedule.add(*id, now);
        }
        for id in &removed {
            self.forget(id);
        }
        (added, removed)
    }

    /// What is shown of the container.
    fn container_report(&self, wall: SystemTime) -> Option<ContainerReport> {
        let follower = self.follower.as_ref()?;
        let key = |(id, entry): (&KeyId, &Entry)| {
            let listed = ListedKey {
                active_from: entry.active_from,
                listed: entry.listed,
                secret_gone: !entry.listed && self.slots.slot(id).is_some_and(Slot::is_last_copy),
            };
            (*id, listed)
        };
        let next = follower.roster.next_activation(wall);
        Some(ContainerReport {
            id: follower.container.id,
            read_at: follower.read_at(),
            problem: follower.problem(wall),
            problem_text: follower.problem_text(wall),
            warnings: follower.warnings.clone(),
            next_activation: next.map(|(time, id)| (id, time)),
            rotation_waiting_since: follower.rotation.waiting_since(wall),
            keys: follower.roster.keys().map(key).collect(),
        })
    }
}

impl<S, C> Writer<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    /// A reader misses a key that is not of the ring, or there is no ring yet.
    pub(super) fn list(&mut self, waiting: oneshot::Sender<()>) {
        let now = self.now();
        // Dropping the sender answers: the reader looks again.
        if let Some(follower) = &mut self.ring.follower {
            follower.expedite(waiting, now);
        }
    }

    /// Somebody wants everything to be looked at now.
    pub(super) fn revalidate(&mut self) {
        let now = self.now();
        self.ring.loader.schedule.order_all(now);
        if let Some(follower) = &mut self.ring.follower {
            follower.order(now);
        }
    }

    /// A reading for the ring in force has ended.
    pub(super) fn settle_list(&mut self, listed: ListResult) {
        let interval = self.ring.live.ring.revalidate_interval;
        let standing = if self.ring.serves() {
            Standing::Serving
        } else {
            Standing::Waiting
        };
        let moment = self.moment(interval, standing);
        if self.ring.settle_list(listed, &moment) {
            self.source_answered(&Arc::clone(&self.ring.loader.source));
        }
    }

    pub(super) fn moment(&mut self, interval: Duration, standing: Standing) -> Moment {
        Moment {
            interval,
            wall: self.shared.clock.wall(),
            now: self.now(),
            jitter: self.chance.fraction(),
            standing,
        }
    }

    /// Brings the ring in force to what its container says by now: after each event, as any
    /// of them may be what a change has waited for.
    pub(super) fn follow(&mut self) {
        if self.ring.follower.is_none() {
            return;
        }
        let (wall, now) = (self.shared.clock.wall(), self.now());
        let before = Arc::clone(&self.ring.slots);
        if self.ring.follow(None, wall) {
            let (added, removed) = self.ring.replan(&before, now);
            self.publish();
            self.log_change(&before, &added, &removed);
            self.drop_keys(&before, &removed);
            self.note_plan();
        }
        self.report_container(wall);
        if let Some(follower) = &mut self.ring.follower {
            follower.answer();
        }
    }

    /// Shows what the container says, and tells of keys whose secret is gone.
    pub(super) fn report_container(&self, wall: SystemTime) {
        let next = self.ring.container_report(wall);
        let report = self.shared.report.load();
        if report.container.as_deref() == next.as_ref() {
            return;
        }
        let gone = |report: &ContainerReport| -> BTreeSet<KeyId> {
            let keys = report.keys.iter();
            keys.filter(|(_, key)| key.secret_gone)
                .map(|(id, _)| *id)
                .collect()
        };
        let before = report.container.as_deref().map(gone).unwrap_or_default();
        let after = next.as_ref().map(gone).unwrap_or_default();
        for id in after.difference(&before) {
            error!(
                key_id = %id, key_id_hash = id.sha256_label(),
                "the secret of a key is gone from Barbican: this process may hold the last copy \
                 of it, so it is kept and served; do not restart the sidecars, restore the secret \
                 from a backup of Barbican, or have everything written again with the write key"
            );
        }
        for id in before.difference(&after) {
            info!(
                key_id = %id, key_id_hash = id.sha256_label(),
                "the secret of a key that was gone is back, or the key is no longer of the ring"
            );
        }
        self.update_report(|report| report.container = next.map(Arc::new));
    }

    fn log_change(&self, before: &Snapshot, added: &[KeyId], removed: &[KeyId]) {
        let (old, new) = (before.write_id(), self.ring.ring.write);
        if old == new && added.is_empty() && removed.is_empty() {
            return;
        }
        info!(
            key_container = self.ring.follower.as_ref()
                .map(|follower| tracing::field::display(follower.container.id)),
            write_key_id = new.map(tracing::field::display),
            write_key_id_hash = new.map(|id| id.sha256_label()),
            write_key_changed = old != new,
            keys = self.ring.ring.ids().count(),
            keys_added = %list(added),
            keys_removed = %list(removed),
            "the ring is as the key container says"
        );
    }
}

fn payload(own: Option<&Slot>, other: Option<&Slot>) -> Payload {
    let both = || own.into_iter().chain(other);
    Payload {
        held: both().any(|slot| slot.key().is_some()),
        refused: both().any(|slot| slot.problem().is_some_and(KeyProblem::is_refusal)),
        confirmed: both().filter_map(Slot::confirmed).max(),
    }
}
