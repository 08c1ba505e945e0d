//! Which directories have to be watched for a set of files, and watching them.
//!
//! For each file: the directory it is in, the directory of every symbolic link on the
//! way to it, and where a directory does not exist, the nearest one that does.
//! Invariant: what fails is tried again at the next [`Directories::follow`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, info, warn};

use crate::config::redact;
use crate::log::error_chain::ErrorChain;

/// As many links as the kernel follows (see `path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// How often the way to the files is walked again when it changes meanwhile.
const WALKS_MAX: usize = 5;

/// Device and inode: a directory made anew under its old name is another one.
type Identity = (u64, u64);

type Handler = dyn Fn(notify::Result<Event>) + Send + Sync;

/// The watched directories.
pub(super) struct Directories {
    handler: Arc<Handler>,
    slow_check: Duration,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Identity>,
    /// Whether the log has said that watching does not work.
    impaired: bool,
}

impl Directories {
    /// Nothing is watched yet. `slow_check` is what the log promises instead when
    /// watching does not work.
    pub(super) fn new(
        slow_check: Duration,
        handler: impl Fn(notify::Result<Event>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            handler: Arc::new(handler),
            slow_check,
            watcher: None,
            watched: BTreeMap::new(),
            impaired: false,
        }
    }

    /// Whether every directory that should be watched is.
    pub(super) fn watching(&self) -> bool {
        !self.impaired
    }

    /// Watches what `files` need, and nothing else any more. Every change of them
    /// after this returns is notified.
    pub(super) fn follow(&mut self, files: &[PathBuf]) {
        let mut outcome = Ok(());
        for _ in 0..WALKS_MAX {
            let required = required(files);
            outcome = self.watch(&required);
            // A directory that appeared before its parent was watched went unnoticed.
            if required == self::required(files) {
                break;
            }
        }
        match outcome {
            Ok(()) if self.impaired => {
                self.impaired = false;
                info!("changes of the configuration are detected at once again");
            }
            Ok(()) => {}
            Err(error) if self.impaired => {
                debug!("still not watching: {}", ErrorChain(&error));
            }
            Err(error) => {
                self.impaired = true;
                warn!(
                    "changes of the configuration are not detected at once, but only by a check \
                     every {} s: {}{}",
                    self.slow_check.as_secs(),
                    ErrorChain(&error),
                    hint(&error)
                );
            }
        }
    }

    fn watch(&mut self, required: &BTreeMap<PathBuf, Identity>) -> notify::Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let handler = Arc::clone(&self.handler);
                none.insert(notify::recommended_watcher(move |event| handler(event))?)
            }
        };
        self.watched.retain(|path, identity| {
            let stays = required.get(path) == Some(identity);
            if !stays {
                // The kernel has dropped the watch itself when the directory is gone.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let mut outcome = Ok(());
        for (path, identity) in required {
            // Again where it is watched already, which then changes nothing: a new
            // directory can have the inode number of the old one, which took the
            // watch with it.
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    if self.watched.insert(path.clone(), *identity).is_none() {
                        debug!(directory = %redact::path(path), "watching");
                    }
                }
                // It has just gone: the next walk finds out what is there now.
                Err(error) if is_missing(&error) => {
                    self.watched.remove(path);
                }
                Err(error) => {
                    self.watched.remove(path);
                    outcome = Err(error);
                }
            }
        }
        outcome
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What to do about it, where that is known.
fn hint(error: &notify::Error) -> &'static str {
    match &error.kind {
        ErrorKind::MaxFilesWatch => "; raise fs.inotify.max_user_watches on this host",
        ErrorKind::Io(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            "; raise fs.inotify.max_user_instances on this host"
        }
        _ => "",
    }
}

fn required(files: &[PathBuf]) -> BTreeMap<PathBuf, Identity> {
    let mut found = BTreeMap::new();
    for file in files {
        for directory in directories_of(file) {
            if let Ok(metadata) = fs::metadata(&directory) {
                found.insert(directory, (metadata.dev(), metadata.ino()));
            }
        }
    }
    found
}

/// Walks `path` as the kernel does, and notes each directory whose entries decide
/// where the walk goes: those with links in them, and the last.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() && links < LINKS_MAX => {
                links += 1;
                found.push(at.clone());
                let Ok(target) = fs::read_link(&next) else {
                    break;
                };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(components(&target));
            }
            Ok(metadata) if metadata.is_dir() => at = next,
            // The file itself, or the point from which on nothing exists yet.
            Ok(_) | Err(_) => break,
        }
    }
    found.push(at);
    found
}

/// The names of a path in reverse order, ready to be popped.
fn components(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_plain_file_needs_its_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        fs::write(root.join("cloud.conf"), "").expect("written");
        assert_eq!(
            directories_of(&root.join("cloud.conf")),
            std::slice::from_ref(&root)
        );
        assert_eq!(directories_of(&root.join("missing.conf")), [root]);
    }

    #[test]
    fn a_missing_directory_needs_the_nearest_one_above() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        assert_eq!(directories_of(&root.join("a/b/cloud.conf")), [root]);
    }

    #[test]
    fn every_link_on_the_way_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        // As the kubelet lays out a mounted Secret.
        let mount = root.join("mount");
        fs::create_dir_all(mount.join("..2026")).expect("made");
        fs::write(mount.join("..2026/cloud.conf"), "").expect("written");
        symlink("..2026", mount.join("..data")).expect("linked");
        symlink("..data/cloud.conf", mount.join("cloud.conf")).expect("linked");
        symlink("mount/../mount", root.join("link")).expect("linked");
        let found = directories_of(&root.join("link/cloud.conf"));
        assert_eq!(
            found,
            [root, mount.clone(), mount.clone(), mount.join("..2026")]
        );
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        symlink("b", root.join("a")).expect("linked");
        symlink("a", root.join("b")).expect("linked");
        assert!(directories_of(&root.join("a")).len() <= LINKS_MAX + 1);
    }
}
