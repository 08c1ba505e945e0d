//! The refresher's half that takes a new configuration: judge it, load its keys, swap.
//!
//! Invariant: nothing in force changes before [`Writer::adopt`], which cannot fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::key_set::{KeySet, Settled};
use super::loader::Fetched;
use super::report::{DroppedKey, ReloadOutcome};
use super::schedule::{Schedule, revalidation_delay};
use super::writer::{Candidate, Writer};
use super::{Cause, KeyProblem, KeySource, Slot, Snapshot};
use crate::config::{Cloud, Live};
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

/// What the log says about a reload that only another one can put right.
const NEXT_TRY: &str = "when a file changes, or on SIGHUP";

impl<S, C> Writer<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    /// The files have changed.
    pub(super) fn consider(&mut self, update: ConfigUpdate) {
        let live = match update {
            ConfigUpdate::Valid(live) => live,
            ConfigUpdate::Invalid(message) => {
                // An older proposal that is still loading is no longer what the files say.
                self.candidate = None;
                error!(
                    next_try = NEXT_TRY,
                    "configuration not reloaded, the one in force stays: {message}"
                );
                self.record_reload(ReloadOutcome::Invalid, message.to_string());
                return;
            }
        };
        if live == self.ring.live {
            self.candidate = None;
            self.update_report(|report| report.unchanged(self.shared.clock.wall()));
            info!("the files say what is in force: nothing to reload");
            self.expedite_failing_keys();
            return;
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.keys.live == live
        {
            info!(
                missing = %list(&candidate.missing),
                "the files say what is being loaded already: trying again at once"
            );
            let now = self.shared.clock.now();
            candidate.keys.loader.schedule.expedite_all(now);
            return;
        }
        self.candidate = None;
        if let Err(refusal) = self.may_replace(&live) {
            return self.refuse(&refusal);
        }
        match self.prepare(live) {
            Ok(candidate) if candidate.missing.is_empty() => self.adopt(candidate),
            Ok(candidate) => self.candidate = Some(candidate),
            Err(cause) => {
                let cause = ErrorChain(&*cause).to_string();
                error!(
                    next_try = NEXT_TRY,
                    "configuration not reloaded, the one in force stays: {cause}"
                );
                self.record_reload(ReloadOutcome::Invalid, cause);
            }
        }
    }

    fn refuse(&self, refusal: &WriteKeyWouldVanish) {
        error!(
            next_try = NEXT_TRY,
            "configuration not reloaded, the one in force stays: {refusal}"
        );
        self.record_reload(ReloadOutcome::Refused, refusal.to_string());
    }

    /// The write key must not leave the ring in the step in which it stops being the
    /// write key: other nodes, and this one's own data, still need it.
    fn may_replace(&self, live: &Live) -> Result<(), WriteKeyWouldVanish> {
        let old = self.ring.live.ring.write;
        if mutation::active(Mutation::WriteKeyVanishes) {
            return Ok(());
        }
        if live.ring.ids().any(|id| id == old) {
            return Ok(());
        }
        // A mistyped id: this process has never had such a key, and Barbican says that
        // there is none. Nothing is lost for good, as the id can be added later.
        let never_usable = self.ring.slots.slot(&old).is_some_and(|slot| {
            slot.confirmed().is_none() && slot.problem().is_some_and(KeyProblem::is_final)
        });
        if never_usable {
            return Ok(());
        }
        let mut ring = live.ring.decrypt.clone();
        ring.push(old);
        Err(WriteKeyWouldVanish { old, decrypt: ring })
    }

    fn prepare(&self, live: Arc<Live>) -> Result<Candidate<S>, Cause> {
        let same_cloud = live.cloud == self.ring.live.cloud;
        let source = if same_cloud {
            Arc::clone(&self.ring.loader.source)
        } else {
            Arc::new((self.connect)(&live.cloud)?)
        };
        let slots = Arc::new(Snapshot::new(&live.ring));
        let mut candidate = Candidate {
            keys: KeySet::new(live, source, slots, Schedule::default()),
            proves_all: !same_cloud,
            missing: BTreeSet::new(),
            failed: false,
        };
        // With nothing in force there is nothing to protect: take the new settings at
        // once. With new credentials every key is read once to prove them.
        if self.ring.slots.holds_any() && !mutation::active(Mutation::ReloadDoesNotWait) {
            candidate.recount(&self.ring, self.now());
        }
        Ok(candidate)
    }

    /// A fetch for the ring to come has ended.
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
        let failed = match candidate.keys.settle(fetched, known, age, now, jitter) {
            Some(Settled::Failed(failed)) => failed,
            Some(Settled::Loaded(loaded)) => {
                if !is_held {
                    loaded.warn_of_text(id);
                }
                return self.recount(now);
            }
            None => return,
        };
        let (failures, cause) = (failed.failures, failed.cause);
        let retry_seconds = failed.retry_in.as_secs_f32();
        let key_id_hash = id.sha256_label();
        if failed.news {
            error!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "configuration not reloaded, the one in force stays: key not loaded: {cause}"
            );
        } else {
            debug!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "configuration still not reloaded: key not loaded: {cause}"
            );
        }
        let message = format!("key {id} not loaded: {cause}");
        let again = std::mem::replace(&mut candidate.failed, true);
        if again && !mutation::active(Mutation::FailuresCountTwice) {
            self.update_report(|report| report.failed_again(message, self.shared.clock.wall()));
        } else {
            self.record_reload(ReloadOutcome::Failed, message);
        }
    }

    /// Adopts the configuration that is waiting when nothing is missing any more, or when
    /// nothing is left in force that could be lost.
    pub(super) fn recount(&mut self, now: std::time::Instant) {
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        candidate.recount(&self.ring, now);
        if !candidate.missing.is_empty() && self.ring.slots.holds_any() {
            self.candidate = Some(candidate);
            return;
        }
        // The write key in force may have become usable while the new ring was waiting.
        match self.may_replace(&candidate.keys.live) {
            Ok(()) => self.adopt(candidate),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Somebody who asks for a reload that changes nothing may have fixed something else,
    /// and requests a try now.
    fn expedite_failing_keys(&mut self) {
        let now = self.now();
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
        let KeySet {
            live,
            slots: staged,
            loader,
            ..
        } = candidate.keys;
        let old: BTreeSet<KeyId> = self.ring.live.ring.ids().collect();
        let new: BTreeSet<KeyId> = live.ring.ids().collect();
        let added: Vec<KeyId> = new.difference(&old).copied().collect();
        let removed: Vec<KeyId> = old.difference(&new).copied().collect();
        let at = self.shared.clock.wall();
        let dropped: Vec<DroppedKey> = removed
            .iter()
            .map(|id| DroppedKey {
                id: *id,
                at,
                last_used: self
                    .ring
                    .slots
                    .slot(id)
                    .and_then(Slot::last_use)
                    .map(|second| self.date_of(second)),
            })
            .collect();
        let snapshot = self.ring.slots.replaced_by(&live.ring, &staged);
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
                // A reload puts off neither a confirmation nor the next try of one.
                Some(confirmed) => {
                    let latest = match slot.problem() {
                        None => now.max(confirmed + interval),
                        Some(_) => now + interval,
                    };
                    schedule.take_over(*id, &self.ring.loader.schedule, latest, now);
                }
            }
        }
        let source = Arc::clone(&loader.source);
        self.ring = KeySet::new(Arc::clone(&live), source, Arc::new(snapshot), schedule);
        // Their fetches have ended with the old loader: readers look again.
        self.waiting.clear();
        info!(
            write_key_id = %live.ring.write,
            write_key_id_hash = live.ring.write.sha256_label(),
            keys = live.ring.ids().count(),
            keys_added = %list(&added),
            keys_removed = %list(&removed),
            "configuration reloaded"
        );
        warn_of_those_in_use(&dropped);
        self.update_report(|report| {
            report.follows(&live);
            report.drops(&dropped, &live, at);
        });
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

fn warn_of_those_in_use(dropped: &[DroppedKey]) {
    for key in dropped.iter().filter(|key| key.was_in_use()) {
        let used = key
            .last_used
            .and_then(|used| key.at.duration_since(used).ok());
        warn!(
            key_id = %key.id,
            key_id_hash = key.id.sha256_label(),
            last_used_seconds_ago = used.unwrap_or_default().as_secs(),
            "a key that was in use within the last day has left the ring: what it has wrapped \
             cannot be read any more; if there is such data, add the key to decrypt-key-ids again"
        );
    }
}

/// The reload would make data unreadable.
#[derive(Debug, thiserror::Error)]
#[error(
    "key-id changes and the key in use until now, {old}, is missing from decrypt-key-ids; what it \
     has wrapped could not be read. Add it: decrypt-key-ids = {}",
    list(decrypt)
)]
struct WriteKeyWouldVanish {
    old: KeyId,
    decrypt: Vec<KeyId>,
}

fn list<'a>(ids: impl IntoIterator<Item = &'a KeyId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
    ids.join(",")
}
