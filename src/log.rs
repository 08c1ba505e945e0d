//! The log: the one place that touches the subscriber.
//!
//! Only this crate's events are written. Libraries would log frames and headers, and
//! with them what must never be written down.

mod authority;
pub mod background;
pub mod error_chain;
mod standard_error;
pub mod throttle;

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tracing::error;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

pub use standard_error::Log;

use crate::instruments::Instruments;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is one already.
    #[error(transparent)]
    Taken(#[from] TryInitError),
    /// Standard error is closed, or the system gives no thread.
    #[error("the log cannot be started")]
    Start(#[from] io::Error),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// From which severity on events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Act now.
    Error,
    /// Degraded.
    Warn,
    /// State has changed.
    #[default]
    Info,
    /// Every request.
    Debug,
    /// Everything.
    Trace,
}

/// Sends the log, and what is said of panics, to standard error until the result is
/// dropped. `format` defaults to text on a terminal and JSON elsewhere.
///
/// # Errors
/// When a subscriber is in place already, or the thread for standard error cannot be started.
pub fn start(
    format: Option<LogFormat>,
    level: LogLevel,
    instruments: &Arc<Instruments>,
) -> Result<Log, LogError> {
    let log = Log::start(instruments)?;
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let layer = fmt::layer().with_writer(log.queue()).with_target(false);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(terminal).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    let ours = Targets::new().with_target("barbican_kms", LevelFilter::from(level));
    let theirs = Targets::new().with_target(authority::TARGET, LevelFilter::DEBUG);
    tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .with(authority::OldApiServer::default().with_filter(theirs))
        .try_init()?;
    // The standard hook writes to standard error itself, and so may wait for ever.
    std::panic::set_hook(Box::new(panicked));
    Ok(log)
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let text = panic.payload_as_str().unwrap_or_default();
    error!(place, "panic, which is a bug: please report it: {text}");
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}
