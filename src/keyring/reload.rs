//! The part of the refresher that applies a new configuration: check it, load its keys, swap.
//!
//! Invariant: nothing in use changes before [`Writer::adopt`], which cannot fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{debug, error, info};

use super::follower::{Follower, ListResult, Standing};
use super::key_set::{FetchEffect, KeySet};
use super::loader::Fetched;
use super::report::ReloadOutcome;
use super::schedule::{Schedule, revalidation_delay};
use super::write_key_stays::WriteKeyWouldVanish;
use super::writer::{Candidate, Writer, list};
use super::{Cause, KeySource};
use crate::config::{Cloud, Live, Ring};
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::mutation::{self, Mutation};

/// The newest state of the configuration files.
#[derive(Clone, Debug)]
pub enum ConfigUpdate {
    /// They are valid.
    Valid(Arc<Live>),
    /// They are not; the text says which file and field, why, and what to do.
    Invalid(Arc<str>),
}

/// What starts the next attempt after a reload that was refused.
const NEXT_TRY: &str = "when a file changes, or on SIGHUP";

impl<S, C> Writer<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    /// Ends the configuration that is waiting, unless it is that of the files: it must not come into
    /// force after them, not even for a moment in which no key is left to lose.
    pub(super) fn supersede(&mut self, update: &ConfigUpdate) {
        let newest = match update {
            ConfigUpdate::Valid(live) => Some(live),
            ConfigUpdate::Invalid(_) => None,
        };
        let _ = (self.candidate).take_if(|candidate| Some(&candidate.keys.live) != newest);
    }

    /// The files have changed.
    pub(super) fn consider(&mut self, update: ConfigUpdate) {
        let live = match update {
            ConfigUpdate::Valid(live) => live,
            ConfigUpdate::Invalid(message) => {
                error!(
                    next_try = NEXT_TRY,
                    "configuration not reloaded, the old one stays in use: {message}"
                );
                self.record_reload(ReloadOutcome::Invalid, message.to_string());
                return;
            }
        };
        if live == self.ring.live {
            self.update_report(|report| report.unchanged(self.shared.clock.wall()));
            info!("the files contain the configuration in use: nothing to reload");
            self.expedite_failing_keys();
            return;
        }
        // What a container lists is known when it has been read. One that waits is refused now, too:
        // whoever asks again should not wait for its keys to learn that.
        if live.ring.container.is_none()
            && let Err(refusal) = self.may_replace(&live.ring)
        {
            self.candidate = None;
            self.refuse(&refusal);
            return;
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.keys.live == live
        {
            info!(
                missing = %list(&candidate.missing),
                "the files contain the configuration that is being loaded: retrying at once"
            );
            let now = self.shared.clock.now();
            candidate.keys.loader.schedule.order_all(now);
            return;
        }
        match self.prepare(live) {
            Ok(candidate) => {
                self.candidate = Some(candidate);
                self.adopt_if_ready(self.now());
            }
            Err(cause) => {
                let cause = ErrorChain(&*cause).to_string();
                error!(
                    next_try = NEXT_TRY,
                    "configuration not reloaded, the old one stays in use: {cause}"
                );
                self.record_reload(ReloadOutcome::Invalid, cause);
            }
        }
    }

    fn refuse(&self, refusal: &WriteKeyWouldVanish) {
        error!(
            next_try = NEXT_TRY,
            "configuration not reloaded, the old one stays in use: {refusal}"
        );
        self.record_reload(ReloadOutcome::Refused, refusal.to_string());
    }

    fn prepare(&self, live: Arc<Live>) -> Result<Candidate<S>, Cause> {
        let same_cloud = live.cloud == self.ring.live.cloud;
        let source = if same_cloud {
            Arc::clone(&self.ring.loader.source)
        } else {
            Arc::new((self.connect)(&live.cloud)?)
        };
        let now = self.now();
        let follower = live.ring.container.clone().map(|container| {
            let same = |old: &&Follower| old.container.id == container.id;
            match self.ring.follower.as_ref().filter(same) {
                Some(old) => {
                    let interval = live.ring.revalidate_interval;
                    let same_source = same_cloud && old.container == container;
                    Follower::going_on(container, old, same_source, interval, now)
                }
                None => Follower::new(container, now),
            }
        });
        let owner = |ring: &Ring| ring.container.as_ref().and_then(|one| one.owner.clone());
        let same_owner = owner(&live.ring) == owner(&self.ring.live.ring);
        Ok(Candidate {
            keys: KeySet::new(live, source, Schedule::default(), follower),
            // With new credentials every key is read once to prove them.
            proves_all: !(same_cloud && same_owner),
            missing: BTreeSet::new(),
            failed: false,
        })
    }

    /// A reading of the container for the ring to come has ended.
    pub(super) fn stage_list(&mut self, listed: ListResult) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let interval = candidate.keys.live.ring.revalidate_interval;
        let moment = self.moment(interval, Standing::Candidate);
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        let source = Arc::clone(&candidate.keys.loader.source);
        if candidate.keys.settle_list(listed, &moment) {
            self.source_answered(&source);
        }
        self.adopt_if_ready(moment.now);
        // Whether it is of use is known only now.
        let Some(candidate) = &self.candidate else {
            return;
        };
        let follower = candidate.keys.follower.as_ref();
        let cause = follower.map(|follower| follower.problem_text(moment.wall));
        if let Some(cause) = cause.filter(|cause| !cause.is_empty()) {
            self.reload_failed(format!("the key container is not followed: {cause}"));
        }
    }

    /// A fetch for the new ring has ended.
    pub(super) fn stage(&mut self, fetched: Fetched) {
        self.note_contact(&fetched.1);
        let now = self.now();
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        let id = fetched.0;
        let known = self.ring.slots.slot(&id);
        let is_held = known.is_some_and(|slot| slot.key().is_some());
        let age = candidate.max_age(self.ring.live.ring.max_cache_age);
        let jitter = self.chance.fraction();
        let source = Arc::clone(&candidate.keys.loader.source);
        let Some(effect) = (candidate.keys).settle(fetched, known, age, now, jitter) else {
            return;
        };
        if effect.is_an_answer() {
            self.source_answered(&source);
        }
        let failed = match effect {
            FetchEffect::Failed(failed) => failed,
            FetchEffect::Loaded(loaded) => {
                if !is_held {
                    loaded.warn_of_text(id);
                }
                return self.adopt_if_ready(now);
            }
        };
        let (failures, cause) = (failed.failures, failed.cause);
        let retry_seconds = failed.retry_in.as_secs_f32();
        if failed.news {
            error!(
                key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
                "configuration not reloaded, the old one stays in use: key not loaded: {cause}"
            );
        } else {
            debug!(
                key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
                "configuration still not reloaded: key not loaded: {cause}"
            );
        }
        self.reload_failed(format!("key {id} not loaded: {cause}"));
        // Another key may do as well.
        self.adopt_if_ready(now);
    }

    fn reload_failed(&mut self, message: String) {
        let counted = match &mut self.candidate {
            Some(candidate) => std::mem::replace(&mut candidate.failed, true),
            None => return,
        };
        if counted && !mutation::active(Mutation::FailuresCountTwice) {
            self.update_report(|report| report.failed_again(message, self.shared.clock.wall()));
        } else {
            self.record_reload(ReloadOutcome::Failed, message);
        }
    }

    /// Adopts the configuration that is waiting when nothing is missing any more, or when
    /// nothing in use is left that could be lost.
    pub(super) fn adopt_if_ready(&mut self, now: std::time::Instant) {
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        // It also brings a ring that follows a container to where the one in force stands.
        candidate.update_missing(&self.ring, self.shared.clock.wall(), now);
        let next = &candidate.keys.ring;
        let refusal = self.may_replace(next);
        // With no key held there is nothing to lose but the name of the write key, which a
        // container that has not been read does not list: take the new settings at once.
        let keeps_names = refusal.is_ok() && !self.loses_write_key(next);
        let nothing_to_lose = !self.ring.slots.holds_any() && keeps_names;
        if nothing_to_lose || mutation::active(Mutation::ReloadDoesNotWait) {
            self.adopt(candidate);
        } else if !candidate.is_ready() {
            self.candidate = Some(candidate);
        } else if let Err(refusal) = refusal {
            // While its keys were loaded, the container may have been put right.
            let follower = candidate.keys.follower.as_mut();
            if follower.is_some_and(|follower| follower.reads_again(now)) {
                self.candidate = Some(candidate);
            } else {
                self.refuse(&refusal);
            }
        } else {
            self.adopt(candidate);
        }
    }

    /// An operator who requests a reload without a change may have fixed something
    /// else, so retry now.
    fn expedite_failing_keys(&mut self) {
        let now = self.now();
        if let Some(follower) = &mut self.ring.follower {
            follower.order(now);
        }
        for (id, slot) in self.ring.slots.slots() {
            if slot.problem().is_some() {
                if mutation::active(Mutation::OrderWaits) {
                    self.ring.loader.schedule.expedite(id, now);
                    continue;
                }
                self.ring.loader.schedule.order(id, now);
            }
        }
    }

    /// The swap.
    fn adopt(&mut self, candidate: Candidate<S>) {
        let mut next = candidate.keys;
        let (live, ring) = (Arc::clone(&next.live), next.ring.clone());
        let before = Arc::clone(&self.ring.slots);
        let old: BTreeSet<KeyId> = self.ring.ring.ids().collect();
        let new: BTreeSet<KeyId> = ring.ids().collect();
        let added: Vec<KeyId> = new.difference(&old).copied().collect();
        let removed: Vec<KeyId> = old.difference(&new).copied().collect();
        let staged = Arc::clone(&next.slots);
        let snapshot = before.replaced_by(&ring, &staged);
        let now = self.now();
        let mut schedule = Schedule::default();
        for (id, slot) in snapshot.slots() {
            let interval =
                revalidation_delay(live.ring.revalidate_interval, self.chance.fraction());
            match slot.confirmed().filter(|_| slot.key().is_some()) {
                None if mutation::active(Mutation::ReloadCarriesWish) => {
                    schedule.take_over(*id, &self.ring.loader.schedule, now + interval, now);
                }
                None => schedule.add(*id, now),
                Some(confirmed) if staged.holds(id) => schedule.add(*id, confirmed + interval),
                // A reload delays neither a confirmation nor its next retry.
                Some(confirmed) => {
                    let latest = match slot.problem() {
                        None => now.max(confirmed + interval),
                        Some(_) => now + interval,
                    };
                    schedule.take_over(*id, &self.ring.loader.schedule, latest, now);
                }
            }
        }
        let source = Arc::clone(&next.loader.source);
        let follower = next.follower.take();
        self.ring = KeySet::new(Arc::clone(&live), source, schedule, follower);
        self.ring.loader.first = ring.write;
        self.ring.ring = ring;
        self.ring.slots = Arc::new(snapshot);
        let ring = &self.ring.ring;
        // Their fetches have ended with the old loader: readers look again.
        self.waiting.clear();
        info!(
            write_key_id = ring.write.map(tracing::field::display),
            write_key_id_hash = ring.write.map(|id| id.sha256_label()),
            keys = ring.ids().count(),
            keys_added = %list(&added),
            keys_removed = %list(&removed),
            "configuration reloaded"
        );
        self.update_report(|report| report.follows(&live));
        self.drop_keys(&before, &removed);
        self.report_container(self.shared.clock.wall());
        self.publish();
        self.note_plan();
        self.record_reload(ReloadOutcome::Applied, String::new());
        self.update_report(|report| {
            if let Some(last) = &mut report.last_reload {
                (last.added, last.removed) = (added, removed);
            }
        });
    }
}
