//! A node: its cloud-config, its clock, and the process that runs on it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::container::{BEGIN, CONTAINER};
use super::history::{DAY, Dice, KEYS};
use super::key_id;
use super::log::Log;
use super::servers::{Cloud, Line, problem};
use crate::chance::Chance;
use crate::config::{self, Content, Environment, Identity, Live};
use crate::instruments::Instruments;
use crate::key_id::{ContainerId, KeyId};
use crate::keyring::{
    Clock, ConfigUpdate, ContainerProblem, FetchError, KeyProblem, KeySource, Keyring, ListError,
    Listing, Refresher,
};
use crate::kms::Kms;
use crate::metrics::{Exposition, Metrics};
use crate::openstack::{OpenStack, Timing};
use crate::secret::Kek;

/// What a node's cloud-config says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// A container says which keys there are, besides the pinned ones of `decrypt`.
    pub(super) container: bool,
    pub(super) write: usize,
    pub(super) decrypt: Vec<usize>,
    pub(super) credential: usize,
    pub(super) age: Option<u64>,
    pub(super) interval: u64,
    pub(super) authenticated: bool,
    pub(super) typo: bool,
}

impl File {
    /// What the real parser makes of it.
    pub(super) fn parsed(&self) -> Result<Arc<Live>, String> {
        let environment = Environment {
            cloud: None,
            client_config_file: None,
            client_secure_file: None,
            home: None,
            working_directory: PathBuf::from("/"),
            proxy: config::Proxy::default(),
        };
        let read = |_: &Path| {
            Ok(Content {
                bytes: self.text().into_bytes(),
                mode: 0o600,
            })
        };
        config::load(Path::new("/etc/cloud.conf"), &environment, &read)
            .map(|loaded| loaded.live)
            .map_err(|error| error.to_string())
    }

    fn text(&self) -> String {
        let decrypt: Vec<String> = self
            .decrypt
            .iter()
            .map(|key| key_id(*key).to_string())
            .collect();
        format!(
            "[Global]\nauth-url = http://keystone.test/v3\nusername = u{user}\n\
             password = secret{user}\ntenant-id = p\ndomain-name = d\n\
             [KeyManager]\n{source}{typo}\n{decrypt}\
             require-authentication = {authenticated}\nrevalidate-interval = {interval}s\n\
             max-cache-age = {age}s\n",
            user = self.credential,
            source = if self.container {
                format!("key-container = {CONTAINER}")
            } else {
                format!("key-id = {}", key_id(self.write))
            },
            typo = if self.typo { "0" } else { "" },
            decrypt = if decrypt.is_empty() {
                String::new()
            } else {
                format!("decrypt-key-ids = \"{}\"\n", decrypt.join(","))
            },
            authenticated = self.authenticated,
            interval = self.interval,
            age = self.age.unwrap_or(0),
        )
    }

    pub(super) fn names(&self, key: usize) -> bool {
        (self.write == key && !self.container) || self.decrypt.contains(&key)
    }
}

/// The clocks of a node, which no restart changes.
#[derive(Clone)]
pub(super) struct Times(Arc<Dials>);

struct Dials {
    /// When the history began.
    begin: tokio::time::Instant,
    /// For how long the machine has been suspended, in seconds.
    suspended: AtomicU64,
    /// How far the date is from that of others, in seconds.
    date: AtomicI64,
    reads: AtomicU64,
    /// Reads since the node was last at rest.
    restless: AtomicU64,
    /// When, since the begin, a clock of this node will jump, in order.
    jumps: Vec<Duration>,
}

/// So often nobody looks at a clock within one moment.
const RESTLESS: u64 = 20_000;

impl Times {
    /// At the begin of a history, with a date that is so many seconds off, and will jump then.
    pub(super) fn new(date: i64, jumps: Vec<Duration>) -> Self {
        Self(Arc::new(Dials {
            begin: tokio::time::Instant::now(),
            suspended: AtomicU64::new(0),
            date: AtomicI64::new(date),
            reads: AtomicU64::new(0),
            restless: AtomicU64::new(0),
            jumps,
        }))
    }

    /// Somebody sets the date right, but for so many seconds.
    pub(super) fn set_date(&self, seconds: i64) {
        self.0.date.store(seconds, Ordering::Relaxed);
    }

