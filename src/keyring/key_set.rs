//! `KeySet`: the keys of one configuration, while they are loaded and confirmed.
//!
//! The refresher has one for the configuration in force and, during a reload, one for
//! the configuration that is to come. Both live by the rules that stand here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::loader::{Fetched, Loader};
use super::schedule::{Failure, Schedule};
use super::snapshot::{KeyProblem, Slot, Snapshot};
use super::{FetchError, KeySource};
use crate::config::Live;
use crate::envelope::WrappingKey;
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::log::throttle::{LogThrottle, REPEAT_INTERVAL};
use crate::mutation::{self, Mutation};
use crate::secret::{Kek, Protection};

#[derive(Debug)]
pub(super) struct KeySet<S> {
    pub(super) live: Arc<Live>,
    pub(super) slots: Arc<Snapshot>,
    pub(super) loader: Loader<S>,
    /// What the log has said about keys that fail.
    throttles: BTreeMap<KeyId, LogThrottle<KeyProblem>>,
}

/// How a fetch has changed the set.
#[derive(Debug)]
pub(super) enum Settled {
    Loaded(Loaded),
    Failed(Failed),
}

/// A key was loaded or confirmed.
#[derive(Debug)]
pub(super) struct Loaded {
    /// It was not held before.
    pub(super) first: bool,
    /// The log has said that it fails.
    pub(super) recovered: bool,
    /// How many fetches had failed before.
    pub(super) failures: u32,
    pub(super) protection: Protection,
    /// All its bytes are printable characters, which nobody draws at random.
    pub(super) looks_like_text: bool,
}

/// A key was not loaded, or not confirmed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) problem: KeyProblem,
    /// It is held all the same.
    pub(super) held: bool,
    /// How many fetches have failed in a row.
    pub(super) failures: u32,
    pub(super) retry_in: Duration,
    /// The log has not said so lately.
    pub(super) news: bool,
    /// For a person.
    pub(super) cause: String,
}

impl Loaded {
    /// Says of a new key that it was not drawn at random.
    pub(super) fn warn_of_text(&self, id: KeyId) {
        if self.first && self.looks_like_text {
            warn!(
                key_id = %id, key_id_hash = id.sha256_label(),
                "all bytes of the key are printable characters, which a random key's are not: \
                 it is a password, or hex or base64 text of fewer bytes; rotate to a key that \
                 `openstack secret order create` has made"
            );
        }
    }
}

impl<S: KeySource> KeySet<S> {
    pub(super) fn new(
        live: Arc<Live>,
        source: Arc<S>,
        slots: Arc<Snapshot>,
        schedule: Schedule,
    ) -> Self {
        Self {
            loader: Loader::new(source, live.ring.write, schedule),
            live,
            slots,
            throttles: BTreeMap::new(),
        }
    }

    /// A fetch has ended. `known` is what is held of the key elsewhere, if anything: its
    /// bytes are not replaced either. `None` when the key is not of this set.
    pub(super) fn settle(
        &mut self,
        (id, outcome): Fetched,
        known: Option<&Slot>,
        max_age: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) -> Option<Settled> {
        let slot = self.slots.slot(&id)?;
        let held = slot.key().is_some();
        let before = if slot.has_history() {
            slot
        } else {
            known.unwrap_or(slot)
        };
        let expiry = max_age.and_then(|age| slot.expiry(age));
        let (problem, wait, cause) = match key_of(before, outcome) {
            Ok((key, looks_like_text)) => {
                let loaded = Loaded {
                    looks_like_text,
                    first: !held,
                    recovered: self.throttles.remove(&id).is_some(),
                    failures: self.loader.schedule.failures(&id),
                    protection: key.protection(),
                };
                let interval = self.live.ring.revalidate_interval;
                let schedule = &mut self.loader.schedule;
                schedule.succeeded(&id, interval, now, jitter);
                self.slots = Arc::new(self.slots.loaded(&id, key, now));
                return Some(Settled::Loaded(loaded));
            }
            Err(refused) => refused,
        };
        let failure = Failure {
            problem,
            wait,
            held,
            wiped_in: expiry.map(|expiry| expiry.saturating_duration_since(now)),
        };
        let (failures, retry_in) = self.loader.schedule.failed(&id, failure, now, jitter);
        self.slots = Arc::new(match slot.key() {
            Some(key) if mutation::active(Mutation::FailureConfirms) => {
                self.slots.loaded(&id, Arc::clone(key), now)
            }
            _ => self.slots.failing(&id, problem),
        });
        let throttle = self
            .throttles
            .entry(id)
            .or_insert_with(|| LogThrottle::new(REPEAT_INTERVAL));
        Some(Settled::Failed(Failed {
            problem,
            held,
            failures,
            retry_in,
            news: throttle.on_failure(problem, now).is_some(),
            cause,
        }))
    }

    /// Wipes what has gone unconfirmed for `max_age`; which keys those were, and what
    /// has kept each from being confirmed.
    pub(super) fn wipe(&mut self, max_age: Duration, now: Instant) -> Vec<(KeyId, KeyProblem)> {
        let max_age = wiped_after(max_age);
        let Some((next, wiped)) = self.slots.expired(max_age, now) else {
            return Vec::new();
        };
        self.slots = Arc::new(next);
        for (id, _) in &wiped {
            // Whatever is planned, this key is missing now.
            self.loader.schedule.expedite(id, now);
        }
        wiped
    }

    /// When there is something to do again: a fetch to begin, beside `other` ones under
    /// way, or a key to wipe.
    pub(super) fn next_wake(
        &self,
        max_age: Option<Duration>,
        other: Option<usize>,
    ) -> Option<Instant> {
        let expiry = max_age.and_then(|age| self.slots.next_expiry(wiped_after(age)));
        [self.loader.next_start(other), expiry]
            .into_iter()
            .flatten()
            .min()
    }
}

fn wiped_after(max_age: Duration) -> Duration {
    const FAULT: Duration = Duration::from_secs(30);
    if mutation::active(Mutation::WipesLate) {
        max_age + FAULT
    } else if mutation::active(Mutation::WipesEarly) {
        max_age.saturating_sub(FAULT)
    } else {
        max_age
    }
}

/// What is wrong, how long to wait, and the same for a person.
type Unusable = (KeyProblem, Option<Duration>, String);

/// The key that a download comes to and whether it looks like text, or what is wrong with
/// it and how long to wait.
fn key_of(
    before: &Slot,
    outcome: Result<Kek, FetchError>,
) -> Result<(Arc<WrappingKey>, bool), Unusable> {
    let kek = outcome.map_err(|error| {
        let cause = ErrorChain(&error).to_string();
        (error.problem(), error.wait(), cause)
    })?;
    let looks_like_text = kek.expose().looks_like_text();
    before
        .key_from(&kek)
        .map(|key| (key, looks_like_text))
        .map_err(|altered| (KeyProblem::Altered, None, altered.to_string()))
}
