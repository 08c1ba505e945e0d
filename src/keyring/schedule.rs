//! When each key is fetched next: revalidation, retries, jitter. Pure.
//!
//! Used by the loader. Time and randomness are arguments.

mod failure;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::key_problem::KeyProblem;
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};

use failure::{EXPEDITED_SPACING, retry_delay};
pub(super) use failure::{Failure, Fraction};

/// How long a call waits for a key that is being loaded: kube-apiserver gives up
/// after 3 s by default, and should get an answer before that.
pub const MISS_WAIT: Duration = Duration::from_millis(2500);

/// While there is no answer and a key is missing, a fetch begins this long after the one
/// before, or when that one has ended...
const STEADY_SPACING: Duration = EXPEDITED_SPACING;

/// ...and up to this much later, so that nodes do not stay in step.
const STEADY_SPREAD: Duration = Duration::from_millis(100);

/// The wait is longer than the server's `Retry-After` by up to this fraction of it.
const GRANTED_SPREAD: f64 = 0.25;

/// Revalidation happens after this part of the interval at the earliest, and after
/// all of it at the latest: the interval is a promise, the jitter only shortens it.
const EARLIEST_REVALIDATION: f64 = 0.7;

/// The plans for a set of keys, or of other things that are read again and again.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Schedule<K = KeyId> {
    plans: BTreeMap<K, Plan>,
    /// Since a fetch of a missing key has gone unanswered, and until an answer comes: no
    /// fetch begins before this, nor beside another. One is enough to find out.
    quiet_until: Option<Instant>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            plans: BTreeMap::new(),
            quiet_until: None,
        }
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Plan {
    /// `None` while the key is being fetched.
    due: Option<Instant>,
    last_start: Option<Instant>,
    /// Set at the last failure: no waiting caller brings the next try before this.
    soonest: Option<Instant>,
    failures: u32,
    /// The key is missing and there was no answer.
    unanswered: bool,
    /// The problem may end without an operator, according to the last fetch.
    may_pass: bool,
    /// Keystone has refused the login of the last fetch.
    login_refused: bool,
}

impl<K: Copy + Ord> Schedule<K> {
    /// Adds a key.
    pub(super) fn add(&mut self, id: K, due: Instant) {
        self.plans.insert(id, Plan::new(due));
    }

    /// Adds a key with the plan that `old` has for it, due at `latest` at the latest, and
    /// by `now` where it was being fetched: that fetch has ended with the old plan.
    pub(super) fn take_over(&mut self, id: K, old: &Self, latest: Instant, now: Instant) {
        let plan = match old.plans.get(&id) {
            None => Plan::new(latest),
            Some(plan) => Plan {
                due: Some(plan.due.unwrap_or(now).min(latest)),
                ..*plan
            },
        };
        self.quiet_until = old.quiet_until;
        self.plans.insert(id, plan);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, id: &K) {
        self.plans.remove(id);
    }

    /// Whether there is a plan for `id`.
    pub(super) fn knows(&self, id: &K) -> bool {
        self.plans.contains_key(id)
    }

    /// The key that has been due the longest, marked as being fetched.
    /// `first` goes before all others, as long as there are answers.
    pub(super) fn start_next(&mut self, first: Option<K>, now: Instant) -> Option<K> {
        if self.quiet_until.is_some_and(|until| now < until) || self.waits_for_an_answer() {
            return None;
        }
        // While there is no answer, each key has its turn: the answer may be missing
        // for only one of them.
        let first = first.filter(|_| self.quiet_until.is_none());
        let due = |plan: &Plan| plan.due.filter(|due| *due <= now);
        let (id, plan) = self
            .plans
            .iter_mut()
            .filter(|(_, plan)| due(plan).is_some())
            .min_by_key(|(id, plan)| (Some(**id) != first, plan.due))?;
        plan.due = None;
        plan.last_start = Some(now);
        Some(*id)
    }

