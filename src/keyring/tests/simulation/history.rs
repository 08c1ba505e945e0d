//! A history: what happens to a control plane in a day, drawn from a seed.
//!
//! All of it is known before it is played, so that one event can be left out and the
//! rest played again.

use std::fmt;
use std::time::Duration;

use super::container::Health;
use crate::chance::Chance;

/// A simulated day.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Keys that there are in all; the first is in use at the beginning.
pub(super) const KEYS: usize = 6;

/// Credentials that there are; the first is in use at the beginning.
pub(super) const CREDENTIALS: usize = 3;

/// After an end of all faults nothing happens for so long.
pub(super) const CALM: Duration = Duration::from_secs(16 * 60);

/// How often keys are confirmed, in seconds.
const INTERVALS: [u64; 16] = [
    300, 900, 900, 1800, 1800, 1800, 1800, 3600, 3600, 3600, 3600, 3600, 3600, 7200, 7200, 7200,
];

/// Control planes are of one, three or five nodes; two show most of what one does to another.
const NODES: [usize; 10] = [1, 1, 1, 1, 2, 2, 2, 3, 3, 5];

#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    /// The operator keeps to the documented order.
    pub(super) careful: bool,
    /// A container lists the keys, and not each node's file.
    pub(super) container: bool,
    /// How often keys are confirmed, in seconds.
    pub(super) interval: u64,
    /// `max-cache-age` in seconds, if any.
    pub(super) age: Option<u64>,
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Since the beginning.
    pub(super) at: Duration,
    pub(super) what: What,
}

/// How a server fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fine,
    /// Answers after so many seconds.
    Slow(u64),
    Refusing,
    Hanging,
    /// Every other reply is lost.
    Losing,
    /// 429 with `Retry-After`, in seconds.
    Busy(u64),
    /// 500 or 503.
    Failing,
    /// 401, whatever it is shown.
    Distrusting,
    /// 403.
    Forbidding,
    /// A page of somebody else.
    Page,
}

/// What Barbican has of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    There,
    /// Deleted, which takes it out of the container as well.
    Gone,
    Expired,
    OtherBytes,
    /// Of no length that a key has.
    NoKey,
}

/// What an operator changes in one node's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Adds a key for Decrypt.
    Add(usize),
    /// Makes it the write key, and keeps the old one.
    Write(usize),
    /// Makes it the write key, and forgets the old one.
    WriteOnly(usize),
    /// Takes it out of the ring, where it is not the write key.
    Drop(usize),
    Credential(usize),
    /// Seconds.
    Age(Option<u64>),
    Interval(u64),
    Authenticated(bool),
    Typo,
    /// Puts `key-container` in place of `key-id`, or the other way round.
    Switch,
    /// Writes what was there before the last change.
    Undo,
}

/// What an operator changes in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Makes a key readable.
    Stage(usize),
    /// Makes it the write key in so many seconds.
    Activate(usize, i64),
    Retire(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Barbican(Weather),
    Keystone(Weather),
    /// A node reaches neither of them any more, or again.
    Cut(usize, bool),
    Secret(usize, Secret),
    Container(Health),
    Move(Move),
    /// Keystone takes a credential, or does not.
    Credential(usize, bool),
    /// Every token that was given out is worthless.
    TokensRevoked,
    /// Both servers are restored: the newest key, the last change of the container and all
    /// tokens are lost.
    Backup,
    Edit(usize, Edit),
    /// The same files once more.
    Sighup(usize),
    /// Somebody asks for every key to be confirmed.
    Revalidate(usize),
    Restart(usize),
    /// The machine stands still for so many seconds.
    Suspend(usize, u64),
    /// The date changes by so many seconds.
    Date(usize, i64),
    /// An operator begins a rotation in the documented order, maybe beside another one.
    Rotate,
    /// An operator begins to go from keys in the files to a container, or back.
    Switch,
    /// Faults end, and what is wrong is put right.
    AllClear,
}

