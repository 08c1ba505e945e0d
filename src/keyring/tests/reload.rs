//! A new configuration: tested, then applied or refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reload_that_waits_long_for_one_key_keeps_the_others_fresh() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let age = Duration::from_secs(600);
    let running = Running::start(&fake, with_age(live(1, &[]), age));
    seconds(1).await;
    running.propose(with_age(live_as("new", 1, &[2]), age));
    seconds(3600).await;
    assert_eq!(running.keyring.report().reloads.applied, 0);
    fake.set(2, Answer::Key(2));
    for _ in 0..600 {
        seconds(1).await;
        assert_eq!(running.keyring.status(), Ok(id(1)), "never too old");
    }
    assert_eq!(running.keyring.report().reloads.applied, 1);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_works_for_a_waiting_reload_ends_a_pause_of_the_ring_in_force() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Login)]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    fake.set(2, Answer::Key(2));
    running.propose(live_as("new", 1, &[2, 3]));
    seconds(1).await;
    let login = Some(KeyProblem::Login);
    assert_eq!(running.problem(2), login, "another login has worked");
    // Barbican's refusal says so as well as a key.
    running.propose(live(1, &[2, 3]));
    seconds(1).await;
    assert_eq!(running.problem(2), None);
    assert_eq!(running.keyring.report().reloads.applied, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_the_old_ring_is_none_to_the_new_one() {
    const TICK: Duration = Duration::from_millis(1);
    let wait = Duration::from_millis(500);
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let age = 2 * INTERVAL;
    let running = Running::start(&fake, with_age(live(1, &[]), age));
    seconds(1).await;
    running.propose(with_age(live_as("new", 1, &[2]), age));
    seconds(120).await;
    fake.set(1, Answer::Slow(1, wait));
    running.keyring.revalidate();
    tokio::task::yield_now().await;
    fake.suspend(age);
    let asked = fake.fetches(1).len();
    // The end of the download is what tells of the suspension: nothing is left to lose, so the
    // new settings come into force.
    tokio::time::sleep(wait + TICK).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert!(running.keyring.status().is_err(), "nothing is proven yet");
    assert_eq!(fake.fetches(1).len(), asked + 1, "asked for at once");
    tokio::time::sleep(wait + TICK).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_waiting_reload_ends_an_outage_of_the_ring_in_force() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Unreachable)]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(60).await;
    let tries = || fake.fetches(2).len();
    let before = tries();
    let moment = || tokio::time::sleep(Duration::from_millis(5));
    while tries() == before {
        moment().await;
    }
    fake.set(2, Answer::Key(2));
    running.propose(live(1, &[2, 9]));
    moment().await;
    assert!(running.keyring.snapshot().holds(&id(2)));
    assert_eq!(running.keyring.report().reloads.applied, 0, "9 is missing");
}

#[tokio::test(start_paused = true)]
async fn a_reload_put_back_is_reported_as_put_right() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[]));
    seconds(1).await;
    let outcome = || {
        let report = running.keyring.report();
        report.last_reload.as_ref().map(|last| last.outcome)
    };
    assert_eq!(outcome(), Some(ReloadOutcome::Refused));
    running.propose(live(1, &[]));
    seconds(1).await;
    assert_eq!(outcome(), Some(ReloadOutcome::Unchanged));
}

#[tokio::test(start_paused = true)]
async fn a_reload_loads_every_new_key_before_it_takes_effect() {
    let fake = fake(&[
        (1, Answer::Key(1)),
        (2, Answer::Key(2)),
        (3, Answer::Unreachable),
    ]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[1, 3]));
    seconds(60).await;
    assert_eq!(running.keyring.status(), Ok(id(1)), "the old one serves on");
    let report = running.keyring.report();
    let last = report.last_reload.as_ref().expect("an attempt");
    assert_eq!(last.outcome, ReloadOutcome::Failed);
    assert!(
        last.message.contains("connection refused"),
        "{}",
        last.message
    );
    fake.set(3, Answer::Key(3));
    seconds(16).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
    assert!(running.keyring.key(&id(1)).await.is_ok());
    assert!(running.keyring.key(&id(3)).await.is_ok());
    assert_eq!(running.keyring.report().reloads.applied, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_drops_the_write_key_is_refused_with_the_line_to_add() {
    let fake = fake(&[
        (1, Answer::Key(1)),
        (2, Answer::Key(2)),
        (3, Answer::Key(3)),
    ]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[3]));
    seconds(60).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let report = running.keyring.report();
    let last = report.last_reload.as_ref().expect("an attempt");
    assert_eq!(last.outcome, ReloadOutcome::Refused);
    let line = format!("decrypt-key-ids = {},{}", id(3), id(1));
    assert!(last.message.contains(&line), "{}", last.message);
    assert_eq!(fake.fetches(2), [], "refused before any request");
}

