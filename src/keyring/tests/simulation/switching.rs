//! The operator who goes from `key-id` to `key-container` in the documented order, or back:
//! what is in use is listed first, and then one node's file changes after another.

use super::control_plane::{ControlPlane, LOOK, Node};
use super::history::{Edit, KEYS, Secret};
use super::key_id;
use super::node::Process;
use super::servers::number_of;
use crate::keyring::ReloadOutcome;

impl ControlPlane {
    /// Begins, where all nodes agree and all is well.
    pub(super) fn begin_switch(&mut self) {
        let write = self.nodes[0].in_use();
        let Some(write) = write.filter(|_| self.rotations.is_empty() && self.switch.is_none())
        else {
            return;
        };
        let agrees = |node: &Node| {
            node.file.container == self.container
                && node.in_use() == Some(write)
                && node.write() == Some(write)
                && node.is_settled()
        };
        let ring = self.ring();
        let mut state = self.cloud.state();
        let there = |key: &usize| state.secrets[*key] == Secret::There;
        if !(self.nodes.iter().all(agrees) && ring.iter().all(there)) {
            return;
        }
        if self.container {
            // What may be missing in some ring would be missing in its file.
            if state.accident {
                return;
            }
        } else {
            let now = i64::try_from(self.begin.elapsed().as_secs()).expect("a day");
            state.container.make_anew(write, &ring, now);
            state.accident = false;
        }
        drop(state);
        self.followed = true;
        self.switch = Some(!self.container);
        self.next_look = self.next_look.max(self.begin.elapsed() + LOOK);
    }

    /// The next node, once the one before is known to be well.
    pub(super) fn go_on_switching(&mut self) {
        let Some(to_container) = self.switch else {
            return;
        };
        let ring = self.ring();
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            if node.file.container != to_container {
                let Some(write) = node.in_use() else {
                    return;
                };
                node.before = node.file.clone();
                node.file.container = to_container;
                node.file.write = write;
                node.file.decrypt.clear();
                if !to_container {
                    let others = ring.into_iter().filter(|key| *key != write);
                    node.file.decrypt.extend(others);
                }
                self.propose(number);
                return;
            }
            if !node.is_settled() {
                if !node.follows_its_file() {
                    self.propose(number);
                }
                return;
            }
        }
        self.container = to_container;
        self.switch = None;
        self.figures.switches += 1;
    }

    /// Where a reload was refused whose cause lies outside the files, somebody must ask again, and do
    /// what the refusal says: the container may have brought another key into use meanwhile.
    pub(super) fn ask_again(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            if node.was_refused() && !node.follows_its_file() {
                if !self.careful
                    && !node.file.container
                    && let Some(key) = node.in_use()
                {
                    node.file.edit(Edit::Add(key));
                }
                self.propose(number);
            }
        }
    }

    /// The keys of all rings.
    fn ring(&self) -> Vec<usize> {
        let named = |key: &usize| self.nodes.iter().any(|node| node.has(*key));
        (0..KEYS).filter(named).collect()
    }
}

impl Node {
    /// The write key of the process.
    pub(super) fn in_use(&self) -> Option<usize> {
        let (process, _) = self.running.as_ref()?;
        let id = process.keyring.snapshot().write_id()?;
        number_of(&id.to_string())
    }

    fn has(&self, key: usize) -> bool {
        self.running.as_ref().is_some_and(|(process, _)| {
            let snapshot = process.keyring.snapshot();
            snapshot.slot(&key_id(key)).is_some()
        })
    }

    fn is_settled(&self) -> bool {
        let ready = |(process, _): &(Process, _)| process.keyring.status().is_ok();
        self.follows_its_file() && self.running.as_ref().is_some_and(ready)
    }

    fn follows_its_file(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, observer)| {
            let parsed = self.file.parsed();
            parsed.is_ok_and(|live| live == observer.in_force)
        })
    }

    fn was_refused(&self) -> bool {
        self.running.as_ref().is_some_and(|(process, _)| {
            let report = process.keyring.report();
            let last = report.last_reload.as_ref();
            last.is_some_and(|last| last.outcome == ReloadOutcome::Refused)
        })
    }
}
