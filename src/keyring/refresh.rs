//! `Refresher`: the single writer of the keyring.
//!
//! One task. It downloads the keys of the ring, confirms them again and again, wipes
//! what nobody confirms, answers readers that miss a key, and takes new
//! configurations: connect and load first, then one swap. Invariant: whatever fails,
//! what is in force stays in force, but for keys older than `max-cache-age`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::loader::{Fetched, Loader};
use super::reload::{Candidate, staged};
use super::report::ReloadOutcome;
use super::schedule::{Failure, Schedule};
use super::{
    Cause, Clock, FetchError, KeyProblem, KeySource, Keyring, Report, Request, Shared, Snapshot,
};
use crate::chance::Chance;
use crate::config::{Cloud, Live};
use crate::envelope::WrappingKey;
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::log::throttle::{LogThrottle, REPEAT_INTERVAL};
use crate::secret::{Kek, Protection};

/// The runtime's timers stand still while a machine is suspended, and the keyring's
/// clock does not: they are compared this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How many readers can wait for the writer's attention.
const REQUESTS: usize = 64;

/// The newest state of the configuration files.
#[derive(Clone, Debug)]
pub enum ConfigUpdate {
    /// They are valid.
    Valid(Arc<Live>),
    /// They are not; the text says which file and field, why, and what to do.
    Invalid(Arc<str>),
}

/// The single writer. `connect` makes a source from cloud settings, without I/O.
pub struct Refresher<S, C> {
    pub(super) connect: C,
    pub(super) live: Arc<Live>,
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) config_updates: watch::Receiver<ConfigUpdate>,
    pub(super) ring: Loader<S>,
    pub(super) waiting: BTreeMap<KeyId, Vec<oneshot::Sender<()>>>,
    pub(super) candidate: Option<Candidate<S>>,
    pub(super) throttles: KeyThrottles,
    /// Keys that look like text, of which the log has said so.
    pub(super) doubted: BTreeSet<KeyId>,
    pub(super) chance: Chance,
}

/// What the log has said about keys that fail.
pub(super) type KeyThrottles = BTreeMap<KeyId, LogThrottle<KeyProblem>>;

/// Whether the log is to say now that this key fails in this way.
pub(super) fn is_news(
    throttles: &mut KeyThrottles,
    id: KeyId,
    trouble: KeyProblem,
    now: Instant,
) -> bool {
    let throttle = throttles
        .entry(id)
        .or_insert_with(|| LogThrottle::new(REPEAT_INTERVAL));
    throttle.on_failure(trouble, now).is_some()
}

enum Event<S> {
    Request(Request),
    ConfigUpdate,
    Fetched(Fetched),
    Staged(Fetched),
    Timer,
    /// Nobody reads the keyring any more.
    Done(std::marker::PhantomData<S>),
}

