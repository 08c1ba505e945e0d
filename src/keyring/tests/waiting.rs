//! A new configuration and time: what it must not delay, and how long it waits.

use super::*;

const AGE: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn reloads_put_off_no_confirmation() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, with_age(live(1, &[]), AGE));
    for round in 0..240 {
        seconds(60).await;
        let mut settings = with_age(live(1, &[]), AGE);
        settings.ring.require_authentication = round % 2 == 0;
        running.propose(settings);
        assert_eq!(running.keyring.status(), Ok(id(1)), "never too old");
    }
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.applied, 240);
    for pair in fake.fetches(1).windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart <= INTERVAL + Duration::from_millis(10), "{apart:?}");
        assert!(apart >= INTERVAL.mul_f64(0.7), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_counts_from_the_last_confirmation() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(100).await;
    let mut settings = live(1, &[]);
    settings.ring.revalidate_interval = Duration::from_secs(60);
    running.propose(settings);
    seconds(1).await;
    assert_eq!(fake.fetches(1).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_in_an_outage_neither_hastens_nor_delays_the_next_try() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    fake.set(1, Answer::Unreachable);
    for round in 0..600 {
        seconds(6).await;
        let mut settings = live(1, &[]);
        settings.ring.require_authentication = round % 2 == 0;
        running.propose(settings);
    }
    // After the first ones, every 30 to 60 s.
    let tries = fake.fetches(1).len();
    assert!((50..=130).contains(&tries), "{tries} tries in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_wiped_while_a_reload_waits_is_missing_there_too() {
    let fake = fake(&[
        (1, Answer::Key(1)),
        (2, Answer::Key(2)),
        (3, Answer::Missing),
    ]);
    let running = Running::start(&fake, with_age(live(1, &[2]), AGE));
    seconds(1).await;
    running.propose(with_age(live(2, &[1, 3]), AGE));
    seconds(1).await;
    fake.set(2, Answer::Denied);
    seconds(1000).await;
    assert!(!running.keyring.snapshot().holds(&id(2)), "wiped");
    fake.set(3, Answer::Key(3));
    seconds(300).await;
    assert_eq!(running.keyring.status(), Ok(id(1)), "2 could not be used");
    assert_eq!(running.keyring.report().reloads.applied, 0);
    fake.set(2, Answer::Key(2));
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn keys_that_wait_for_a_reload_are_wiped_in_time_as_well() {
    let fake = fake(&[
        (1, Answer::Key(1)),
        (2, Answer::Key(2)),
        (3, Answer::Missing),
    ]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(with_age(live(2, &[1, 3]), AGE));
    seconds(1).await;
    fake.set(2, Answer::Unreachable);
    seconds(1000).await;
    fake.set(3, Answer::Key(3));
    seconds(61).await;
    assert_eq!(running.keyring.report().reloads.applied, 0, "2 was too old");
    assert_eq!(running.keyring.status(), Ok(id(1)));
    fake.set(2, Answer::Key(2));
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn a_reload_stops_waiting_when_nothing_is_left_that_it_could_harm() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let running = Running::start(&fake, with_age(live(1, &[]), AGE));
    seconds(1).await;
    running.propose(with_age(live(1, &[2]), AGE));
    seconds(1).await;
    fake.set(1, Answer::Unreachable);
    seconds(700).await;
    assert!(running.keyring.status().is_err(), "wiped");
    assert_eq!(running.keyring.report().reloads.applied, 1);
    fake.set(1, Answer::Key(1));
    seconds(16).await;
    assert_eq!(running.keyring.status(), Ok(id(1)), "without key 2");
}

#[tokio::test(start_paused = true)]
async fn asking_again_for_a_reload_that_waits_tries_at_once() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[1]));
    seconds(600).await;
    fake.set(2, Answer::Key(2));
    running.propose(live(2, &[1]));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn asking_again_for_what_is_in_force_tries_what_is_troubled() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(600).await;
    fake.set(2, Answer::Key(2));
    running.propose(live(1, &[2]));
    seconds(1).await;
    assert!(running.keyring.snapshot().holds(&id(2)));
    let fetches = fake.fetches(1).len();
    running.propose(live(1, &[2]));
    seconds(1).await;
    assert_eq!(fake.fetches(1).len(), fetches, "what is well is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_key_to_which_access_is_refused_stays_in_the_ring() {
    let fake = fake(&[(1, Answer::Denied), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(10).await;
    running.propose(live(2, &[]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.refused, 1);
}
