//! The open connections, and which one goes when a new client finds no room.
//!
//! Used by `server`. Invariant: a new client never waits for an old one, however many
//! connect and whatever they leave unsaid.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::warn;

use crate::log::throttle::{LogThrottle, SUMMARY_INTERVAL};

/// kube-apiserver keeps one connection for each provider entry, two during a reload.
const CONNECTIONS: usize = 128;

/// The open connections, in the order in which they came.
#[derive(Debug)]
pub(super) struct Connections {
    members: Vec<(Activity, AbortHandle)>,
    answers: Arc<AtomicU64>,
    throttle: LogThrottle,
}

/// How recently a connection has had an answer, by the count of all answers: 0 for
/// one that has had none.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    last: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

impl Activity {
    /// A call of this connection has been answered.
    pub(super) fn answered(&self) {
        let number = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        self.last.store(number, Ordering::Relaxed);
    }
}

impl Connections {
    /// Makes room for a connection, if need be by closing the one that is missed the
    /// least: the oldest of those that have never called, or else the one whose last
    /// call is the longest ago.
    pub(super) fn make_room(&mut self) -> Activity {
        self.members.retain(|(_, task)| !task.is_finished());
        if self.members.len() >= CONNECTIONS {
            let least = self
                .members
                .iter()
                .enumerate()
                .min_by_key(|(_, (activity, _))| activity.last.load(Ordering::Relaxed));
            if let Some((index, _)) = least {
                self.members.remove(index).1.abort();
            }
            self.say();
        }
        Activity {
            last: Arc::default(),
            answers: Arc::clone(&self.answers),
        }
    }

    /// The connection that was admitted is served by `task`.
    pub(super) fn add(&mut self, activity: Activity, task: AbortHandle) {
        self.members.push((activity, task));
    }

    fn say(&mut self) {
        if let Some(closed) = self.throttle.on_failure((), Instant::now().into_std()) {
            warn!(
                connections = CONNECTIONS,
                closed,
                "too many connections to the socket: the least active ones are closed to accept \
                 new ones"
            );
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            answers: Arc::default(),
            throttle: LogThrottle::new(SUMMARY_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    /// Enters `count` connections that never end by themselves.
    fn fill(
        open_connections: &mut Connections,
        tasks: &mut JoinSet<()>,
        count: usize,
    ) -> Vec<Activity> {
        let mut enter = || {
            let activity = open_connections.make_room();
            let task = tasks.spawn(std::future::pending());
            open_connections.add(activity.clone(), task);
            activity
        };
        (0..count).map(|_| enter()).collect()
    }

    fn is_in(open_connections: &Connections, one: &Activity) -> bool {
        let members = open_connections.members.iter();
        members
            .map(|(activity, _)| &activity.last)
            .any(|last| Arc::ptr_eq(last, &one.last))
    }

    #[tokio::test]
    async fn the_oldest_that_never_called_goes_first() {
        let (mut open_connections, mut tasks) = (Connections::default(), JoinSet::new());
        let all = fill(&mut open_connections, &mut tasks, CONNECTIONS);
        all[0].answered();
        fill(&mut open_connections, &mut tasks, 1);
        assert!(
            is_in(&open_connections, &all[0])
                && !is_in(&open_connections, &all[1])
                && is_in(&open_connections, &all[2])
        );
        assert_eq!(open_connections.members.len(), CONNECTIONS);
        assert!(tasks.join_next().await.is_some_and(|ended| ended.is_err()));
    }

    #[tokio::test]
    async fn of_those_that_called_the_one_whose_last_call_is_the_longest_ago_goes() {
        let (mut open_connections, mut tasks) = (Connections::default(), JoinSet::new());
        let all = fill(&mut open_connections, &mut tasks, CONNECTIONS);
        all.iter().for_each(Activity::answered);
        all[0].answered();
        fill(&mut open_connections, &mut tasks, 1);
        assert!(is_in(&open_connections, &all[0]) && !is_in(&open_connections, &all[1]));
    }

    #[tokio::test]
    async fn those_that_have_ended_take_no_room() {
        let (mut open_connections, mut tasks) = (Connections::default(), JoinSet::new());
        let all = fill(&mut open_connections, &mut tasks, CONNECTIONS);
        open_connections.members[7].1.abort();
        tasks.join_next().await;
        fill(&mut open_connections, &mut tasks, 1);
        let stayed = all
            .iter()
            .filter(|one| is_in(&open_connections, one))
            .count();
        assert_eq!(stayed, CONNECTIONS - 1);
    }
}
