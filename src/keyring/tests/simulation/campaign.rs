//! Many histories, on every core, with a line of progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::history::History;
use super::play::{Figures, Violation, play};

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    Histories(u64),
    Time(Duration),
}

/// What it came to.
#[derive(Debug, Default)]
pub(super) struct Summary {
    histories: u64,
    took: Duration,
    figures: Figures,
    pub(super) broken: Option<(History, Violation)>,
}

/// A line is printed this often.
const PROGRESS: Duration = Duration::from_secs(30);

/// Plays histories from seed `first` on until the budget is used up or a rule is broken.
pub(super) fn run(first: u64, budget: Budget) -> Summary {
    let begin = Instant::now();
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let printed = Mutex::new(begin);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let over = match budget {
                Budget::Histories(count) => seed - first >= count,
                Budget::Time(time) => begin.elapsed() >= time,
            };
            if over {
                return;
            }
            let history = History::drawn(seed);
            let outcome = play(&history);
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.histories += 1;
            summary.took = begin.elapsed();
            summary.figures.add(outcome.figures);
            if let Some(violation) = outcome.violation {
                stop.store(true, Ordering::Relaxed);
                summary.broken.get_or_insert((history, violation));
            }
            let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
            if printed.elapsed() >= PROGRESS {
                *printed = Instant::now();
                println!("{summary}");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        write!(
            f,
            "{} histories of a day in {} s: {} steps, {} calls, {} requests to Keystone and \
             Barbican, {} rotations, {} ways from the files to a container or back; at most {} \
             payloads a minute and {} looks at a clock an hour of one node",
            self.histories,
            self.took.as_secs(),
            figures.steps,
            figures.calls,
            figures.requests,
            figures.rotations,
            figures.switches,
            figures.most_payloads,
            figures.most_looks,
        )
    }
}
