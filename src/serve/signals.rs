//! Signals: SIGTERM and SIGINT end the process, SIGHUP reloads.
//!
//! Handlers are installed before anything else, so that they work as PID 1 too, where
//! the kernel ignores every signal that has none.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc;

/// The handlers.
pub struct Signals {
    inner: signal_hook_tokio::Signals,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP]).map(|inner| Self { inner })
    }

    /// A future that ends at the first SIGTERM or SIGINT, and a channel that gets one
    /// message for each SIGHUP until then.
    pub fn split(mut self) -> (impl Future<Output = ()>, mpsc::Receiver<()>) {
        let (hangup, hangups) = mpsc::channel(1);
        let shutdown = async move {
            loop {
                match poll_fn(|context| Pin::new(&mut self.inner).poll_next(context)).await {
                    // A full channel means that a reload is due already.
                    Some(SIGHUP) => drop(hangup.try_send(())),
                    Some(_) | None => return,
                }
            }
        };
        (shutdown, hangups)
    }
}
