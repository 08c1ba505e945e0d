//! `Loader`: fetches a set of keys from one source, a few at a time.
//!
//! The refresher has one for the ring in force and, during a reload, one for the ring
//! that is to come. Fetches run as tasks of their own, so that no caller's deadline
//! ends them; dropping the loader ends them all.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::schedule::Schedule;
use super::{FetchError, KeySource};
use crate::key_id::KeyId;
use crate::secret::Kek;

/// Barbican does not get more requests than this at once from one node, however many
/// keys the ring has.
const CONCURRENT_FETCHES: usize = 4;

/// How one fetch ended.
pub(super) type Fetched = (KeyId, Result<Kek, FetchError>);

#[derive(Debug)]
pub(super) struct Loader<S> {
    pub(super) source: Arc<S>,
    pub(super) schedule: Schedule,
    /// Goes before all others when it is due.
    first: KeyId,
    tasks: JoinSet<Fetched>,
}

impl<S: KeySource> Loader<S> {
    pub(super) fn new(source: Arc<S>, first: KeyId, schedule: Schedule) -> Self {
        Self {
            source,
            schedule,
            first,
            tasks: JoinSet::new(),
        }
    }

    /// Starts the fetches that are due, as far as the limit allows.
    pub(super) fn start_due(&mut self, now: Instant) {
        while self.tasks.len() < CONCURRENT_FETCHES {
            let Some(id) = self.schedule.start_next(Some(self.first), now) else {
                return;
            };
            let source = Arc::clone(&self.source);
            self.tasks
                .spawn(async move { (id, source.fetch(id).await) });
        }
    }

    /// When `start_due` has something to do again; `None` when only the end of a
    /// fetch can bring that about.
    pub(super) fn next_start(&self) -> Option<Instant> {
        if self.tasks.len() < CONCURRENT_FETCHES {
            self.schedule.next_due()
        } else {
            None
        }
    }

    /// Waits for a fetch to end; for ever when none is under way. Cancellation safe.
    pub(super) async fn finished(&mut self) -> Fetched {
        match self.tasks.join_next().await {
            Some(Ok(fetched)) => fetched,
            // Nobody aborts single fetches, so this is a panic in the source: a bug,
            // and better said aloud than waited out.
            Some(Err(error)) => std::panic::resume_unwind(match error.try_into_panic() {
                Ok(panic) => panic,
                Err(_) => return std::future::pending().await,
            }),
            None => std::future::pending().await,
        }
    }
}
