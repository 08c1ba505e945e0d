//! The refresher with paused time and a scripted source.

mod container;
mod faults;
pub(super) mod interleaving;
mod reload;
mod simulation;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::chance::Chance;
use crate::config::{Cloud, Identity, Interface, Live, Proxy, Ring, Roots, Scope, Tls};
use crate::key_id::ContainerId;
use crate::secret::{Kek, KekWriter, Token};

const INTERVAL: Duration = Duration::from_secs(300);

/// What the fake source answers for one key.
#[derive(Clone, Copy)]
enum Answer {
    Key(u8),
    Unreachable,
    /// With an answer that is of no use, and may pass.
    Failing,
    /// With `Retry-After`, in seconds.
    Busy(u64),
    Denied,
    Missing,
    /// Keystone refuses the login, and is left alone for an hour.
    Login,
    Panic,
    /// The key, after this long.
    Slow(u8, Duration),
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: BTreeMap<KeyId, Answer>,
    /// Of the only container.
    listing: Option<Listing>,
    /// Answered instead of it.
    list_error: Option<fn() -> ListError>,
    list_delay: Duration,
    /// Who has created keys; the others are of `ours`.
    creators: BTreeMap<KeyId, &'static str>,
    creator_readings: usize,
    readings: Vec<Instant>,
    fetches: Vec<(KeyId, Instant)>,
    in_flight: usize,
    most_in_flight: usize,
    /// How long the machine has been suspended.
    suspended: Duration,
    /// How far its date is behind.
    behind: Duration,
}

impl Fake {
    fn set(&self, last: u8, answer: Answer) {
        self.0
            .lock()
            .expect("not poisoned")
            .answers
            .insert(id(last), answer);
    }

    /// The paused time of the runtime, and what it was suspended for on top.
    fn clock(&self) -> Clock {
        let begin = Instant::now();
        let (one, other) = (self.clone(), self.clone());
        Clock::new(
            move || Instant::now().into_std() + one.suspended(),
            move || std::time::UNIX_EPOCH + begin.elapsed() + other.suspended() - other.behind(),
        )
    }

    fn behind(&self) -> Duration {
        self.0.lock().expect("not poisoned").behind
    }

    fn set_behind(&self, time: Duration) {
        self.0.lock().expect("not poisoned").behind = time;
    }

    fn suspended(&self) -> Duration {
        self.0.lock().expect("not poisoned").suspended
    }

    fn suspend(&self, time: Duration) {
        self.0.lock().expect("not poisoned").suspended += time;
    }

    fn fetches(&self, last: u8) -> Vec<Instant> {
        let state = self.0.lock().expect("not poisoned");
        state
            .fetches
            .iter()
            .filter(|(key, _)| *key == id(last))
            .map(|(_, at)| *at)
            .collect()
    }
}

/// A fetch under way; it also ends when its loader is dropped.
struct InFlight(Fake);

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.0.lock() {
            state.in_flight -= 1;
        }
    }
}

impl KeySource for Fake {
    async fn fetch(&self, id: KeyId) -> Result<Kek, FetchError> {
        let in_flight = InFlight(self.clone());
        let answer = {
            let mut state = self.0.lock().expect("not poisoned");
            state.fetches.push((id, Instant::now()));
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            state.answers.get(&id).copied().unwrap_or(Answer::Missing)
        };
        if let Answer::Slow(_, delay) = answer {
            tokio::time::sleep(delay).await;
        } else {
            tokio::task::yield_now().await;
        }
        drop(in_flight);
        match answer {
            Answer::Key(byte) | Answer::Slow(byte, _) => {
                let mut writer = KekWriter::new();
                writer.push(&[byte; 32]);
                writer
                    .finish()
                    .map_err(|error| FetchError::NotAKey(error.into()))
            }
            Answer::Unreachable => {
                Err(UpstreamError::Unanswered("connection refused".into()).into())
            }
            Answer::Failing => Err(unavailable(None)),
            Answer::Busy(seconds) => Err(unavailable(Some(seconds))),
            Answer::Denied => Err(FetchError::Denied("403".into())),
            Answer::Missing => Err(FetchError::NotFound("404".into())),
            Answer::Login => Err(login_refused().into()),
            Answer::Panic => panic!("the source has a bug"),
        }
    }