    pub(super) fn suspend(&self, seconds: u64) {
        self.0.suspended.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) fn change_date(&self, seconds: i64) {
        self.0.date.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// Does something that is not the node's own doing.
    pub(super) fn uncounted<T>(&self, look: impl FnOnce() -> T) -> T {
        let before = self.reads();
        let result = look();
        self.0.reads.store(before, Ordering::Relaxed);
        result
    }

    pub(super) fn at_rest(&self) {
        self.0.restless.store(0, Ordering::Relaxed);
    }

    /// Now, without counting as a look of the node's own.
    pub(super) fn now(&self) -> Instant {
        let suspended = Duration::from_secs(self.0.suspended.load(Ordering::Relaxed));
        tokio::time::Instant::now().into_std() + suspended
    }

    pub(super) fn clock(&self) -> Clock {
        let (one, other) = (self.clone(), self.clone());
        let now = move || {
            one.0.reads.fetch_add(1, Ordering::Relaxed);
            let restless = one.0.restless.fetch_add(1, Ordering::Relaxed);
            assert!(restless < RESTLESS, "a busy loop");
            one.now()
        };
        let wall = move || other.wall();
        let own = self.clone();
        Clock::new(now, wall).with_longest_sleep(move || own.longest_sleep())
    }

    /// Until the first minute after the next jump. A process looks every minute, as it knows of none;
    /// the looks between them find nothing, and would be most of what a day costs.
    fn longest_sleep(&self) -> Duration {
        const MINUTE: u64 = 60;
        let now = self.0.begin.elapsed();
        let next = self.0.jumps.iter().find(|jump| **jump >= now);
        let left = next.map_or(DAY, |jump| jump.saturating_sub(now));
        Duration::from_secs((left.as_secs() / MINUTE + 1) * MINUTE)
    }

    /// The date, which a suspended machine asks for when it goes on.
    pub(super) fn wall(&self) -> SystemTime {
        let off = self.0.date.load(Ordering::Relaxed);
        let date = BEGIN.saturating_add_signed(off);
        UNIX_EPOCH + Duration::from_secs(date) + self.0.begin.elapsed()
    }
}

/// What the sources of one process have been told.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    keys: Arc<Mutex<BTreeMap<KeyId, Entries>>>,
    readings: Arc<Mutex<Readings>>,
}

/// What was read of the container.
#[derive(Default)]
pub(super) struct Readings {
    /// What any of them has listed.
    pub(super) lists: BTreeSet<BTreeSet<KeyId>>,
    /// How others have failed.
    pub(super) problems: Vec<ContainerProblem>,
    /// Since when, and until when, each key is missing in all of them that list a write key.
    pub(super) absent: BTreeMap<KeyId, (Instant, Instant)>,
    pub(super) under_way: usize,
}

#[derive(Default)]
pub(super) struct Entries {
    /// When it was given out, by the clock of the node; the newest ones.
    pub(super) confirmed: VecDeque<Instant>,
    /// How any of them has failed: the ring in use and a new one share this, so that the
    /// newest ends may all be of the other one.
    pub(super) problems: Vec<KeyProblem>,
    /// How the newest downloads have ended, and when.
    pub(super) ends: VecDeque<(Instant, Option<KeyProblem>)>,
    pub(super) starts: VecDeque<tokio::time::Instant>,
    pub(super) under_way: usize,
}

/// So much is remembered of each key.
const REMEMBERED: usize = 12;

