//! The watcher: notices that files have changed, reads them, and proposes the new
//! configuration.
//!
//! Run by `serve`. Directories are watched, never files: a file is replaced by renaming
//! as often as it is written. Invariants: nothing is proposed that was not read twice
//! with the same result, a debounce apart, so a half-written file never takes effect;
//! directories are watched before the last reading, so no change after it is missed.

mod directories;
mod mounts;

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use self::directories::Directories;
use super::{Environment, LoadError, Loaded, files};
use crate::keyring::ConfigUpdate;
use crate::log::error_chain::ErrorChain;

/// How long files must stay as they are before they are taken for finished.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reading in a tight loop would only compete with the writer.
const PAUSE: Duration = Duration::from_millis(50);

/// After this long, events without a change of contents are ignored: other files in a
/// directory may keep changing.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often contents are compared without any notification, unless set otherwise:
/// some file systems send none.
pub const SLOW_CHECK: Duration = Duration::from_secs(60);

/// Watches the files of one configuration.
pub struct Watcher {
    cloud_config: PathBuf,
    environment: Environment,
    /// What was proposed last.
    known: Reading,
    slow_check: Duration,
    load: Load,
}

/// Reads a configuration; tests replace it.
type Load = fn(&Path, &Environment) -> Result<Loaded, LoadError>;

/// What reading the files came to.
type Reading = Arc<Result<Loaded, LoadError>>;

/// Why the files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// Between the reading at start and the first watch, anything can have happened.
    Start,
    Notification,
    Hangup,
    SlowCheck,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("cloud_config", &self.cloud_config)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// A watcher that knows what was loaded at start, and looks every `slow_check`
    /// even when nothing is notified.
    pub fn new(
        cloud_config: PathBuf,
        environment: Environment,
        loaded: Loaded,
        slow_check: Duration,
    ) -> Self {
        let known = Arc::new(Ok(loaded));
        Self {
            cloud_config,
            environment,
            known,
            slow_check,
            load: |path, environment| super::load(path, environment, &files::read),
        }
    }

    /// Proposes every change of what the files say, for ever. Each message of `hangups`
    /// makes it read and propose at once, changed or not.
    pub async fn run(
        mut self,
        mut hangups: mpsc::Receiver<()>,
        config_updates: watch::Sender<ConfigUpdate>,
    ) -> Infallible {
        // One message stands for any number of notifications.
        let (notify, mut notifications) = mpsc::channel(1);
        let directories = Directories::new(self.slow_check, move |event| {
            if is_change(event) {
                let _ = notify.try_send(());
            }
        });
        let directories = Arc::new(Mutex::new(directories));
        let known = Arc::clone(&self.known);
        warn_of_mounts(move || mounts::warn_about_single_files(files_of(&known))).await;
        let mut trigger = Trigger::Start;
        loop {
            follow(&directories, &self.known).await;
            if trigger != Trigger::SlowCheck || !same(self.read().await.as_ref(), &self.known) {
                if trigger == Trigger::SlowCheck && notifications.try_recv().is_ok() {
                    trigger = Trigger::Notification;
                }
                let reading = self.read_at_rest(&directories, &mut notifications).await;
                let watching = locked(&directories).watching();
                let news = trigger == Trigger::Hangup || !same(&reading, &self.known);
                if reading.is_err() && news {
                    let reading = Arc::clone(&reading);
                    let removed =
                        move || mounts::warn_about_removed_directories(files_of(&reading));
                    warn_of_mounts(removed).await;
                }
                self.propose(trigger, &reading, watching, &config_updates);
            }
            let next_check = Instant::now() + self.slow_check;
            trigger = tokio::select! {
                // In order, and not by the runtime's dice.
                biased;
                Some(()) = hangups.recv() => Trigger::Hangup,
                Some(()) = notifications.recv() => Trigger::Notification,
                () = sleep_until(next_check) => Trigger::SlowCheck,
            };
        }
    }

    /// Reads until two readings, a debounce apart, say the same.
    async fn read_at_rest(
        &self,
        directories: &Arc<Mutex<Directories>>,
        notifications: &mut mpsc::Receiver<()>,
    ) -> Reading {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut warned = false;
        let mut before = self.read().await;
        let mut since = Instant::now();
        loop {
            follow(directories, &before).await;
            let quiet = timeout(DEBOUNCE, notifications.recv()).await.is_err();
            if !quiet {
                sleep(PAUSE).await;
            }
            let after = self.read().await;
            let now = Instant::now();
            let late = now >= deadline;
            if !same(&before, &after) {
                since = now;
                if late && !warned {
                    warned = true;
                    warn!(
                        "the configuration files keep changing; waiting until they stop changing"
                    );
                }
            } else if quiet || (late && now - since >= DEBOUNCE) {
                return after;
            }
            before = after;
        }
    }

    async fn read(&self) -> Reading {
        let path = self.cloud_config.clone();
        let environment = self.environment.clone();
        let load = self.load;
        let reading = off_thread(move || load(&path, &environment)).await;
        Arc::new(reading.unwrap_or_else(|_| {
            // What was watched before is still what a correction changes.
            let files = files_of(&self.known).to_vec();
            Err(LoadError::crashed(&self.cloud_config, files))
        }))
    }

    fn propose(
        &mut self,
        trigger: Trigger,
        reading: &Reading,
        watching: bool,
        config_updates: &watch::Sender<ConfigUpdate>,
    ) {
        if same(reading, &self.known) && trigger != Trigger::Hangup {
            debug!("a watched directory has changed, but not the configuration");
            return;
        }
        match trigger {
            Trigger::Hangup => info!("reading the configuration again: SIGHUP"),
            Trigger::Start | Trigger::Notification => {
                info!("reading the configuration again: a file has changed");
            }
            Trigger::SlowCheck if watching => warn!(
                "reading the configuration again: a file has changed without a notification; such \
                 changes are detected within {} s",
                self.slow_check.as_secs()
            ),
            Trigger::SlowCheck => info!("reading the configuration again: a file has changed"),
        }
        let warnings = match &**reading {
            Ok(loaded) => &loaded.warnings,
            Err(error) => &error.warnings,
        };
        for warning in warnings {
            warn!("{warning}");
        }
        self.known = Arc::clone(reading);
        let proposal = match &**reading {
            Ok(loaded) => ConfigUpdate::Valid(Arc::clone(&loaded.live)),
            Err(error) => ConfigUpdate::Invalid(ErrorChain(error).to_string().into()),
        };
        config_updates.send_replace(proposal);
    }
}