/// Draws numbers.
#[derive(Clone)]
pub(super) struct Dice(Chance);

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mixed = (seed ^ stream.rotate_left(32)).wrapping_mul(0xd134_2543_de82_ef95);
        Self(Chance::seeded(mixed ^ (mixed >> 29)))
    }

    /// One of `0..bound`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small bound"
    )]
    pub(super) fn below(&self, bound: u32) -> u64 {
        (self.0.fraction() * f64::from(bound)) as u64
    }

    pub(super) fn index(&self, length: usize) -> usize {
        let bound = u32::try_from(length).expect("a short list");
        usize::try_from(self.below(bound)).expect("less than that")
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub(super) fn one_in(&self, many: u32) -> bool {
        self.below(many) == 0
    }

    pub(super) fn seconds(&self, from: u32, to: u32) -> Duration {
        Duration::from_secs(u64::from(from) + self.below(to - from + 1))
    }
}

impl History {
    pub(super) fn drawn(seed: u64) -> Self {
        let dice = Dice::new(seed, 1);
        let interval = dice.pick(&INTERVALS);
        let mut history = Self {
            seed,
            nodes: dice.pick(&NODES),
            careful: dice.one_in(2),
            container: Dice::new(seed, 4).one_in(2),
            interval,
            age: dice.pick(&[None, None, Some(2 * interval), Some(4 * interval)]),
            events: Vec::new(),
        };
        let mut at = dice.seconds(60, 1800);
        while at + CALM * 2 < DAY {
            at = history.episode(at, &dice) + CALM + dice.seconds(0, 8 * 3600);
        }
        history
    }

    /// When a clock of the node jumps; at an end of all faults every date is set right.
    pub(super) fn jumps(&self, node: usize) -> Vec<Duration> {
        let is_one = |event: &&Event| match event.what {
            What::Suspend(of, _) | What::Date(of, _) => of == node,
            What::AllClear => true,
            _ => false,
        };
        self.events
            .iter()
            .filter(is_one)
            .map(|event| event.at)
            .collect()
    }

    /// A time of trouble, and its end.
    fn episode(&mut self, begin: Duration, dice: &Dice) -> Duration {
        let long = length(dice);
        let mut times: Vec<Duration> = (0..3 + dice.below(8))
            .map(|_| begin + dice.seconds(0, long))
            .filter(|at| *at + CALM < DAY)
            .collect();
        times.sort();
        for at in &times {
            let what = self.trouble(dice);
            self.events.push(Event { at: *at, what });
        }
        let end = times.last().copied().unwrap_or(begin) + dice.seconds(1, 240);
        let end = end.min(DAY.saturating_sub(CALM));
        self.events.push(Event {
            at: end,
            what: What::AllClear,
        });
        end
    }

    fn trouble(&self, dice: &Dice) -> What {
        let node = dice.index(self.nodes);
        match dice.below(20) {
            0..=3 => What::Barbican(weather(dice)),
            4..=5 => What::Keystone(weather(dice)),
            6 => What::Cut(node, !dice.one_in(3)),
            7 => What::Secret(dice.index(KEYS), secret(dice)),
            8 => What::Credential(dice.index(CREDENTIALS), dice.one_in(3)),
            9 => What::TokensRevoked,
            10 => What::Sighup(node),
            11 => What::Restart(node),
            12 => What::Suspend(node, dice.pick(&[5, 90, 600, 4000, 30_000])),
            13 => What::Date(node, dice.pick(&[-7200, -300, -1, 60, 3600, 90_000])),
            14 | 16 if self.careful => What::Rotate,
            18 if self.careful && dice.one_in(2) => What::Switch,
            14 => What::Backup,
            16 if self.container || dice.one_in(3) => What::Move(change(dice)),
            17 if self.container => What::Container(health(dice)),
            15 if dice.one_in(2) => What::Revalidate(node),
            _ => What::Edit(node, self.edit(dice)),
        }
    }

    fn edit(&self, dice: &Dice) -> Edit {
        let age = self.interval * dice.pick(&[2, 3, 8]);
        let kinds = match (self.careful, self.container) {
            (true, _) => 4,
            (false, true) => 9,
            (false, false) => 13,
        };
        match dice.below(kinds) {
            0 => Edit::Age(Some(age).filter(|_| dice.one_in(2))),
            1 => Edit::Authenticated(dice.one_in(2)),
            2 => Edit::Typo,
            3 if self.careful => Edit::Interval(self.interval),
            3 => Edit::Credential(dice.index(CREDENTIALS)),
            4 => Edit::Interval(dice.pick(&[60, 900, 1800, 3600, 3600, 7200])),
            5 if self.container => Edit::Drop(dice.index(KEYS)),
            7 if self.container => Edit::Switch,
            8 if self.container => Edit::Undo,
            12 => Edit::Switch,
            5..=6 => Edit::Add(dice.index(KEYS)),
            7..=8 => Edit::Write(dice.index(KEYS)),
            9 => Edit::WriteOnly(dice.index(KEYS)),
            10 => Edit::Drop(dice.index(KEYS)),
            _ => Edit::Undo,
        }
    }
}

