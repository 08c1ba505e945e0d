//! When each key is fetched next: revalidation, retries, jitter. Pure.
//!
//! Used by the loader. Time and randomness are arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::snapshot::KeyProblem;
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};

/// How long a call waits for a key that is being loaded: kube-apiserver gives up
/// after 3 s by default, and should get an answer before that.
pub const MISS_WAIT: Duration = Duration::from_millis(2500);

/// A key that callers wait for is not asked for more often than this.
const EXPEDITED_SPACING: Duration = Duration::from_secs(1);

/// The same after a refusal, which ends when a person acts: so long may it take until
/// the next call finds that out.
const REFUSED_SPACING: Duration = Duration::from_secs(5);

/// A server's wish to be left alone is granted for this long at most while the key is
/// missing: nobody can read a Secret meanwhile, and a wish of hours is a mistake.
const LONGEST_WAIT_MISSING: Duration = Duration::from_secs(60);

/// The same while the key is held for good: nothing is lost by waiting.
const LONGEST_WAIT_HELD: Duration = Duration::from_secs(300);

/// What a server asks for is exceeded by up to this part of it.
const GRANTED_SPREAD: f64 = 0.25;

/// Revalidation happens after this part of the interval at the earliest, and after
/// all of it at the latest: the interval is a promise, the jitter only shortens it.
const EARLIEST_REVALIDATION: f64 = 0.7;

/// A number in `0.0..1.0`, drawn again for each use.
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
    /// Since the last failure: no caller's hurry brings the next try before this.
    soonest: Option<Instant>,
    failures: u32,
}

/// A fetch that failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) problem: KeyProblem,
    /// For how long another fetch is unwelcome, or of no use.
    pub(super) wait: Option<Duration>,
    pub(super) held: bool,
    /// How long it is until a key that is held is wiped, if nobody confirms it.
    pub(super) wiped_in: Option<Duration>,
}