/// Watches what `reading` was read from, before it is read again.
async fn follow(directories: &Arc<Mutex<Directories>>, reading: &Reading) {
    let directories = Arc::clone(directories);
    let reading = Arc::clone(reading);
    let followed = off_thread(move || locked(&directories).follow(files_of(&reading))).await;
    if followed.is_err() {
        error!(
            "watching the configuration files crashed, which is a bug; the sidecar still \
                compares their contents"
        );
    }
}

async fn warn_of_mounts(work: impl FnOnce() + Send + 'static) {
    if off_thread(work).await.is_err() {
        error!("reading the mounts crashed, which is a bug: please report it");
    }
}

fn locked(directories: &Mutex<Directories>) -> MutexGuard<'_, Directories> {
    directories.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files can be slow (a network file system), so they are touched off the one thread
/// that serves.
///
/// # Errors
/// When it panics, which must not end the process: it has the only copy of the key.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

fn files_of(reading: &Result<Loaded, LoadError>) -> &[PathBuf] {
    match reading {
        Ok(loaded) => &loaded.files,
        Err(error) => &error.files,
    }
}

/// Whether two readings say the same. Failures are compared by what an operator reads.
fn same(one: &Result<Loaded, LoadError>, other: &Result<Loaded, LoadError>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => {
            one.files == other.files && ErrorChain(one).to_string() == ErrorChain(other).to_string()
        }
        _ => false,
    }
}

/// Whether an event can mean a change. Reading a file is none: the watcher's own reading
/// would trigger the next. An overflow of the event queue is one.
fn is_change(event: notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => event.need_rescan(),
            _ => true,
        },
        Err(error) => {
            debug!("file notification failed: {}", ErrorChain(&error));
            true
        }
    }
}

#[cfg(test)]
mod tests;
