//! A ring that follows a container.

use std::time::SystemTime;

use jiff::Timestamp;

use super::*;
use crate::config::Container;

/// A container of these keys; a time is in seconds from the begin of the test.
fn listing(keys: &[(u8, Option<i64>)]) -> Listing {
    let reference = |(last, time): &(u8, Option<i64>)| Reference {
        name: time.map_or_else(|| "staged".to_owned(), name),
        secret_ref: format!("https://elsewhere/v1/secrets/{}", id(*last)),
    };
    Listing {
        references: keys.iter().map(reference).collect(),
    }
}

fn name(second: i64) -> String {
    Timestamp::from_second(second)
        .expect("in range")
        .to_string()
}

impl Fake {
    fn lists(&self, keys: &[(u8, Option<i64>)]) {
        let mut state = self.0.lock().expect("not poisoned");
        state.listing = Some(listing(keys));
        state.list_error = None;
    }

    fn list_fails(&self, error: fn() -> ListError) {
        self.0.lock().expect("not poisoned").list_error = Some(error);
    }

    fn readings(&self) -> usize {
        self.0.lock().expect("not poisoned").readings.len()
    }

    /// The keys 1 to 9, and a container of some.
    fn with_container(keys: &[(u8, Option<i64>)]) -> Self {
        let answers: Vec<_> = (1..=9).map(|last| (last, Answer::Key(last))).collect();
        let fake = fake(&answers);
        fake.lists(keys);
        fake
    }
}

fn container() -> Container {
    let id = ContainerId::from_reference("7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8");
    Container {
        id: id.expect("a UUID"),
        owner: None,
    }
}

/// With `key-container`, and pinned keys.
fn following(pinned: &[u8]) -> Live {
    following_as("token", pinned)
}

fn following_as(token: &str, pinned: &[u8]) -> Live {
    let mut live = live_as(token, 1, pinned);
    live.ring.write = None;
    live.ring.container = Some(container());
    live
}

impl Running {
    fn ring(&self) -> Vec<KeyId> {
        let snapshot = self.keyring.snapshot();
        snapshot.slots().map(|(id, _)| *id).collect()
    }

    fn container(&self) -> Arc<ContainerReport> {
        let report = self.keyring.report();
        report.container.clone().expect("a container")
    }

