//! The operator who rotates in the documented order, and edits of one file.

use super::container::Container;
use super::history::{Edit, Move};
use super::node::File;

/// A rotation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The new key is added to `decrypt-key-ids` on every node.
    Add,
    /// It becomes `key-id` on every node.
    Write,
    /// Kubernetes writes everything again.
    Migrate,
    /// The old key is taken out on every node.
    Drop,
}

impl Rotation {
    /// From the key in use to another one.
    pub(super) fn new(old: usize, new: usize) -> Self {
        Self {
            old,
            new,
            stage: Stage::Add,
        }
    }

    /// The change of the container that is needed at this stage, if one is.
    pub(super) fn change(self, container: &Container) -> Option<Move> {
        let (old, new) = (container.entry(self.old), container.entry(self.new));
        match self.stage {
            Stage::Add => (!new.listed).then_some(Move::Stage(self.new)),
            // A few seconds, so that no clock that is right has passed it.
            Stage::Write => new.time.is_none().then_some(Move::Activate(self.new, 5)),
            Stage::Migrate => None,
            Stage::Drop => old.listed.then_some(Move::Retire(self.old)),
        }
    }

    /// The edit that `file` needs at this stage, if it does.
    pub(super) fn edit(self, file: &File) -> Option<Edit> {
        match self.stage {
            Stage::Add => (!file.names(self.new)).then_some(Edit::Add(self.new)),
            Stage::Write => (file.write == self.old).then_some(Edit::Write(self.new)),
            Stage::Migrate => None,
            Stage::Drop => file.names(self.old).then_some(Edit::Drop(self.old)),
        }
    }

    pub(super) fn next(self) -> Option<Self> {
        let stage = match self.stage {
            Stage::Add => Stage::Write,
            Stage::Write => Stage::Migrate,
            Stage::Migrate => Stage::Drop,
            Stage::Drop => return None,
        };
        Some(Self { stage, ..self })
    }
}

impl File {
    /// Carries an edit out; what was there before is for the caller to keep.
    pub(super) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Add(key) if !self.names(key) => self.decrypt.push(key),
            Edit::Write(key) if self.write != key => {
                let old = std::mem::replace(&mut self.write, key);
                self.decrypt.retain(|other| *other != key);
                self.decrypt.push(old);
            }
            Edit::WriteOnly(key) => {
                self.write = key;
                self.decrypt.retain(|other| *other != key);
            }
            Edit::Drop(key) => self.decrypt.retain(|other| *other != key),
            Edit::Credential(number) => self.credential = number,
            Edit::Age(age) => self.age = age,
            Edit::Interval(interval) => self.interval = interval,
            Edit::Authenticated(authenticated) => self.authenticated = authenticated,
            Edit::Typo => self.typo = true,
            Edit::Switch => {
                self.container = !self.container;
                self.decrypt.retain(|other| *other != self.write);
            }
            Edit::Add(_) | Edit::Write(_) | Edit::Undo => {}
        }
        if self.age.is_some_and(|age| age <= self.interval) {
            self.age = Some(2 * self.interval);
        }
    }
}
