//! What each event does to the schedule, and what must hold then.

use super::*;

/// What is wrong with a step.
type Verdict = Result<(), &'static str>;

fn require(holds: bool, rule: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(rule) }
}

impl World {
    pub(super) fn apply(&self, before: &State, event: Event) -> Result<State, &'static str> {
        let mut state = before.clone();
        match event {
            Event::Start => self.start(before, &mut state)?,
            Event::Success(key) => self.succeed(key, &mut state)?,
            Event::Failure(key, problem, wait) => {
                let failure = self.failure(&state.expected[key], problem, wait);
                self.fail(key, failure, &mut state)?;
            }
            Event::Silence(key) => {
                let failure = Failure {
                    unanswered: true,
                    ..self.failure(&state.expected[key], KeyProblem::Unavailable, None)
                };
                self.fail(key, failure, &mut state)?;
            }
            Event::Hurry(key) => self.hurry(key, before, &mut state)?,
            Event::Nudge(key) => self.nudge(key, before, &mut state)?,
            Event::Order(key) => {
                state.schedule.order(&self.keys[key], self.now);
                self.is_ordered(key, before, &state)?;
            }
            Event::OrderAll => {
                state.schedule.order_all(self.now);
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
        let first = dues.into_iter().flatten().min();
        let next = match state.quiet_until {
            Some(_) if dues.contains(&None) => None,
            quiet => first.max(quiet),
        };
        require(
            state.schedule.next_due() == next,
            "the next is the first that is due, and one at a time while nobody answers",
        )?;
        match event {
            Event::Success(key)
            | Event::Failure(key, ..)
            | Event::Silence(key)
            | Event::Hurry(key)
            | Event::Nudge(key)
            | Event::Order(key) => self.other(1 - key, before, state),
            _ => Ok(()),
        }
    }

    /// What has happened to one key is nothing to the other, unless somebody answers again.
    fn other(&self, key: usize, before: &State, state: &State) -> Verdict {
        let answered = before.quiet_until.is_some() && state.quiet_until.is_none();
        let (old, new) = (self.due(before, key), self.due(state, key));
        if answered && state.expected[key].unanswered {
            let due = old.map(|due| due.min(self.now));
            return require(new == due, "an answer to one is hope for all");
        }
        require(
            new == old,
            "what happens to one key is nothing to the other",
        )
    }

    fn start(&self, before: &State, state: &mut State) -> Verdict {
        let dues = [self.due(before, 0), self.due(before, 1)];
        let is_due = |key: &usize| dues[*key].is_some_and(|due| due <= self.now);
        let mut able = (0..2).filter(is_due);
        let chosen = match before.quiet_until {
            None => able.next(),
            Some(quiet) if quiet > self.now || dues.contains(&None) => None,
            Some(_) => able.min_by_key(|key| dues[*key]),
        };
        let started = state.schedule.start_next(Some(self.keys[0]), self.now);
        require(
            started == chosen.map(|key| self.keys[key]),
            "what is due starts, the write key first, and in turn while nobody answers",
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
        state.quiet_until = None;
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

    /// A failure of a fetch that `expected` says everything else about.
    fn failure(&self, expected: &Expected, problem: KeyProblem, wait: Option<Duration>) -> Failure {
        let until_wiped = |(confirmed, age)| confirmed + age - self.now;
        Failure {
            problem,
            wait,
            unanswered: false,
            held: expected.confirmed.is_some(),
            wiped_in: expected.confirmed.zip(self.max_age).map(until_wiped),
        }
    }

    fn fail(&self, key: usize, failure: Failure, state: &mut State) -> Verdict {
        let schedule = &mut state.schedule;
        let (failures, delay) = schedule.failed(&self.keys[key], failure, self.now, self.jitter);
        let expected = &mut state.expected[key];
        expected.failures = expected.failures.saturating_add(1);
        expected.under_way = false;
        expected.refused = !is_passing(failure.problem);
        expected.unanswered = failure.unanswered && !failure.held;
        let spacing = seconds(if expected.refused { 5 } else { 1 });
        let longest = if is_login(failure) { 3600 } else { 60 };
        let spared = asked(failure, longest);
        let started = expected.started.expect("it was under way");
        expected.spared_until = Some((started + spacing).max(self.now + spared));
        if expected.unanswered {
            state.quiet_until = expected.spared_until;
        } else if !failure.unanswered {
            state.quiet_until = None;
        }

        require(failures == expected.failures, "the log's count is the same")?;
        require(
            self.due(state, key) == Some(self.now + delay),
            "the log's delay is the one that is kept",
        )?;
        if state.expected[key].unanswered {
            let next = (started + seconds(1)).max(self.now);
            return require(
                self.now + delay >= next && self.now + delay <= next + seconds(1) / 10,
                "a key that is missing is tried every second while nobody answers",
            );
        }
        is_reasonable(failure, delay)
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

    fn nudge(&self, key: usize, before: &State, state: &mut State) -> Verdict {
        if !state.expected[key].refused {
            let mut hurried = before.clone();
            self.hurry(key, before, &mut hurried)?;
            state.schedule.nudge(&self.keys[key], self.now);
            return require(
                state.schedule == hurried.schedule,
                "who only asks hurries what may pass by itself",
            );
        }
        state.schedule.nudge(&self.keys[key], self.now);
        require(
            state.schedule == before.schedule,
            "who only asks hurries nothing for which a person must act",
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
        let taken_over = state.expected.iter().any(|key| key.confirmed.is_some());
        state.quiet_until = before.quiet_until.filter(|_| taken_over);
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
        back(&mut state.schedule.quiet_until);
        back(&mut state.quiet_until);
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

fn is_login(failure: Failure) -> bool {
    failure.problem == KeyProblem::Login
}

fn is_passing(problem: KeyProblem) -> bool {
    PROBLEMS[..3].contains(&problem)
}

/// What the server has asked for, in so far as it is granted.
fn asked(failure: Failure, longest: u64) -> Duration {
    failure.wait.unwrap_or_default().min(seconds(longest))
}

/// Whether the next try comes in time, and not too soon.
fn is_reasonable(failure: Failure, delay: Duration) -> Verdict {
    let steady = is_passing(failure.problem) && !failure.held;
    let own = Duration::from_millis(if steady { 500 } else { 2500 });
    if let Some(left) = failure.wiped_in.filter(|_| !is_login(failure)) {
        require(
            delay >= own.min(left / 2).max(seconds(1)),
            "a key that is about to be wiped is not tried without a pause",
        )?;
        return require(
            delay < left || left <= seconds(1),
            "a key that is held is tried before it is wiped",
        );
    }
    let granted = match (is_login(failure), failure.held) {
        (true, _) => asked(failure, 3600),
        (false, true) => asked(failure, 300),
        (false, false) => asked(failure, 60),
    };
    require(delay >= own, "a retry is not sooner than its spacing")?;
    require(delay >= granted, "a server that names a time is left alone")?;
    require(
        delay <= seconds(120).max(granted.mul_f64(1.25)),
        "a retry comes in reasonable time",
    )
}
