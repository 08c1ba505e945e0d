//! When a request is tried again: time limits, backoff, `Retry-After`.
//!
//! Used by `keystone` and `barbican` around single requests. Invariant: nothing
//! here waits past the deadline of the whole operation.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::{Problem, RequestError};
use crate::chance::Chance;
use crate::keyring::Clock;

/// Every duration and count of the client, and its date and chance; tests replace them.
/// What passes between two moments is measured by the runtime.
#[derive(Clone, Debug)]
pub struct Timing {
    /// For a connection: name resolution, proxy and TLS handshake included.
    pub connect: Duration,
    /// For one request, from the connection to the last byte of the body.
    pub request: Duration,
    /// For a whole operation with its logins and retries.
    pub operation: Duration,
    /// How often one request is sent at most.
    pub tries: u32,
    /// The first pause between attempts; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause that we choose ourselves.
    pub pause_max: Duration,
    /// How long an answer may be missing in an urgent operation before another connection
    /// is tried beside; see `hedge`.
    pub silence: Duration,
    /// How long an unused connection stays open; see `http`.
    pub idle: Duration,
    /// How long Keystone is left alone after it refused a login; twice as long
    /// after each further refusal.
    pub refused: Duration,
    /// The longest such time.
    pub refused_max: Duration,
    /// How old a token must be before Barbican's refusal of it leads to a login,
    /// where a new one has been refused before.
    pub distrust: Duration,
    /// Says the date, by which servers say when something ends.
    pub clock: Clock,
    /// Spreads the pauses.
    pub chance: Chance,
}

/// With the date and the chance of the system.
impl Default for Timing {
    fn default() -> Self {
        Self::new(Clock::system(), Chance::from_system())
    }
}

impl Timing {
    /// What suits a real cloud.
    pub fn new(clock: Clock, chance: Chance) -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            operation: Duration::from_secs(25),
            tries: 3,
            pause: Duration::from_millis(300),
            pause_max: Duration::from_secs(4),
            silence: Duration::from_secs(1),
            idle: Duration::from_secs(3),
            // Keystone can lock a user after a handful of wrong passwords
            // (`lockout_failure_attempts`), often for half an hour.
            refused: Duration::from_secs(30),
            refused_max: Duration::from_secs(600),
            distrust: Duration::from_secs(30),
            clock,
            chance,
        }
    }

    /// The date.
    pub(super) fn date(&self) -> Timestamp {
        timestamp(self.clock.wall())
    }

    /// How long to leave Keystone alone after the `refusals`th refusal in a row.
    pub(super) fn refused_for(&self, refusals: u32) -> Duration {
        doubled(self.refused, refusals.saturating_sub(1), self.refused_max)
    }
}

/// What an operation may spend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// When it ends.
    pub(super) deadline: Instant,
    /// Calls fail meanwhile, and the caller comes again every second: a request is sent
    /// once, and does not stay with a silent connection.
    pub(super) urgent: bool,
}

impl Budget {
    /// Until `deadline`, with every retry.
    pub(super) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            urgent: false,
        }
    }

    /// The same, ending at `deadline` at the latest.
    pub(super) fn within(self, deadline: Instant) -> Self {
        Self {
            deadline: self.deadline.min(deadline),
            ..self
        }
    }
}

/// The tries of one request.
pub(super) struct Attempts<'a> {
    timing: &'a Timing,
    budget: Budget,
    made: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(timing: &'a Timing, budget: Budget) -> Self {
        Self {
            timing,
            budget,
            made: 0,
        }
    }

    /// Waits before the next try, or gives the error back when there is none:
    /// because another try cannot help, or the tries or the time are used up.
    pub(super) async fn pause_after(&mut self, error: RequestError) -> Result<(), RequestError> {
        self.made += 1;
        let Some(pause) = self.pause(&error.problem) else {
            return Err(error);
        };
        // Compared as durations: a server may ask for more time than there is.
        if pause
            >= self
                .budget
                .deadline
                .saturating_duration_since(Instant::now())
        {
            return Err(error);
        }
        let pause_seconds = pause.as_secs_f64();
        tracing::debug!(pause_seconds, "{error}; retrying");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn pause(&self, problem: &Problem) -> Option<Duration> {
        let tries = if self.budget.urgent {
            1
        } else {
            self.timing.tries
        };
        if self.made >= tries || !problem.is_passing() {
            return None;
        }
        let timing = self.timing;
        let full = doubled(timing.pause, self.made - 1, timing.pause_max);
        let own = jittered(full, timing.chance.fraction());
        match problem {
            // A server that names a time means it, however long: then the
            // deadline decides.
            Problem::Status {
                retry_after: Some(asked),
                ..
            } => Some(own.max(*asked)),
            _ => Some(own),
        }
    }
}

