//! The log: the one place that touches the subscriber.
//!
//! Only this crate's events are written. Libraries would log frames and headers, and
//! with them what must never be written down.

mod authority;
pub mod error_chain;
pub mod throttle;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

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

/// Sends the log to standard error. `format` defaults to text on a terminal and JSON
/// elsewhere.
///
/// # Errors
/// When a subscriber is in place already.
pub fn start(format: Option<LogFormat>, level: LogLevel) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
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
        .try_init()
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
