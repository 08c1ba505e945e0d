//! The refresher's half that takes a new configuration: judge it, load its keys, swap.
//!
//! Invariant: nothing in force changes before [`Refresher::adopt`], which cannot fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info};

use super::loader::{Fetched, Loader};
use super::refresh::{ConfigUpdate, KeyThrottles, Refresher, is_news};
use super::report::ReloadOutcome;
use super::schedule::{Failure, Schedule, revalidation_delay};
use super::{Cause, FetchError, KeyProblem, KeySource, Slot, Snapshot};
use crate::config::{Cloud, Live};
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::secret::Kek;

/// A configuration whose keys are being loaded.
pub(super) struct Candidate<S> {
    pub(super) live: Arc<Live>,
    pub(super) loader: Loader<S>,
    /// Whether every key has to be read with the new settings, held or not.
    proves_all: bool,
    missing: BTreeSet<KeyId>,
    /// Confirmed again at the usual interval while others are missing.
    staged: BTreeMap<KeyId, Slot>,
    throttles: KeyThrottles,
    /// A change counts as failed once, however often it is tried.
    failed: bool,
}

impl<S: KeySource> Candidate<S> {
    /// When the next key that waits here must be wiped; `in_force` is the age of the
    /// configuration that it is to replace.
    pub(super) fn next_expiry(&self, in_force: Option<Duration>) -> Option<std::time::Instant> {
        let age = self.max_age(in_force)?;
        let slots = self.staged.values();
        slots.filter_map(|slot| slot.expiry(age)).min()
    }

    /// Whoever sets a limit means all copies, so the smaller one counts.
    fn max_age(&self, in_force: Option<Duration>) -> Option<Duration> {
        let ages = [in_force, self.live.ring.max_cache_age];
        ages.into_iter().flatten().min()
    }

    /// Finds out what is missing, at the beginning and again: keys that were there may
    /// have been wiped since, here or in the ring in force.
    fn recount(&mut self, ring: &Snapshot, in_force: Option<Duration>, now: std::time::Instant) {
        if let Some(age) = self.max_age(in_force) {
            self.staged.retain(|_, slot| !slot.is_stale(age, now));
        }
        for id in self.live.ring.ids() {
            let there = self.staged.contains_key(&id) || (!self.proves_all && ring.holds(&id));
            if there {
                self.missing.remove(&id);
            } else if self.missing.insert(id) {
                if self.loader.schedule.knows(&id) {
                    self.loader.schedule.expedite(&id, now);
                } else {
                    self.loader.schedule.add(id, now);
                }
            }
        }
    }
}

/// What the log says about a reload that only another one can put right.
const NEXT_TRY: &str = "when a file changes, or on SIGHUP";