    async fn creator(&self, id: KeyId) -> Result<Option<String>, FetchError> {
        let mut state = self.0.lock().expect("not poisoned");
        state.creator_readings += 1;
        let creator = state.creators.get(&id).copied().unwrap_or("ours");
        Ok(Some(creator.to_owned()))
    }

    async fn list(&self, _: ContainerId) -> Result<Listing, ListError> {
        let delay = {
            let mut state = self.0.lock().expect("not poisoned");
            state.readings.push(Instant::now());
            state.list_delay
        };
        tokio::time::sleep(delay).await;
        let (error, listing) = {
            let state = self.0.lock().expect("not poisoned");
            (state.list_error, state.listing.clone())
        };
        match (error, listing) {
            (Some(error), _) => Err(error()),
            (None, Some(listing)) => Ok(listing),
            (None, None) => Err(ListError::NotFound("404".into())),
        }
    }
}

fn unavailable(retry_after: Option<u64>) -> FetchError {
    let error = UpstreamError::Unavailable {
        cause: "307, a redirect".into(),
        retry_after: retry_after.map(Duration::from_secs),
    };
    error.into()
}

fn login_refused() -> UpstreamError {
    UpstreamError::Login {
        cause: "401".into(),
        again_in: Duration::from_secs(3600),
    }
}

/// A running refresher; dropping it ends the task.
struct Running {
    keyring: Keyring,
    fake: Fake,
    config_updates: watch::Sender<ConfigUpdate>,
    _task: JoinSet<()>,
}

impl Running {
    fn start(fake: &Fake, live: Live) -> Self {
        let live = Arc::new(live);
        let (config_updates, receiver) = watch::channel(ConfigUpdate::Valid(Arc::clone(&live)));
        let source = fake.clone();
        let connect = move |_: &Cloud| Ok(source.clone());
        let (keyring, refresher) =
            Refresher::new(live, connect, receiver, fake.clock(), Chance::seeded(7))
                .expect("the fake always connects");
        let mut task = JoinSet::new();
        task.spawn(refresher.run());
        Self {
            keyring,
            fake: fake.clone(),
            config_updates,
            _task: task,
        }
    }

    fn propose(&self, live: Live) {
        self.config_updates
            .send_replace(ConfigUpdate::Valid(Arc::new(live)));
    }

    fn problem(&self, last: u8) -> Option<KeyProblem> {
        self.keyring
            .snapshot()
            .slot(&id(last))
            .expect("of the ring")
            .problem()
    }
}

fn id(last: u8) -> KeyId {
    format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
        .parse()
        .expect("a UUID")
}

/// The same, with keys that are wiped when nobody confirms them for so long.
fn with_age(mut settings: Live, age: Duration) -> Live {
    settings.ring.max_cache_age = Some(age);
    settings
}

fn live(write: u8, decrypt: &[u8]) -> Live {
    live_as("token", write, decrypt)
}

fn live_as(token: &str, write: u8, decrypt: &[u8]) -> Live {
    Live {
        cloud: Cloud {
            keystone: http::Uri::from_static("http://127.0.0.1:5000/v3"),
            identity: Identity::Token(Token::new(token.to_owned())),
            scope: Scope::ProjectId("p".to_owned()),
            region: None,
            interface: Interface::Public,
            barbican: None,
            tls: Tls {
                roots: Roots::Host,
                client: None,
                verify: true,
            },
            proxy: Proxy::default(),
        },
        ring: Ring {
            write: Some(id(write)),
            decrypt: decrypt.iter().map(|last| id(*last)).collect(),
            container: None,
            require_authentication: false,
            revalidate_interval: INTERVAL,
            max_cache_age: None,
        },
    }
}

