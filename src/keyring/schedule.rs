//! When each key is fetched next: revalidation, retries, jitter. Pure.
//!
//! Used by the loader. Time and randomness are arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::snapshot::Trouble;
use crate::key_id::KeyId;

/// A key that callers wait for is not asked for more often than this.
const HURRY_SPACING: Duration = Duration::from_secs(1);

/// Revalidation happens after this part of the interval at the earliest, and after
/// all of it at the latest: the interval is a promise, the jitter only shortens it.
const EARLIEST_REVALIDATION: f64 = 0.7;

/// A number in `0.0..1.0`, drawn anew for each use.
pub(super) type Fraction = f64;

/// The plans for a set of keys.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    plans: BTreeMap<KeyId, Plan>,
}

#[derive(Debug)]
struct Plan {
    /// `None` while the key is being fetched.
    due: Option<Instant>,
    last_start: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// Adds a key.
    pub(super) fn add(&mut self, id: KeyId, due: Instant) {
        self.plans.insert(
            id,
            Plan {
                due: Some(due),
                last_start: None,
                failures: 0,
            },
        );
    }

    /// Adds a key with the plan that `old` has for it, due at `latest` at the latest, and
    /// by `now` where it was being fetched: that fetch has ended with the old plan.
    pub(super) fn take_over(&mut self, id: KeyId, old: &Self, latest: Instant, now: Instant) {
        let plan = old.plans.get(&id);
        let due = plan.map_or(latest, |plan| plan.due.unwrap_or(now));
        self.plans.insert(
            id,
            Plan {
                due: Some(due.min(latest)),
                last_start: plan.and_then(|plan| plan.last_start),
                failures: plan.map_or(0, |plan| plan.failures),
            },
        );
    }

    /// Whether there is a plan for `id`.
    pub(super) fn knows(&self, id: &KeyId) -> bool {
        self.plans.contains_key(id)
    }

    /// The key that has been due the longest, marked as being fetched.
    /// `first` goes before all others.
    pub(super) fn start_next(&mut self, first: Option<KeyId>, now: Instant) -> Option<KeyId> {
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

    /// When the next key becomes due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.plans.values().filter_map(|plan| plan.due).min()
    }

    /// The fetch of `id` succeeded: the next one is a revalidation.
    pub(super) fn succeeded(
        &mut self,
        id: &KeyId,
        interval: Duration,
        now: Instant,
        jitter: Fraction,
    ) {
        if let Some(plan) = self.plans.get_mut(id) {
            plan.failures = 0;
            plan.due = Some(now + revalidation_delay(interval, jitter));
        }
    }

    /// The fetch of `id` failed; returns how often in a row, and the wait until the
    /// next try.
    pub(super) fn failed(
        &mut self,
        id: &KeyId,
        trouble: Trouble,
        held: bool,
        now: Instant,
        jitter: Fraction,
    ) -> (u32, Duration) {
        let Some(plan) = self.plans.get_mut(id) else {
            return (0, Duration::ZERO);
        };
        plan.failures = plan.failures.saturating_add(1);
        let delay = retry_delay(trouble, held, plan.failures, jitter);
        plan.due = Some(now + delay);
        (plan.failures, delay)
    }

    /// Brings the next try of `id` forward, because somebody waits for it.
    pub(super) fn hurry(&mut self, id: &KeyId, now: Instant) {
        if let Some(plan) = self.plans.get_mut(id) {
            let soonest = plan
                .last_start
                .map_or(now, |start| now.max(start + HURRY_SPACING));
            plan.due = plan.due.map(|due| due.min(soonest));
        }
    }

    /// Makes every key due now.
    pub(super) fn hurry_all(&mut self, now: Instant) {
        for plan in self.plans.values_mut() {
            plan.due = plan.due.map(|due| due.min(now));
        }
    }

    /// How often in a row the fetch of `id` has failed.
    pub(super) fn failures(&self, id: &KeyId) -> u32 {
        self.plans.get(id).map_or(0, |plan| plan.failures)
    }
}

/// 70 to 100 % of the interval.
pub(super) fn revalidation_delay(interval: Duration, jitter: Fraction) -> Duration {
    interval.mul_f64(1.0 - jitter * (1.0 - EARLIEST_REVALIDATION))
}

/// Doubles from a first delay to a bound, of which it then takes 50 to 100 %.
fn retry_delay(trouble: Trouble, held: bool, failures: u32, jitter: Fraction) -> Duration {
    let (first, bound) = match (trouble, held) {
        // Nobody can read a Secret until this works: stay close behind it.
        (Trouble::Unavailable | Trouble::Pending | Trouble::Unconfirmed, false) => (1, 15),
        // Repeated wrong passwords can lock the account.
        (Trouble::Login, _) => (5, 120),
        // Either it is held, or somebody has to change something in Barbican first.
        _ => (5, 60),
    };
    let doublings = failures.saturating_sub(1).min(16);
    let delay = Duration::from_secs(first).saturating_mul(1 << doublings);
    delay
        .min(Duration::from_secs(bound))
        .mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u8) -> KeyId {
        format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
            .parse()
            .expect("a UUID")
    }

    #[test]
    fn revalidation_comes_within_the_interval_and_not_too_early() {
        let interval = Duration::from_secs(300);
        assert_eq!(revalidation_delay(interval, 0.0), interval);
        assert_eq!(revalidation_delay(interval, 1.0), Duration::from_secs(210));
    }

    #[test]
    fn retries_back_off_to_a_bound() {
        let delays: Vec<u64> = (1..8)
            .map(|n| retry_delay(Trouble::Unavailable, false, n, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 15, 15, 15]);
        let jittered = retry_delay(Trouble::Unavailable, false, 40, 1.0);
        assert_eq!(jittered, Duration::from_millis(7500));
    }

    #[test]
    fn a_refused_login_is_retried_rarely() {
        assert!(retry_delay(Trouble::Login, false, 10, 0.99) >= Duration::from_secs(60));
    }

    #[test]
    fn the_write_key_goes_first_and_then_the_longest_due() {
        let start = Instant::now();
        let now = start + Duration::from_secs(9);
        let mut schedule = Schedule::default();
        schedule.add(id(1), now);
        schedule.add(id(2), start);
        schedule.add(id(3), now);
        schedule.add(id(4), now + Duration::from_secs(1));
        let order: Vec<_> = std::iter::from_fn(|| schedule.start_next(Some(id(3)), now)).collect();
        assert_eq!(order, [id(3), id(2), id(1)]);
        assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_key_that_is_waited_for_is_tried_at_most_once_a_second() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(id(1), now);
        assert_eq!(schedule.start_next(None, now), Some(id(1)));
        let (failures, _) = schedule.failed(&id(1), Trouble::Denied, false, now, 0.0);
        assert_eq!(failures, 1);
        schedule.hurry(&id(1), now);
        assert_eq!(schedule.next_due(), Some(now + HURRY_SPACING));
    }
}
