//! `Loader`: fetches a set of keys from one source, a few at a time.
//!
//! The refresher has one for the ring in force and, during a reload, one for the ring
//! that is to come. Fetches run as tasks of their own, so that no caller's deadline
//! ends them; dropping the loader ends them all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{Id, JoinError, JoinSet};

use super::schedule::Schedule;
use super::{FetchError, KeySource};
use crate::config::Ring;
use crate::key_id::KeyId;
use crate::secret::Kek;

/// Barbican does not get more requests than this at once from one node, however many
/// keys the ring has.
const CONCURRENT_FETCHES: usize = 4;

/// So many of them are left to each of two loaders: neither keeps the other waiting,
/// and together they do not exceed the limit.
const SHARE: usize = CONCURRENT_FETCHES / 2;

/// How one fetch ended.
pub(super) type Fetched = (KeyId, Result<Kek, FetchError>);

#[derive(Debug)]
pub(super) struct Loader<S> {
    pub(super) source: Arc<S>,
    pub(super) schedule: Schedule,
    /// Goes before all others when it is due.
    pub(super) first: Option<KeyId>,
    /// Who must have created the keys, if that matters.
    owner: Option<Owner>,
    tasks: JoinSet<Fetched>,
    /// Which key each task fetches, for the end of one that panics.
    running: Vec<(Id, KeyId)>,
}

/// Who must have created the keys of a container.
#[derive(Debug)]
struct Owner {
    id: Arc<str>,
    /// Keys that need no such proof: pinned ones, and those that have given it.
    vouched: BTreeSet<KeyId>,
}

impl<S: KeySource> Loader<S> {
    /// A loader for the keys of `ring`.
    pub(super) fn new(source: Arc<S>, ring: &Ring, schedule: Schedule) -> Self {
        let container = ring.container.as_ref();
        let owner = container.and_then(|container| container.owner.as_deref());
        Self {
            source,
            first: ring.write,
            owner: owner.map(|id| Owner {
                id: id.into(),
                vouched: ring.ids().collect(),
            }),
            schedule,
            tasks: JoinSet::new(),
            running: Vec::new(),
        }
    }

    /// How many more requests may begin, with `beside` of another kind under way, when there
    /// is another loader with so many under way, or none.
    pub(super) fn room(&self, beside: usize, other: Option<usize>) -> usize {
        let allowed = other.map_or(CONCURRENT_FETCHES, |other| {
            SHARE.min(CONCURRENT_FETCHES.saturating_sub(other))
        });
        allowed.saturating_sub(self.under_way() + beside)
    }

    /// How many fetches are under way.
    pub(super) fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Starts the fetches that are due, as far as the limit allows.
    pub(super) fn start_due(&mut self, now: Instant, beside: usize, other: Option<usize>) {
        for _ in 0..self.room(beside, other) {
            let Some(id) = self.schedule.start_next(self.first, now) else {
                return;
            };
            let source = Arc::clone(&self.source);
            let owner = self.owner.as_ref();
            let owner = owner.filter(|owner| !owner.vouched.contains(&id));
            let owner = owner.map(|owner| Arc::clone(&owner.id));
            let fetch = async move { (id, fetch(&*source, id, owner.as_deref()).await) };
            let task = self.tasks.spawn(fetch).id();
            self.running.push((task, id));
        }
    }

    /// When `start_due` has something to do again; `None` when only the end of a
    /// fetch can bring that about.
    pub(super) fn next_start(&self, beside: usize, other: Option<usize>) -> Option<Instant> {
        let due = self.schedule.next_due()?;
        (self.room(beside, other) > 0).then_some(due)
    }

    /// Waits for a fetch to end; for ever when none is under way. Cancellation safe.
    pub(super) async fn finished(&mut self) -> Fetched {
        loop {
            let (task, ended) = match self.tasks.join_next_with_id().await {
                Some(Ok((task, fetched))) => (task, Ok(fetched)),
                Some(Err(error)) => (error.id(), Err(error)),
                None => return std::future::pending().await,
            };
            let at = self
                .running
                .iter()
                .position(|(running, _)| *running == task);
            let key = at.map(|at| self.running.swap_remove(at).1);
            match (ended, key) {
                (Ok(fetched), _) => {
                    if let (Some(owner), (id, Ok(_))) = (&mut self.owner, &fetched) {
                        owner.vouched.insert(*id);
                    }
                    return fetched;
                }
                (Err(error), Some(id)) => return (id, Err(crashed(&error))),
                // Every task is noted when it begins.
                (Err(_), None) => {}
            }
        }
    }
}

/// Downloads one key, if the right user has created it.
async fn fetch<S: KeySource>(
    source: &S,
    id: KeyId,
    owner: Option<&str>,
) -> Result<Kek, FetchError> {
    if let Some(owner) = owner {
        let creator = source.creator(id).await?;
        if creator.as_deref() != Some(owner) {
            let owner = owner.to_owned();
            return Err(FetchError::Foreign { creator, owner });
        }
    }
    source.fetch(id).await
}

/// A panic is a bug in the source, and no reason to lose the keys that are held. Its
/// message may quote what was read, so it is left to the panic hook.
fn crashed(error: &JoinError) -> FetchError {
    debug_assert!(error.is_panic(), "nobody aborts single fetches");
    FetchError::Crashed
}
