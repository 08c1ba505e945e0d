//! All nodes with their clouds, and everybody who acts on them.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::apiserver::{ApiServer, Judge, Stored, unwrap};
use super::history::{DAY, Dice, Edit, History, KEYS, Move, Secret, What};
use super::key_id;
use super::node::{File, Process, Times};
use super::observer::Observer;
use super::operator::{Rotation, Stage};
use super::play::{Figures, Violation};
use super::servers::{Cloud, key_byte};
use crate::envelope::{Fingerprint, WrappingKey};
use crate::keyring::{ConfigUpdate, KeyProblem};
use crate::secret::KekWriter;

/// After the end of all faults every node is ready within this.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The same where Keystone has refused logins before, which are rare then.
const READY_AFTER_REFUSALS: Duration = Duration::from_secs(870);

/// So often after the end of all faults somebody looks whether a reload was refused; the first time
/// the databases of the cluster are of one mind again.
const ASK_AGAIN: Duration = Duration::from_secs(40);

/// How long the first download of a key takes at most while all is well.
const MOMENT: Duration = Duration::from_secs(5);

/// How often the operator of a rotation looks.
pub(super) const LOOK: Duration = Duration::from_secs(150);

/// After so long without an event fewer polls are enough.
const QUIET: Duration = Duration::from_secs(600);

/// So many operators rotate at once.
const OPERATORS: usize = 2;

const HOUR: Duration = Duration::from_secs(3600);

/// How often a node looks at its clock in an hour at most: some twenty times for each of
/// its tries, of which there is one each second while nobody answers, and one for a container.
const LOOKS: u64 = 150_000;

#[expect(clippy::struct_excessive_bools, reason = "each of them by itself")]
pub(super) struct ControlPlane {
    pub(super) cloud: Cloud,
    pub(super) nodes: Vec<Node>,
    pub(super) careful: bool,
    pub(super) container: bool,
    /// The metrics are read.
    metrics: bool,
    etcd: Vec<Stored>,
    /// Of each operator who is at one.
    pub(super) rotations: Vec<Rotation>,
    /// Of an operator who goes to a container, or from it.
    pub(super) switch: Option<bool>,
    /// Some node has followed a container.
    pub(super) followed: bool,
    calls: JoinSet<()>,
    dice: Dice,
    pub(super) begin: Instant,
    pub(super) next_look: Duration,
    next_hour: Duration,
    last_event: Duration,
    /// When every node must be ready.
    ready_at: Option<Duration>,
    /// A key that a container has just brought is given a moment, once.
    patience: bool,
    /// When somebody looks whether a reload was refused.
    ask_again_at: Option<Duration>,
    violation: Option<Violation>,
    pub(super) figures: Figures,
}

pub(super) struct Node {
    pub(super) file: File,
    pub(super) before: File,
    times: Times,
    pub(super) running: Option<(Process, Observer)>,
    api: ApiServer,
    reads: u64,
}

impl ControlPlane {
    pub(super) fn new(history: &History) -> Self {
        let dice = Dice::new(history.seed, 3);
        let file = File {
            container: history.container,
            write: 0,
            decrypt: Vec::new(),
            credential: 0,
            age: history.age,
            interval: history.interval,
            authenticated: false,
            typo: false,
        };
        let node = |number| {
            let date = i64::try_from(dice.below(600)).expect("small") - 300;
            let times = Times::new(date, history.jumps(number));
            Node {
                file: file.clone(),
                before: file.clone(),
                times,
                running: None,
                api: ApiServer::new(Duration::from_millis(100 + dice.below(60_000))),
                reads: 0,
            }
        };
        let mut plane = Self {
            cloud: Cloud::new(history.seed, history.nodes),
            nodes: (0..history.nodes).map(node).collect(),
            careful: history.careful,
            container: history.container,
            metrics: Dice::new(history.seed, 5).one_in(4),
            etcd: Vec::new(),
            rotations: Vec::new(),
            switch: None,
            followed: history.container,
            calls: JoinSet::new(),
            dice,
            begin: Instant::now(),
            next_look: LOOK,
            next_hour: HOUR,
            last_event: Duration::ZERO,
            ready_at: None,
            patience: false,
            ask_again_at: None,
            violation: None,
            figures: Figures::default(),
        };
        for node in 0..plane.nodes.len() {
            plane.start(node);
        }
        plane
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.cloud.state();
        Figures {
            requests: state.requests,
            most_payloads: state.most_payloads,
            ..self.figures
        }
    }

