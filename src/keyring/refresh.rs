//! `Refresher`: the single writer of the keyring.
//!
//! One task. It downloads the keys of the ring, confirms them periodically, wipes
//! unconfirmed keys, answers readers that miss a key, and applies new configurations:
//! it connects and loads first, then swaps once. Invariant: after any failure, the
//! current state stays in use, except for keys older than `max-cache-age`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::follower::Follower;
use super::key_set::{Failed, FetchEffect, Finished, KeySet, Loaded};
use super::loader::Fetched;
use super::reload::ConfigUpdate;
use super::schedule::Schedule;
use super::writer::{Candidate, Writer};
use super::{Cause, Clock, KeyProblem, KeySource, Keyring, Report, Request, Shared};
use crate::chance::Chance;
use crate::config::{Cloud, Live};
use crate::key_id::KeyId;
use crate::mutation::{self, Mutation};
use crate::secret::Protection;

/// How many readers can wait for the writer's attention.
const REQUESTS: usize = 64;

/// The single writer. `connect` makes a source from cloud settings, without I/O.
pub struct Refresher<S, C> {
    writer: Writer<S, C>,
    requests: mpsc::Receiver<Request>,
    config_updates: watch::Receiver<ConfigUpdate>,
}

enum Event<S> {
    Request(Request),
    StatusMissed,
    ConfigUpdate(ConfigUpdate),
    Finished(Finished),
    Staged(Finished),
    Timer,
    /// The keyring has no more readers.
    Done(std::marker::PhantomData<S>),
}

impl<S, C> fmt::Debug for Refresher<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher")
            .field("live", &self.writer.ring.live)
            .finish_non_exhaustive()
    }
}

impl<S, C> Refresher<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    /// A keyring of which nothing is loaded, and its writer.
    ///
    /// # Errors
    /// What `connect` says of the first configuration.
    pub fn new(
        live: Arc<Live>,
        connect: C,
        config_updates: watch::Receiver<ConfigUpdate>,
        clock: Clock,
        chance: Chance,
    ) -> Result<(Keyring, Self), Cause> {
        let source = Arc::new(connect(&live.cloud)?);
        let now = clock.now();
        let container = live.ring.container.clone();
        let follower = container.map(|container| Follower::new(container, now));
        let report = Report::new(&live, clock.wall());
        let schedule = all_now(&live, now);
        let ring = KeySet::new(live, source, schedule, follower);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::new(Arc::clone(&ring.slots)),
            report: ArcSwap::from_pointee(report),
            clock,
            begin: now,
            second: AtomicU64::new(1),
            status_missed: Notify::new(),
        });
        let (sender, requests) = mpsc::channel(REQUESTS);
        let keyring = Keyring {
            shared: Arc::clone(&shared),
            requests: sender,
            notes: true,
        };
        let writer = Writer {
            connect,
            shared,
            ring,
            waiting: BTreeMap::new(),
            candidate: None,
            chance,
        };
        writer.report_container(writer.shared.clock.wall());
        let refresher = Self {
            writer,
            requests,
            config_updates,
        };
        Ok((keyring, refresher))
    }

    /// Runs until the last [`Keyring`] is dropped.
    pub async fn run(mut self) {
        let mut watching_config = true;
        loop {
            let event = self.next_event(&mut watching_config).await;
            let writer = &mut self.writer;
            writer.tick();
            if let Event::ConfigUpdate(update) = &event {
                writer.supersede(update);
            }
            let before = Arc::clone(&writer.ring.live);
            // Before anything else: a suspended machine may have slept past it.
            writer.expire();
            let is_replaced = !Arc::ptr_eq(&writer.ring.live, &before);
            match event {
                // Requests end with the ring that they were for: this may be the answer to other
                // credentials, or another container's list. The new ring asks for itself.
                Event::Finished(ended) | Event::Staged(ended) if is_replaced => {
                    if let Finished::Key((_, outcome)) = ended {
                        writer.note_contact(&outcome);
                    }
                }
                Event::Request(Request::Load(id, waiting)) => writer.load(id, waiting),
                Event::Request(Request::List(waiting)) => writer.list(waiting),
                Event::Request(Request::Revalidate) => writer.revalidate(),
                Event::StatusMissed => writer.status_missed(),
                Event::ConfigUpdate(update) => writer.consider(update),
                Event::Finished(Finished::Key(fetched)) => writer.settle(fetched),
                Event::Finished(Finished::List(listed)) => writer.settle_list(listed),
                Event::Staged(Finished::Key(fetched)) => writer.stage(fetched),
                Event::Staged(Finished::List(listed)) => writer.stage_list(listed),
                Event::Timer => {}
                Event::Done(_) => return,
            }
            writer.follow();
        }
    }

    async fn next_event(&mut self, watching_config: &mut bool) -> Event<S> {
        let writer = &mut self.writer;
        let now = writer.now();
        let other = writer.candidate.as_ref();
        let other = other.map(|other| other.keys.under_way());
        writer.ring.start_due(now, other);
        if let Some(candidate) = &mut writer.candidate {
            let other = writer.ring.under_way();
            candidate.keys.start_due(now, Some(other));
        }
        let wake = writer
            .next_wake()
            .map(|wake| wake.saturating_duration_since(now));
        let longest = writer.shared.clock.longest_sleep();
        tokio::select! {
            // In order, and not by the runtime's dice. Whatever comes often stands last.
            biased;
            finished = writer.ring.finished() => Event::Finished(finished),
            staged = staged(writer.candidate.as_mut()) => Event::Staged(staged),
            changed = self.config_updates.changed(), if *watching_config => {
                // Without a proposer the ring stays as it is.
                *watching_config = changed.is_ok();
                if *watching_config {
                    Event::ConfigUpdate(self.config_updates.borrow_and_update().clone())
                } else {
                    Event::Timer
                }
            }
            request = self.requests.recv() => {
                request.map_or(Event::Done(std::marker::PhantomData), Event::Request)
            }
            () = writer.shared.status_missed.notified() => Event::StatusMissed,
            () = tokio::time::sleep(wake.unwrap_or(longest).min(longest)) => Event::Timer,
        }
    }
}

