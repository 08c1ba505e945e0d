//! A histogram of durations: a row of atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds for calls, in nanoseconds: from the time of a call with a held key to
/// kube-apiserver's timeout.
pub const CALL_BOUNDS: [u64; 17] = [
    10 * US,
    20 * US,
    30 * US,
    50 * US,
    100 * US,
    200 * US,
    500 * US,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    1000 * MS,
    2500 * MS,
    3000 * MS,
];

/// Upper bounds for requests to Keystone and Barbican, in nanoseconds.
pub const UPSTREAM_BOUNDS: [u64; 11] = [
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1000 * MS,
    2500 * MS,
    5000 * MS,
    10_000 * MS,
];

const US: u64 = 1000;
const MS: u64 = 1000 * US;

/// Durations sorted into `N` buckets and one for the rest.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    rest: AtomicU64,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Upper bound in seconds and how many fell into the bucket, not cumulated; the
    /// last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are in all.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
}

/// The bounds that go with a number of buckets.
trait Bounds {
    fn bounds(&self) -> &'static [u64];
}

impl Bounds for Histogram<{ CALL_BOUNDS.len() }> {
    fn bounds(&self) -> &'static [u64] {
        &CALL_BOUNDS
    }
}

impl Bounds for Histogram<{ UPSTREAM_BOUNDS.len() }> {
    fn bounds(&self) -> &'static [u64] {
        &UPSTREAM_BOUNDS
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N],
            rest: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

#[expect(private_bounds, reason = "there are exactly two sets of bounds")]
impl<const N: usize> Histogram<N>
where
    Self: Bounds,
{
    /// Records one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = self.bounds().iter().position(|bound| nanos <= *bound);
        let bucket = place.and_then(|place| self.buckets.get(place));
        bucket.unwrap_or(&self.rest).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What has been noted so far.
    pub fn read(&self) -> Reading {
        let all = self.buckets.iter().chain([&self.rest]);
        let counts = all.map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = self.bounds().iter().map(|bound| seconds(*bound));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        Reading {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: seconds(self.sum.load(Ordering::Relaxed)),
            buckets,
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram: Histogram<{ CALL_BOUNDS.len() }> = Histogram::default();
        for micros in [9, 10, 11, 2_999_999, 3_000_000, 3_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        assert_eq!(reading.count, 6);
        assert_eq!(reading.buckets.first(), Some(&(0.000_01, 2)));
        assert_eq!(reading.buckets.get(1), Some(&(0.000_02, 1)));
        assert_eq!(reading.buckets.get(16), Some(&(3.0, 2)));
        assert_eq!(reading.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert!((reading.sum - 9.000_03).abs() < 1e-9, "{}", reading.sum);
    }

    #[test]
    fn bounds_rise() {
        assert!(CALL_BOUNDS.is_sorted() && UPSTREAM_BOUNDS.is_sorted());
    }
}