impl Ledger {
    pub(super) fn entries(&self) -> MutexGuard<'_, BTreeMap<KeyId, Entries>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, times: &Times, outcome: &Result<Listing, ListError>) {
        let mut readings = self.readings();
        let listed = match outcome {
            Ok(listing) => listing.keys().keys,
            Err(error) => {
                let problem = error.problem();
                if !readings.problems.contains(&problem) {
                    readings.problems.push(problem);
                }
                return;
            }
        };
        let (now, wall) = (times.now(), times.wall());
        let is_whole = listed.values().flatten().any(|time| *time <= wall);
        for id in (0..KEYS).map(key_id) {
            if listed.contains_key(&id) {
                readings.absent.remove(&id);
            } else if is_whole {
                readings.absent.entry(id).or_insert((now, now)).1 = now;
            }
        }
        readings.lists.insert(listed.into_keys().collect());
    }

    /// How many downloads of `id` have begun within a minute, this one included.
    fn starts(&self, id: KeyId) -> usize {
        let now = tokio::time::Instant::now();
        let mut entries = self.entries();
        let starts = &mut entries.entry(id).or_default().starts;
        starts.push_back(now);
        while starts
            .front()
            .is_some_and(|at| now - *at >= Duration::from_secs(60))
        {
            starts.pop_front();
        }
        let count = starts.len();
        entries.entry(id).or_default().under_way += 1;
        count
    }

    fn ends(&self, id: KeyId, at: Instant, outcome: &Result<Kek, FetchError>) {
        let mut entries = self.entries();
        let of_key = entries.entry(id).or_default();
        if outcome.is_ok() {
            push(&mut of_key.confirmed, at);
        }
        let problem = outcome.as_ref().err().map(problem);
        if let Some(problem) = problem.filter(|problem| !of_key.problems.contains(problem)) {
            of_key.problems.push(problem);
        }
        push(&mut of_key.ends, (at, problem));
    }
}

fn push<T>(queue: &mut VecDeque<T>, one: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(one);
}

/// The real client, and a note of what it is told.
pub(super) struct Source {
    client: OpenStack,
    ledger: Ledger,
    times: Times,
    cloud: Cloud,
    node: usize,
}

/// Ends when a reading does, or when nobody wants it any more.
struct Reading(Ledger);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readings().under_way -= 1;
    }
}

/// Ends when a download does, or when nobody wants it any more.
struct UnderWay(Ledger, KeyId);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.entries().entry(self.1).or_default().under_way -= 1;
    }
}

/// No key is downloaded more often than this: once a second, and once more for each order, by
/// the ring in use and by a new one that is loaded beside it.
pub(super) const DOWNLOADS_A_MINUTE: usize = 130;

impl KeySource for Source {
    async fn fetch(&self, id: KeyId) -> Result<Kek, FetchError> {
        let starts = self.ledger.starts(id);
        if starts > DOWNLOADS_A_MINUTE {
            self.cloud.complain(format!(
                "rule 6: node {} downloads {id} {starts} times within a minute",
                self.node
            ));
        }
        let _under_way = UnderWay(self.ledger.clone(), id);
        let outcome = self.client.fetch(id).await;
        self.ledger.ends(id, self.times.now(), &outcome);
        outcome
    }

    async fn list(&self, id: ContainerId) -> Result<Listing, ListError> {
        self.ledger.readings().under_way += 1;
        let _under_way = Reading(self.ledger.clone());
        let outcome = self.client.list(id).await;
        self.ledger.read(&self.times, &outcome);
        outcome
    }
}