    /// The first thing that must not be, if there is one.
    pub(super) fn violation(&mut self) -> Option<Violation> {
        let complaint = self.cloud.state().complaint.take();
        if let Some(text) = complaint {
            self.fail(text);
        }
        self.violation.take()
    }

    fn fail(&mut self, text: String) {
        let (step, at) = (self.figures.steps, self.begin.elapsed());
        self.violation.get_or_insert(Violation { step, at, text });
    }

    /// Holds what there is against the rules.
    pub(super) fn look(&mut self) {
        let mut wrong = None;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if let Some((process, observer)) = &mut node.running
                && let Err(text) = observer.look(process, &node.times)
            {
                wrong.get_or_insert(format!("{text} (node {number})"));
            }
        }
        if let Some(text) = wrong {
            self.fail(text);
        }
    }

    /// When somebody acts of his own accord next.
    pub(super) fn next_step(&self) -> Duration {
        let polls = self.nodes.iter().map(|node| node.api.next_poll);
        let look = Some(self.next_look).filter(|_| self.is_at_work());
        let own = [Some(self.next_hour), look, self.ready_at, self.ask_again_at];
        polls.chain(own.into_iter().flatten()).min().unwrap_or(DAY)
    }

    /// What is due at `now`.
    pub(super) fn step(&mut self, now: Duration) {
        self.figures.steps += 1;
        while self.calls.try_join_next().is_some() {}
        if self.ready_at.is_some_and(|at| at <= now) {
            self.ready_at = None;
            if self.patience && self.has_just_listed() {
                self.patience = false;
                self.ready_at = Some(now + MOMENT);
            } else {
                self.must_be_ready();
            }
        } else if self.next_hour <= now {
            self.next_hour += HOUR;
            self.each_hour();
        } else if self.ask_again_at.is_some_and(|at| at <= now) {
            // What waits for a key that was refused until now is refused later.
            let ready_at = self.ready_at.unwrap_or(now);
            self.ask_again_at = Some(now + ASK_AGAIN).filter(|next| *next < ready_at);
            self.ask_again();
        } else if self.is_at_work() && self.next_look <= now {
            self.next_look = now + LOOK;
            self.rotate();
            self.go_on_switching();
        } else if let Some(node) =
            (0..self.nodes.len()).find(|node| self.nodes[*node].api.next_poll <= now)
        {
            self.poll(node);
        }
    }

    /// An operator is at something.
    fn is_at_work(&self) -> bool {
        !self.rotations.is_empty() || self.switch.is_some()
    }

    /// What happens to them.
    pub(super) fn perform(&mut self, what: What) {
        self.figures.steps += 1;
        self.notice_event();
        self.ready_at = None;
        match what {
            What::Barbican(weather) => self.cloud.state().barbican = weather,
            What::Keystone(weather) => self.cloud.state().keystone = weather,
            What::Cut(node, cut) => self.cloud.state().cut[node] = cut,
            What::Secret(key, secret) => self.cloud.state().change_secret(key, secret),
            What::Container(health) => self.cloud.state().container.health = health,
            What::Move(change) => self.make(change),
            What::Credential(number, taken) => self.cloud.state().credentials[number] = taken,
            What::TokensRevoked => self.cloud.state().era += 1,
            What::Backup => self.lose_newest_key(),
            What::Edit(node, edit) => {
                let node_of = &mut self.nodes[node];
                if edit == Edit::Undo {
                    std::mem::swap(&mut node_of.file, &mut node_of.before);
                } else {
                    node_of.before = node_of.file.clone();
                    node_of.file.edit(edit);
                }
                self.propose(node);
            }
            What::Sighup(node) => self.propose(node),
            What::Revalidate(node) => {
                if let Some((process, _)) = &self.nodes[node].running {
                    process.keyring.revalidate();
                }
            }
            What::Restart(node) => self.start(node),
            What::Suspend(node, seconds) => {
                self.nodes[node].times.suspend(seconds);
                if let Some((_, observer)) = &mut self.nodes[node].running {
                    observer.suspend();
                }
            }
            What::Date(node, by) => self.nodes[node].times.change_date(by),
            What::Rotate => self.begin_rotation(),
            What::Switch => self.begin_switch(),
            What::AllClear => self.all_clear(),
        }
    }

    /// Who polls rarely, because nothing has happened for long, does so soon again.
    fn notice_event(&mut self) {
        let now = self.begin.elapsed();
        if now > self.last_event + QUIET {
            for node in &mut self.nodes {
                let soon = now + Duration::from_millis(100 + self.dice.below(60_000));
                node.api.next_poll = node.api.next_poll.min(soon);
            }
        }
        self.last_event = now;
    }

    /// Starts the sidecar of `node` (again), which takes a file without errors.
    fn start(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.running = None;
        node.api.forget();
        if let Ok(live) = node.file.parsed() {
            let process = Process::start(&self.cloud, number, &node.times, &live, &self.dice);
            let observer = Observer::new(&process, &live);
            node.running = Some((process, observer));
        }
    }

    /// The sidecar of `node` is told what its file says.
    pub(super) fn propose(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some((process, observer)) = &mut node.running else {
            return self.start(number);
        };
        let parsed = node.file.parsed();
        let update = match &parsed {
            Ok(live) => ConfigUpdate::Valid(live.clone()),
            Err(message) => ConfigUpdate::Invalid(message.as_str().into()),
        };
        observer.tell(parsed);
        process.updates.send_replace(update);
    }

    fn lose_newest_key(&mut self) {
        let newest = self.nodes.iter().filter_map(Node::write).max();
        let mut state = self.cloud.state();
        state.era += 1;
        state.container.restore();
        state.change_secret(newest.unwrap_or(0), Secret::Gone);
    }

    /// Seconds since the begin.
    fn now(&self) -> i64 {
        i64::try_from(self.begin.elapsed().as_secs()).expect("a day")
    }

    fn make(&self, change: Move) {
        let now = self.now();
        self.cloud.state().container.make(change, now);
    }

    fn all_clear(&mut self) {
        let refused = self.cloud.heal();
        let limit = if refused {
            READY_AFTER_REFUSALS
        } else {
            READY_WITHIN
        };
        self.ready_at = Some(self.begin.elapsed() + limit);
        self.patience = true;
        self.ask_again_at = Some(self.begin.elapsed() + ASK_AGAIN);
        // A rotation waits until everything is known to be well.
        self.next_look = self.begin.elapsed() + limit + LOOK;
        let named = |key: &usize| {
            let id = key_id(*key);
            self.etcd.iter().any(|stored| stored.id == id)
                || self.nodes.iter().any(|node| node.names_or_uses(*key))
        };
        let needed: Vec<usize> = (0..KEYS).filter(named).collect();
        let mut files = self.nodes.iter().map(|node| &node.file);
        if self.container || files.any(|file| file.container) {
            self.put_right(&needed);
        } else if self.careful {
            self.agree();
        }
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let before = node.file.clone();
            node.file.typo = false;
            node.file.credential = 0;
            if !self.careful && !node.file.container {
                // With what a refused reload asks for: the write key in use stays in the ring.
                for key in &needed {
                    node.file.edit(Edit::Add(*key));
                }
            }
            if node.holds_other_bytes() {
                self.start(number);
            } else if node.file != before || node.running.is_none() {
                self.propose(number);
            }
        }
    }

    /// Whoever is responsible for the container, and the clocks, does so.
    fn put_right(&self, needed: &[usize]) {
        if !self.careful {
            let now = self.now();
            self.cloud.state().container.repair(needed, now);
        }
        for node in &self.nodes {
            node.times
                .set_date(i64::try_from(self.dice.below(600)).expect("small") - 300);
        }
    }

    /// Operators who have come into each other's way agree on one of their keys.
    fn agree(&mut self) {
        let new = self.nodes[0].file.write;
        let other = self.nodes.iter().map(|node| node.file.write);
        if !self.is_at_work()
            && let Some(old) = other.into_iter().find(|write| *write != new)
        {
            self.rotations.push(Rotation::new(old, new));
        }
    }

    /// Whether a node has come to know of a key that it has had no answer for yet: it may read its
    /// container at any moment.
    fn has_just_listed(&self) -> bool {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        running
            .filter(|(_, observer)| observer.in_force.ring.container.is_some())
            .any(|(process, _)| {
                let snapshot = process.keyring.snapshot();
                let problems = snapshot.slots().map(|(_, slot)| slot.problem());
                problems
                    .flatten()
                    .any(|problem| problem == KeyProblem::Pending)
            })
    }

    /// Rule 7.
    fn must_be_ready(&mut self) {
        let mut wrong = None;
        for (number, node) in self.nodes.iter().enumerate() {
            let Some((process, observer)) = &node.running else {
                wrong.get_or_insert(format!("rule 7: node {number} does not run"));
                continue;
            };
            if let Err(error) = process.keyring.status() {
                wrong.get_or_insert(format!("rule 7: node {number} is not ready: {error}"));
            }
            let snapshot = process.keyring.snapshot();
            let missing = snapshot.slots().find(|(_, slot)| slot.key().is_none());
            if let Some((id, slot)) = missing {
                let problem = slot.problem();
                wrong.get_or_insert(format!(
                    "rule 7: node {number} still misses {id}: {problem:?}"
                ));
            }
            if node
                .file
                .parsed()
                .is_ok_and(|live| live != observer.in_force)
            {
                let reload = process.keyring.report().last_reload.clone();
                wrong.get_or_insert(format!(
                    "rule 7: node {number} does not follow its file: {reload:?}"
                ));
            }
        }
        if let Some(text) = wrong {
            self.fail(text);
        }
    }

    /// Rules 6 and 8: no busy loop, and true metrics.
    fn each_hour(&mut self) {
        let mut wrong = None;
        let anyway = self.next_hour.as_secs().is_multiple_of(12 * 3600);
        let metrics = self.metrics;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let reads = node.times.reads();
            let looks = reads - std::mem::replace(&mut node.reads, reads);
            self.figures.most_looks = self.figures.most_looks.max(looks);
            if let Some((process, _)) = &mut node.running
                && metrics
                && let Err(text) = node.times.uncounted(|| process.metrics_are_true(anyway))
            {
                wrong = Some(format!("{text} (node {number})"));
            }
            if looks > LOOKS {
                wrong = Some(format!(
                    "rule 6: node {number} looks at its clock {looks} times within an hour"
                ));
            }
        }
        if let Some(text) = wrong {
            self.fail(text);
        }
    }

    fn poll(&mut self, number: usize) {
        let careful = self.is_careful();
        let quiet = !self.is_at_work() && self.begin.elapsed() > self.last_event + QUIET;
        let node = &mut self.nodes[number];
        let Some((process, _)) = &node.running else {
            node.api.next_poll += Duration::from_secs(10);
            return;
        };
        self.figures.calls += 1;
        let judge = Judge {
            cloud: self.cloud.clone(),
            begin: self.begin,
            node: number,
            careful,
        };
        let (kms, keyring) = (process.kms.clone(), process.keyring.clone());
        let fresh = node.api.seed_id.is_none();
        let stored = node.api.poll(&kms, &keyring, &judge, &self.dice, quiet);
        if let Some(stored) = stored {
            self.etcd
                .retain(|old| (old.id, old.node) != (stored.id, stored.node));
            self.etcd.push(stored);
            // The other servers see it at once.
            for other in 0..self.nodes.len() {
                self.unwrap(other, self.etcd.len() - 1);
            }
        }
        if fresh && self.nodes[number].api.seed_id.is_some() {
            for index in 0..self.etcd.len() {
                self.unwrap(number, index);
            }
        } else if !self.etcd.is_empty() && (fresh || self.dice.one_in(4)) {
            let index = self.dice.index(self.etcd.len());
            self.unwrap(number, index);
        }
    }

    fn unwrap(&mut self, number: usize, index: usize) {
        let node = &self.nodes[number];
        let Some((process, observer)) = &node.running else {
            return;
        };
        self.figures.calls += 1;
        let stored = &self.etcd[index];
        let judge = Judge {
            cloud: self.cloud.clone(),
            begin: self.begin,
            node: number,
            careful: self.is_careful(),
        };
        let same_bytes = stored.is_under(observer.fingerprint(&stored.id));
        unwrap(
            stored,
            &process.kms,
            &process.keyring,
            same_bytes,
            node.times.now(),
            &judge,
            &mut self.calls,
        );
    }

    /// Whether nothing has happened that makes data unreadable.
    fn is_careful(&self) -> bool {
        self.careful && !(self.followed && self.cloud.state().accident)
    }

    fn begin_rotation(&mut self) {
        let old = self.nodes[0].write().filter(|_| self.switch.is_none());
        let Some(old) = old.filter(|_| self.nodes.iter().all(|node| node.write() == old)) else {
            return;
        };
        let others: Vec<usize> = self.rotations.iter().map(|other| other.new).collect();
        let new = if self.container {
            self.cloud.state().container.unused()
        } else {
            (1..KEYS)
                .map(|step| (old + step) % KEYS)
                .find(|key| !others.contains(key))
        };
        let Some(new) = new.filter(|new| others.len() < OPERATORS && !others.contains(new)) else {
            return;
        };
        self.cloud.state().secrets[new] = Secret::There;
        self.rotations.push(Rotation::new(old, new));
        self.next_look = self.next_look.max(self.begin.elapsed() + LOOK);
    }

    /// Each operator looks, and does the next thing if all is well so far.
    fn rotate(&mut self) {
        for rotation in std::mem::take(&mut self.rotations) {
            if let Some(rotation) = self.go_on(rotation) {
                self.rotations.push(rotation);
            }
        }
    }

    /// What `rotation` comes to; `None` when it is over.
    fn go_on(&mut self, rotation: Rotation) -> Option<Rotation> {
        if self.is_overtaken(rotation) {
            return None;
        }
        if self.container {
            let change = rotation.change(&self.cloud.state().container);
            if let Some(change) = change {
                // Whoever was restarted with a clock that is slow has used the old key again.
                if rotation.stage != Stage::Drop || self.is_migrated(rotation) {
                    self.make(change);
                }
                return Some(rotation);
            }
        } else if let Some((number, edit)) = self.next_edit(rotation) {
            let node = &mut self.nodes[number];
            node.before = node.file.clone();
            node.file.edit(edit);
            self.propose(number);
            return Some(rotation);
        }
        if !self.nodes.iter().all(|node| node.has_passed(rotation)) {
            return Some(rotation);
        }
        if rotation.stage == Stage::Migrate {
            self.is_migrated(rotation);
        }
        let next = rotation.next();
        self.figures.rotations += u64::from(next.is_none());
        next
    }

    /// Has everything written again, as far as every server uses the new key.
    fn is_migrated(&mut self, rotation: Rotation) -> bool {
        let new = Some(key_id(rotation.new));
        let done = self.nodes.iter().all(|node| node.api.seed_id == new);
        if done {
            let old = key_id(rotation.old);
            self.etcd.retain(|stored| stored.id != old);
        }
        done
    }

    fn next_edit(&self, rotation: Rotation) -> Option<(usize, Edit)> {
        let edit = |node: &Node| rotation.edit(&node.file);
        (0..self.nodes.len()).find_map(|at| Some((at, edit(&self.nodes[at])?)))
    }

    /// Another operator has brought a key of his own into use meanwhile.
    fn is_overtaken(&self, rotation: Rotation) -> bool {
        let is_another = |write: usize| write != rotation.old && write != rotation.new;
        rotation.stage != Stage::Drop
            && self
                .nodes
                .iter()
                .any(|node| node.write().is_some_and(is_another))
    }
}

