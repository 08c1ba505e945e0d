//! `Follower`: reads a container again and again, for the ring that follows it.
//!
//! A ring of the refresher has one when its configuration names a container. Readings
//! run as tasks of their own, one at a time; dropping the follower ends them. Invariant:
//! a reading that fails changes nothing of what is known.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::key_problem::KeyProblem;
use super::listing::{ContainerProblem, ListedKeys, Listing};
use super::roster::Roster;
use super::rotation::Rotation;
use super::schedule::{Failure, MISS_WAIT, Schedule, revalidation_delay};
use super::{KeySource, ListError, UpstreamError};
use crate::config::Container;
use crate::key_id::{ContainerId, KeyId};
use crate::log::error_chain::ErrorChain;
use crate::log::throttle::{LogThrottle, REPEAT_INTERVAL};

/// Calls that name an unknown key bring about no more readings than one in this time.
const STRANGERS_SPACING: Duration = Duration::from_secs(10);

/// For so long the newest reading is good enough to refuse a configuration by it.
const IS_NEWS: Duration = Duration::from_secs(10);

/// How a reading ended.
pub(super) type ListResult = Result<Listing, ListError>;

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) container: Container,
    pub(super) roster: Roster,
    /// When the container was last read: the date, and by the clock that never jumps.
    last_read: Option<(SystemTime, Instant)>,
    /// What is wrong with the newest reading, and the same for a person.
    problem: Option<(ContainerProblem, String)>,
    pub(super) warnings: Vec<String>,
    pub(super) rotation: Rotation,
    plan: Schedule<ContainerId>,
    /// When strangers have last brought a reading forward.
    last_hurried: Option<Instant>,
    task: JoinSet<ListResult>,
    /// Readers that wait for a reading, and those whose reading has ended.
    waiting: Vec<oneshot::Sender<()>>,
    answered: Vec<oneshot::Sender<()>>,
    throttle: Option<LogThrottle<ContainerProblem>>,
}

/// What a reading depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) interval: Duration,
    pub(super) wall: SystemTime,
    pub(super) now: Instant,
    pub(super) jitter: f64,
    pub(super) standing: Standing,
}

/// For what a container is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// For a ring whose write key is held.
    Serving,
    /// For a ring without one.
    Waiting,
    /// For a configuration that is not in force.
    Candidate,
}

impl Follower {
    /// Nothing is known yet.
    pub(super) fn new(container: Container, now: Instant) -> Self {
        let mut plan = Schedule::default();
        plan.add(container.id, now);
        Self {
            container,
            plan,
            roster: Roster::default(),
            last_read: None,
            problem: None,
            warnings: Vec::new(),
            rotation: Rotation::default(),
            last_hurried: None,
            task: JoinSet::new(),
            waiting: Vec::new(),
            answered: Vec::new(),
            throttle: None,
        }
    }

    /// Follows on where `old` stands: the same container with other settings. It counts as
    /// read only when it is still asked in the same way.
    pub(super) fn going_on(
        container: Container,
        old: &Self,
        same_source: bool,
        interval: Duration,
        now: Instant,
    ) -> Self {
        let mut next = Self::new(container, now);
        next.roster = old.roster.clone();
        next.rotation = old.rotation.clone();
        if same_source {
            next.last_read = old.last_read;
            next.problem.clone_from(&old.problem);
            next.warnings.clone_from(&old.warnings);
            next.last_hurried = old.last_hurried;
            let latest = now + interval;
            let id = next.container.id;
            next.plan.take_over(id, &old.plan, latest, now);
        }
        next
    }

    /// Whether the container has been read at all.
    pub(super) fn is_read(&self) -> bool {
        self.last_read.is_some()
    }

    /// The date of the newest reading.
    pub(super) fn read_at(&self) -> Option<SystemTime> {
        self.last_read.map(|(date, _)| date)
    }

    /// What keeps the container from being followed.
    pub(super) fn problem(&self, wall: SystemTime) -> Option<ContainerProblem> {
        match &self.problem {
            // Time alone can put this right.
            Some((ContainerProblem::NoActiveKey, _)) if self.roster.has_active(wall) => None,
            Some((problem, _)) => Some(*problem),
            None if !self.is_read() => Some(ContainerProblem::Pending),
            // And can bring it about, while no key has been in use: the date went back.
            None if self.roster.is_before_all(wall) => Some(ContainerProblem::NoActiveKey),
            None => None,
        }
    }