impl Schedule {
    /// Adds a key.
    pub(super) fn add(&mut self, id: KeyId, due: Instant) {
        self.plans.insert(
            id,
            Plan {
                due: Some(due),
                last_start: None,
                soonest: None,
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
                soonest: plan.and_then(|plan| plan.soonest),
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
            plan.soonest = None;
            plan.due = Some(now + revalidation_delay(interval, jitter));
        }
    }

    /// The fetch of `id` failed; returns how often in a row, and the wait until the
    /// next try.
    pub(super) fn failed(
        &mut self,
        id: &KeyId,
        failure: Failure,
        now: Instant,
        jitter: Fraction,
    ) -> (u32, Duration) {
        let Some(plan) = self.plans.get_mut(id) else {
            return (0, Duration::ZERO);
        };
        plan.failures = plan.failures.saturating_add(1);
        // On top, so that nobody comes before the time and not all come at it.
        let granted = failure.granted().mul_f64(1.0 + jitter * GRANTED_SPREAD);
        let delay = retry_delay(failure, plan.failures, jitter)
            .max(granted)
            .min(failure.last_chance());
        let delay = if mutation::active(Mutation::RetriesAtOnce) {
            Duration::ZERO
        } else {
            delay
        };
        plan.due = Some(now + delay);
        let start = plan.last_start.unwrap_or(now);
        // Whoever hurries misses the key, even if it is held now.
        let missing = Failure {
            held: false,
            wiped_in: None,
            ..failure
        };
        plan.soonest = Some((start + failure.spacing()).max(now + missing.granted()));
        (plan.failures, delay)
    }

    /// Brings the next try of `id` forward, because somebody waits for it. Returns
    /// whether it begins, or has begun, while that caller is still there.
    pub(super) fn expedite(&mut self, id: &KeyId, now: Instant) -> bool {
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

    /// Makes `id` due now, whatever a server has asked for: a person has ordered it.
    pub(super) fn order(&mut self, id: &KeyId, now: Instant) {
        if let Some(plan) = self.plans.get_mut(id) {
            plan.due = plan.due.map(|due| due.min(now));
        }
    }

    /// Makes every key due now, whatever a server has asked for: a person has ordered it.
    pub(super) fn expedite_all(&mut self, now: Instant) {
        for plan in self.plans.values_mut() {
            plan.due = plan.due.map(|due| due.min(now));
        }
    }

    /// How often in a row the fetch of `id` has failed.
    pub(super) fn failures(&self, id: &KeyId) -> u32 {
        self.plans.get(id).map_or(0, |plan| plan.failures)
    }
}

impl Failure {
    /// How long we wait because we are asked to, and not by our own choice.
    fn granted(self) -> Duration {
        let longest = match self.problem {
            // Until then the source logs in for nobody.
            KeyProblem::Login => Duration::MAX,
            _ if mutation::active(Mutation::WishIsUnbounded) => Duration::from_secs(86_400),
            _ if self.held && self.wiped_in.is_none() => LONGEST_WAIT_HELD,
            _ => LONGEST_WAIT_MISSING,
        };
        self.wait.unwrap_or_default().min(longest)
    }

    /// Within so long it must be tried again, because the key is wiped otherwise: after
    /// half of the time that is left, so that more than one try is.
    fn last_chance(self) -> Duration {
        match self.wiped_in {
            // Until then the source logs in for nobody.
            _ if self.problem == KeyProblem::Login => Duration::MAX,
            Some(left) if self.held => (left / 2).max(EXPEDITED_SPACING),
            _ => Duration::MAX,
        }
    }

    fn spacing(self) -> Duration {
        if self.may_pass_by_itself() {
            EXPEDITED_SPACING
        } else {
            REFUSED_SPACING
        }
    }

    fn may_pass_by_itself(self) -> bool {
        matches!(
            self.problem,
            KeyProblem::Unavailable | KeyProblem::Pending | KeyProblem::Unconfirmed
        )
    }
}

/// 70 to 100 % of the interval.
pub(super) fn revalidation_delay(interval: Duration, jitter: Fraction) -> Duration {
    interval.mul_f64(1.0 - jitter * (1.0 - EARLIEST_REVALIDATION))
}

/// Doubles from a first delay to a bound, of which it then takes 50 to 100 %.
fn retry_delay(failure: Failure, failures: u32, jitter: Fraction) -> Duration {
    let (first, bound) = match failure.problem {
        // Nobody can read a Secret until this works: stay close behind it.
        _ if failure.may_pass_by_itself() && !failure.held => (1, 15),
        // Repeated wrong passwords can lock the account.
        KeyProblem::Login => (5, 120),
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

    fn missing(problem: KeyProblem) -> Failure {
        Failure {
            problem,
            wait: None,
            held: false,
            wiped_in: None,
        }
    }

    /// A key that has just been asked for in vain; the wait, and the soonest try.
    fn after(failure: Failure) -> (Duration, Duration) {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(id(1), now);
        schedule.start_next(None, now);
        let (_, delay) = schedule.failed(&id(1), failure, now, 0.0);
        assert_eq!(schedule.next_due(), Some(now + delay));
        let soon = schedule.expedite(&id(1), now);
        let due = schedule.next_due().expect("planned") - now;
        assert_eq!(soon, due < MISS_WAIT);
        (delay, due)
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
            .map(|n| retry_delay(missing(KeyProblem::Unavailable), n, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 15, 15, 15]);
        let jittered = retry_delay(missing(KeyProblem::Unavailable), 40, 1.0);
        assert_eq!(jittered, Duration::from_millis(7500));
    }

    #[test]
    fn a_refused_login_is_retried_rarely() {
        assert!(retry_delay(missing(KeyProblem::Login), 10, 0.99) >= Duration::from_secs(60));
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
    fn a_key_that_is_waited_for_is_tried_again_soon_but_not_at_once() {
        let (_, soonest) = after(missing(KeyProblem::Unavailable));
        assert_eq!(soonest, EXPEDITED_SPACING);
        for refused in [
            KeyProblem::Denied,
            KeyProblem::NotFound,
            KeyProblem::NotAKey,
            KeyProblem::Altered,
        ] {
            let (_, soonest) = after(missing(refused));
            assert_eq!(soonest, REFUSED_SPACING);
        }
    }

    #[test]
    fn a_key_that_is_being_fetched_or_never_was_needs_no_spacing() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(id(1), now + Duration::from_secs(9));
        assert!(schedule.expedite(&id(1), now));
        assert_eq!(schedule.next_due(), Some(now));
        schedule.start_next(None, now);
        assert!(schedule.expedite(&id(1), now));
        assert_eq!(schedule.next_due(), None);
        assert!(!schedule.expedite(&id(2), now));
    }

    #[test]
    fn a_server_that_names_a_time_is_left_alone_within_reason() {
        let seconds = Duration::from_secs;
        let asked = |wait| Failure {
            wait: Some(seconds(wait)),
            ..missing(KeyProblem::Unavailable)
        };
        assert_eq!(after(asked(0)), (seconds(1), seconds(1)));
        assert_eq!(after(asked(40)), (seconds(40), seconds(40)));
        assert_eq!(after(asked(3600)), (seconds(60), seconds(60)));

        let held = |wait| Failure {
            held: true,
            ..asked(wait)
        };
        assert_eq!(after(held(40)), (seconds(40), seconds(40)));
        // Whoever hurries misses it: it has been wiped in the meantime.
        assert_eq!(after(held(3600)), (seconds(300), seconds(60)));
        let perishable = Failure {
            wiped_in: Some(seconds(3600)),
            ..held(3600)
        };
        assert_eq!(after(perishable), (seconds(60), seconds(60)));
    }

    #[test]
    fn a_key_is_tried_before_it_is_wiped_whatever_a_server_asks() {
        let seconds = Duration::from_secs;
        for problem in [
            KeyProblem::Unavailable,
            KeyProblem::Denied,
            KeyProblem::Altered,
        ] {
            let begin = Instant::now();
            let mut schedule = Schedule::default();
            schedule.add(id(1), begin);
            let (mut now, wiped) = (begin, begin + seconds(50));
            let mut tries = 0;
            while now < wiped {
                schedule.start_next(None, now);
                let failure = Failure {
                    wait: Some(seconds(3600)),
                    held: true,
                    wiped_in: Some(wiped - now),
                    ..missing(problem)
                };
                now += schedule.failed(&id(1), failure, now, 0.9).1;
                tries += 1;
            }
            assert!((4..=10).contains(&tries), "{problem:?}: {tries}");
        }
    }

    #[test]
    fn nodes_that_were_asked_to_wait_come_later_and_not_together() {
        let asked = Failure {
            wait: Some(Duration::from_secs(40)),
            ..missing(KeyProblem::Unavailable)
        };
        let delays = [0.0, 0.5, 0.999].map(|jitter| {
            let now = Instant::now();
            let mut schedule = Schedule::default();
            schedule.add(id(1), now);
            schedule.start_next(None, now);
            schedule.failed(&id(1), asked, now, jitter).1.as_secs()
        });
        assert_eq!(delays, [40, 45, 49]);
    }

    #[test]
    fn a_refused_login_is_not_repeated_before_the_client_would() {
        let refused = Failure {
            wait: Some(Duration::from_secs(600)),
            ..missing(KeyProblem::Login)
        };
        let all_of_it = Duration::from_secs(600);
        assert_eq!(after(refused), (all_of_it, all_of_it));
    }
}