#[tokio::test(start_paused = true)]
async fn a_mistyped_key_id_can_be_corrected_without_keeping_it() {
    let fake = fake(&[(1, Answer::Missing), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(10).await;
    assert_eq!(
        running.keyring.status(),
        Err(KeyError::NotLoaded(KeyProblem::NotFound))
    );
    running.propose(live(2, &[]));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn new_credentials_are_proved_by_reading_every_key() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    fake.set(2, Answer::Denied);
    running.propose(live_as("new", 1, &[2]));
    seconds(30).await;
    assert_eq!(running.keyring.report().reloads.applied, 0);
    assert!(running.keyring.report().reloads.failed > 0);
    assert!(
        running.keyring.key(&id(2)).await.is_ok(),
        "the old key serves on"
    );
    fake.set(2, Answer::Key(2));
    seconds(61).await;
    assert_eq!(running.keyring.report().reloads.applied, 1);
    assert!(fake.fetches(1).len() >= 2, "the held key was read again");
}

#[tokio::test(start_paused = true)]
async fn new_credentials_that_see_other_bytes_are_refused() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    fake.set(1, Answer::Key(2));
    running.propose(live_as("new", 1, &[]));
    seconds(30).await;
    assert_eq!(running.keyring.report().reloads.applied, 0);
    assert_eq!(running.keyring.status(), Ok(id(1)));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_key_from_the_ring_needs_no_barbican() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    fake.set(1, Answer::Unreachable);
    fake.set(2, Answer::Unreachable);
    running.propose(live(1, &[]));
    seconds(1).await;
    assert_eq!(
        running.keyring.key(&id(2)).await.err(),
        Some(KeyError::NotInRing)
    );
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let report = running.keyring.report();
    let last = report.last_reload.as_ref().expect("it was applied");
    assert_eq!(
        (last.added.as_slice(), last.removed.as_slice()),
        (&[][..], &[id(2)][..])
    );
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_configuration_asks_nobody() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    for _ in 0..10 {
        running.propose(live(1, &[]));
        seconds(1).await;
    }
    assert_eq!(fake.fetches(1).len(), 1);
    assert_eq!(running.keyring.report().reloads.unchanged, 10);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_changes_nothing_and_is_reported() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running
        .config_updates
        .send_replace(ConfigUpdate::Invalid("cloud.conf:3:1: nonsense".into()));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let report = running.keyring.report();
    assert_eq!(report.reloads.invalid, 1);
    let last = report.last_reload.as_ref().expect("an attempt");
    assert_eq!(last.message, "cloud.conf:3:1: nonsense");
    running.propose(live(1, &[]));
    seconds(1).await;
    assert_eq!(running.keyring.report().reloads.unchanged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_correction_replaces_a_reload_that_cannot_succeed() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(9, &[1]));
    seconds(20).await;
    running.propose(live(2, &[1]));
    seconds(1).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
}

#[tokio::test(start_paused = true)]
async fn policy_comes_from_the_same_snapshot_as_the_key() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    assert_eq!(
        running.keyring.key(&id(1)).await.expect("held").untagged,
        Untagged::Accept
    );
    let mut strict = live(1, &[]);
    strict.ring.require_authentication = true;
    running.propose(strict);
    seconds(1).await;
    assert_eq!(
        running.keyring.key(&id(1)).await.expect("held").untagged,
        Untagged::Refuse
    );
    assert_eq!(running.fake.fetches(1).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_goes_on_failing_counts_as_failed_once() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Missing)]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    running.propose(live(2, &[1]));
    seconds(600).await;
    assert!(fake.fetches(2).len() > 5);
    let report = running.keyring.report();
    assert_eq!(report.reloads.failed, 1);
    let last = report.last_reload.as_ref().expect("an attempt");
    assert_eq!(last.outcome, ReloadOutcome::Failed);
    running.propose(live(2, &[1]));
    seconds(60).await;
    assert_eq!(running.keyring.report().reloads.failed, 1, "no new change");
    running.propose(live(3, &[1, 2]));
    seconds(60).await;
    assert_eq!(running.keyring.report().reloads.failed, 2, "another change");
    fake.set(2, Answer::Key(2));
    fake.set(3, Answer::Key(3));
    seconds(61).await;
    let reloads = running.keyring.report().reloads;
    assert_eq!((reloads.failed, reloads.applied), (2, 1));
}

#[test]
fn the_files_were_last_good_at_the_last_reload_that_found_them_so() {
    let at = |seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut report = Report::new(&live(1, &[]), at(1));
    assert_eq!(report.files_good, at(1));
    report.unchanged(at(2));
    assert_eq!(report.files_good, at(2));
    for bad in [
        ReloadOutcome::Invalid,
        ReloadOutcome::Refused,
        ReloadOutcome::Failed,
    ] {
        report.reloaded(bad, String::new(), at(3));
        report.failed_again(String::new(), at(4));
        assert_eq!(report.files_good, at(2), "{bad:?}");
    }
    report.unchanged(at(5));
    assert_eq!(report.files_good, at(5), "put back");
    assert_eq!(report.in_force_since, at(1));
    report.reloaded(ReloadOutcome::Applied, String::new(), at(6));
    assert_eq!((report.files_good, report.in_force_since), (at(6), at(6)));
}

