//! `Clock`: the time as the keyring sees it, which counts while a machine is suspended.
//!
//! The monotonic clock of Linux stands still while a guest is suspended, and so do the
//! timers of the runtime; the age of a key must not. Every `Instant` of the keyring is
//! one of this clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The runtime's timers stand still while a machine is suspended, and dates jump: the clocks are
/// looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Cheap to clone; clones agree.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    longest_sleep: Arc<dyn Fn() -> Duration + Send + Sync>,
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

    /// Custom clocks: a monotonic one, and one with a date.
    pub fn new(
        now: impl Fn() -> Instant + Send + Sync + 'static,
        wall: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Arc::new(now),
            wall: Arc::new(wall),
            longest_sleep: Arc::new(|| LONGEST_SLEEP),
        }
    }

    /// The same clocks for whoever knows when the next of them jumps.
    #[cfg(test)]
    pub(crate) fn with_longest_sleep(
        self,
        longest_sleep: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            longest_sleep: Arc::new(longest_sleep),
            ..self
        }
    }

    /// Time since some moment in the past; it also counts while the machine is suspended.
    pub fn now(&self) -> Instant {
        (self.now)()
    }

    /// The date.
    pub fn wall(&self) -> SystemTime {
        (self.wall)()
    }

    /// After how long these clocks have to be looked at again, whatever a timer says.
    pub fn longest_sleep(&self) -> Duration {
        (self.longest_sleep)()
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
