//! Makes a history that breaks a rule as short as it can be, and shows it.

use std::fmt::Write as _;

use super::history::{Clockface, History};
use super::play::{Violation, play};

/// So many replays are made at most.
const REPLAYS: usize = 400;

/// A shorter history that breaks the same rule, and how it does.
pub(super) fn shrunk(history: &History, violation: &Violation) -> (History, Violation) {
    let mut best = (history.clone(), violation.clone());
    best.0.events.retain(|event| event.at <= violation.at);
    let mut replays = 0;
    let mut size = best.0.events.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.0.events.len() && replays < REPLAYS {
            let mut shorter = best.0.clone();
            let end = (at + size).min(shorter.events.len());
            shorter.events.drain(at..end);
            replays += 1;
            match play(&shorter).violation {
                Some(found) if found.rule() == violation.rule() => best = (shorter, found),
                _ => at = end,
            }
        }
        if size == 1 || replays >= REPLAYS {
            return best;
        }
        size = size.div_ceil(2);
    }
}

/// For a person: what is wrong, and the shortest history that leads to it.
pub(super) fn shown(history: &History, violation: &Violation) -> String {
    let (shorter, found) = shrunk(history, violation);
    let mut text = String::new();
    let seed = history.seed;
    let _ = writeln!(
        text,
        "\nSEED={seed}, step {}, {}: {}",
        violation.step,
        Clockface(violation.at.as_secs()),
        violation.text
    );
    let _ = writeln!(
        text,
        "{} of {} events are enough, with {} nodes, revalidate-interval {} s, max-cache-age {:?}:",
        shorter.events.len(),
        history.events.len(),
        history.nodes,
        history.interval,
        history.age,
    );
    for event in &shorter.events {
        let _ = writeln!(text, "  {event}");
    }
    let _ = writeln!(
        text,
        "  {}  {:<9}  {}",
        Clockface(found.at.as_secs()),
        "VIOLATION",
        found.text
    );
    text
}