    /// When the next fetch may begin; `None` when only the end of one can bring that about.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.waits_for_an_answer() {
            return None;
        }
        let due = self.plans.values().filter_map(|plan| plan.due).min()?;
        Some(self.quiet_until.map_or(due, |until| until.max(due)))
    }

    /// Whether a fetch is under way that is to show whether anybody answers again.
    fn waits_for_an_answer(&self) -> bool {
        self.quiet_until.is_some() && self.plans.values().any(|plan| plan.due.is_none())
    }

    /// Barbican has answered another request of the same source, so that Keystone accepts the login,
    /// too: keys that are missing for want of an answer, or of a login, are due now.
    pub(super) fn source_answered(&mut self, now: Instant) {
        self.answered(now);
        self.login_works(now);
    }

    /// There was an answer: keys that are missing for want of one are due now.
    fn answered(&mut self, now: Instant) {
        if self.quiet_until.take().is_some() {
            for plan in self.plans.values_mut().filter(|plan| plan.unanswered) {
                plan.due_by(now);
            }
        }
    }

    /// Keystone accepts the login: what it was refused for is due now. The pause was for the
    /// login alone.
    fn login_works(&mut self, now: Instant) {
        if mutation::active(Mutation::RefusedLoginStays) {
            return;
        }
        for plan in self.plans.values_mut().filter(|plan| plan.login_refused) {
            plan.due_by(now);
        }
    }

    /// The fetch of `id` succeeded: the next one is a revalidation.
    pub(super) fn succeeded(&mut self, id: &K, interval: Duration, now: Instant, jitter: Fraction) {
        if let Some(plan) = self.plans.get_mut(id) {
            *plan = Plan {
                last_start: plan.last_start,
                ..Plan::new(now + revalidation_delay(interval, jitter))
            };
        }
        self.answered(now);
    }

    /// The fetch of `id` failed; returns how often in a row, and the wait until the
    /// next try.
    pub(super) fn failed(
        &mut self,
        id: &K,
        failure: Failure,
        now: Instant,
        jitter: Fraction,
    ) -> (u32, Duration) {
        let Some(plan) = self.plans.get_mut(id) else {
            return (0, Duration::ZERO);
        };
        plan.failures = plan.failures.saturating_add(1);
        let start = plan.last_start.unwrap_or(now);
        let delay = if failure.is_steady() {
            let rest = (start + STEADY_SPACING).saturating_duration_since(now);
            rest + STEADY_SPREAD.mul_f64(jitter)
        } else {
            // Added, so that no node comes too early and not all come at the same time.
            let granted = failure.granted().mul_f64(1.0 + jitter * GRANTED_SPREAD);
            retry_delay(failure, plan.failures, jitter)
                .max(granted)
                .min(failure.last_chance())
        };
        let delay = if mutation::active(Mutation::RetriesAtOnce) {
            Duration::ZERO
        } else {
            delay
        };
        plan.due = Some(now + delay);
        plan.unanswered = failure.is_steady();
        plan.may_pass = failure.may_pass_by_itself();
        plan.login_refused = failure.problem == KeyProblem::Login;
        // A caller that hurries misses the key, even if it is held now.
        let missing = Failure {
            held: false,
            wiped_in: None,
            ..failure
        };
        let soonest = (start + failure.spacing()).max(now + missing.granted());
        plan.soonest = Some(soonest);
        let failures = plan.failures;
        if failure.is_steady() {
            self.quiet_until = Some(soonest);
        } else if !failure.unanswered {
            self.answered(now);
        }
        (failures, delay)
    }

    /// Brings the next try of `id` forward, because a caller waits for it. Returns
    /// whether it begins, or has begun, while that caller is still there.
    pub(super) fn expedite(&mut self, id: &K, now: Instant) -> bool {
        let Some(plan) = self.plans.get_mut(id) else {
            return false;
        };
        let Some(due) = &mut plan.due else {
            return true;
        };
        let soonest = plan.soonest.map_or(now, |soonest| soonest.max(now));
        *due = soonest.min(*due);
        *due < now + MISS_WAIT
    }

    /// The same for somebody who only asks whether the key is there, again and again: that
    /// hurries nothing for which a person must act first.
    pub(super) fn expedite_if_passing(&mut self, id: &K, now: Instant) {
        if self.plans.get(id).is_some_and(|plan| plan.may_pass) {
            self.expedite(id, now);
        }
    }

    /// Makes `id` due now, whatever a server has asked for: a person has ordered it.
    pub(super) fn order(&mut self, id: &K, now: Instant) {
        if let Some(plan) = self.plans.get_mut(id) {
            plan.due_by(now);
        }
    }

    /// The same for every key.
    pub(super) fn order_all(&mut self, now: Instant) {
        for plan in self.plans.values_mut() {
            plan.due_by(now);
        }
    }

    /// How often in a row the fetch of `id` has failed.
    pub(super) fn failures(&self, id: &K) -> u32 {
        self.plans.get(id).map_or(0, |plan| plan.failures)
    }
}

impl Plan {
    fn new(due: Instant) -> Self {
        Self {
            due: Some(due),
            last_start: None,
            soonest: None,
            failures: 0,
            unanswered: false,
            may_pass: true,
            login_refused: false,
        }
    }

    /// Due at `latest` at the latest, unless it is being fetched.
    fn due_by(&mut self, latest: Instant) {
        self.due = self.due.map(|due| due.min(latest));
    }
}

/// 70 to 100 % of the interval.
pub(super) fn revalidation_delay(interval: Duration, jitter: Fraction) -> Duration {
    interval.mul_f64(1.0 - jitter * (1.0 - EARLIEST_REVALIDATION))
}

#[cfg(test)]
mod fleet;
#[cfg(test)]
mod steady;

#[cfg(test)]
mod tests;