impl<S, C> Writer<S, C>
where
    S: KeySource,
    C: Fn(&Cloud) -> Result<S, Cause>,
{
    fn next_wake(&self) -> Option<Instant> {
        if mutation::active(Mutation::WakesAlways) {
            return Some(self.now() + Duration::from_millis(20));
        }
        let candidate = self.candidate.as_ref();
        let coming = candidate.map(|candidate| candidate.keys.under_way());
        let age = self.ring.live.ring.max_cache_age;
        let under_way = self.ring.under_way();
        let time = (self.shared.clock.wall(), self.now());
        let staged = candidate.and_then(|candidate| {
            let age = candidate.max_age(age);
            candidate.keys.next_wake(age, Some(under_way), time)
        });
        let in_force = self.ring.next_wake(age, coming, time);
        in_force.into_iter().chain(staged).min()
    }

    /// A reader misses a key of the ring.
    fn load(&mut self, id: KeyId, waiting: oneshot::Sender<()>) {
        let now = self.now();
        let slot = self.ring.slots.slot(&id);
        // Dropping the sender answers: the reader looks again.
        if slot.is_some_and(|slot| slot.key().is_none()) {
            // Readers whose wait would be useless are answered now.
            if self.ring.loader.schedule.expedite(&id, now) {
                self.waiting.entry(id).or_default().push(waiting);
            }
        }
    }

    /// A caller has missed the write key and does not wait for it.
    fn status_missed(&mut self) {
        let now = self.now();
        match self.ring.slots.write_id() {
            Some(id) if self.ring.slots.holds(&id) => {}
            Some(id) => self.ring.loader.schedule.expedite_if_passing(&id, now),
            None => {
                if let Some(follower) = &mut self.ring.follower {
                    follower.expedite_if_passing(now);
                }
            }
        }
    }

    /// A fetch for the ring in use has ended.
    fn settle(&mut self, fetched: Fetched) {
        let (id, now) = (fetched.0, self.now());
        self.note_contact(&fetched.1);
        let age = self.ring.live.ring.max_cache_age;
        let jitter = self.chance.fraction();
        let Some(settled) = self.ring.settle(fetched, None, age, now, jitter) else {
            return;
        };
        if settled.is_an_answer() {
            self.source_answered(&Arc::clone(&self.ring.loader.source));
        }
        self.publish();
        match settled {
            FetchEffect::Loaded(loaded) => {
                log_loaded(id, &loaded);
                loaded.warn_of_text(id);
            }
            FetchEffect::Failed(failed) => log_failed(id, &failed),
        }
        self.note_plan();
        self.waiting.remove(&id);
    }

    /// Wipes keys that were unconfirmed for too long, of the ring in use and of the new one.
    fn expire(&mut self) {
        let now = self.now();
        if let Some(age) = self.ring.live.ring.max_cache_age {
            let wiped = self.ring.wipe(age, now);
            if !wiped.is_empty() {
                self.publish();
            }
            for (id, problem) in wiped {
                error!(
                    key_id = %id,
                    key_id_hash = id.sha256_label(),
                    max_cache_age_seconds = age.as_secs(),
                    problem = problem.as_str(),
                    "key wiped: Barbican has not confirmed it within max-cache-age"
                );
            }
        }
        self.adopt_if_ready(now);
    }
}

fn log_loaded(id: KeyId, loaded: &Loaded) {
    let failures = loaded.failures;
    let memory = loaded.protection.as_str();
    if loaded.first && loaded.protection == Protection::Unlocked {
        warn!(
            key_id = %id, key_id_hash = id.sha256_label(), memory, failures,
            "key loaded into plain memory, which can reach swap and core dumps: no more memory can \
             be locked; raise RLIMIT_MEMLOCK to 8 MiB"
        );
    } else if loaded.first {
        info!(key_id = %id, key_id_hash = id.sha256_label(), memory, failures, "key loaded");
    } else if loaded.recovered {
        info!(key_id = %id, key_id_hash = id.sha256_label(), failures, "key confirmed again");
    } else {
        debug!(key_id = %id, key_id_hash = id.sha256_label(), "key confirmed");
    }
}

fn log_failed(id: KeyId, failed: &Failed) {
    let (failures, cause) = (failed.failures, &failed.cause);
    let retry_seconds = failed.retry_in.as_secs_f32();
    match (failed.news, failed.held, failed.problem) {
        (false, ..) => debug!(
            key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
            "key fetch failed again: {cause}"
        ),
        (true, true, KeyProblem::Unavailable) => warn!(
            key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
            "key not confirmed, the held key stays in use: {cause}"
        ),
        (true, true, _) => error!(
            key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
            "key not confirmed, the held key stays in use: {cause}"
        ),
        (true, false, _) => error!(
            key_id = %id, key_id_hash = id.sha256_label(), failures, retry_seconds,
            "key not loaded: {cause}"
        ),
    }
}

/// The end of a fetch for the ring to come; never, when there is none.
async fn staged<S: KeySource>(candidate: Option<&mut Candidate<S>>) -> Finished {
    match candidate {
        Some(candidate) => candidate.keys.finished().await,
        None => std::future::pending().await,
    }
}

fn all_now(live: &Live, now: Instant) -> Schedule {
    let mut schedule = Schedule::default();
    for id in live.ring.ids() {
        schedule.add(id, now);
    }
    schedule
}
