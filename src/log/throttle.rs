//! Limits the log of a continuing failure: it is logged once, then summed up, then its
//! end is logged.
//!
//! Used wherever a failure can repeat. Pure: the time is an argument. Invariant:
//! however often it fails, the log gets a line at its first time, when it becomes
//! another failure, and one for each `every`.

use std::time::{Duration, Instant};

/// How often a failure that goes on is repeated in the log.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(600);

/// The same for what clients bring about, which comes in bursts.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// For [`LogThrottle::on_success`] of accepting connections: descriptors come and go one by one, so
/// only after so long without a failure is their want over.
pub const ACCEPT_QUIET_PERIOD: Duration = Duration::from_secs(5);

/// The state of one thing that can fail.
#[derive(Debug)]
pub struct LogThrottle<F = ()> {
    every: Duration,
    ongoing: Option<Ongoing<F>>,
}

#[derive(Debug)]
struct Ongoing<F> {
    failure: F,
    last_logged: Instant,
    newest: Instant,
    /// Since it was said.
    suppressed: u64,
    total: u64,
}

impl<F: PartialEq> LogThrottle<F> {
    /// Nothing has failed yet; a continuing failure is logged again after `every`.
    pub fn new(every: Duration) -> Self {
        Self {
            every,
            ongoing: None,
        }
    }

    /// It has failed, in this way: how many times since the log said so, this one
    /// included, if it is to say so now.
    pub fn on_failure(&mut self, failure: F, now: Instant) -> Option<u64> {
        let total = self.ongoing.as_ref().map_or(0, |known| known.total) + 1;
        if let Some(known) = &mut self.ongoing
            && known.failure == failure
        {
            known.newest = now;
            known.total = total;
            known.suppressed += 1;
            if now.saturating_duration_since(known.last_logged) < self.every {
                return None;
            }
            known.last_logged = now;
            return Some(std::mem::take(&mut known.suppressed));
        }
        self.ongoing = Some(Ongoing {
            failure,
            last_logged: now,
            newest: now,
            suppressed: 0,
            total,
        });
        Some(1)
    }

    /// It works: how often it had failed, if the log is to say that this is over. What
    /// has failed within `calm` may well fail again, so it goes on.
    pub fn on_success(&mut self, calm: Duration, now: Instant) -> Option<u64> {
        self.ongoing
            .take_if(|known| now.saturating_duration_since(known.newest) >= calm)
            .map(|known| known.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    #[test]
    fn a_failure_is_said_once_then_summed_up_then_its_end() {
        let begin = Instant::now();
        let at = |tenths: u64| begin + Duration::from_millis(100 * tenths);
        let mut throttle = LogThrottle::new(EVERY);
        let lines: Vec<(u64, u64)> = (0..1250)
            .filter_map(|tenths| Some((tenths, throttle.on_failure((), at(tenths))?)))
            .collect();
        assert_eq!(lines, [(0, 1), (600, 600), (1200, 600)]);
        assert_eq!(throttle.on_success(Duration::ZERO, at(1250)), Some(1250));
        assert_eq!(throttle.on_success(Duration::ZERO, at(1251)), None, "said");
        assert_eq!(
            throttle.on_failure((), at(1252)),
            Some(1),
            "the next one is new"
        );
    }

    #[test]
    fn another_failure_is_said_at_once() {
        let now = Instant::now();
        let mut throttle = LogThrottle::new(EVERY);
        assert_eq!(throttle.on_failure("refused", now), Some(1));
        assert_eq!(throttle.on_failure("unreachable", now), Some(1));
        assert_eq!(throttle.on_failure("unreachable", now), None);
        assert_eq!(throttle.on_success(Duration::ZERO, now), Some(3));
    }

    #[test]
    fn what_fails_off_and_on_has_no_end_until_it_is_calm() {
        let begin = Instant::now();
        let calm = Duration::from_secs(10);
        let mut throttle = LogThrottle::new(EVERY);
        let mut lines = 0;
        for second in 0..50 {
            let now = begin + Duration::from_secs(second);
            lines += throttle.on_failure((), now).into_iter().count();
            lines += throttle.on_success(calm, now).into_iter().count();
        }
        assert_eq!(lines, 1);
        let later = begin + Duration::from_secs(59);
        assert_eq!(throttle.on_success(calm, later), Some(50));
    }
}
