//! Plays a history, and stops at the first thing that must not be.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;

use super::control_plane::ControlPlane;
use super::history::{DAY, History};
use super::log;
use crate::secret::keep_pages;

/// How a history has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) violation: Option<Violation>,
    pub(super) figures: Figures,
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    /// How many steps were made before.
    pub(super) step: u64,
    pub(super) at: Duration,
    pub(super) text: String,
}

impl Violation {
    /// Which rule it is of.
    pub(super) fn rule(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }
}

/// What a history came to; the greatest of each, or the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) steps: u64,
    pub(super) requests: u64,
    pub(super) most_payloads: usize,
    pub(super) most_looks: u64,
    pub(super) rotations: u64,
    pub(super) switches: u64,
    pub(super) calls: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.rotations += other.rotations;
        self.switches += other.switches;
        self.calls += other.calls;
        self.most_payloads = self.most_payloads.max(other.most_payloads);
        self.most_looks = self.most_looks.max(other.most_looks);
    }
}

thread_local! {
    /// What is looked at whenever nothing moves on this thread.
    static WATCHED: RefCell<Option<Rc<RefCell<ControlPlane>>>> = const { RefCell::new(None) };
}

/// Plays `history` on this thread.
pub(super) fn play(history: &History) -> Outcome {
    keep_pages();
    log::listen();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(at_rest)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let plane = Rc::new(RefCell::new(ControlPlane::new(history)));
        WATCHED.set(Some(Rc::clone(&plane)));
        let violation = drive(&plane, history).await;
        WATCHED.set(None);
        let figures = plane.borrow().figures();
        Outcome { violation, figures }
    })
}

/// Before time goes on.
fn at_rest() {
    WATCHED.with_borrow(|watched| {
        if let Some(plane) = watched
            && let Ok(mut plane) = plane.try_borrow_mut()
        {
            plane.look();
        }
    });
}

async fn drive(plane: &RefCell<ControlPlane>, history: &History) -> Option<Violation> {
    let begin = Instant::now();
    let mut events = history.events.iter().peekable();
    loop {
        if let Some(violation) = plane.borrow_mut().violation() {
            return Some(violation);
        }
        let own = plane.borrow().next_step();
        let event = events.peek().map_or(DAY, |event| event.at);
        let next = own.min(event);
        if next >= DAY {
            return None;
        }
        if begin + next <= Instant::now() {
            settle().await;
        }
        // Time goes on when nothing moves any more.
        tokio::time::sleep_until(begin + next).await;
        // Whatever is due at the same moment goes first.
        tokio::task::yield_now().await;
        let mut plane = plane.borrow_mut();
        plane.look();
        if let Some(violation) = plane.violation() {
            return Some(violation);
        }
        match events.next_if(|event| event.at <= next) {
            Some(event) => plane.perform(event.what),
            None => plane.step(next),
        }
    }
}

/// Lets everything happen that needs no time.
async fn settle() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}
