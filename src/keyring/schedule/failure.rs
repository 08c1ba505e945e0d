//! How long a failed fetch makes the next one wait.

use std::time::Duration;

use crate::keyring::key_problem::KeyProblem;
use crate::mutation::{self, Mutation};

/// A number in `0.0..1.0`, drawn again for each use.
pub(in crate::keyring) type Fraction = f64;

/// A key that callers wait for is not asked for more often than this.
pub(super) const EXPEDITED_SPACING: Duration = Duration::from_secs(1);

/// The same after a refusal, which ends when an operator acts: it may take this long
/// until the next call notices.
pub(super) const REFUSED_SPACING: Duration = Duration::from_secs(5);

/// While the key is missing, a server's `Retry-After` is respected up to this limit:
/// nobody can read a Secret in the meantime, and a value of hours is a mistake.
const LONGEST_WAIT_MISSING: Duration = Duration::from_secs(60);

/// The same while the key is held without a limit: waiting loses nothing.
const LONGEST_WAIT_HELD: Duration = Duration::from_secs(300);

/// Repeated wrong passwords can lock the account: the source itself waits before the next
/// login. It would not log in sooner, and a wait without end would be a bug.
const LONGEST_WAIT_LOGIN: Duration = Duration::from_secs(3600);

/// A fetch that failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug)]
pub(in crate::keyring) struct Failure {
    pub(in crate::keyring) problem: KeyProblem,
    /// For how long another fetch is unwanted by the server, or useless.
    pub(in crate::keyring) wait: Option<Duration>,
    /// There was no answer: a retry costs hardly anything.
    pub(in crate::keyring) unanswered: bool,
    pub(in crate::keyring) held: bool,
    /// Time until a held key is wiped, if it is not confirmed.
    pub(in crate::keyring) wiped_in: Option<Duration>,
}

impl Failure {
    /// Whether calls fail until there is an answer.
    pub(super) fn is_steady(self) -> bool {
        self.unanswered && !self.held
    }

    /// How long we wait because the server asks for it.
    pub(super) fn granted(self) -> Duration {
        let longest = match self.problem {
            KeyProblem::Login => LONGEST_WAIT_LOGIN,
            _ if mutation::active(Mutation::WishIsUnbounded) => Duration::from_secs(86_400),
            _ if self.held && self.wiped_in.is_none() => LONGEST_WAIT_HELD,
            _ => LONGEST_WAIT_MISSING,
        };
        self.wait.unwrap_or_default().min(longest)
    }

    /// The latest retry before the key is wiped: after half of the remaining time, so
    /// that there is more than one try.
    pub(super) fn last_chance(self) -> Duration {
        match self.wiped_in {
            // Until then the source does not log in.
            _ if self.problem == KeyProblem::Login => Duration::MAX,
            Some(left) if self.held => (left / 2).max(EXPEDITED_SPACING),
            _ => Duration::MAX,
        }
    }

    pub(super) fn spacing(self) -> Duration {
        if self.may_pass_by_itself() {
            EXPEDITED_SPACING
        } else {
            REFUSED_SPACING
        }
    }

    pub(super) fn may_pass_by_itself(self) -> bool {
        matches!(
            self.problem,
            KeyProblem::Unavailable | KeyProblem::Pending | KeyProblem::Unconfirmed
        )
    }
}

/// Doubles from a first delay to a bound, of which it then takes 50 to 100 %.
pub(super) fn retry_delay(failure: Failure, failures: u32, jitter: Fraction) -> Duration {
    let (first, bound) = match failure.problem {
        // Nobody can read a Secret until this works, so retry soon.
        _ if failure.may_pass_by_itself() && !failure.held => (1, 15),
        // Repeated wrong passwords can lock the account.
        KeyProblem::Login => (5, 120),
        // Either it is held, or an operator has to change something in Barbican first.
        _ => (5, 60),
    };
    let doublings = failures.saturating_sub(1).min(16);
    let delay = Duration::from_secs(first).saturating_mul(1 << doublings);
    delay
        .min(Duration::from_secs(bound))
        .mul_f64(1.0 - jitter / 2.0)
}
