//! The composition root: `build` binds everything, `run` serves and then drains.
//!
//! The only module that names all the others. Tests call the same functions as `main`.

mod hardening;
pub mod signals;
pub mod systemd;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::audit::{self, Trail, writer};
use crate::chance::Chance;
use crate::config::files;
use crate::config::redact;
use crate::config::watch::Watcher;
use crate::config::{Cloud, Environment, LoadError};
use crate::instruments::Instruments;
use crate::keyring::{Cause, Clock, ConfigUpdate, Keyring, Refresher};
use crate::kms::Kms;
use crate::kms::server;
use crate::kms::socket::{Listener, SocketError, SocketOptions};
use crate::log::background::Worker;
use crate::log::error_chain::ErrorChain;
use crate::metrics::{self, Metrics};
use crate::openstack::{OpenStack, Timing, authority_warnings};
use crate::secret::{self, Protection};

/// How long calls in flight may take to finish after SIGTERM. kube-apiserver gives up
/// on a call after 3 s; the kubelet kills after 30 s by default.
const DRAIN: Duration = Duration::from_secs(4);

/// What only a restart can change: the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// Where and for whom to listen.
    pub socket: SocketOptions,
    /// The file with all other settings, which are [`crate::config::Live`].
    pub cloud_config: PathBuf,
    /// Where to serve metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where to write down each Encrypt and Decrypt, if anywhere.
    pub audit_log: Option<PathBuf>,
    /// How often to look for changed files that nothing has notified.
    pub slow_check: Duration,
}

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The configuration cannot be read or is not valid.
    #[error(transparent)]
    Config(LoadError),
    /// The configuration is valid, and cannot be used.
    #[error("the cloud-config cannot be used")]
    Cloud(#[source] Cause),
    /// There is no thread for the audit log.
    #[error("the audit log cannot be started")]
    Audit(#[source] std::io::Error),
}

/// The sidecar has ended for another reason than being told to.
#[derive(Debug, thiserror::Error)]
#[error("the key refresher has stopped, which is a bug: please report the preceding log lines")]
pub struct RefresherStopped;

/// Everything bound and connected, nothing served yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    keyring: Keyring,
    refresher: Refresher<OpenStack, Connect>,
    watcher: Watcher,
    config_updates: watch::Sender<ConfigUpdate>,
    metrics: Option<SocketAddr>,
    trail: Option<Trail>,
    audit: Option<Worker>,
    instruments: Arc<Instruments>,
}

type Connect = Box<dyn Fn(&Cloud) -> Result<OpenStack, Cause> + Send + Sync>;

impl App {
    /// Binds the socket, then reads the configuration. No network I/O.
    ///
    /// # Errors
    /// When the socket is taken or the configuration is not valid.
    pub async fn build(
        options: ServeOptions,
        instruments: Arc<Instruments>,
    ) -> Result<Self, StartError> {
        hardening::apply();
        // First of all: kube-apiserver backs off for up to two minutes when nobody
        // listens, and asks every few seconds when somebody does.
        let listener = Listener::bind(&options.socket).await?;
        let environment = Environment::from_process();
        let loaded = crate::config::load(&options.cloud_config, &environment, &files::read)
            .map_err(StartError::Config)?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let live = Arc::clone(&loaded.live);
        let watcher = Watcher::new(
            options.cloud_config,
            environment,
            loaded,
            options.slow_check,
        );
        let ring = &live.ring;
        info!(
            version = env!("CARGO_PKG_VERSION"),
            socket = %redact::path(listener.path()),
            keystone = %redact::url(&live.cloud.keystone),
            write_key_id = ring.write.map(tracing::field::display),
            write_key_id_hash = ring.write.map(|id| id.sha256_label()),
            key_container = ring.container.as_ref().map(|one| tracing::field::display(one.id)),
            keys = ring.ids().count(),
            memory = secret::protection().as_str(),
            "listening; loading keys"
        );
        if secret::protection() == Protection::Unlocked {
            warn!(
                "keys are held in plain memory, which can reach swap and core dumps: neither \
                 memfd_secret nor mlock works for this process; raise RLIMIT_MEMLOCK to 8 MiB"
            );
        }
        let (trail, audit) = match options.audit_log {
            Some(path) => Some(start_audit(path, &instruments)?),
            None => None,
        }
        .unzip();
        let (config_updates, receiver) = watch::channel(ConfigUpdate::Valid(Arc::clone(&live)));
        let (clock, chance) = (Clock::system(), Chance::from_system());
        let timing = Timing::new(clock.clone(), chance.clone());
        let connect = connect(&instruments, timing);
        let (keyring, refresher) =
            Refresher::new(live, connect, receiver, clock, chance).map_err(StartError::Cloud)?;
        Ok(Self {
            listener,
            keyring,
            refresher,
            watcher,
            config_updates,
            metrics: options.metrics,
            trail,
            audit,
            instruments,
        })
    }

