//! What the nodes of a simulation write into their logs, and that it is true (rule 8).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::{Context, Poll};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::key_id::KeyId;
use crate::keyring::{Report, Slot, Snapshot};

/// One line, as far as it is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    text: String,
    key: Option<KeyId>,
    write: Option<KeyId>,
}

/// The lines of one refresher that nobody has looked at yet.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Line>>>);

thread_local! {
    /// Of whoever is at work.
    static OPEN: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// From now on what is logged is heard, by whichever log is open on its thread.
///
/// One listener for the whole process: where each thread sets its own, tracing may note for ever
/// that nobody hears a line which it meets at that moment on another thread. For the same reason
/// it has to think again, as such a moment is the first call of this too.
pub(super) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing::subscriber::set_global_default(Listener).expect("nobody else listens");
    });
    tracing::callsite::rebuild_interest_cache();
}

impl Log {
    pub(super) fn is_empty(&self) -> bool {
        self.lines(|lines| lines.is_empty())
    }

    pub(super) fn take(&self) -> Vec<Line> {
        self.lines(std::mem::take)
    }

    fn lines<T>(&self, work: impl FnOnce(&mut Vec<Line>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `work`, whose lines go into this log.
    pub(super) fn of<F: Future>(&self, work: F) -> Logged<F> {
        Logged {
            work: Box::pin(work),
            log: self.clone(),
        }
    }
}

/// What a future does, with its lines in a log of its own.
pub(super) struct Logged<F> {
    work: Pin<Box<F>>,
    log: Log,
}

impl<F: Future> Future for Logged<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        OPEN.set(Some(self.log.clone()));
        let polled = self.work.as_mut().poll(context);
        OPEN.set(None);
        polled
    }
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        OPEN.with_borrow(|log| {
            if let Some(log) = log {
                let mut line = Line::default();
                event.record(&mut line);
                log.lines(|lines| lines.push(line));
            }
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            "key_id" => self.key = format!("{value:?}").parse().ok(),
            "write_key_id" => self.write = format!("{value:?}").parse().ok(),
            _ => {}
        }
    }
}

/// Between two looks.
pub(super) struct Change<'a> {
    pub(super) before: (&'a Snapshot, &'a Report),
    pub(super) after: (&'a Snapshot, &'a Report),
    pub(super) lines: Vec<Line>,
}

type Keys = BTreeSet<KeyId>;

