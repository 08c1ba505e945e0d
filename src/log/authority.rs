//! Recognises API servers that are too old, by what the HTTP/2 library says of them.
//!
//! Before 1.32 kube-apiserver sends the socket's path as `:authority`. No URI may have
//! that, so `h2` resets each stream with `PROTOCOL_ERROR` before we see the call. All that
//! is left of it is a debug event of that library.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the event comes from.
pub(super) const TARGET: &str = "h2::server";

/// How its message begins; a test with such a client holds that.
const MALFORMED: &str = "malformed headers: malformed authority";

/// Says in words, once, what the library says for each call.
#[derive(Debug, Default)]
pub(super) struct OldApiServer {
    warned: AtomicBool,
}

impl<S: Subscriber> Layer<S> for OldApiServer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(false);
        event.record(&mut message);
        if message.0 && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                "a client sends the path of the socket as :authority, as kube-apiserver before \
                 1.32 does, and its calls fail with PROTOCOL_ERROR; upgrade it to Kubernetes 1.32 \
                 or later (for another gRPC client, set the authority to localhost)"
            );
        }
    }
}

/// Whether the message is the one. It contains what the client sent, so nothing of it
/// is kept.
struct Message(bool);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").starts_with(MALFORMED);
        }
    }
}
