mod histories;

use super::failure::REFUSED_SPACING;
use super::*;
use crate::keyring::KeyProblem;

fn id(last: u8) -> KeyId {
    format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
        .parse()
        .expect("a UUID")
}

fn missing(problem: KeyProblem) -> Failure {
    Failure {
        problem,
        wait: None,
        unanswered: false,
        held: false,
        wiped_in: None,
    }
}

/// A key whose fetch has just failed; the wait, and the earliest retry.
fn after(failure: Failure) -> (Duration, Duration) {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.add(id(1), now);
    schedule.start_next(None, now);
    let (_, delay) = schedule.failed(&id(1), failure, now, 0.0);
    assert_eq!(schedule.next_due(), Some(now + delay));
    let soon = schedule.expedite(&id(1), now);
    let due = schedule.next_due().expect("planned") - now;
    assert_eq!(soon, due < MISS_WAIT);
    (delay, due)
}

#[test]
fn revalidation_comes_within_the_interval_and_not_too_early() {
    let interval = Duration::from_secs(300);
    assert_eq!(revalidation_delay(interval, 0.0), interval);
    assert_eq!(revalidation_delay(interval, 1.0), Duration::from_secs(210));
}

#[test]
fn retries_back_off_to_a_bound() {
    let delays: Vec<u64> = (1..8)
        .map(|n| retry_delay(missing(KeyProblem::Unavailable), n, 0.0).as_secs())
        .collect();
    assert_eq!(delays, [1, 2, 4, 8, 15, 15, 15]);
    let jittered = retry_delay(missing(KeyProblem::Unavailable), 40, 1.0);
    assert_eq!(jittered, Duration::from_millis(7500));
}

#[test]
fn a_refused_login_is_retried_rarely() {
    assert!(retry_delay(missing(KeyProblem::Login), 10, 0.99) >= Duration::from_secs(60));
}

#[test]
fn the_write_key_goes_first_and_then_the_longest_due() {
    let start = Instant::now();
    let now = start + Duration::from_secs(9);
    let mut schedule = Schedule::default();
    schedule.add(id(1), now);
    schedule.add(id(2), start);
    schedule.add(id(3), now);
    schedule.add(id(4), now + Duration::from_secs(1));
    let order: Vec<_> = std::iter::from_fn(|| schedule.start_next(Some(id(3)), now)).collect();
    assert_eq!(order, [id(3), id(2), id(1)]);
    assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(1)));
}

#[test]
fn a_key_that_is_waited_for_is_tried_again_soon_but_not_at_once() {
    let (_, soonest) = after(missing(KeyProblem::Unavailable));
    assert_eq!(soonest, EXPEDITED_SPACING);
    for refused in [
        KeyProblem::Denied,
        KeyProblem::NotFound,
        KeyProblem::NotAKey,
        KeyProblem::Altered,
    ] {
        let (_, soonest) = after(missing(refused));
        assert_eq!(soonest, REFUSED_SPACING);
    }
}

#[test]
fn a_key_that_is_being_fetched_or_never_was_needs_no_spacing() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.add(id(1), now + Duration::from_secs(9));
    assert!(schedule.expedite(&id(1), now));
    assert_eq!(schedule.next_due(), Some(now));
    schedule.start_next(None, now);
    assert!(schedule.expedite(&id(1), now));
    assert_eq!(schedule.next_due(), None);
    assert!(!schedule.expedite(&id(2), now));
}

#[test]
fn a_server_that_names_a_time_is_left_alone_within_reason() {
    let seconds = Duration::from_secs;
    let asked = |wait| Failure {
        wait: Some(seconds(wait)),
        ..missing(KeyProblem::Unavailable)
    };
    assert_eq!(after(asked(0)), (seconds(1), seconds(1)));
    assert_eq!(after(asked(40)), (seconds(40), seconds(40)));
    assert_eq!(after(asked(3600)), (seconds(60), seconds(60)));

    let held = |wait| Failure {
        held: true,
        ..asked(wait)
    };
    assert_eq!(after(held(40)), (seconds(40), seconds(40)));
    // Whoever hurries misses it: it has been wiped in the meantime.
    assert_eq!(after(held(3600)), (seconds(300), seconds(60)));
    let perishable = Failure {
        wiped_in: Some(seconds(3600)),
        ..held(3600)
    };
    assert_eq!(after(perishable), (seconds(60), seconds(60)));
}

#[test]
fn a_key_is_tried_before_it_is_wiped_whatever_a_server_asks() {
    let seconds = Duration::from_secs;
    for problem in [
        KeyProblem::Unavailable,
        KeyProblem::Denied,
        KeyProblem::Altered,
    ] {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(id(1), begin);
        let (mut now, wiped) = (begin, begin + seconds(50));
        let mut tries = 0;
        while now < wiped {
            schedule.start_next(None, now);
            let failure = Failure {
                wait: Some(seconds(3600)),
                held: true,
                wiped_in: Some(wiped - now),
                ..missing(problem)
            };
            now += schedule.failed(&id(1), failure, now, 0.9).1;
            tries += 1;
        }
        assert!((4..=10).contains(&tries), "{problem:?}: {tries}");
    }
}

#[test]
fn nodes_that_were_asked_to_wait_come_later_and_not_together() {
    let asked = Failure {
        wait: Some(Duration::from_secs(40)),
        ..missing(KeyProblem::Unavailable)
    };
    let delays = [0.0, 0.5, 0.999].map(|jitter| {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(id(1), now);
        schedule.start_next(None, now);
        schedule.failed(&id(1), asked, now, jitter).1.as_secs()
    });
    assert_eq!(delays, [40, 45, 49]);
}

#[test]
fn a_refused_login_is_not_repeated_before_the_client_would() {
    let refused = Failure {
        wait: Some(Duration::from_secs(600)),
        ..missing(KeyProblem::Login)
    };
    let all_of_it = Duration::from_secs(600);
    assert_eq!(after(refused), (all_of_it, all_of_it));
}
