//! Deliberate faults: each shows that the simulation would find one like it.
//!
//! A test switches one on for its thread. Outside tests there are none, and asking for one
//! costs nothing.

/// A fault in the rules of the keyring or the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Status names the write key whether it is held or not.
    StatusIsConstant,
    /// A key that is too old is used until the writer notices.
    OldKeysAreUsed,
    /// Who misses a key waits longer than kube-apiserver does.
    MissesWaitLong,
    /// A reload may drop the key that is in use.
    WriteKeyVanishes,
    /// A reload is applied before its keys are loaded.
    ReloadDoesNotWait,
    /// A reload keeps the old rule about data without a tag.
    ReloadIsPartial,
    /// A reload leaves a missing key to the plan of before, with a server's wish in it.
    ReloadCarriesWish,
    /// A key that somebody orders is fetched when its pause is over.
    OrderWaits,
    /// Keys are wiped half a minute late.
    WipesLate,
    /// Keys are wiped half a minute early.
    WipesEarly,
    /// A failed download counts as a confirmation.
    FailureConfirms,
    /// Other bytes under the same id are taken.
    OtherBytesAreTaken,
    /// Two callers may log in at once.
    LoginsInParallel,
    /// A refused login is repeated at once.
    RefusalIsForgotten,
    /// A failed download is repeated at once.
    RetriesAtOnce,
    /// The refresher wakes without need.
    WakesAlways,
    /// `Retry-After` is granted without a bound.
    WishIsUnbounded,
    /// A reload that goes on failing counts each time.
    FailuresCountTwice,
    /// A success does not end the count of failures.
    FailuresAreKept,
    /// A key whose login was refused is not asked for again when another one's is accepted.
    RefusedLoginStays,
    /// What was wrong with a key is said for ever.
    ProblemIsKept,
    /// An outage makes a lost secret look as if it were back.
    GoneIsForgotten,
    /// A key is dropped when one reading of the container does not list it.
    OneReadingDrops,
    /// A key leaves the ring though Barbican does not give it out any more.
    GoneKeysAreDropped,
    /// An earlier key becomes the write key again.
    WriteKeyGoesBack,
    /// A key becomes the write key before it is held.
    MissingKeyIsActivated,
}

/// Whether `mutation` is switched on.
#[cfg(not(test))]
pub(crate) const fn active(_mutation: Mutation) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{On, active};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether `mutation` is switched on for this thread.
    pub(crate) fn active(mutation: Mutation) -> bool {
        ACTIVE.get() == Some(mutation)
    }

    /// While it lives, a mutation is switched on for this thread.
    #[derive(Debug)]
    pub(crate) struct On(());

    impl On {
        /// Switches `mutation` on, and any other off.
        pub(crate) fn new(mutation: Mutation) -> Self {
            ACTIVE.set(Some(mutation));
            Self(())
        }
    }

    impl Drop for On {
        fn drop(&mut self) {
            ACTIVE.set(None);
        }
    }
}
