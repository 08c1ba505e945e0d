//! Every history of up to eight events of two keys, held against a small model.
//!
//! What happens is what the loader and its callers can bring about: fetches start and
//! end in every way, callers hurry, a person orders, configurations are reloaded, and time
//! passes. States that are the same but for the date are followed once.

mod rules;

use std::collections::HashSet;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);

const PROBLEMS: [KeyProblem; 9] = [
    KeyProblem::Pending,
    KeyProblem::Unavailable,
    KeyProblem::Unconfirmed,
    KeyProblem::Login,
    KeyProblem::Denied,
    KeyProblem::NotFound,
    KeyProblem::NotAKey,
    KeyProblem::Altered,
    KeyProblem::Crashed,
];

/// One of each kind.
const KINDS: [KeyProblem; 3] = [
    KeyProblem::Unavailable,
    KeyProblem::Login,
    KeyProblem::NotFound,
];

/// What servers ask for.
const WAITS: [Option<Duration>; 3] = [None, Some(Duration::from_secs(40)), Some(Duration::MAX)];

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The loader has room for one more.
    Start,
    Success(usize),
    Failure(usize, KeyProblem, Option<Duration>),
    /// Nobody has answered.
    Silence(usize),
    /// A caller misses the key.
    Hurry(usize),
    /// Somebody asks whether it is there, again and again.
    HurryIfPassing(usize),
    Order(usize),
    OrderAll,
    Reload,
    Wait(Duration),
    WaitUntilDue,
}

/// What the schedule may be held to for one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Expected {
    under_way: bool,
    failures: u32,
    started: Option<Instant>,
    /// No caller's hurry brings the next fetch before this.
    spared_until: Option<Instant>,
    /// A person has to act first.
    refused: bool,
    /// The key is missing, and nobody has answered.
    unanswered: bool,
    /// While the key is held.
    confirmed: Option<Instant>,
}

/// It is always `now`: instead of the clock, everything else moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    schedule: Schedule,
    expected: [Expected; 2],
    /// While nobody answers: no fetch begins before this, nor beside another.
    quiet_until: Option<Instant>,
}

/// What stays the same in one exploration.
#[derive(Clone, Copy, Debug)]
struct World {
    now: Instant,
    keys: [KeyId; 2],
    jitter: Fraction,
    max_age: Option<Duration>,
    /// Whether both keys are held at the beginning, and due to be confirmed.
    held: bool,
    /// Of the second key, so far.
    failures_before: u32,
    problems: &'static [KeyProblem],
    /// Whether a person does more than to order one key.
    busy: bool,
}

impl World {
    fn begin(&self) -> State {
        let mut schedule = Schedule::default();
        for key in 0..2 {
            schedule.add(self.keys[key], self.now);
        }
        let mut expected = [Expected::default(), Expected::default()];
        if self.held {
            for key in &mut expected {
                key.confirmed = Some(self.now);
            }
        }
        expected[1].failures = self.failures_before;
        let second = schedule.plans.get_mut(&self.keys[1]).expect("it was added");
        second.failures = self.failures_before;
        State {
            schedule,
            expected,
            quiet_until: None,
        }
    }

    /// All that can happen to `state` next.
    fn events(&self, state: &State) -> Vec<Event> {
        let mut events = vec![
            Event::Start,
            Event::Wait(Duration::from_millis(700)),
            Event::Wait(Duration::from_secs(3600)),
            Event::WaitUntilDue,
        ];
        if self.busy {
            events.extend([Event::OrderAll, Event::Reload]);
        }
        for key in 0..2 {
            events.extend([
                Event::Hurry(key),
                Event::HurryIfPassing(key),
                Event::Order(key),
            ]);
            if state.expected[key].under_way {
                events.extend([Event::Success(key), Event::Silence(key)]);
                for problem in self.problems {
                    events.extend(WAITS.map(|wait| Event::Failure(key, *problem, wait)));
                }
            }
        }
        events
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Follows every history; returns how many states were gone on from.
fn explore(world: World, depth: usize) -> usize {
    let begin = world.begin();
    let mut seen = HashSet::from([begin.clone()]);
    let mut layer = vec![(begin, Vec::new())];
    for level in 1..=depth {
        let mut next = Vec::new();
        for (state, history) in &layer {
            for event in world.events(state) {
                let after = world.apply(state, event).unwrap_or_else(|rule| {
                    panic!("{rule}\n{world:?}\n{history:#?}\n{event:?}\nbefore: {state:#?}")
                });
                // What the last event leads to is not gone on from.
                if level < depth && !seen.contains(&after) {
                    seen.insert(after.clone());
                    let mut history: Vec<Event> = history.clone();
                    history.push(event);
                    next.push((after, history));
                }
            }
        }
        layer = next;
    }
    seen.len()
}

fn world(max_age: Option<Duration>, jitter: Fraction) -> World {
    World {
        // Some time before it has to be there as well.
        now: Instant::now() + seconds(24 * 3600),
        keys: [id(1), id(2)],
        jitter,
        max_age,
        held: false,
        failures_before: 0,
        problems: &KINDS,
        busy: false,
    }
}

#[test]
fn eight_events_of_two_keys_break_no_rule() {
    let states = explore(world(Some(seconds(50)), 0.0), 8);
    assert!(states > 10_000, "{states}");
}

#[test]
fn seven_events_of_two_keys_that_are_never_wiped_break_no_rule() {
    let states = explore(world(None, 0.999), 7);
    assert!(states > 1000, "{states}");
}

#[test]
fn five_events_of_every_kind_break_no_rule() {
    for max_age in [None, Some(seconds(50))] {
        for jitter in [0.0, 0.999] {
            for held in [false, true] {
                let world = World {
                    held,
                    failures_before: u32::MAX,
                    problems: &PROBLEMS,
                    busy: true,
                    ..world(max_age, jitter)
                };
                assert!(explore(world, 5) > 100);
            }
        }
    }
}
