//! `Clock`: the time as the keyring sees it, which counts while a machine is suspended.
//!
//! The monotonic clock of Linux stands still while a guest is suspended, and so do the
//! timers of the runtime; the age of a key must not. Every `Instant` of the keyring is
//! one of this clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Cheap to clone; clones agree.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Clock {
    /// The clocks of the system.
    #[expect(clippy::disallowed_methods, reason = "the one place where they enter")]
    pub fn system() -> Self {
        let (anchor, begin) = (Instant::now(), since_boot());
        Self::new(
            move || anchor + since_boot().saturating_sub(begin),
            SystemTime::now,
        )
    }

    /// Clocks of a caller's own: one that only goes on, and one that has a date.
    pub fn new(
        now: impl Fn() -> Instant + Send + Sync + 'static,
        wall: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Arc::new(now),
            wall: Arc::new(wall),
        }
    }

    /// Time since some moment in the past; goes on while the machine is suspended.
    pub fn now(&self) -> Instant {
        (self.now)()
    }

    /// The date.
    pub fn wall(&self) -> SystemTime {
        (self.wall)()
    }
}

fn since_boot() -> Duration {
    // Negative for no clock of this kind.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_system_goes_on() {
        let clock = Clock::system();
        let begin = clock.now();
        while clock.now() == begin {
            std::hint::spin_loop();
        }
        assert!(clock.now() > begin);
    }
}
