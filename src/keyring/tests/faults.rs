//! Bugs in the source, a suspended machine, and a writer that has no time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_fails_one_fetch_and_is_tried_again() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Panic)]);
    let running = Running::start(&fake, live(1, &[2]));
    let begin = Instant::now();
    let crashed = Err(KeyError::NotLoaded(KeyProblem::Crashed));
    assert_eq!(running.keyring.key(&id(2)).await.map(|_| ()), crashed);
    assert_eq!(begin.elapsed(), Duration::ZERO, "who waits is answered");
    fake.set(1, Answer::Panic);
    seconds(3600).await;
    assert_eq!(
        running.keyring.status(),
        Ok(id(1)),
        "what is held serves on"
    );
    assert_eq!(running.problem(1), Some(KeyProblem::Crashed));
    let tries = fake.fetches(2).len();
    assert!((60..=130).contains(&tries), "{tries} tries in an hour");
    assert!(running.keyring.report().consecutive_failures > 60);
    fake.set(2, Answer::Key(2));
    seconds(60).await;
    assert!(running.keyring.key(&id(2)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_during_a_reload_fails_that_reload() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Panic)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[1]));
    seconds(60).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    assert_eq!(running.keyring.report().reloads.failed, 1);
    fake.set(2, Answer::Key(2));
    seconds(60).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

const AGE: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn time_counts_while_the_machine_is_suspended() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, with_age(live(1, &[]), AGE));
    seconds(1).await;
    fake.set(1, Answer::Denied);
    fake.suspend(Duration::from_secs(3598));
    assert_eq!(running.keyring.status(), Ok(id(1)), "not old enough");
    fake.suspend(Duration::from_secs(2));
    let status = running.keyring.status();
    assert!(status.is_err(), "too old for use, at once: {status:?}");
    assert!(running.keyring.snapshot().holds(&id(1)), "not yet noticed");
    seconds(61).await;
    assert!(!running.keyring.snapshot().holds(&id(1)), "wiped");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_suspended_past_its_age_is_fetched_for_the_first_call() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, with_age(live(1, &[]), AGE));
    seconds(1).await;
    fake.suspend(Duration::from_secs(7200));
    assert!(running.keyring.write_key().await.is_ok());
    assert_eq!(fake.fetches(1).len(), 2, "confirmed, not taken on trust");
}

#[tokio::test(start_paused = true)]
async fn confirmations_are_made_up_for_soon_after_a_suspension() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let _running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    fake.suspend(Duration::from_secs(7200));
    seconds(61).await;
    assert_eq!(fake.fetches(1).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_does_not_wait_longer_because_the_writer_has_no_time() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let live = Arc::new(live(1, &[]));
    let (_proposals, receiver) = watch::channel(ConfigUpdate::Valid(Arc::clone(&live)));
    let source = fake.clone();
    let connect = move |_: &Cloud| Ok(source.clone());
    let made = Refresher::new(live, connect, receiver, fake.clock(), Chance::seeded(7));
    // It is never run, so its queue fills up.
    let (keyring, _refresher) = made.expect("the fake always connects");
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let keyring = keyring.clone();
        callers.spawn(async move { keyring.key(&id(1)).await.is_err() });
    }
    let calls = tokio::time::timeout(Duration::from_secs(60), callers.join_all()).await;
    assert!(calls.expect("each ends").into_iter().all(|refused| refused));
    assert_eq!(begin.elapsed(), MISS_WAIT);
}

#[tokio::test(start_paused = true)]
async fn the_ring_in_force_and_the_one_to_come_share_one_limit() {
    let slow = |n| (n, Answer::Slow(n, Duration::from_secs(20)));
    let fake = fake(&(1..=40).map(slow).collect::<Vec<_>>());
    let ring: Vec<u8> = (2..=20).collect();
    let more: Vec<u8> = (2..=40).collect();
    let running = Running::start(&fake, live(1, &ring));
    seconds(21).await;
    running.propose(live(1, &more));
    seconds(1200).await;
    assert_eq!(fake.0.lock().expect("not poisoned").most_in_flight, 4);
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert!(running.keyring.snapshot().holds(&id(40)));
}
