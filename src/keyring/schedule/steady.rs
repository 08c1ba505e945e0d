//! Keys that are missing because there is no answer.

use super::*;
use crate::keyring::KeyProblem;

fn id(last: u8) -> KeyId {
    format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
        .parse()
        .expect("a UUID")
}

const UNANSWERED: Failure = Failure {
    problem: KeyProblem::Unavailable,
    wait: None,
    unanswered: true,
    held: false,
    wiped_in: None,
};

const REFUSED: Failure = Failure {
    problem: KeyProblem::Denied,
    unanswered: false,
    ..UNANSWERED
};

const SECOND: Duration = Duration::from_secs(1);

fn schedule(keys: u8, now: Instant) -> Schedule {
    let mut schedule = Schedule::default();
    for last in 1..=keys {
        schedule.add(id(last), now);
    }
    schedule
}

/// The fetch that begins next, and when.
fn next(schedule: &mut Schedule) -> (KeyId, Instant) {
    let due = schedule.next_due().expect("planned");
    let key = schedule.start_next(Some(id(1)), due).expect("due");
    (key, due)
}

#[test]
fn the_next_try_begins_a_second_after_the_last_or_when_that_ends() {
    for (took, jitter, wait) in [
        (0, 0.0, 1_000),
        (3, 0.0, 997),
        (3, 1.0, 1_097),
        (999, 0.5, 51),
        (10_000, 0.0, 0),
        (10_000, 1.0, 100),
    ] {
        let begin = Instant::now();
        let mut schedule = schedule(1, begin);
        for failures in 1..100 {
            let (_, start) = next(&mut schedule);
            let now = start + Duration::from_millis(took);
            let (count, delay) = schedule.failed(&id(1), UNANSWERED, now, jitter);
            assert_eq!((count, delay), (failures, Duration::from_millis(wait)));
            assert_eq!(schedule.next_due(), Some(now + delay));
        }
    }
}

#[test]
fn the_write_key_keeps_no_other_waiting_however_often_it_is_asked_for() {
    let begin = Instant::now();
    let mut schedule = schedule(3, begin);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (key, start) = next(&mut schedule);
        schedule.failed(&key, UNANSWERED, start, 1.0);
        schedule.expedite(&id(1), start);
        seen.push(key);
    }
    for last in 1..=3 {
        let tries = seen.iter().filter(|key| **key == id(last)).count();
        assert!((1..=3).contains(&tries), "{seen:?}");
    }
}

#[test]
fn one_fetch_at_a_time_finds_out_whether_anybody_answers() {
    let begin = Instant::now();
    let mut schedule = schedule(8, begin);
    schedule.start_next(Some(id(1)), begin);
    schedule.failed(&id(1), UNANSWERED, begin, 0.0);
    let (mut starts, mut last) = (Vec::new(), begin);
    for _ in 0..16 {
        let (key, start) = next(&mut schedule);
        assert!(start >= last + SECOND, "no more than one a second");
        assert!(start <= last + SECOND + STEADY_SPREAD, "and no less");
        assert_eq!(schedule.next_due(), None, "one is under way");
        assert_eq!(schedule.start_next(None, start + SECOND * 60), None);
        schedule.failed(&key, UNANSWERED, start, 0.5);
        starts.push(key);
        last = start;
    }
    for last in 1..=8 {
        assert!(starts.contains(&id(last)), "none is forgotten: {starts:?}");
    }
}

#[test]
fn any_answer_brings_all_that_was_unanswered_at_once() {
    for answer in [None, Some(REFUSED)] {
        let begin = Instant::now();
        let mut schedule = schedule(3, begin);
        for _ in 0..3 {
            let (key, start) = next(&mut schedule);
            schedule.failed(&key, UNANSWERED, start, 0.0);
        }
        let (key, now) = next(&mut schedule);
        match answer {
            None => schedule.succeeded(&key, SECOND * 300, now, 0.0),
            Some(refusal) => {
                schedule.failed(&key, refusal, now, 0.0);
            }
        }
        let others = [id(1), id(2), id(3)].into_iter().filter(|id| *id != key);
        let at_once: Vec<_> = std::iter::from_fn(|| schedule.start_next(None, now)).collect();
        assert_eq!(at_once.len(), 2, "{answer:?}");
        assert!(others.clone().all(|id| at_once.contains(&id)), "{answer:?}");
    }
}

#[test]
fn a_key_that_is_held_is_confirmed_again_without_haste() {
    let begin = Instant::now();
    let mut schedule = schedule(1, begin);
    let held = Failure {
        held: true,
        ..UNANSWERED
    };
    let delays: Vec<u64> = (0..6)
        .map(|_| {
            let (_, start) = next(&mut schedule);
            schedule.failed(&id(1), held, start, 0.0).1.as_secs()
        })
        .collect();
    assert_eq!(delays, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn a_question_hurries_what_may_pass_and_no_refusal() {
    for (failure, due) in [
        (UNANSWERED, SECOND),
        (
            Failure {
                unanswered: false,
                ..UNANSWERED
            },
            SECOND,
        ),
        (REFUSED, SECOND * 60),
        (
            Failure {
                problem: KeyProblem::NotFound,
                ..REFUSED
            },
            SECOND * 60,
        ),
        (
            Failure {
                problem: KeyProblem::Login,
                wait: Some(SECOND * 600),
                ..REFUSED
            },
            SECOND * 600,
        ),
        (
            Failure {
                wait: Some(SECOND * 40),
                unanswered: false,
                ..UNANSWERED
            },
            SECOND * 40,
        ),
    ] {
        let begin = Instant::now();
        let mut schedule = schedule(1, begin);
        for _ in 0..8 {
            next(&mut schedule);
            let now = begin;
            schedule.failed(&id(1), failure, now, 0.0);
        }
        let (_, now) = next(&mut schedule);
        schedule.failed(&id(1), failure, now, 0.0);
        schedule.expedite_if_passing(&id(1), now);
        assert_eq!(schedule.next_due(), Some(now + due), "{failure:?}");
    }
}
