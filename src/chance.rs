//! Random numbers that spread requests over time, so that nodes do not come at once.
//!
//! Nothing secret depends on them: keys and initialization vectors come from the
//! system. Seeded once, so that tests can replay what they see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A generator (`SplitMix64`). Clones share one sequence.
#[derive(Clone, Debug)]
pub struct Chance(Arc<AtomicU64>);

impl Chance {
    /// The same numbers each time.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Seeded by the system.
    #[expect(clippy::disallowed_methods, reason = "the one place where it enters")]
    pub fn from_system() -> Self {
        // Without randomness there is no spreading between nodes, and no other harm.
        Self::seeded(getrandom::u64().unwrap_or_default())
    }

    /// A number in `0.0..1.0`, another one each time.
    pub fn fraction(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let upper = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
        f64::from(upper) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_that_is_spread_evenly() {
        let draw = |seed| {
            let chance = Chance::seeded(seed);
            std::iter::repeat_with(move || chance.fraction())
                .take(1000)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().all(|one| (0.0..1.0).contains(one)));
        let lower = draw(1).iter().filter(|one| **one < 0.5).count();
        assert!((450..550).contains(&lower), "{lower}");
    }
}