impl<S, C> fmt::Debug for Refresher<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher")
            .field("live", &self.live)
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
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::new(&live.ring)),
            report: ArcSwap::from_pointee(Report::new(&live, clock.wall())),
            clock,
        });
        let (sender, requests) = mpsc::channel(REQUESTS);
        let keyring = Keyring {
            shared: Arc::clone(&shared),
            requests: sender,
        };
        let ring = Loader::new(source, live.ring.write, all_now(&live, now));
        let refresher = Self {
            connect,
            live,
            shared,
            requests,
            config_updates,
            ring,
            waiting: BTreeMap::new(),
            candidate: None,
            throttles: BTreeMap::new(),
            doubted: BTreeSet::new(),
            chance,
        };
        Ok((keyring, refresher))
    }

    /// Runs until the last [`Keyring`] is dropped.
    pub async fn run(mut self) {
        let mut watching_config = true;
        loop {
            let event = self.next_event(&mut watching_config).await;
            // Before anything else: a suspended machine may have slept past it.
            self.expire();
            match event {
                Event::Request(Request::Load(id, waiting)) => self.load(id, waiting),
                Event::Request(Request::Revalidate) => {
                    let now = self.now();
                    self.ring.schedule.expedite_all(now);
                }
                Event::ConfigUpdate => self.consider(),
                Event::Fetched((id, outcome)) => self.settle(id, outcome),
                Event::Staged((id, outcome)) => self.stage(id, outcome),
                Event::Timer => {}
                Event::Done(_) => return,
            }
        }
    }

    async fn next_event(&mut self, watching_config: &mut bool) -> Event<S> {
        let now = self.now();
        let other = self.candidate.as_ref();
        self.ring
            .start_due(now, other.map(|other| other.loader.under_way()));
        if let Some(candidate) = &mut self.candidate {
            let other = self.ring.under_way();
            candidate.loader.start_due(now, Some(other));
        }
        let wake = self
            .next_wake()
            .map(|wake| wake.saturating_duration_since(now));
        tokio::select! {
            request = self.requests.recv() => {
                request.map_or(Event::Done(std::marker::PhantomData), Event::Request)
            }
            changed = self.config_updates.changed(), if *watching_config => {
                // Without a proposer the ring goes on as it is.
                *watching_config = changed.is_ok();
                if *watching_config { Event::ConfigUpdate } else { Event::Timer }
            }
            fetched = self.ring.finished() => Event::Fetched(fetched),
            staged = staged(self.candidate.as_mut()) => Event::Staged(staged),
            () = tokio::time::sleep(wake.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)) => Event::Timer,
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn next_wake(&self) -> Option<Instant> {
        let candidate = self.candidate.as_ref();
        let coming = candidate.map(|candidate| candidate.loader.under_way());
        let age = self.live.ring.max_cache_age;
        [
            self.ring.next_start(coming),
            age.and_then(|age| self.shared.snapshot.load().next_expiry(age)),
            candidate
                .and_then(|candidate| candidate.loader.next_start(Some(self.ring.under_way()))),
            candidate.and_then(|candidate| candidate.next_expiry(age)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A reader misses a key of the ring.
    fn load(&mut self, id: KeyId, waiting: oneshot::Sender<()>) {
        let snapshot = self.shared.snapshot.load();
        // Dropping the sender answers: the reader looks again.
        if snapshot.slot(&id).is_some_and(|slot| slot.key().is_none()) {
            // Who would wait in vain is answered now.
            if self.ring.schedule.expedite(&id, self.shared.clock.now()) {
                self.waiting.entry(id).or_default().push(waiting);
            }
        }
    }

    /// A fetch for the ring in force has ended.
    fn settle(&mut self, id: KeyId, outcome: Result<Kek, FetchError>) {
        let now = self.now();
        let snapshot = self.shared.snapshot.load_full();
        let Some(slot) = snapshot.slot(&id) else {
            return;
        };
        let held = slot.key().is_some();
        self.note_contact(&outcome);
        self.note_text(id, &outcome);
        match outcome {
            Ok(kek) => match slot.key_from(&kek) {
                Ok(key) => {
                    drop(kek);
                    self.log_success(&id, !held, &key);
                    let interval = self.live.ring.revalidate_interval;
                    let jitter = self.chance.fraction();
                    self.ring.schedule.succeeded(&id, interval, now, jitter);
                    self.publish(snapshot.loaded(&id, key, now));
                }
                Err(altered) => self.fail(id, KeyProblem::Altered, None, held, &altered),
            },
            Err(error) => self.fail(id, error.trouble(), error.wait(), held, &error),
        }
        self.note_plan();
        self.waiting.remove(&id);
    }

    fn fail(
        &mut self,
        id: KeyId,
        trouble: KeyProblem,
        wait: Option<Duration>,
        held: bool,
        cause: &(dyn std::error::Error + 'static),
    ) {
        let now = self.now();
        let snapshot = self.shared.snapshot.load_full();
        let slot = snapshot.slot(&id);
        let expiry = self.live.ring.max_cache_age;
        let expiry = expiry.and_then(|age| slot.and_then(|slot| slot.expiry(age)));
        let failure = Failure {
            trouble,
            wait,
            held,
            wiped_in: expiry.map(|expiry| expiry.saturating_duration_since(now)),
        };
        let schedule = &mut self.ring.schedule;
        let (failures, delay) = schedule.failed(&id, failure, now, self.chance.fraction());
        self.publish(snapshot.troubled(&id, trouble));
        let cause = ErrorChain(cause);
        let retry_seconds = delay.as_secs_f32();
        let key_id_hash = id.sha256_label();
        if !is_news(&mut self.throttles, id, trouble, now) {
            debug!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "key fetch failed again: {cause}"
            );
            return;
        }
        match (held, trouble) {
            (true, KeyProblem::Unavailable) => warn!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "key not confirmed, the one that is held stays in use: {cause}"
            ),
            (true, _) => error!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "key not confirmed, the one that is held stays in use: {cause}"
            ),
            (false, _) => error!(
                key_id = %id, key_id_hash, failures, retry_seconds,
                "key not loaded: {cause}"
            ),
        }
    }

    fn log_success(&mut self, id: &KeyId, first: bool, key: &WrappingKey) {
        let failures = self.ring.schedule.failures(id);
        let recovered = self.throttles.remove(id).is_some();
        let memory = key.protection().as_str();
        let key_id_hash = id.sha256_label();
        if first && key.protection() == Protection::Unlocked {
            warn!(
                key_id = %id, key_id_hash, memory, failures,
                "key loaded into plain memory, which can be swapped out and dumped: no more can \
                 be locked; raise RLIMIT_MEMLOCK to 8 MiB"
            );
        } else if first {
            info!(key_id = %id, key_id_hash, memory, failures, "key loaded");
        } else if recovered {
            info!(key_id = %id, key_id_hash, failures, "key confirmed again");
        } else {
            debug!(key_id = %id, key_id_hash, "key confirmed");
        }
    }

    /// Says once of a key that nobody has drawn by lot.
    pub(super) fn note_text(&mut self, id: KeyId, outcome: &Result<Kek, FetchError>) {
        let Ok(kek) = outcome else {
            return;
        };
        if kek.expose().looks_like_text() && self.doubted.insert(id) {
            warn!(
                key_id = %id, key_id_hash = id.sha256_label(),
                "all bytes of the key are printable characters, which a random key's are not: it \
                 is a password, or hex or base64 text of fewer bytes; rotate to a key that \
                 `openstack secret order create` has made"
            );
        }
    }

    pub(super) fn note_contact(&self, outcome: &Result<Kek, FetchError>) {
        self.update_report(|report| match outcome {
            Ok(_) => {
                report.last_contact = Some(self.shared.clock.wall());
                report.consecutive_failures = 0;
            }
            Err(_) => report.consecutive_failures += 1,
        });
    }

    /// Records when the ring in force is asked about next.
    pub(super) fn note_plan(&self) {
        let clock = &self.shared.clock;
        let (now, wall) = (clock.now(), clock.wall());
        let due = self.ring.schedule.next_due();
        let next = due.map(|due| wall + due.saturating_duration_since(now));
        self.update_report(|report| report.next_fetch = next);
    }

    /// Wipes what has gone unconfirmed for too long, in force or to come.
    fn expire(&mut self) {
        let age = self.live.ring.max_cache_age;
        let now = self.now();
        let expired = age.and_then(|age| {
            let expired = self.shared.snapshot.load().expired(age, now);
            expired.map(|expired| (age, expired))
        });
        if let Some((age, (next, wiped))) = expired {
            self.publish(next);
            for (id, trouble) in wiped {
                // Whatever is planned, this key is missing now.
                self.ring.schedule.expedite(&id, now);
                error!(
                    key_id = %id,
                    key_id_hash = id.sha256_label(),
                    max_cache_age_seconds = age.as_secs(),
                    trouble = trouble.as_str(),
                    "key wiped: Barbican has not confirmed it within max-cache-age"
                );
            }
        }
        self.recount(now);
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    pub(super) fn record_reload(&self, outcome: ReloadOutcome, message: String) {
        self.update_report(|report| report.reloaded(outcome, message, self.shared.clock.wall()));
    }

    pub(super) fn update_report(&self, change: impl FnOnce(&mut Report)) {
        let mut report = Report::clone(&self.shared.report.load());
        change(&mut report);
        self.shared.report.store(Arc::new(report));
    }
}

fn all_now(live: &Live, now: Instant) -> Schedule {
    let mut schedule = Schedule::default();
    for id in live.ring.ids() {
        schedule.add(id, now);
    }
    schedule
}