impl<S, C> Refresher<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    /// The files have changed.
    pub(super) fn consider(&mut self) {
        let proposal = self.config_updates.borrow_and_update().clone();
        let live = match proposal {
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
        if live == self.live {
            self.candidate = None;
            self.update_report(|report| report.unchanged(self.shared.clock.wall()));
            info!("the files say what is in force: nothing to reload");
            self.hurry_the_troubled();
            return;
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.live == live
        {
            info!(
                missing = %list(&candidate.missing),
                "the files say what is being loaded already: trying again at once"
            );
            let now = self.shared.clock.now();
            candidate.loader.schedule.expedite_all(now);
            return;
        }
        self.candidate = None;
        if let Err(refusal) = self.may_replace(&live) {
            error!(
                next_try = NEXT_TRY,
                "configuration not reloaded, the one in force stays: {refusal}"
            );
            self.record_reload(ReloadOutcome::Refused, refusal.to_string());
            return;
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

    /// The write key must not leave the ring in the step in which it stops being the
    /// write key: other nodes, and this one's own data, still need it.
    fn may_replace(&self, live: &Live) -> Result<(), WriteKeyWouldVanish> {
        let old = self.live.ring.write;
        if live.ring.ids().any(|id| id == old) {
            return Ok(());
        }
        let snapshot = self.shared.snapshot.load();
        // A mistyped id: this process has never had such a key, and Barbican says that
        // there is none. Nothing is lost for good, as the id can be added later.
        let never_usable = snapshot.slot(&old).is_some_and(|slot| {
            slot.confirmed().is_none() && slot.trouble().is_some_and(KeyProblem::is_final)
        });
        if never_usable {
            return Ok(());
        }
        let mut ring = live.ring.decrypt.clone();
        ring.push(old);
        Err(WriteKeyWouldVanish { old, decrypt: ring })
    }

    fn prepare(&self, live: Arc<Live>) -> Result<Candidate<S>, Cause> {
        let snapshot = self.shared.snapshot.load();
        let same_cloud = live.cloud == self.live.cloud;
        let source = if same_cloud {
            Arc::clone(&self.ring.source)
        } else {
            Arc::new((self.connect)(&live.cloud)?)
        };
        let loader = Loader::new(source, live.ring.write, Schedule::default());
        let mut candidate = Candidate {
            live,
            loader,
            proves_all: !same_cloud,
            missing: BTreeSet::new(),
            staged: BTreeMap::new(),
            throttles: KeyThrottles::new(),
            failed: false,
        };
        // With nothing in force there is nothing to protect: take the new settings at
        // once. With new credentials every key is read once to prove them.
        if snapshot.holds_any() {
            let now = self.now();
            candidate.recount(&snapshot, self.live.ring.max_cache_age, now);
        }
        Ok(candidate)
    }

    /// A fetch for the ring to come has ended.
    pub(super) fn stage(&mut self, id: KeyId, outcome: Result<Kek, FetchError>) {
        self.note_contact(&outcome);
        self.note_text(id, &outcome);
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        let now = self.shared.clock.now();
        let snapshot = self.shared.snapshot.load();
        let empty = Slot::EMPTY;
        let staged = candidate.staged.get(&id);
        let known = staged.or_else(|| snapshot.slot(&id)).unwrap_or(&empty);
        let (trouble, wait, cause) = match outcome {
            Ok(kek) => match known.key_from(&kek) {
                Err(altered) => (KeyProblem::Altered, None, altered.to_string()),
                Ok(key) => {
                    candidate.staged.insert(id, Snapshot::staged_slot(key, now));
                    candidate.throttles.remove(&id);
                    let interval = candidate.live.ring.revalidate_interval;
                    let schedule = &mut candidate.loader.schedule;
                    schedule.succeeded(&id, interval, now, self.chance.fraction());
                    self.recount(now);
                    return;
                }
            },
            Err(error) => {
                let cause = ErrorChain(&error).to_string();
                (error.trouble(), error.wait(), cause)
            }
        };
        let failure = Failure {
            trouble,
            wait,
            held: false,
            wiped_in: None,
        };
        let schedule = &mut candidate.loader.schedule;
        let (failures, delay) = schedule.failed(&id, failure, now, self.chance.fraction());
        let retry_seconds = delay.as_secs_f32();
        let key_id_hash = id.sha256_label();
        if is_news(&mut candidate.throttles, id, trouble, now) {
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
        if std::mem::replace(&mut candidate.failed, true) {
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
        let snapshot = self.shared.snapshot.load_full();
        candidate.recount(&snapshot, self.live.ring.max_cache_age, now);
        if candidate.missing.is_empty() || !snapshot.holds_any() {
            self.adopt(candidate);
        } else {
            self.candidate = Some(candidate);
        }
    }

    /// Somebody who asks for a reload that changes nothing may have fixed something else,
    /// and requests a try now.
    fn hurry_the_troubled(&mut self) {
        let now = self.now();
        for (id, slot) in self.shared.snapshot.load().slots() {
            if slot.trouble().is_some() {
                self.ring.schedule.order(id, now);
            }
        }
    }

    /// The swap.
    fn adopt(&mut self, candidate: Candidate<S>) {
        let Candidate {
            live,
            loader,
            staged,
            ..
        } = candidate;
        let old: BTreeSet<KeyId> = self.live.ring.ids().collect();
        let new: BTreeSet<KeyId> = live.ring.ids().collect();
        let added: Vec<KeyId> = new.difference(&old).copied().collect();
        let removed: Vec<KeyId> = old.difference(&new).copied().collect();
        let proved: BTreeSet<KeyId> = staged.keys().copied().collect();
        let snapshot = self.shared.snapshot.load().with_ring(&live.ring, staged);
        let now = self.now();
        let mut schedule = Schedule::default();
        for (id, slot) in snapshot.slots() {
            let interval =
                revalidation_delay(live.ring.revalidate_interval, self.chance.fraction());
            match slot.confirmed().filter(|_| slot.key().is_some()) {
                None => schedule.add(*id, now),
                Some(confirmed) if proved.contains(id) => schedule.add(*id, confirmed + interval),
                // A reload puts off neither a confirmation nor the next try of one.
                Some(confirmed) => {
                    let latest = match slot.trouble() {
                        None => now.max(confirmed + interval),
                        Some(_) => now + interval,
                    };
                    schedule.take_over(*id, &self.ring.schedule, latest, now);
                }
            }
        }
        self.ring = Loader::new(loader.source, live.ring.write, schedule);
        // Their fetches have ended with the old loader: readers look again.
        self.waiting.clear();
        self.throttles.clear();
        info!(
            write_key_id = %live.ring.write,
            write_key_id_hash = live.ring.write.sha256_label(),
            keys = live.ring.ids().count(),
            keys_added = %list(&added),
            keys_removed = %list(&removed),
            "configuration reloaded"
        );
        self.update_report(|report| report.follows(&live));
        self.live = live;
        self.publish(snapshot);
        self.note_plan();
        self.record_reload(ReloadOutcome::Applied, String::new());
        self.update_report(|report| {
            if let Some(last) = &mut report.last_reload {
                (last.added, last.removed) = (added, removed);
            }
        });
    }
}

/// The end of a fetch for the ring to come; never, when there is none.
pub(super) async fn staged<S: KeySource>(candidate: Option<&mut Candidate<S>>) -> Fetched {
    match candidate {
        Some(candidate) => candidate.loader.finished().await,
        None => std::future::pending().await,
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