#[tokio::test(start_paused = true)]
async fn the_report_follows_the_interval_in_force() {
    let fake = fake(&[(1, Answer::Key(1))]);
    let running = Running::start(&fake, live(1, &[]));
    seconds(1).await;
    let interval = || running.keyring.report().revalidate_interval;
    assert_eq!(interval(), INTERVAL);
    let mut quicker = live(1, &[]);
    quicker.ring.revalidate_interval = Duration::from_secs(10);
    running.propose(quicker);
    seconds(1).await;
    assert_eq!(interval(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn keys_dropped_within_a_day_are_reported_with_their_last_use() {
    let answers: Vec<_> = (1..=5).map(|n| (n, Answer::Key(n))).collect();
    let running = Running::start(&fake(&answers), live(1, &[5]));
    seconds(1).await;
    assert!(running.keyring.key(&id(1)).await.is_ok());
    // Status is no use of the key, and nobody asks for the fifth.
    assert_eq!(running.keyring.status(), Ok(id(1)));
    let reload = async |settings: Live| {
        seconds(600).await;
        running.propose(settings);
        seconds(1).await;
    };
    reload(live(2, &[1])).await;
    reload(live(3, &[2])).await;
    reload(live(4, &[3])).await;
    let dropped = running.keyring.report().dropped.clone();
    let seen: Vec<_> = dropped
        .iter()
        .map(|key| (key.id, key.was_in_use()))
        .collect();
    assert_eq!(seen, [(id(5), false), (id(1), true), (id(2), false)]);
    let used = dropped[1].last_used.expect("it was used");
    let ago = dropped[1].at.duration_since(used).expect("before it went");
    assert!((1080..=1320).contains(&ago.as_secs()), "{ago:?}");

    reload(live(4, &[3, 1])).await;
    let report = running.keyring.report();
    assert!(
        report.dropped.iter().all(|key| key.id != id(1)),
        "it is back"
    );
    let shown = |after: Duration| report.dropped_lately(dropped[2].at + after).count();
    assert_eq!(shown(Duration::from_secs(3600)), 2);
    assert_eq!(shown(Duration::from_secs(25 * 3600)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_last_used_more_than_a_day_before_it_is_dropped_was_not_in_use() {
    let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Key(2))]);
    let running = Running::start(&fake, live(1, &[2]));
    seconds(1).await;
    assert!(running.keyring.key(&id(2)).await.is_ok());
    seconds(25 * 3600).await;
    running.propose(live(1, &[]));
    seconds(1).await;
    let report = running.keyring.report();
    let dropped = report.dropped.first().expect("one was dropped");
    assert!(
        dropped.last_used.is_some() && !dropped.was_in_use(),
        "{dropped:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_key_that_becomes_usable_while_a_reload_waits_stays_in_the_ring() {
    let fake = fake(&[
        (1, Answer::Key(1)),
        (2, Answer::Missing),
        (3, Answer::Missing),
    ]);
    let running = Running::start(&fake, live(2, &[1]));
    seconds(10).await;
    running.propose(live(3, &[1]));
    seconds(1).await;
    fake.set(2, Answer::Key(2));
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(2)), "it may be in use now");
    fake.set(3, Answer::Key(3));
    seconds(61).await;
    assert_eq!(running.keyring.status(), Ok(id(2)));
    let reloads = running.keyring.report().reloads;
    assert_eq!((reloads.applied, reloads.refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_the_files_no_longer_contain_never_takes_effect() {
    let hour = Duration::from_secs(3600);
    for put_back in [true, false] {
        let fake = fake(&[(1, Answer::Key(1)), (2, Answer::Unreachable)]);
        let running = Running::start(&fake, with_age(live(1, &[]), hour));
        seconds(1).await;
        fake.set(1, Answer::Unreachable);
        running.propose(with_age(live(2, &[1]), hour));
        seconds(1).await;
        // When the machine goes on, its only key is too old, and there is nothing to lose.
        fake.suspend(2 * hour);
        let update = if put_back {
            ConfigUpdate::Valid(Arc::new(with_age(live(1, &[]), hour)))
        } else {
            ConfigUpdate::Invalid("cloud.conf:3:1: nonsense".into())
        };
        running.config_updates.send_replace(update);
        seconds(1).await;
        let report = running.keyring.report();
        let reloads = report.reloads;
        assert_eq!((reloads.applied, reloads.refused), (0, 0));
        assert_eq!(reloads.unchanged + reloads.invalid, 1);
        assert_eq!(running.keyring.snapshot().write_id(), Some(id(1)));
        assert!(running.keyring.status().is_err(), "it was wiped");
    }
}