    /// The keys that this sidecar serves.
    pub fn keyring(&self) -> Keyring {
        self.keyring.clone()
    }

    /// The thread that writes the audit log, for the caller that ends the process. It ends when
    /// nothing of this is left, calls that were cut off included.
    pub fn audit_writer(&mut self) -> Option<Worker> {
        self.audit.take()
    }

    /// Serves until `shutdown`, then removes the socket and drains. Each message of
    /// `hangups` makes it read its configuration again.
    ///
    /// # Errors
    /// When a part ends that must not.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hangups: mpsc::Receiver<()>,
    ) -> Result<(), RefresherStopped> {
        let metrics = Metrics::new(self.keyring.clone(), Arc::clone(&self.instruments));
        let hangups = forward_hangups(hangups, self.trail.clone());
        let kms = Kms::new(self.keyring, self.instruments, self.trail);
        let serving = server::serve(self.listener, kms, shutdown, DRAIN);
        let outcome = tokio::select! {
            () = serving => Ok(()),
            () = self.refresher.run() => Err(RefresherStopped),
            never = self.watcher.run(hangups.received, self.config_updates) => match never {},
            never = hangups.forward => match never {},
            never = serve_metrics(self.metrics, metrics) => match never {},
        };
        info!("stopped");
        outcome
    }
}

fn connect(instruments: &Arc<Instruments>, timing: Timing) -> Connect {
    let instruments = Arc::clone(instruments);
    Box::new(move |cloud| {
        for warning in authority_warnings(&cloud.tls, timing.clock.wall()) {
            warn!("{warning}");
        }
        OpenStack::counted(cloud, timing.clone(), Arc::clone(&instruments)).map_err(Into::into)
    })
}

fn start_audit(
    path: PathBuf,
    instruments: &Arc<Instruments>,
) -> Result<(Trail, Worker), StartError> {
    let (trail, notes) = audit::trail(instruments);
    let writer = writer::start(path, notes).map_err(StartError::Audit)?;
    Ok((trail, writer))
}

/// SIGHUP for two: the audit log, then the watcher.
struct Hangups<F> {
    received: mpsc::Receiver<()>,
    forward: F,
}

fn forward_hangups(
    mut hangups: mpsc::Receiver<()>,
    trail: Option<Trail>,
) -> Hangups<impl Future<Output = Infallible>> {
    let (sender, received) = mpsc::channel(1);
    let forward = async move {
        while let Some(()) = hangups.recv().await {
            if let Some(trail) = &trail {
                trail.reopen();
            }
            // A full channel means that a reload is due already.
            let _ = sender.try_send(());
        }
        std::future::pending().await
    };
    Hangups { received, forward }
}

async fn serve_metrics(address: Option<SocketAddr>, metrics: Metrics) -> Infallible {
    match address {
        Some(address) => metrics::server::serve(address, metrics).await,
        None => std::future::pending().await,
    }
}

/// Says why the start failed: the log is what is left of a container that ended.
pub fn log_failed_start(error: &StartError) {
    if let StartError::Config(load) = error {
        for warning in &load.warnings {
            warn!("{warning}");
        }
    }
    error!("not started: {}", ErrorChain(error));
}

/// Says why the process ends that ought to go on.
pub fn log_end(error: &(dyn std::error::Error + 'static)) {
    error!("ended: {}", ErrorChain(error));
}

/// The number of a group by its name in /etc/group.
pub fn group_number(name: &str) -> Option<u32> {
    let groups = files::read(std::path::Path::new("/etc/group")).ok()?;
    let groups = String::from_utf8_lossy(&groups.bytes).into_owned();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}