impl Change<'_> {
    /// Rule 8: each line says what has happened, and what has happened is said.
    pub(super) fn is_logged(&self) -> Result<(), String> {
        self.reloads()?;
        self.secrets()?;
        let (old, new) = (self.before.1.reloads.applied, self.after.1.reloads.applied);
        // A new configuration brings and takes keys without a line for each.
        if new == old {
            self.keys()?;
            self.ring()?;
        }
        Ok(())
    }

    fn count(&self, is: impl Fn(&str) -> bool) -> u64 {
        let lines = self.lines.iter().filter(|line| is(&line.text));
        lines.count().try_into().expect("a few")
    }

    /// The keys of the lines that begin so.
    fn named(&self, begin: &str) -> Keys {
        let lines = self.lines.iter();
        let lines = lines.filter(|line| line.text.starts_with(begin));
        lines.filter_map(|line| line.key).collect()
    }

    fn reloads(&self) -> Result<(), String> {
        let (old, new) = (&self.before.1.reloads, &self.after.1.reloads);
        let agree = |what: &str, counted: u64, logged: u64| {
            if counted == logged {
                Ok(())
            } else {
                Err(format!(
                    "rule 8: {counted} reloads are {what}, and the log has {logged}"
                ))
            }
        };
        let applied = self.count(|text| text == "configuration reloaded");
        agree("applied", new.applied - old.applied, applied)?;
        let unchanged = self.count(|text| text.ends_with(": nothing to reload"));
        agree("unchanged", new.unchanged - old.unchanged, unchanged)?;
        let refused = self.count(|text| {
            let cause = text.strip_prefix("configuration not reloaded, the old one stays in use: ");
            cause.is_some_and(|cause| !cause.starts_with("key not loaded: "))
        });
        let more = (new.invalid + new.refused) - (old.invalid + old.refused);
        agree("refused or not valid", more, refused)
    }

    fn keys(&self) -> Result<(), String> {
        let (before, after) = (self.before.0, self.after.0);
        let ids = after.slots().map(|(id, _)| *id);
        let ids = ids.filter(|id| before.holds(id) != after.holds(id));
        let (come, gone): (Keys, Keys) = ids.partition(|id| after.holds(id));
        let mut loaded = self.named("key loaded");
        // One that has left the ring meanwhile is another matter.
        let ring = |id: &KeyId| after.slot(id).is_some();
        loaded.retain(ring);
        if loaded != come {
            return Err(format!(
                "rule 8: {come:?} are held now, and the log says {loaded:?}"
            ));
        }
        let wiped = self.named("key wiped");
        let was_held = |id: &KeyId| before.holds(id) && !after.holds(id);
        if !gone.is_subset(&wiped) || !wiped.iter().all(was_held) {
            return Err(format!(
                "rule 8: {gone:?} are wiped, and the log says {wiped:?}"
            ));
        }
        let problem = |id: &KeyId| after.slot(id).and_then(Slot::problem);
        let is_well = |id: &KeyId| after.holds(id) && problem(id).is_none();
        let is_kept = |id: &KeyId| after.holds(id) && problem(id).is_some();
        let is_missing = |id: &KeyId| !after.holds(id) && problem(id).is_some();
        let lie = |begin, is: &dyn Fn(&KeyId) -> bool| {
            let said = self.named(begin).into_iter();
            said.filter(ring).find(|id| !is(id))
        };
        let lies = [
            ("key confirmed again", lie("key confirmed again", &is_well)),
            ("key not confirmed", lie("key not confirmed", &is_kept)),
            ("key not loaded", lie("key not loaded", &is_missing)),
        ];
        match lies.into_iter().find_map(|(text, id)| Some((text, id?))) {
            Some((text, id)) => Err(format!("rule 8: the log says of {id}: {text}")),
            None => Ok(()),
        }
    }

    /// Of a ring that follows a container.
    fn ring(&self) -> Result<(), String> {
        let (before, after) = (self.before.0, self.after.0);
        let ids = |snapshot: &Snapshot| -> Keys { snapshot.slots().map(|(id, _)| *id).collect() };
        let changed = before.write_id() != after.write_id() || ids(before) != ids(after);
        let lines = self.lines.iter();
        let mut lines = lines.filter(|line| line.text == "the ring is as the key container says");
        let (newest, before_it) = (lines.next_back(), lines.next());
        // Two changes may come to none: a key that nobody has used yet is refused, then the next.
        let may_change = changed || before_it.is_some();
        match newest {
            Some(line) if may_change && line.write == after.write_id() => Ok(()),
            None if !changed => Ok(()),
            line => Err(format!(
                "rule 8: the ring has changed: {changed}, and the log says {line:?}"
            )),
        }
    }

    /// Of keys of a container whose secret is gone, or back.
    fn secrets(&self) -> Result<(), String> {
        let gone = |report: &Report| -> Keys {
            let keys = report
                .container
                .iter()
                .flat_map(|container| &container.keys);
            keys.filter(|(_, key)| key.secret_gone)
                .map(|(id, _)| *id)
                .collect()
        };
        let (old, new) = (gone(self.before.1), gone(self.after.1));
        let said = self.named("the secret of a key is gone");
        let back = self.named("the secret of a key that was gone is back");
        if said != &new - &old || back != &old - &new {
            return Err(format!(
                "rule 8: the secrets of {new:?} are gone, of {old:?} they were, and the log says \
                 {said:?}, and {back:?} are back"
            ));
        }
        Ok(())
    }
}
