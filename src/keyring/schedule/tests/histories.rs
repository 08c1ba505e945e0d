//! Every history of up to eight events of two keys, held against a small model.
//!
//! What happens is what the loader and its callers can bring about: fetches start and
//! end in every way, callers hurry, a person orders, configurations are reloaded, and time
//! passes. States that are the same but for the date are followed once.

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
    /// A caller misses the key.
    Hurry(usize),
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
    /// While the key is held.
    confirmed: Option<Instant>,
}

/// It is always `now`: instead of the clock, everything else moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    schedule: Schedule,
    expected: [Expected; 2],
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

/// What is wrong with a step.
type Verdict = Result<(), &'static str>;

fn require(holds: bool, rule: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(rule) }
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
        State { schedule, expected }
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
            events.extend([Event::Hurry(key), Event::Order(key)]);
            if state.expected[key].under_way {
                events.push(Event::Success(key));
                for problem in self.problems {
                    events.extend(WAITS.map(|wait| Event::Failure(key, *problem, wait)));
                }
            }
        }
        events
    }

    fn apply(&self, before: &State, event: Event) -> Result<State, &'static str> {
        let mut state = before.clone();
        match event {
            Event::Start => self.start(before, &mut state)?,
            Event::Success(key) => self.succeed(key, &mut state)?,
            Event::Failure(key, problem, wait) => self.fail(key, problem, wait, &mut state)?,
            Event::Hurry(key) => self.hurry(key, before, &mut state)?,
            Event::Order(key) => {
                state.schedule.order(&self.keys[key], self.now);
                self.is_ordered(key, before, &state)?;
            }
            Event::OrderAll => {
                state.schedule.expedite_all(self.now);
                self.is_ordered(0, before, &state)?;
                self.is_ordered(1, before, &state)?;
            }
            Event::Reload => self.reload(before, &mut state)?,
            Event::Wait(time) => self.wait(time, &mut state),
            Event::WaitUntilDue => {
                let due = before.schedule.next_due().unwrap_or(self.now);
                self.wait(due.saturating_duration_since(self.now), &mut state);
            }
        }
        self.always(before, event, &state)?;
        Ok(state)
    }

    /// What holds after every event.
    fn always(&self, before: &State, event: Event, state: &State) -> Verdict {
        let dues = [self.due(state, 0), self.due(state, 1)];
        for (key, expected) in state.expected.iter().enumerate() {
            require(
                dues[key].is_none() == expected.under_way,
                "a key is due some time, or under way",
            )?;
            require(
                state.schedule.failures(&self.keys[key]) == expected.failures,
                "failures are counted",
            )?;
        }
        require(
            state.schedule.next_due() == dues.into_iter().flatten().min(),
            "the next is the first that is due",
        )?;
        match event {
            Event::Success(key)
            | Event::Failure(key, ..)
            | Event::Hurry(key)
            | Event::Order(key) => require(
                self.due(before, 1 - key) == self.due(state, 1 - key),
                "what happens to one key is nothing to the other",
            ),
            _ => Ok(()),
        }
    }

    fn start(&self, before: &State, state: &mut State) -> Verdict {
        let is_due = |key| self.due(before, key).is_some_and(|due| due <= self.now);
        let chosen = (0..2).find(|key| is_due(*key));
        let started = state.schedule.start_next(Some(self.keys[0]), self.now);
        require(
            started == chosen.map(|key| self.keys[key]),
            "what is due starts, and the write key before others",
        )?;
        if let Some(key) = chosen {
            state.expected[key].under_way = true;
            state.expected[key].started = Some(self.now);
        }
        Ok(())
    }

    fn succeed(&self, key: usize, state: &mut State) -> Verdict {
        let schedule = &mut state.schedule;
        schedule.succeeded(&self.keys[key], INTERVAL, self.now, self.jitter);
        let expected = &mut state.expected[key];
        *expected = Expected {
            started: expected.started,
            confirmed: Some(self.now),
            ..Expected::default()
        };
        let next = self
            .due(state, key)
            .ok_or("a key that is held is confirmed again")?;
        require(
            next >= self.now + INTERVAL / 2 && next <= self.now + INTERVAL,
            "a key is confirmed again within the interval, and not at once",
        )
    }

    fn fail(
        &self,
        key: usize,
        problem: KeyProblem,
        wait: Option<Duration>,
        state: &mut State,
    ) -> Verdict {
        let expected = &mut state.expected[key];
        let held = expected.confirmed.is_some();
        let wiped_in = expected.confirmed.zip(self.max_age);
        let wiped_in = wiped_in.map(|(confirmed, age)| confirmed + age - self.now);
        let failure = Failure {
            problem,
            wait,
            held,
            wiped_in,
        };
        let schedule = &mut state.schedule;
        let (failures, delay) = schedule.failed(&self.keys[key], failure, self.now, self.jitter);
        expected.failures = expected.failures.saturating_add(1);
        expected.under_way = false;
        let login = problem == KeyProblem::Login;
        let passing = PROBLEMS[..3].contains(&problem);
        let spacing = if passing { 1 } else { 5 };
        let asked = |longest| wait.unwrap_or_default().min(seconds(longest));
        let spared = asked(if login { 3600 } else { 60 });
        let started = expected.started.expect("it was under way");
        expected.spared_until = Some((started + seconds(spacing)).max(self.now + spared));

        require(failures == expected.failures, "the log's count is the same")?;
        require(
            self.due(state, key) == Some(self.now + delay),
            "the log's delay is the one that is kept",
        )?;
        let own = if passing && !held { 500 } else { 2500 };
        let own = Duration::from_millis(own);
        let granted = asked(match (login, held) {
            (true, _) => 3600,
            (false, true) => 300,
            (false, false) => 60,
        });
        match wiped_in {
            Some(left) if !login => {
                require(
                    delay >= own.min(left / 2).max(seconds(1)),
                    "a key that is about to be wiped is not tried without a pause",
                )?;
                require(
                    delay < left || left <= seconds(1),
                    "a key that is held is tried before it is wiped",
                )
            }
            _ => {
                require(delay >= own, "a retry is not sooner than its spacing")?;
                require(delay >= granted, "a server that names a time is left alone")?;
                require(
                    delay <= seconds(120).max(granted.mul_f64(1.25)),
                    "a retry comes in reasonable time",
                )
            }
        }
    }

    fn hurry(&self, key: usize, before: &State, state: &mut State) -> Verdict {
        let soon = state.schedule.expedite(&self.keys[key], self.now);
        let (Some(old), Some(new)) = (self.due(before, key), self.due(state, key)) else {
            return require(soon, "a fetch that is under way is worth waiting for");
        };
        let spared = state.expected[key].spared_until;
        let soonest = spared.map_or(self.now, |spared| spared.max(self.now));
        require(
            new == old.min(soonest),
            "a caller's hurry counts at once, but for the time that is to be spared",
        )?;
        require(
            soon == (new < self.now + MISS_WAIT),
            "a caller waits only for what comes in time",
        )
    }

    fn is_ordered(&self, key: usize, before: &State, state: &State) -> Verdict {
        require(
            self.due(state, key).is_none_or(|due| due <= self.now),
            "a person's order is due at once",
        )?;
        require(
            self.due(state, key) <= self.due(before, key),
            "an order puts nothing off",
        )
    }

    /// As `Writer::apply` does it.
    fn reload(&self, before: &State, state: &mut State) -> Verdict {
        let mut schedule = Schedule::default();
        for (key, expected) in state.expected.iter_mut().enumerate() {
            let id = self.keys[key];
            if expected.confirmed.is_none() {
                schedule.add(id, self.now);
                *expected = Expected::default();
            } else {
                schedule.take_over(id, &before.schedule, self.now + INTERVAL, self.now);
                expected.under_way = false;
            }
        }
        state.schedule = schedule;
        for (key, expected) in state.expected.iter().enumerate() {
            let (old, new) = (self.due(before, key), self.due(state, key));
            require(
                new <= old.or(Some(self.now)).max(Some(self.now)),
                "a reload puts nothing off",
            )?;
            require(
                new <= Some(self.now + INTERVAL) || expected.confirmed.is_none(),
                "a reload carries no long wish to be left alone",
            )?;
        }
        Ok(())
    }

    fn due(&self, state: &State, key: usize) -> Option<Instant> {
        state.schedule.plans.get(&self.keys[key])?.due
    }

    fn wait(&self, time: Duration, state: &mut State) {
        let back = |at: &mut Option<Instant>| *at = at.and_then(|at| at.checked_sub(time));
        for plan in state.schedule.plans.values_mut() {
            back(&mut plan.due);
            back(&mut plan.last_start);
            back(&mut plan.soonest);
        }
        for expected in &mut state.expected {
            back(&mut expected.started);
            back(&mut expected.spared_until);
            back(&mut expected.confirmed);
            let wiped = |confirmed: &Instant| {
                let age = self.max_age.unwrap_or(Duration::MAX);
                self.now.duration_since(*confirmed) >= age
            };
            expected.confirmed = expected.confirmed.filter(|confirmed| !wiped(confirmed));
        }
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
    let states = [
        explore(world(Some(seconds(50)), 0.0), 8),
        explore(world(None, 0.999), 8),
    ];
    assert!(states.iter().all(|states| *states > 1000), "{states:?}");
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
