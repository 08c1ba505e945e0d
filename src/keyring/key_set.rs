//! `KeySet`: the keys of one configuration, while they are loaded and confirmed.
//!
//! The refresher has one for the configuration in use and, during a reload, one for the
//! new configuration. Both follow the rules of this module.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::follower::{Follower, ListResult};
use super::key_problem::KeyProblem;
use super::loader::{Fetched, Loader};
use super::schedule::{Failure, Schedule};
use super::slot::Slot;
use super::snapshot::Snapshot;
use super::{FetchError, KeySource, UpstreamError};
use crate::config::{Live, Ring};
use crate::envelope::WrappingKey;
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::log::throttle::{LogThrottle, REPEAT_INTERVAL};
use crate::mutation::{self, Mutation};
use crate::secret::{Kek, Protection};

/// A key that is fetched again this soon after its first failure may be loaded then.
const SOON: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct KeySet<S> {
    pub(super) live: Arc<Live>,
    /// The keys as they are now.
    pub(super) ring: Ring,
    /// Reads the container that lists them, if one does.
    pub(super) follower: Option<Follower>,
    pub(super) slots: Arc<Snapshot>,
    pub(super) loader: Loader<S>,
    /// What the log has said about keys that fail.
    throttles: BTreeMap<KeyId, LogThrottle<KeyProblem>>,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) enum Finished {
    Key(Fetched),
    List(ListResult),
}

/// How a fetch has changed the set.
#[derive(Debug)]
pub(super) enum FetchEffect {
    Loaded(Loaded),
    Failed(Failed),
}

impl FetchEffect {
    /// Whether Barbican itself has answered.
    pub(super) fn is_an_answer(&self) -> bool {
        match self {
            Self::Loaded(_) => true,
            Self::Failed(failed) => failed.problem.is_an_answer(),
        }
    }
}

/// A key was loaded or confirmed.
#[derive(Debug)]
pub(super) struct Loaded {
    /// It was not held before.
    pub(super) first: bool,
    /// Its failure was logged before.
    pub(super) recovered: bool,
    /// How many fetches had failed before.
    pub(super) failures: u32,
    pub(super) protection: Protection,
    /// All its bytes are printable characters, unlike those of a random key.
    pub(super) looks_like_text: bool,
}

/// A key was not loaded, or not confirmed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) problem: KeyProblem,
    /// It is held nevertheless.
    pub(super) held: bool,
    /// How many fetches have failed in a row.
    pub(super) failures: u32,
    pub(super) retry_in: Duration,
    /// The failure is to be logged.
    pub(super) news: bool,
    /// The text for operators.
    pub(super) cause: String,
}

impl Loaded {
    /// Warns about a new key that is not random.
    pub(super) fn warn_of_text(&self, id: KeyId) {
        if self.first && self.looks_like_text {
            warn!(
                key_id = %id, key_id_hash = id.sha256_label(),
                "all bytes of the key are printable characters, unlike those of a random key: it \
                 is a password, or hex or base64 text of fewer bytes; rotate to a key that \
                 `openstack secret order create` has created"
            );
        }
    }
}