    async fn intervals(&self, count: u32) {
        tokio::time::sleep(INTERVAL * count + Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_container_comes_first_and_then_its_keys() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
    let running = Running::start(&fake, following(&[]));
    assert_eq!(
        running.keyring.status(),
        Err(KeyError::NoList(ContainerProblem::Pending))
    );
    let write = running.keyring.write_key().await.expect("it is waited for");
    assert_eq!(write.id, id(1));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    assert!(running.keyring.key(&id(2)).await.is_ok());
    assert_eq!(fake.fetches(3), [], "only what is listed is asked for");
    let report = running.container();
    assert_eq!(report.problem, None);
    assert!(report.read_at.is_some());
    assert!(report.keys[&id(2)].listed);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_works_is_good_for_the_container_and_its_keys() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
    fake.set(2, Answer::Login);
    fake.list_fails(|| login_refused().into());
    let running = Running::start(&fake, following(&[3]));
    seconds(1).await;
    assert_eq!(running.container().problem, Some(ContainerProblem::Login));
    fake.lists(&[(1, Some(-10)), (2, None)]);
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(running.container().problem, None, "key 3 was confirmed");
    fake.set(2, Answer::Key(2));
    assert_eq!(running.problem(2), Some(KeyProblem::Login));
    // Nothing but a reading is ordered.
    fake.set(3, Answer::Unreachable);
    assert!(running.keyring.key(&id(9)).await.is_err());
    seconds(1).await;
    assert_eq!(running.problem(2), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_again_for_what_cannot_be_any_more_is_told_at_once() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    fake.set(9, Answer::Missing);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    running.propose(live(2, &[1, 9]));
    seconds(60).await;
    assert_eq!(running.keyring.report().reloads.refused, 0, "it waits");
    fake.lists(&[(1, Some(-10)), (3, Some(0))]);
    running.intervals(1).await;
    assert_eq!(running.keyring.status(), Ok(id(3)));
    running.propose(live(2, &[1, 9]));
    seconds(1).await;
    let report = running.keyring.report();
    assert_eq!(report.reloads.refused, 1);
    let last = report.last_reload.as_ref().expect("refused");
    assert!(last.message.contains(&id(3).to_string()), "{last:?}");
    fake.set(9, Answer::Key(9));
    running.intervals(1).await;
    assert_eq!(running.keyring.report().reloads.refused, 1, "over");
    assert_eq!(running.keyring.status(), Ok(id(3)));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_stages_activates_and_retires() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    fake.lists(&[(1, Some(-10)), (2, None)]);
    running.intervals(1).await;
    assert!(running.keyring.snapshot().holds(&id(2)), "staged");
    assert_eq!(running.keyring.status(), Ok(id(1)));
    fake.lists(&[(1, Some(-10)), (2, None), (2, Some(400))]);
    running.intervals(1).await;
    assert_eq!(running.keyring.status(), Ok(id(2)), "activated");
    assert_eq!(running.ring(), [id(1), id(2)]);
    fake.lists(&[(2, Some(400))]);
    running.intervals(1).await;
    assert_eq!(running.ring(), [id(1), id(2)], "one reading drops nothing");
    running.intervals(2).await;
    assert_eq!(running.ring(), [id(2)], "retired");
    let dropped: Vec<_> = running.keyring.report().dropped.clone();
    assert_eq!(
        dropped.iter().map(|key| key.id).collect::<Vec<_>>(),
        [id(1)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_activation_takes_place_at_its_time_without_another_reading() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(100))]);
    let running = Running::start(&fake, following(&[]));
    seconds(99).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let next = running.container().next_activation;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    assert_eq!(next, Some((id(2), time)));
    let readings = fake.readings();
    tokio::time::sleep(Duration::from_millis(1010)).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
    assert_eq!(fake.readings(), readings);
    assert_eq!(running.container().next_activation, None);
}

#[tokio::test(start_paused = true)]
async fn an_activation_is_not_slept_through_by_a_suspended_machine() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(90_000))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    fake.suspend(Duration::from_secs(90_000));
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_new_key_holds_nothing_up() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    for refused in [Answer::Denied, Answer::Missing, Answer::Unreachable] {
        fake.set(2, refused);
        fake.lists(&[(1, Some(-10)), (2, Some(5)), (3, None)]);
        running.intervals(1).await;
        assert_eq!(running.keyring.status(), Ok(id(1)), "2 is not held");
        assert!(running.keyring.key(&id(3)).await.is_ok());
    }
    fake.set(2, Answer::Key(2));
    running.intervals(1).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_the_newest_key_unless_barbican_refuses_it() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(-5))]);
    fake.set(2, Answer::Unreachable);
    let running = Running::start(&fake, following(&[]));
    seconds(600).await;
    assert_eq!(
        running.keyring.status(),
        Err(KeyError::NotLoaded(KeyProblem::Unavailable))
    );
    fake.set(2, Answer::Denied);
    seconds(20).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_secret_is_gone_is_kept_and_said_to_be() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(-5))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    // A deletion takes the references along.
    for gone in [1, 2] {
        fake.set(gone, Answer::Missing);
        fake.lists(if gone == 1 { &[(2, Some(-5))] } else { &[] });
        running.intervals(20).await;
        let report = running.container();
        assert_eq!(running.ring(), [id(1), id(2)]);
        assert!(running.keyring.key(&id(gone)).await.is_ok());
        assert!(!report.keys[&id(gone)].listed);
        assert!(report.keys[&id(gone)].secret_gone);
    }
    assert_eq!(running.keyring.status(), Ok(id(2)));
    // Restored from a backup, with its reference: a reading later all is well.
    fake.set(1, Answer::Key(1));
    fake.set(2, Answer::Key(2));
    fake.lists(&[(1, Some(-10)), (2, Some(-5))]);
    running.intervals(1).await;
    assert!(
        running
            .container()
            .keys
            .values()
            .all(|key| !key.secret_gone)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pinned_key_stays_whatever_the_container_says() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(-5))]);
    let running = Running::start(&fake, following(&[1, 7]));
    seconds(1).await;
    fake.lists(&[(2, Some(-5))]);
    running.intervals(20).await;
    assert_eq!(running.ring(), [id(1), id(2), id(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_container_of_no_use_leaves_the_ring_as_it_is() {
    let unavailable: fn() -> ListError = || {
        let error = UpstreamError::Unavailable {
            cause: "x".into(),
            retry_after: None,
        };
        error.into()
    };
    for (error, problem) in [
        (unavailable, ContainerProblem::Unavailable),
        (|| ListError::Denied("403".into()), ContainerProblem::Denied),
        (
            || ListError::NotFound("404".into()),
            ContainerProblem::NotFound,
        ),
        (
            || ListError::NotGeneric("rsa".into()),
            ContainerProblem::NotGeneric,
        ),
        (
            || ListError::TooLarge("1 MiB".into()),
            ContainerProblem::TooLarge,
        ),
        (
            || ListError::Invalid("html".into()),
            ContainerProblem::Invalid,
        ),
        (|| panic!("the source has a bug"), ContainerProblem::Crashed),
    ] {
        let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
        let running = Running::start(&fake, following(&[]));
        seconds(1).await;
        let read_at = running.container().read_at;
        fake.list_fails(error);
        running.intervals(10).await;
        assert_eq!(running.keyring.status(), Ok(id(1)));
        assert_eq!(running.ring(), [id(1), id(2)], "{problem:?}");
        let report = running.container();
        assert_eq!(report.problem, Some(problem));
        assert_eq!(report.read_at, read_at);
        assert!(!report.problem_text.is_empty());
        fake.lists(&[(1, Some(-10)), (3, None)]);
        running.intervals(1).await;
        assert_eq!(running.container().problem, None);
        assert!(running.keyring.snapshot().holds(&id(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_without_an_active_key_leaves_the_ring_as_it_is() {
    for (keys, problem) in [
        (&[][..], ContainerProblem::Empty),
        (&[(2, None)][..], ContainerProblem::NoActiveKey),
        (&[(2, Some(1_000_000))][..], ContainerProblem::NoActiveKey),
    ] {
        let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
        let running = Running::start(&fake, following(&[]));
        seconds(1).await;
        fake.lists(keys);
        running.intervals(10).await;
        assert_eq!(running.keyring.status(), Ok(id(1)));
        assert_eq!(running.ring(), [id(1), id(2)]);
        assert_eq!(running.container().problem, Some(problem));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_usable_container_a_cold_start_is_unavailable_and_says_why() {
    let fake = Fake::with_container(&[(2, Some(100))]);
    let running = Running::start(&fake, following(&[]));
    seconds(10).await;
    let reason = KeyError::NoList(ContainerProblem::NoActiveKey);
    assert_eq!(running.keyring.status(), Err(reason));
    let begin = Instant::now();
    assert_eq!(running.keyring.write_key().await.err(), Some(reason));
    assert!(begin.elapsed() <= MISS_WAIT);
    seconds(91).await;
    assert_eq!(running.keyring.status(), Ok(id(2)), "its time has come");
    fake.list_fails(|| ListError::Denied("403".into()));
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    let reason = KeyError::NoList(ContainerProblem::Denied);
    assert_eq!(running.keyring.status(), Err(reason));
    assert_eq!(running.keyring.key(&id(2)).await.err(), Some(reason));
}

#[tokio::test(start_paused = true)]
async fn a_lost_secret_stays_lost_while_nobody_says_otherwise() {
    let fake = Fake::with_container(&[(1, Some(-20)), (2, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    seconds(10).await;
    fake.set(1, Answer::Missing);
    fake.lists(&[(2, Some(-10))]);
    running.intervals(4).await;
    let gone = || running.container().keys[&id(1)].secret_gone;
    assert!(gone());
    for answer in [Answer::Unreachable, Answer::Failing] {
        fake.set(1, answer);
        running.intervals(20).await;
        let slot = running.problem(1);
        assert_eq!(slot, Some(KeyProblem::Unavailable));
        assert!(gone(), "nobody has said that it is back");
    }
    fake.set(1, Answer::Key(1));
    fake.lists(&[(1, Some(-20)), (2, Some(-10))]);
    running.intervals(20).await;
    assert!(!gone(), "restored");
    assert_eq!(running.problem(1), None);
}

#[tokio::test(start_paused = true)]
async fn a_date_that_goes_back_before_a_key_is_in_use_is_named() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    fake.set(1, Answer::Slow(1, Duration::from_secs(20)));
    let running = Running::start(&fake, following(&[]));
    seconds(5).await;
    let loading = KeyError::NotLoaded(KeyProblem::Pending);
    assert_eq!(running.keyring.status(), Err(loading));
    fake.set_behind(Duration::from_secs(7200));
    seconds(20).await;
    let reason = KeyError::NoList(ContainerProblem::NoActiveKey);
    assert_eq!(running.keyring.status(), Err(reason));
    assert_eq!(
        running.container().problem,
        Some(ContainerProblem::NoActiveKey)
    );
    fake.set_behind(Duration::ZERO);
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(1)), "its time has come");
    assert_eq!(running.container().problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_decrypt_of_an_unknown_key_waits_for_one_reading_that_all_share() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    // Activated at once on other nodes, without having been staged.
    fake.lists(&[(1, Some(-10)), (2, Some(5))]);
    fake.0.lock().expect("not poisoned").list_delay = Duration::from_secs(1);
    let (readings, begin) = (fake.readings(), Instant::now());
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let keyring = running.keyring.clone();
        callers.spawn(async move { keyring.key(&id(2)).await.is_ok() });
    }
    assert!(callers.join_all().await.into_iter().all(|served| served));
    assert_eq!(fake.readings(), readings + 1);
    assert_eq!(fake.fetches(2).len(), 1);
    assert!(begin.elapsed() < MISS_WAIT);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_bring_about_a_reading_every_ten_seconds_at_most() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    let start = Instant::now();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begin = Instant::now();
        let refused = running.keyring.key(&id(9)).await.err();
        assert_eq!(refused, Some(KeyError::NotInRing));
        assert!(begin.elapsed() <= MISS_WAIT);
    }
    assert_eq!(fake.fetches(9), []);
    // And the one of the start.
    let most = start.elapsed().as_secs() / 10 + 2;
    let readings = fake.readings() as u64;
    assert!((6..=most).contains(&readings), "{readings} of {most}");
}

#[tokio::test(start_paused = true)]
async fn a_reading_can_be_ordered() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    fake.lists(&[(1, Some(-10)), (2, None)]);
    running.propose(following(&[]));
    seconds(1).await;
    assert!(running.keyring.snapshot().holds(&id(2)), "on SIGHUP");
    fake.lists(&[(1, Some(-10)), (2, None), (3, None)]);
    running.keyring.revalidate();
    seconds(1).await;
    assert!(running.keyring.snapshot().holds(&id(3)));
}

#[tokio::test(start_paused = true)]
async fn requests_stay_within_bounds_with_fifty_keys() {
    let keys: Vec<_> = (1..=50)
        .map(|last| (last, Some(-100 + i64::from(last))))
        .collect();
    let answers: Vec<_> = (1..=50)
        .map(|last| (last, Answer::Slow(last, Duration::from_millis(50))))
        .collect();
    let fake = fake(&answers);
    fake.lists(&keys);
    let running = Running::start(&fake, following(&[]));
    seconds(2).await;
    assert_eq!(fake.readings(), 1);
    assert!((1..=50).all(|last| fake.fetches(last).len() == 1), "1 + N");
    assert_eq!(
        fake.fetches(50)[0],
        fake.0.lock().expect("not poisoned").fetches[0].1
    );
    assert_eq!(fake.0.lock().expect("not poisoned").most_in_flight, 4);
    assert_eq!(running.keyring.status(), Ok(id(50)));
    seconds(3600).await;
    // 12 intervals of 70 to 100 %.
    assert!((12..=18).contains(&fake.readings()), "{}", fake.readings());
    assert!((1..=50).all(|last| fake.fetches(last).len() <= 18));
    let all: usize = (1..=50).map(|last| fake.fetches(last).len()).sum();
    let requests = all + fake.readings();
    assert!(
        requests <= 18 * 51,
        "{requests} requests to Barbican in an hour"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_goes_from_a_key_to_the_container_and_back() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    assert!(running.keyring.report().container.is_none());
    running.propose(following(&[]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert_eq!(running.keyring.status(), Ok(id(1)));
    assert!(running.keyring.snapshot().holds(&id(2)));
    running.propose(live(1, &[]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.applied, 2);
    assert_eq!(running.ring(), [id(1)]);
    assert!(running.keyring.report().container.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_lacks_the_key_in_use_is_refused_with_the_reason() {
    let fake = Fake::with_container(&[(2, Some(-10))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(following(&[]));
    seconds(1).await;
    let report = running.keyring.report();
    let last = report.last_reload.as_ref().expect("an attempt");
    assert_eq!(last.outcome, ReloadOutcome::Refused);
    assert!(
        last.message.contains(&id(1).to_string()),
        "{}",
        last.message
    );
    assert_eq!(running.keyring.status(), Ok(id(1)));
    running.propose(following(&[1]));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(2)), "pinned, it may go");
}

/// Key 1 is in use, and for a minute key 2, the only one of the container, cannot be read.
async fn waits_for_a_container_without_the_key_in_use() -> (Fake, Running) {
    let fake = Fake::with_container(&[(2, Some(-10))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    fake.set(2, Answer::Unreachable);
    running.propose(following(&[]));
    seconds(60).await;
    (fake, running)
}

#[tokio::test(start_paused = true)]
async fn a_container_that_lists_the_key_in_use_by_now_is_not_refused_for_an_old_reading() {
    let (fake, running) = waits_for_a_container_without_the_key_in_use().await;
    assert_eq!(fake.readings(), 1);
    fake.lists(&[(1, Some(-10)), (2, Some(-5))]);
    fake.set(2, Answer::Key(2));
    seconds(60).await;
    let reloads = running.keyring.report().reloads;
    assert_eq!((reloads.applied, reloads.refused), (1, 0));
    assert_eq!(running.keyring.status(), Ok(id(2)));
    assert_eq!(fake.readings(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_still_lacks_the_key_in_use_is_refused_by_a_new_reading() {
    let (fake, running) = waits_for_a_container_without_the_key_in_use().await;
    fake.list_fails(|| ListError::NotFound("404".into()));
    fake.set(2, Answer::Key(2));
    seconds(600).await;
    let refused = || running.keyring.report().reloads.refused;
    assert_eq!(refused(), 0, "nobody knows");
    let readings = fake.readings();
    assert!((3..=30).contains(&readings), "spaced: {readings}");
    fake.lists(&[(2, Some(-10))]);
    seconds(60).await;
    assert_eq!(refused(), 1);
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_for_what_was_refused_is_told_anew_that_it_fails() {
    let fake = Fake::with_container(&[]);
    fake.list_fails(|| ListError::Denied("403".into()));
    let running = Running::start(&fake, live(1, &[]));
    let counts = || {
        let reloads = running.keyring.report().reloads;
        (reloads.failed, reloads.refused)
    };
    seconds(1).await;
    running.propose(following(&[]));
    seconds(120).await;
    assert_eq!(counts(), (1, 0), "once, however often it is tried");
    fake.lists(&[(2, Some(-10))]);
    seconds(121).await;
    assert_eq!(counts(), (1, 1));
    fake.list_fails(|| ListError::Denied("403".into()));
    running.propose(following(&[]));
    seconds(120).await;
    assert_eq!(counts(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_to_a_container_that_cannot_be_read_waits_and_says_so() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    fake.list_fails(|| ListError::Denied("403".into()));
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(following(&[]));
    seconds(120).await;
    let report = running.keyring.report();
    assert_eq!((report.reloads.applied, report.reloads.failed), (0, 1));
    let last = report.last_reload.as_ref().expect("an attempt");
    assert!(last.message.contains("container"), "{}", last.message);
    assert_eq!(running.keyring.status(), Ok(id(1)));
    fake.lists(&[(1, Some(-10))]);
    seconds(121).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_other_settings_keeps_to_what_the_container_has_said() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(-5))]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    // The newest key is removed; only this process knows that it was there.
    fake.lists(&[(1, Some(-10))]);
    running.intervals(1).await;
    let readings = fake.readings();
    let mut settings = following(&[]);
    settings.ring.require_authentication = true;
    running.propose(settings);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert_eq!(fake.readings(), readings, "it is known already");
    assert_eq!(running.keyring.status(), Ok(id(2)));
    // New credentials read everything anew, and go no further back either.
    running.propose(following_as("new", &[]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.applied, 2);
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_no_key_in_force_forgets_none_of_them() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let of_age = |seconds| with_age(following(&[]), Duration::from_secs(seconds));
    let running = Running::start(&fake, of_age(600));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    fake.set(1, Answer::Unreachable);
    seconds(601).await;
    running.propose(of_age(900));
    seconds(1).await;
    let report = running.keyring.report();
    assert_eq!(report.reloads.applied, 1);
    assert!(report.dropped.is_empty(), "{:?}", report.dropped);
    fake.set(1, Answer::Key(66));
    seconds(120).await;
    assert_eq!(
        running.keyring.status(),
        Err(KeyError::NotLoaded(KeyProblem::Altered)),
        "other bytes are known to be others"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_no_key_in_force_keeps_the_newest_write_key() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(600))]);
    let of = |token| with_age(following_as(token, &[]), Duration::from_secs(600));
    // So that the keys are confirmed, and wiped, a moment after a full second.
    fake.0.lock().expect("not poisoned").list_delay = Duration::from_millis(5);
    let running = Running::start(&fake, of("token"));
    seconds(1).await;
    fake.set(1, Answer::Denied);
    fake.set(2, Answer::Denied);
    running.propose(of("new"));
    seconds(598).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    // The other one becomes the write key at 600 s, and all are wiped before anything else.
    seconds(2).await;
    assert!(!running.keyring.snapshot().holds_any());
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert_eq!(running.keyring.snapshot().write_id(), Some(id(2)));
    fake.set(1, Answer::Key(1));
    seconds(120).await;
    assert!(running.keyring.snapshot().holds(&id(1)));
    assert!(running.keyring.status().is_err(), "it does not go back");
}

#[tokio::test(start_paused = true)]
async fn with_no_key_in_force_a_container_is_read_before_it_replaces_the_write_key() {
    goes_to_a_container_that_names(1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn with_no_key_in_force_the_write_key_is_one_until_a_container_names_another() {
    // Pinned, it does not leave the ring; that it is the write key, nothing would say.
    goes_to_a_container_that_names(2, &[1]).await;
}

/// Key 1 is the write key by `key-id`, and is wiped before the container, which `named` is the
/// write key of, can be read.
async fn goes_to_a_container_that_names(named: u8, pinned: &[u8]) {
    let listed = [(named, Some(-10))];
    let fake = Fake::with_container(&listed);
    let age = Duration::from_secs(600);
    let running = Running::start(&fake, with_age(live(1, &[]), age));
    seconds(1).await;
    fake.set(1, Answer::Unreachable);
    fake.list_fails(|| ListError::NotFound("404".into()));
    running.propose(following(pinned));
    seconds(601).await;
    assert!(!running.keyring.snapshot().holds_any());
    assert_eq!(running.keyring.snapshot().write_id(), Some(id(1)));
    fake.set(1, Answer::Key(1));
    seconds(2).await;
    assert_eq!(running.keyring.status(), Ok(id(1)), "by the old settings");
    fake.lists(&listed);
    seconds(61).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert_eq!(running.keyring.status(), Ok(id(named)));
}

#[tokio::test(start_paused = true)]
async fn a_write_key_that_never_was_one_is_not_waited_for() {
    let fake = Fake::with_container(&[(2, Some(-10))]);
    fake.set(1, Answer::Missing);
    fake.list_fails(|| ListError::NotFound("404".into()));
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(following(&[1]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert_eq!(running.keyring.snapshot().write_id(), None);
}

#[tokio::test(start_paused = true)]
async fn when_a_key_was_used_is_noted_for_each_use() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, None)]);
    let running = Running::start(&fake, following(&[]));
    seconds(1).await;
    let snapshot = running.keyring.snapshot();
    let last = |last: u8, usage| snapshot.slot(&id(last)).and_then(|slot| slot.last(usage));
    let unnoted = running.keyring.without_notes();
    unnoted.write_key().await.expect("held");
    unnoted.key(&id(2)).await.expect("held");
    assert!(last(1, Use::Wrap).is_none() && last(2, Use::Unwrap).is_none());
    running.keyring.write_key().await.expect("held");
    running.keyring.key(&id(2)).await.expect("held");
    assert!(last(1, Use::Wrap).is_some() && last(1, Use::Unwrap).is_none());
    assert!(last(2, Use::Wrap).is_none() && last(2, Use::Unwrap).is_some());
}

#[tokio::test(start_paused = true)]
async fn keys_of_another_creator_are_refused_where_an_owner_is_set() {
    let fake = Fake::with_container(&[(1, Some(-10)), (2, Some(-5)), (7, None)]);
    {
        let mut state = fake.0.lock().expect("not poisoned");
        state.creators = [(id(2), "theirs"), (id(7), "theirs")].into();
    }
    let mut live = following(&[7]);
    live.ring.container = Some(Container {
        owner: Some("ours".to_owned()),
        ..container()
    });
    let running = Running::start(&fake, live);
    seconds(5).await;
    assert_eq!(running.problem(2), Some(KeyProblem::Foreign));
    assert_eq!(fake.fetches(2), [], "its payload is not asked for");
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let snapshot = running.keyring.snapshot();
    assert!(snapshot.holds(&id(7)), "the file itself names it");
    seconds(3600).await;
    let state = fake.0.lock().expect("not poisoned");
    let of_the_refused = state.creator_readings - 1;
    assert!(
        of_the_refused <= 130,
        "who has proved it is not asked again"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_owner_nobody_is_asked_who_has_created_a_key() {
    let fake = Fake::with_container(&[(1, Some(-10))]);
    let running = Running::start(&fake, following(&[]));
    running.intervals(1).await;
    assert_eq!(fake.0.lock().expect("not poisoned").creator_readings, 0);
}