    /// The same for a person.
    pub(super) fn problem_text(&self, wall: SystemTime) -> String {
        match (self.problem(wall), &self.problem) {
            (None, _) => String::new(),
            (Some(_), Some((_, text))) => text.clone(),
            (Some(problem @ ContainerProblem::NoActiveKey), None) => no_key(problem),
            (Some(problem), None) => problem.to_string(),
        }
    }

    /// Whether a reading is under way.
    pub(super) fn is_reading(&self) -> bool {
        !self.task.is_empty()
    }

    /// Starts a reading if one is due.
    pub(super) fn start_due<S: KeySource>(&mut self, source: &Arc<S>, now: Instant) {
        let Some(id) = self.plan.start_next(None, now) else {
            return;
        };
        let source = Arc::clone(source);
        self.task.spawn(async move { source.list(id).await });
    }

    /// When the next reading is due; `None` while one is under way.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.plan.next_due()
    }

    /// Waits for a reading to end; for ever when none is under way. Cancellation safe.
    pub(super) async fn finished(&mut self) -> ListResult {
        match self.task.join_next().await {
            Some(Ok(listed)) => listed,
            Some(Err(_)) => Err(ListError::Crashed),
            None => std::future::pending().await,
        }
    }

    /// Somebody waits for the next reading, as a key is unknown.
    pub(super) fn expedite(&mut self, waiting: oneshot::Sender<()>, now: Instant) {
        let soonest = match self.last_hurried {
            Some(last) if self.is_read() => now.max(last + STRANGERS_SPACING),
            _ => now,
        };
        let planned = self.plan.next_due();
        self.plan.expedite(&self.container.id, soonest);
        let due = self.plan.next_due();
        if due != planned {
            self.last_hurried = due;
        }
        // Who would wait in vain is answered now.
        if due.is_none_or(|due| due < now + MISS_WAIT) {
            self.waiting.push(waiting);
        }
    }

    /// Has the container read again where the newest reading is too old to refuse a
    /// configuration by it. Whether there will be a newer one.
    pub(super) fn reads_again(&mut self, now: Instant) -> bool {
        let is_news = |(_, at): (_, Instant)| now.saturating_duration_since(at) < IS_NEWS;
        if self.last_read.is_some_and(is_news) {
            return false;
        }
        // A reading that has failed is tried again as planned.
        if self.problem.is_none() && !self.is_reading() {
            self.order(now);
        }
        true
    }

    /// Somebody has missed the write key and does not wait for it.
    pub(super) fn expedite_if_passing(&mut self, now: Instant) {
        self.plan.expedite_if_passing(&self.container.id, now);
    }

    /// A person has ordered a reading.
    pub(super) fn order(&mut self, now: Instant) {
        self.plan.order(&self.container.id, now);
    }

    /// Barbican has answered another request: a reading that waits for that is due.
    pub(super) fn source_answered(&mut self, now: Instant) {
        self.plan.source_answered(now);
    }

    /// Whether Barbican itself has answered the newest reading.
    pub(super) fn has_answer(&self) -> bool {
        let problem = self.problem.as_ref();
        problem.is_none_or(|(problem, _)| like_a_key(*problem).is_an_answer())
    }

    /// Readers may look again: what a reading has changed is published.
    pub(super) fn answer(&mut self) {
        self.answered.clear();
    }

    /// A reading has ended. Returns the keys that are to be asked for, since they may be
    /// dropped when Barbican gives them out.
    pub(super) fn settle(&mut self, listed: ListResult, moment: &Moment) -> Vec<KeyId> {
        self.answered.append(&mut self.waiting);
        let id = self.container.id;
        let upstream = listed.as_ref().err().and_then(ListError::upstream);
        let unanswered = upstream.is_some_and(UpstreamError::is_unanswered);
        let wait = upstream.and_then(UpstreamError::wait);
        let leaving = match listed {
            Err(error) => {
                let cause = ErrorChain(&error).to_string();
                self.problem = Some((error.problem(), cause));
                Vec::new()
            }
            Ok(listing) => {
                self.rotation = Rotation::of(&listing);
                let ListedKeys { keys, warnings } = listing.keys();
                self.note_warnings(warnings);
                self.last_read = Some((moment.wall, moment.now));
                let apart = revalidation_delay(moment.interval, 1.0);
                let leaving = self.roster.read(&keys, apart, moment.wall, moment.now);
                self.problem = match () {
                    () if keys.is_empty() => Some(ContainerProblem::Empty),
                    () if !self.roster.has_active(moment.wall) => {
                        Some(ContainerProblem::NoActiveKey)
                    }
                    () => None,
                }
                .map(|problem| (problem, no_key(problem)));
                leaving
            }
        };
        let serving = moment.standing == Standing::Serving;
        match &self.problem {
            Some((problem, _)) if wait.is_some() || !is_of_content(*problem) || !serving => {
                let failure = Failure {
                    problem: like_a_key(*problem),
                    wait,
                    // Nobody misses it for a configuration that is not in force.
                    unanswered: unanswered && moment.standing != Standing::Candidate,
                    held: serving,
                    wiped_in: None,
                };
                let plan = &mut self.plan;
                plan.failed(&id, failure, moment.now, moment.jitter);
            }
            _ => {
                let plan = &mut self.plan;
                plan.succeeded(&id, moment.interval, moment.now, moment.jitter);
            }
        }
        self.log(moment);
        leaving
    }

    fn note_warnings(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|text| !self.warnings.contains(text)) {
            warn!(key_container = %self.container.id, "key container: {warning}");
        }
        self.warnings = warnings;
    }

    fn log(&mut self, moment: &Moment) {
        let container = self.container.id;
        let Some((problem, cause)) = &self.problem else {
            if self.throttle.take().is_some() {
                info!(key_container = %container, "key container read again");
            } else {
                debug!(key_container = %container, "key container read");
            }
            return;
        };
        let due = self.plan.next_due().unwrap_or(moment.now);
        let retry_seconds = due.saturating_duration_since(moment.now).as_secs_f32();
        let throttle = self
            .throttle
            .get_or_insert_with(|| LogThrottle::new(REPEAT_INTERVAL));
        let news = throttle.on_failure(*problem, moment.now).is_some();
        match (news, moment.standing, problem) {
            (false, ..) => debug!(
                key_container = %container, retry_seconds,
                "key container still not followed: {cause}"
            ),
            (true, Standing::Serving, ContainerProblem::Unavailable) => warn!(
                key_container = %container, retry_seconds,
                "key container not read, the keys in force stay: {cause}"
            ),
            (true, Standing::Serving, _) => error!(
                key_container = %container, retry_seconds,
                "key container not followed, the keys in force stay: {cause}"
            ),
            (true, Standing::Waiting, _) => error!(
                key_container = %container, retry_seconds,
                "key container not followed, so there is no write key: {cause}"
            ),
            (true, Standing::Candidate, _) => error!(
                key_container = %container, retry_seconds,
                "configuration not reloaded, the one in force stays: key container not followed: \
                 {cause}"
            ),
        }
    }
}

fn no_key(problem: ContainerProblem) -> String {
    format!(
        "{problem}; add the write key to the container under a time that has passed, such as \
         2026-01-01T00:00:00Z"
    )
}

/// Whether the container was read, and says too little.
fn is_of_content(problem: ContainerProblem) -> bool {
    matches!(
        problem,
        ContainerProblem::Empty | ContainerProblem::NoActiveKey
    )
}

/// The problem of a key that is tried again as soon.
fn like_a_key(problem: ContainerProblem) -> KeyProblem {
    match problem {
        ContainerProblem::Pending => KeyProblem::Pending,
        ContainerProblem::Unavailable => KeyProblem::Unavailable,
        ContainerProblem::Login => KeyProblem::Login,
        ContainerProblem::Denied => KeyProblem::Denied,
        ContainerProblem::Crashed => KeyProblem::Crashed,
        ContainerProblem::NotFound
        | ContainerProblem::NotGeneric
        | ContainerProblem::TooLarge
        | ContainerProblem::Invalid
        | ContainerProblem::Empty
        | ContainerProblem::NoActiveKey => KeyProblem::NotFound,
    }
}