/// How long a time of trouble takes, in seconds. While nobody answers a second costs most, and
/// most of what can go wrong goes wrong at its begin and its end: so most are short, and of some
/// four in each day one in five hundred takes hours.
fn length(dice: &Dice) -> u32 {
    match dice.below(512) {
        0 => 7200,
        1 => 3600,
        2..=3 => 1800,
        4..=11 => 900,
        12..=43 => 600,
        44..=123 => 300,
        124..=283 => 120,
        _ => 60,
    }
}

fn weather(dice: &Dice) -> Weather {
    dice.pick(&[
        Weather::Fine,
        Weather::Slow(3),
        Weather::Slow(8),
        Weather::Slow(30),
        Weather::Refusing,
        Weather::Hanging,
        Weather::Losing,
        Weather::Busy(1),
        Weather::Busy(40),
        Weather::Busy(86_400),
        Weather::Failing,
        Weather::Distrusting,
        Weather::Forbidding,
        Weather::Page,
    ])
}

fn secret(dice: &Dice) -> Secret {
    dice.pick(&[
        Secret::There,
        Secret::Gone,
        Secret::Expired,
        Secret::OtherBytes,
        Secret::NoKey,
    ])
}

fn change(dice: &Dice) -> Move {
    let key = dice.index(KEYS);
    match dice.below(4) {
        0 => Move::Stage(key),
        1 => Move::Activate(key, 0),
        2 => Move::Activate(key, dice.pick(&[-3600, 30, 900, 4000])),
        _ => Move::Retire(key),
    }
}

fn health(dice: &Dice) -> Health {
    dice.pick(&[
        Health::Fine,
        Health::Gone,
        Health::Certificate,
        Health::Strange,
        Health::TooLarge,
    ])
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, what) = (self.at.as_secs(), self.what);
        let clock = Clockface(seconds);
        let (who, what) = match what {
            What::Barbican(weather) => ("Barbican".to_owned(), format!("{weather:?}")),
            What::Keystone(weather) => ("Keystone".to_owned(), format!("{weather:?}")),
            What::Secret(key, secret) => ("Barbican".to_owned(), format!("key {key}: {secret:?}")),
            What::Container(health) => ("Barbican".to_owned(), format!("container: {health:?}")),
            What::Move(change) => ("operator".to_owned(), format!("container: {change:?}")),
            What::Credential(number, taken) => (
                "Keystone".to_owned(),
                format!("takes credential {number}: {taken}"),
            ),
            What::TokensRevoked | What::Backup => ("servers".to_owned(), format!("{what:?}")),
            What::Cut(node, cut) => (format!("node {node}"), format!("cut off: {cut}")),
            What::Edit(node, edit) => (format!("node {node}"), format!("file: {edit:?}")),
            What::Sighup(node) => (format!("node {node}"), "SIGHUP".to_owned()),
            What::Revalidate(node) => (format!("node {node}"), "confirm all keys".to_owned()),
            What::Restart(node) => (format!("node {node}"), "restart".to_owned()),
            What::Suspend(node, time) => (format!("node {node}"), format!("suspended {time} s")),
            What::Date(node, by) => (format!("node {node}"), format!("date jumps {by} s")),
            What::Rotate => ("operator".to_owned(), "begins a rotation".to_owned()),
            What::Switch => (
                "operator".to_owned(),
                "begins to go from the files to a container, or back".to_owned(),
            ),
            What::AllClear => ("everybody".to_owned(), "all clear".to_owned()),
        };
        write!(f, "{clock}  {who:<9}  {what}")
    }
}

/// A time of the day.
pub(super) struct Clockface(pub(super) u64);

impl fmt::Display for Clockface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seconds) = self;
        write!(
            f,
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}