impl Node {
    /// The number of the write key: by the file, or as the process says.
    pub(super) fn write(&self) -> Option<usize> {
        if !self.file.container {
            return Some(self.file.write);
        }
        self.in_use()
    }

    fn names_or_uses(&self, key: usize) -> bool {
        self.write() == Some(key) || self.in_use() == Some(key)
    }

    fn has_passed(&self, rotation: Rotation) -> bool {
        let new = key_id(rotation.new);
        let Some((process, _)) = &self.running else {
            return false;
        };
        let snapshot = process.keyring.snapshot();
        match rotation.stage {
            Stage::Add => snapshot.holds(&new),
            Stage::Write => process.keyring.status() == Ok(new),
            Stage::Migrate => self.api.seed_id == Some(new),
            Stage::Drop => snapshot.slot(&key_id(rotation.old)).is_none(),
        }
    }

    /// Somebody has changed a secret before this process came to know it.
    fn holds_other_bytes(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, observer)| {
            (0..KEYS).any(|key| {
                let bytes = observer.fingerprint(&key_id(key));
                bytes.is_some_and(|bytes| bytes != right_bytes()[key])
            })
        })
    }
}

fn right_bytes() -> &'static [Fingerprint] {
    static BYTES: OnceLock<Vec<Fingerprint>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let of = |key| {
            let mut writer = KekWriter::new();
            writer.push(&[key_byte(key); 32]);
            WrappingKey::new(&writer.finish().expect("a key")).fingerprint()
        };
        (0..KEYS).map(of).collect()
    })
}