/// A date that is out of all bounds is 1970, where a machine without a clock begins.
pub(super) fn timestamp(date: SystemTime) -> Timestamp {
    Timestamp::try_from(date).unwrap_or_default()
}

/// `Retry-After` in either form: seconds, or an HTTP date.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    // A date that has passed means "now".
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(times))
        .min(longest)
}

/// Between half of `pause` and all of it, so that several control-plane nodes
/// do not come back at the same moment.
fn jittered(pause: Duration, fraction: f64) -> Duration {
    pause.mul_f64(0.5 + fraction / 2.0)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::openstack::error::RequestLine;
    use crate::openstack::excerpt::Speaker;

    fn error(status: u16, retry_after: Option<Duration>) -> RequestError {
        RequestError {
            asked: RequestLine::for_tests(),
            problem: Problem::Status {
                status: StatusCode::from_u16(status).expect("a status"),
                says: None,
                retry_after,
                keystones: false,
                speaker: Speaker::Barbican,
            },
        }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_double_and_the_tries_end() {
        let timing = Timing {
            tries: 4,
            ..Timing::default()
        };
        let start = Instant::now();
        let mut attempts = Attempts::new(&timing, Budget::until(start + timing.operation));
        let mut waited = Vec::new();
        while attempts.pause_after(error(503, None)).await.is_ok() {
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited.len(), 3);
        assert!((150..=300).contains(&waited[0]), "{waited:?}");
        assert!((300..=600).contains(&(waited[1] - waited[0])), "{waited:?}");
        assert!(
            (600..=1200).contains(&(waited[2] - waited[1])),
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_names_a_time_is_left_alone_for_that_long() {
        let timing = Timing::default();
        let start = Instant::now();
        let mut attempts = Attempts::new(&timing, Budget::until(start + timing.operation));
        attempts
            .pause_after(error(429, Some(seconds(7))))
            .await
            .expect("a second try");
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_past_the_deadline() {
        let timing = Timing::default();
        let start = Instant::now();
        let mut attempts = Attempts::new(&timing, Budget::until(start + timing.operation));
        assert!(
            attempts
                .pause_after(error(429, Some(seconds(3600))))
                .await
                .is_err()
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_operation_leaves_the_next_try_to_its_caller() {
        let timing = Timing::default();
        let budget = Budget {
            urgent: true,
            ..Budget::until(Instant::now() + timing.operation)
        };
        let mut attempts = Attempts::new(&timing, budget);
        assert!(attempts.pause_after(error(503, None)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_tried_again() {
        let timing = Timing::default();
        for status in [300, 302, 400, 401, 403, 404, 406, 501] {
            let mut attempts =
                Attempts::new(&timing, Budget::until(Instant::now() + timing.operation));
            let end = attempts.pause_after(error(status, None)).await;
            assert!(end.is_err(), "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let mut attempts =
                Attempts::new(&timing, Budget::until(Instant::now() + timing.operation));
            let end = attempts.pause_after(error(status, None)).await;
            assert!(end.is_ok(), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().expect("a time");
        let read = |text: &str| retry_after(&HeaderValue::from_str(text).expect("a value"), now);
        assert_eq!(read("120"), Some(seconds(120)));
        assert_eq!(read(" 0 "), Some(seconds(0)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(seconds(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(seconds(0)));
        assert_eq!(read("99999999999999999999999"), None);
        for text in ["", "-1", "soon", "1.5", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(read(text).unwrap_or_default(), Duration::ZERO, "{text}");
        }
    }

    #[test]
    fn refusals_are_answered_with_ever_longer_silence() {
        let timing = Timing::default();
        let silences: Vec<u64> = (1..=7).map(|n| timing.refused_for(n).as_secs()).collect();
        assert_eq!(silences, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(timing.refused_for(u32::MAX), timing.refused_max);
    }

    proptest! {
        #[test]
        fn any_retry_after_is_read_without_panic(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = retry_after(&value, Timestamp::UNIX_EPOCH);
            }
        }
    }
}
