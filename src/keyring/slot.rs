//! `Slot`: one key of the ring, immutable; what happens to it makes the next slot.
//!
//! Used by the snapshot and the refresher. Invariant: once a key was held, no other bytes
//! are taken for the same id.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::key_problem::KeyProblem;
use super::usage::{Use, Uses};
use crate::envelope::{Fingerprint, WrappingKey};
use crate::mutation::{self, Mutation};
use crate::secret::Kek;

/// One key of the ring.
#[derive(Clone, Debug)]
pub struct Slot {
    key: Option<Arc<WrappingKey>>,
    /// Of the key that is held, or was until it was wiped.
    fingerprint: Option<Fingerprint>,
    confirmed: Option<Instant>,
    problem: Option<KeyProblem>,
    /// Whether Barbican has said, in its newest word on the key, that it does not give it out.
    withheld: bool,
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

impl Slot {
    pub(super) fn empty() -> Self {
        Self {
            key: None,
            fingerprint: None,
            confirmed: None,
            problem: Some(KeyProblem::Pending),
            withheld: false,
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

    /// With its key loaded, or confirmed where it was loaded before.
    #[must_use]
    pub(super) fn loaded(&self, key: Arc<WrappingKey>, now: Instant) -> Self {
        let problem = self.problem;
        Self {
            fingerprint: Some(key.fingerprint()),
            key: Some(key),
            confirmed: Some(now),
            problem: problem.filter(|_| mutation::active(Mutation::ProblemIsKept)),
            withheld: false,
            used: Arc::clone(&self.used),
        }
    }

    /// Whether a key is held that Barbican will not give out again, as far as it has said. An outage
    /// or a refused login since then says nothing else.
    pub(super) fn is_last_copy(&self) -> bool {
        self.key.is_some() && self.withheld
    }

    /// With a failed attempt recorded; a held key stays.
    #[must_use]
    pub(super) fn failing(&self, problem: KeyProblem) -> Self {
        let before = self.withheld && !mutation::active(Mutation::GoneIsForgotten);
        Self {
            problem: Some(problem),
            withheld: problem.withholds().unwrap_or(before),
            ..self.clone()
        }
    }

    /// Without its key. The cause is kept: an operator who sees that the key is missing must
    /// see why.
    #[must_use]
    pub(super) fn wiped(&self) -> Self {
        Self {
            key: None,
            problem: Some(self.unconfirmed_because()),
            ..self.clone()
        }
    }

    /// What has kept the key from being confirmed.
    pub(super) fn unconfirmed_because(&self) -> KeyProblem {
        self.problem.unwrap_or(KeyProblem::Unconfirmed)
    }

    /// With the uses that `other` has noted.
    #[must_use]
    pub(super) fn with_uses_of(self, other: &Self) -> Self {
        Self {
            used: Arc::clone(&other.used),
            ..self
        }
    }
}
