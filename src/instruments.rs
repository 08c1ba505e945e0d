//! Counters and timers as plain atomics: no lock, no allocation, no label text.
//!
//! `serve` makes one [`Instruments`] and hands it to everything that counts;
//! `metrics` reads it at each scrape. Invariant: counting never fails and never waits.

mod histogram;
mod labels;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use histogram::{CALL_BOUNDS, Histogram, Reading, UPSTREAM_BOUNDS};
pub use labels::{Format, Label, Method, Operation, Outcome, Refusal, Upstream};

/// The codes of gRPC, from OK to UNAUTHENTICATED.
const CODES: usize = 17;

/// The code of an unfinished call: the client has disconnected.
const CANCELLED: usize = 1;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Instruments {
    calls: [Calls; Method::ALL.len()],
    operations: [Formats; Operation::ALL.len()],
    refusals: [Counter; Refusal::ALL.len()],
    upstream: [Requests; Upstream::ALL.len()],
    /// When the current token expires, in seconds since 1970; 0 for none.
    token_end: AtomicI64,
    /// The same for the application credential.
    credential_end: AtomicI64,
    /// Connections to the socket.
    pub connections: Gauge,
    /// Lines written to the audit log.
    pub audited: Counter,
    /// Lines dropped from the audit log.
    pub unaudited: Counter,
    /// Log lines written to standard error.
    pub logged: Counter,
    /// Dropped log lines.
    pub unlogged: Counter,
}

type Formats = [Counter; Format::ALL.len()];

/// One kind of call on the socket.
#[derive(Debug, Default)]
pub struct Calls {
    codes: [Counter; CODES],
    /// From the headers of the request to the headers of the answer.
    pub latency: Histogram<{ CALL_BOUNDS.len() }>,
    in_flight: AtomicU64,
}

/// One kind of request to Keystone or Barbican.
#[derive(Debug, Default)]
pub struct Requests {
    outcomes: [Counter; Outcome::ALL.len()],
    /// From the connection to the last byte of the answer.
    pub latency: Histogram<{ UPSTREAM_BOUNDS.len() }>,
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Something that comes and goes.
#[derive(Debug, Default)]
pub struct Gauge {
    /// How many there were in all.
    pub total: Counter,
    gone: Counter,
}

/// A call in progress; if dropped without [`CallTimer::answered`], it was cancelled.
#[derive(Debug)]
pub struct CallTimer<'a> {
    calls: &'a Calls,
    begin: Instant,
    code: usize,
}

impl Instruments {
    /// A call on the socket has begun.
    #[expect(
        clippy::disallowed_methods,
        reason = "measures a call of a real client"
    )]
    pub fn call_began(&self, method: Method) -> CallTimer<'_> {
        let calls = at(&self.calls, method as usize);
        calls.in_flight.fetch_add(1, Ordering::Relaxed);
        CallTimer {
            calls,
            begin: Instant::now(),
            code: CANCELLED,
        }
    }

    /// A seed was wrapped or unwrapped.
    pub fn key_operation(&self, operation: Operation, format: Format) {
        self.operations(operation, format).increase();
    }

    /// A Decrypt was refused.
    pub fn decrypt_refused(&self, reason: Refusal) {
        self.refusals(reason).increase();
    }

    /// A request to Keystone or Barbican has ended.
    pub fn upstream(&self, request: Upstream, outcome: Outcome, took: Duration) {
        let requests = self.requests(request);
        requests.outcome(outcome).increase();
        requests.latency.observe(took);
    }

    /// There is a new token with this end (seconds since 1970).
    pub fn token_until(&self, end: i64) {
        self.token_end.store(end, Ordering::Relaxed);
    }

    /// When the newest token ends, in seconds since 1970.
    pub fn token_end(&self) -> Option<i64> {
        Some(self.token_end.load(Ordering::Relaxed)).filter(|end| *end != 0)
    }

    /// When the application credential in use ends (seconds since 1970), if that is known.
    pub fn credential_until(&self, end: Option<i64>) {
        self.credential_end
            .store(end.unwrap_or(0), Ordering::Relaxed);
    }

    /// The same, to be shown.
    pub fn credential_end(&self) -> Option<i64> {
        Some(self.credential_end.load(Ordering::Relaxed)).filter(|end| *end != 0)
    }

    /// The state of one method's calls.
    pub fn calls(&self, method: Method) -> &Calls {
        at(&self.calls, method as usize)
    }

    /// How many seeds were wrapped or unwrapped.
    pub fn operations(&self, operation: Operation, format: Format) -> &Counter {
        let formats: &Formats = at(self.operations.as_slice(), operation as usize);
        at(formats.as_slice(), format as usize)
    }

    /// How many Decrypts were refused.
    pub fn refusals(&self, reason: Refusal) -> &Counter {
        at(&self.refusals, reason as usize)
    }

    /// The state of one kind of request.
    pub fn requests(&self, request: Upstream) -> &Requests {
        at(&self.upstream, request as usize)
    }
}

impl Calls {
    /// How many ended with each gRPC code, by its number.
    pub fn codes(&self) -> impl Iterator<Item = (usize, u64)> {
        self.codes.iter().map(Counter::value).enumerate()
    }

    /// How many are in progress.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Requests {
    /// How many ended in this way.
    pub fn outcome(&self, outcome: Outcome) -> &Counter {
        at(&self.outcomes, outcome as usize)
    }
}

impl Counter {
    /// One more.
    pub fn increase(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds one until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard<'_> {
        self.total.increase();
        GaugeGuard(self)
    }

    /// How many are there.
    pub fn present(&self) -> u64 {
        self.total.value().saturating_sub(self.gone.value())
    }
}

/// Counted in a [`Gauge`] as long as it lives.
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.gone.increase();
    }
}

impl CallTimer<'_> {
    /// The answer is ready, with this gRPC code.
    pub fn answered(mut self, code: usize) {
        self.code = code;
    }
}

impl Drop for CallTimer<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures a call of a real client"
    )]
    fn drop(&mut self) {
        self.calls.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.calls.latency.observe(self.begin.elapsed());
        // A number beyond the known ones is UNKNOWN, as gRPC has it.
        self.calls
            .codes
            .get(self.code)
            .unwrap_or(at(&self.calls.codes, 2))
            .increase();
    }
}

fn at<T>(all: &[T], index: usize) -> &T {
    all.get(index)
        .expect("the array has a place for every variant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_dropped_unanswered_was_cancelled() {
        let instruments = Instruments::default();
        let timer = instruments.call_began(Method::Decrypt);
        let calls = instruments.calls(Method::Decrypt);
        assert_eq!(calls.in_flight(), 1);
        drop(timer);
        assert_eq!(calls.in_flight(), 0);
        instruments.call_began(Method::Decrypt).answered(0);
        instruments.call_began(Method::Decrypt).answered(99);
        let counted: Vec<_> = calls.codes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(calls.latency.read().count, 3);
    }

    #[test]
    fn what_has_entered_is_present_until_it_is_dropped() {
        let instruments = Instruments::default();
        let first = instruments.connections.enter();
        let _second = instruments.connections.enter();
        drop(first);
        assert_eq!(instruments.connections.present(), 1);
        assert_eq!(instruments.connections.total.value(), 2);
    }
}
