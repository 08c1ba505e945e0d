//! A thousand clusters that lose one Barbican together, simulated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::chance::Chance;
use crate::keyring::KeyProblem;

/// Three in each of a thousand clusters.
const NODES: u16 = 3_000;

/// How long a refusal to connect takes, or an answer.
const ROUND_TRIP: Duration = Duration::from_millis(5);

/// A Barbican that is away for some time, and then answers so many requests a second.
struct Barbican {
    back: Instant,
    per_request: Duration,
    free: Instant,
}

impl Barbican {
    /// When the answer to a request of `now` comes, and whether it is one.
    fn ask(&mut self, now: Instant) -> (Instant, bool) {
        if now < self.back {
            return (now + ROUND_TRIP, false);
        }
        self.free = self.free.max(now) + self.per_request;
        (self.free + ROUND_TRIP, true)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Ask,
    Told(bool),
}

/// What the fleet has done.
struct Seen {
    asked: Vec<Instant>,
    /// From Barbican's return until the last node has its key.
    well_after: Duration,
    slowest_answer: Duration,
}

/// All nodes lose the key at one moment, for `outage`; then Barbican is back.
fn simulate(outage: Duration, answers_a_second: u32) -> Seen {
    let begin = Instant::now();
    let chance = Chance::seeded(1_000);
    let mut barbican = Barbican {
        back: begin + outage,
        per_request: Duration::from_secs(1) / answers_a_second,
        free: begin,
    };
    let key: KeyId = "b5309dfb-b326-4148-b0ad-e9cd1ec22301"
        .parse()
        .expect("a UUID");
    let mut nodes: Vec<Schedule> = Vec::new();
    let mut coming = BinaryHeap::new();
    for node in 0..NODES {
        let mut schedule = Schedule::default();
        schedule.add(key, begin);
        nodes.push(schedule);
        coming.push(Reverse((begin, node, Step::Ask)));
    }
    let mut seen = Seen {
        asked: Vec::new(),
        well_after: Duration::ZERO,
        slowest_answer: Duration::ZERO,
    };
    while let Some(Reverse((now, node, step))) = coming.pop() {
        let schedule = nodes.get_mut(usize::from(node)).expect("one of them");
        match step {
            Step::Ask => {
                assert_eq!(schedule.start_next(Some(key), now), Some(key));
                seen.asked.push(now);
                let (told, answer) = barbican.ask(now);
                seen.slowest_answer = seen.slowest_answer.max(told - now);
                coming.push(Reverse((told, node, Step::Told(answer))));
            }
            Step::Told(true) => seen.well_after = now - barbican.back,
            Step::Told(false) => {
                let failure = Failure {
                    problem: KeyProblem::Unavailable,
                    wait: None,
                    unanswered: true,
                    held: false,
                    wiped_in: None,
                };
                schedule.failed(&key, failure, now, chance.fraction());
                let next = schedule.next_due().expect("planned");
                coming.push(Reverse((next, node, Step::Ask)));
            }
        }
    }
    seen
}

/// The most requests within `window`, of those that begin after `from`.
fn most_within(asked: &[Instant], window: Duration, from: Instant) -> usize {
    let asked: Vec<_> = asked.iter().filter(|at| **at >= from).collect();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in asked.iter().enumerate() {
        while asked
            .get(first)
            .is_some_and(|early| **at - **early >= window)
        {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[test]
fn a_fleet_sends_one_request_a_second_and_node_and_spreads() {
    let second = Duration::from_secs(1);
    let seen = simulate(Duration::from_secs(120), 100_000);
    let begin = *seen.asked.first().expect("they have asked");
    assert_eq!(
        most_within(&seen.asked, second, begin),
        usize::from(NODES),
        "even though all begin at once"
    );
    let average = seen.asked.len() / 120;
    assert!((2_800..=3_000).contains(&average), "{average} a second");
    // They began at one moment. After a minute little is left of that.
    let later = most_within(&seen.asked, second / 10, begin + second * 60);
    assert!(later <= 600, "{later} in a tenth of a second");
}

#[test]
fn a_fleet_is_well_when_barbican_has_answered_each_node_once() {
    for (answers_a_second, limit) in [(100_000, 1_150), (3_000, 1_700), (500, 6_200)] {
        let seen = simulate(Duration::from_secs(120), answers_a_second);
        let limit = Duration::from_millis(limit);
        assert!(
            seen.well_after <= limit,
            "{answers_a_second} a second: {:?}",
            seen.well_after
        );
        // The client gives up after 10 s, and what it sends again would come on top.
        assert!(
            seen.slowest_answer < Duration::from_secs(8),
            "{:?}",
            seen.slowest_answer
        );
    }
}