/// What metrics show of a keyring.
#[derive(PartialEq, Eq)]
struct Shown {
    ready: bool,
    /// Whether each is held, and is the write key.
    keys: Vec<(KeyId, bool, bool)>,
    /// Of a container's keys, which secrets are gone; nothing without a container.
    gone: Option<Vec<(KeyId, bool)>>,
    problem: Option<ContainerProblem>,
    reloads: [(&'static str, u64); 5],
}

impl Shown {
    fn of(keyring: &Keyring) -> Self {
        let (snapshot, report) = (keyring.snapshot(), keyring.report());
        let write = snapshot.write_id();
        let keys = snapshot.slots();
        let keys = keys.map(|(id, slot)| (*id, slot.key().is_some(), Some(*id) == write));
        let container = report.container.as_ref();
        let gone = container.map(|container| {
            let keys = container.keys.iter();
            keys.map(|(id, key)| (*id, key.secret_gone)).collect()
        });
        Self {
            ready: keyring.status().is_ok(),
            keys: keys.collect(),
            gone,
            problem: container.and_then(|container| container.problem),
            reloads: report
                .reloads
                .by_outcome()
                .map(|(outcome, count)| (outcome.as_str(), count)),
        }
    }

    /// The lines that say so.
    fn lines(&self) -> Vec<String> {
        let line = |name: &str, value: bool| format!("barbican_kms_{name} {}", u8::from(value));
        let mut lines = vec![line("ready", self.ready)];
        for (id, held, write) in &self.keys {
            let label = format!("{{key_id_hash=\"{}\"}}", id.sha256_label());
            lines.push(line(&format!("key_held{label}"), *held));
            lines.push(line(&format!("key_write{label}"), *write));
        }
        if let Some(gone) = &self.gone {
            for one in ContainerProblem::ALL {
                let name = format!("container_problem{{problem=\"{}\"}}", one.as_str());
                lines.push(line(&name, self.problem == Some(one)));
            }
            for (id, gone) in gone {
                let name = format!("key_secret_gone{{key_id_hash=\"{}\"}}", id.sha256_label());
                lines.push(line(&name, *gone));
            }
        }
        for (outcome, count) in self.reloads {
            lines.push(format!(
                "barbican_kms_config_reloads_total{{outcome=\"{outcome}\"}} {count}"
            ));
        }
        lines
    }
}

/// A running sidecar. Dropping it kills it.
pub(super) struct Process {
    pub(super) keyring: Keyring,
    pub(super) kms: Kms,
    pub(super) metrics: Metrics,
    pub(super) updates: watch::Sender<ConfigUpdate>,
    pub(super) ledger: Ledger,
    pub(super) log: Log,
    /// What the metrics have been seen to say.
    shown: Option<Shown>,
    _task: JoinSet<()>,
    refresher: AbortHandle,
}

impl Process {
    pub(super) fn has_ended(&self) -> bool {
        self.refresher.is_finished()
    }

    /// Rule 8: what the metrics say, against what the keyring is. Where they have said so
    /// before they are read now and then.
    pub(super) fn metrics_are_true(&mut self, anyway: bool) -> Result<(), String> {
        let shown = Shown::of(&self.keyring);
        if !anyway && self.shown.as_ref() == Some(&shown) {
            return Ok(());
        }
        let text = self.metrics.text(Exposition::Classic);
        let lines: HashSet<&str> = text.lines().collect();
        let wanted = shown.lines();
        if let Some(line) = wanted.iter().find(|line| !lines.contains(line.as_str())) {
            return Err(format!("rule 8: the metrics do not say {line}"));
        }
        self.shown = Some(shown);
        Ok(())
    }

    pub(super) fn start(
        cloud: &Cloud,
        node: usize,
        times: &Times,
        live: &Arc<Live>,
        dice: &Dice,
    ) -> Self {
        let ledger = Ledger::default();
        let seed = dice.below(u32::MAX);
        let connect = {
            let (cloud, ledger, times) = (cloud.clone(), ledger.clone(), times.clone());
            move |settings: &config::Cloud| {
                let timing = Timing {
                    chance: Chance::seeded(seed ^ 1),
                    ..Timing::default()
                };
                let way = Line::new(&cloud, node, credential(settings));
                let client = OpenStack::new(settings, timing)?.answered_by(Arc::new(way));
                Ok(Source {
                    client,
                    ledger: ledger.clone(),
                    times: times.clone(),
                    cloud: cloud.clone(),
                    node,
                })
            }
        };
        let instruments: Arc<Instruments> = Arc::default();
        let (updates, receiver) = watch::channel(ConfigUpdate::Valid(Arc::clone(live)));
        let clock = times.clock();
        let (keyring, refresher) = Refresher::new(
            Arc::clone(live),
            connect,
            receiver,
            clock,
            Chance::seeded(seed),
        )
        .expect("the settings can be used");
        let mut task = JoinSet::new();
        let log = Log::default();
        let refresher = task.spawn(log.of(refresher.run()));
        Self {
            refresher,
            metrics: Metrics::of_keyring(keyring.clone(), Arc::clone(&instruments)),
            kms: Kms::new(keyring.clone(), instruments, None),
            keyring,
            updates,
            ledger,
            log,
            shown: None,
            _task: task,
        }
    }
}

fn credential(settings: &config::Cloud) -> usize {
    let Identity::Password { password, .. } = &settings.identity else {
        panic!("the files name a user and a password");
    };
    let digits = password.expose_text().trim_start_matches("secret");
    digits.parse().expect("the number of a credential")
}