fn fake(answers: &[(u8, Answer)]) -> Fake {
    let fake = Fake::default();
    for (last, answer) in answers {
        fake.set(*last, *answer);
    }
    fake
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn every_key_of_the_ring_is_loaded_at_start() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[2]));
    assert_eq!(
        running.keyring.status(),
        Err(KeyError::NotLoaded(KeyProblem::Pending))
    );
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    assert!(running.keyring.key(&id(2)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_outside_the_ring_is_refused_and_never_asked_for() {
    let fake = fake(&[(1, Answer::Key(1)), (9, Answer::Key(9))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    assert_eq!(
        running.keyring.key(&id(9)).await.err(),
        Some(KeyError::NotInRing)
    );
    assert_eq!(fake.fetches(9), []);
}

#[tokio::test(start_paused = true)]
async fn many_callers_that_miss_a_key_share_one_fetch() {
    let fake = fake(&[(1, Answer::Slow(1, Duration::from_secs(2)))]);
    let running = Running::start(&fake, live(1, &[]));
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let keyring = running.keyring.clone();
        callers.spawn(async move { keyring.key(&id(1)).await.is_ok() });
    }
    assert!(callers.join_all().await.into_iter().all(|served| served));
    assert_eq!(fake.fetches(1).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_no_longer_than_it_may_and_the_fetch_goes_on() {
    let fake = fake(&[(1, Answer::Slow(1, Duration::from_secs(20)))]);
    let running = Running::start(&fake, live(1, &[]));
    let begin = Instant::now();
    assert!(matches!(
        running.keyring.write_key().await,
        Err(KeyError::NotLoaded(_))
    ));
    assert_eq!(begin.elapsed(), MISS_WAIT);
    seconds(20).await;
    assert!(running.keyring.write_key().await.is_ok());
    assert_eq!(fake.fetches(1).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_useless_answer_is_asked_for_again_within_its_retry_bound() {
    let fake = fake(&[(1, Answer::Failing)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(600).await;
    assert_eq!(running.problem(1), Some(KeyProblem::Unavailable));
    let tries = fake.fetches(1);
    assert!(
        (40..=90).contains(&tries.len()),
        "{} tries in 10 minutes",
        tries.len()
    );
    fake.set(1, Answer::Key(1));
    seconds(16).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_barbican_that_answers_again_is_found_within_its_second() {
    let fake = fake(&[(1, Answer::Unreachable), (2, Answer::Unreachable)]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(600).await;
    let tries = fake.fetches(1).len() + fake.fetches(2).len();
    assert!(
        (545..=601).contains(&tries),
        "{tries} in 600 s, both together"
    );
    fake.set(1, Answer::Key(1));
    fake.set(2, Answer::Key(2));
    tokio::time::sleep(Duration::from_millis(1_110)).await;
    let snapshot = running.keyring.snapshot();
    assert!(snapshot.holds(&id(1)) && snapshot.holds(&id(2)));
}

#[tokio::test(start_paused = true)]
async fn a_question_for_the_health_of_a_missing_key_hurries_the_next_try() {
    let fake = fake(&[(1, Answer::Failing)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(600).await;
    fake.set(1, Answer::Key(1));
    let begin = Instant::now();
    while running.keyring.status().is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begin.elapsed() <= Duration::from_millis(1_010));
}

#[tokio::test(start_paused = true)]
async fn questions_neither_hurry_a_refusal_nor_pile_up() {
    let fake = fake(&[(1, Answer::Denied)]);
    let running = Running::start(&fake, live(1, &[]));
    for _ in 0..600 {
        seconds(1).await;
        for _ in 0..100 {
            assert!(running.keyring.status().is_err());
        }
    }
    let tries = fake.fetches(1).len();
    assert!(tries <= 25, "{tries} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_caller_finds_a_recovered_barbican_at_once() {
    let fake = fake(&[(1, Answer::Unreachable)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(600).await;
    fake.set(1, Answer::Key(1));
    assert!(running.keyring.write_key().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_caller_breaks_into_the_time_that_a_server_has_named() {
    let fake = fake(&[(1, Answer::Busy(40))]);
    let running = Running::start(&fake, live(1, &[]));
    for _ in 0..37 {
        seconds(1).await;
        let begin = Instant::now();
        assert!(running.keyring.write_key().await.is_err());
        assert_eq!(begin.elapsed(), Duration::ZERO, "it is no use to wait");
    }
    assert_eq!(fake.fetches(1).len(), 1);
    fake.set(1, Answer::Key(1));
    seconds(1).await;
    assert!(running.keyring.write_key().await.is_ok(), "it is now");
    assert_eq!(fake.fetches(1).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_asked_for_again_after_a_minute_whatever_the_server_says() {
    let fake = fake(&[(1, Answer::Busy(86_400))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(59).await;
    fake.set(1, Answer::Key(1));
    assert!(running.keyring.status().is_err());
    seconds(16).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_works_for_one_key_ends_the_pause_of_another() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Login)]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    fake.set(2, Answer::Key(2));
    tokio::time::sleep(INTERVAL / 2).await;
    assert_eq!(running.problem(2), Some(KeyProblem::Login));
    tokio::time::sleep(INTERVAL / 2).await;
    assert_eq!(fake.fetches(1).len(), 2, "confirmed");
    assert_eq!(running.problem(2), None);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_asked_for_every_few_seconds_however_many_calls_come() {
    let fake = fake(&[(1, Answer::Denied)]);
    let running = Running::start(&fake, live(1, &[]));
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(running.keyring.write_key().await.is_err());
    }
    let tries = fake.fetches(1).len();
    assert!((10..=25).contains(&tries), "{tries}");
    fake.set(1, Answer::Key(1));
    let begin = Instant::now();
    while running.keyring.write_key().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begin.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_max_cache_age_fails_no_call() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    fake.set(1, Answer::Unreachable);
    seconds(7 * 24 * 3600).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    assert!(running.keyring.write_key().await.is_ok());
    assert_eq!(running.problem(1), Some(KeyProblem::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn keys_are_confirmed_within_the_interval() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let _running = Running::start(&fake, live(1, &[]));
    seconds(24 * 3600).await;
    let fetches = fake.fetches(1);
    for pair in fetches.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart <= INTERVAL + Duration::from_millis(10), "{apart:?}");
        assert!(apart >= INTERVAL.mul_f64(0.7), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_wiped_at_max_cache_age_to_the_second() {
    for (revoked, cause) in [
        (Answer::Denied, KeyProblem::Denied),
        (Answer::Missing, KeyProblem::NotFound),
        (Answer::Unreachable, KeyProblem::Unavailable),
        (Answer::Key(66), KeyProblem::Altered),
    ] {
        let fake = fake(&[(1, Answer::Key(1))]);
        let hour = Duration::from_secs(3600);
        let running = Running::start(&fake, with_age(live(1, &[]), hour));
        seconds(1).await;
        let confirmed = running
            .keyring
            .snapshot()
            .slot(&id(1))
            .and_then(Slot::confirmed)
            .expect("held");
        fake.set(1, revoked);
        let wiped = Instant::from_std(confirmed) + Duration::from_secs(3600);
        tokio::time::sleep_until(wiped - Duration::from_secs(1)).await;
        assert_eq!(
            running.keyring.status(),
            Ok(id(1)),
            "still held a second before"
        );
        tokio::time::sleep_until(wiped + Duration::from_millis(10)).await;
        assert_eq!(
            running.keyring.status(),
            Err(KeyError::NotLoaded(cause)),
            "wiped, and the cause is still said"
        );
        seconds(24 * 3600).await;
        assert!(
            running.keyring.status().is_err(),
            "other bytes never come in"
        );
        fake.set(1, Answer::Key(1));
        seconds(121).await;
        assert_eq!(running.keyring.status(), Ok(id(1)), "the same bytes do");
    }
}

#[tokio::test(start_paused = true)]
async fn an_altered_payload_is_never_taken() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    let before = running.keyring.write_key().await.expect("held").key;
    fake.set(1, Answer::Key(2));
    seconds(400).await;
    let after = running.keyring.write_key().await.expect("held").key;
    assert!(Arc::ptr_eq(&before, &after));
    assert_eq!(running.problem(1), Some(KeyProblem::Altered));
}

#[tokio::test(start_paused = true)]
async fn a_large_ring_does_not_burst() {
    let keys: Vec<u8> = (1..=50).collect();
    let answers: Vec<_> = keys
        .iter()
        .map(|n| (*n, Answer::Slow(*n, Duration::from_millis(50))))
        .collect();
    let fake = fake(&answers);
    let running = Running::start(&fake, live(1, &keys[1..]));
    seconds(2).await;
    assert!(keys.iter().all(|n| fake.fetches(*n).len() == 1));
    assert_eq!(fake.0.lock().expect("not poisoned").most_in_flight, 4);
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn revalidation_on_demand_asks_for_every_key() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    running.keyring.revalidate();
    seconds(1).await;
    assert_eq!((fake.fetches(1).len(), fake.fetches(2).len()), (2, 2));
}