impl<S: KeySource> KeySet<S> {
    /// The keys that `live` names, none of them loaded.
    pub(super) fn new(
        live: Arc<Live>,
        source: Arc<S>,
        schedule: Schedule,
        follower: Option<Follower>,
    ) -> Self {
        let ring = live.ring.clone();
        Self {
            loader: Loader::new(source, &ring, schedule),
            slots: Arc::new(Snapshot::new(&ring)),
            live,
            ring,
            follower,
            throttles: BTreeMap::new(),
        }
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> usize {
        self.loader.under_way() + self.readings()
    }

    /// How many readings of the container are under way.
    fn readings(&self) -> usize {
        let reading = self.follower.as_ref().is_some_and(Follower::is_reading);
        usize::from(reading)
    }

    /// Starts what is due, the container first, beside `other` requests under way.
    pub(super) fn start_due(&mut self, now: Instant, other: Option<usize>) {
        if let Some(follower) = &mut self.follower
            && self.loader.room(0, other) > 0
        {
            follower.start_due(&self.loader.source, now);
        }
        self.loader.start_due(now, self.readings(), other);
    }

    /// Waits for a request to end; for ever when none is under way. Cancellation safe.
    pub(super) async fn finished(&mut self) -> Finished {
        let listed = async {
            match &mut self.follower {
                Some(follower) => follower.finished().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            fetched = self.loader.finished() => Finished::Key(fetched),
            listed = listed => Finished::List(listed),
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
    ) -> Option<FetchEffect> {
        let slot = self.slots.slot(&id)?;
        let held = slot.key().is_some();
        let before = if slot.has_history() {
            slot
        } else {
            known.unwrap_or(slot)
        };
        let expiry = max_age.and_then(|age| slot.expiry(age));
        let Unusable {
            problem,
            wait,
            unanswered,
            cause,
        } = match key_of(before, outcome) {
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
                return Some(FetchEffect::Loaded(loaded));
            }
            Err(refused) => refused,
        };
        let failure = Failure {
            problem,
            wait,
            // No caller misses a key of the new ring that the current ring holds.
            unanswered: unanswered && known.is_none_or(|slot| slot.key().is_none()),
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
        // A first failure that may be over in a moment is worth no message yet.
        let passing =
            problem == KeyProblem::Unavailable && !held && failures == 1 && retry_in <= SOON;
        let news = !passing
            && self
                .throttles
                .entry(id)
                .or_insert_with(|| LogThrottle::new(REPEAT_INTERVAL))
                .on_failure(problem, now)
                .is_some();
        Some(FetchEffect::Failed(Failed {
            problem,
            held,
            failures,
            retry_in,
            news,
            cause,
        }))
    }

    /// Barbican has answered a request of this source: whatever waits for an answer, or for a
    /// login, is asked for again.
    pub(super) fn source_answered(&mut self, now: Instant) {
        self.loader.schedule.source_answered(now);
        if let Some(follower) = &mut self.follower {
            follower.source_answered(now);
        }
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
            // Regardless of the schedule, this key is missing now.
            self.loader.schedule.expedite(id, now);
        }
        wiped
    }

    /// A key has left the ring.
    pub(super) fn forget(&mut self, id: &KeyId) {
        self.loader.schedule.remove(id);
        self.throttles.remove(id);
    }

    /// When there is something to do again: a request to begin, beside `other` ones under
    /// way, a key to wipe, or another write key to use.
    pub(super) fn next_wake(
        &self,
        max_age: Option<Duration>,
        other: Option<usize>,
        (wall, now): (SystemTime, Instant),
    ) -> Option<Instant> {
        let expiry = max_age.and_then(|age| self.slots.next_expiry(wiped_after(age)));
        let follower = self.follower.as_ref();
        let reading = follower
            .and_then(Follower::next_start)
            .filter(|_| self.loader.room(0, other) > 0);
        let activation = follower.and_then(|follower| {
            let (time, _) = follower.roster.next_activation(wall)?;
            now.checked_add(time.duration_since(wall).ok()?)
        });
        let next = self.loader.next_start(self.readings(), other);
        [next, expiry, reading, activation]
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

/// Why a download is no use.
struct Unusable {
    problem: KeyProblem,
    wait: Option<Duration>,
    unanswered: bool,
    /// For a person.
    cause: String,
}

/// The key that a download comes to and whether it looks like text, or what is wrong with
/// it.
fn key_of(
    before: &Slot,
    outcome: Result<Kek, FetchError>,
) -> Result<(Arc<WrappingKey>, bool), Unusable> {
    let kek = outcome.map_err(|error| Unusable {
        problem: error.problem(),
        wait: error.upstream().and_then(UpstreamError::wait),
        unanswered: error.upstream().is_some_and(UpstreamError::is_unanswered),
        cause: ErrorChain(&error).to_string(),
    })?;
    let looks_like_text = kek.expose().looks_like_text();
    before
        .key_from(&kek)
        .map(|key| (key, looks_like_text))
        .map_err(|altered| Unusable {
            problem: KeyProblem::Altered,
            wait: None,
            unanswered: false,
            cause: altered.to_string(),
        })
}
