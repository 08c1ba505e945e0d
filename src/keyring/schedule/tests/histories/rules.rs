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
