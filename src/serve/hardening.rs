//! What the process asks of the kernel before it holds a secret.
//!
//! Best effort: a refusal is worth a warning, not a failed start.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::{debug, warn};

/// Switches core dumps off, and keeps processes of the same user from reading this one.
pub(super) fn apply() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    report("RLIMIT_CORE", setrlimit(Resource::Core, none));
    report(
        "PR_SET_DUMPABLE",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    );
}

fn report(what: &'static str, outcome: rustix::io::Result<()>) {
    match outcome {
        Ok(()) => debug!(what, "core dumps are disabled"),
        Err(error) => warn!(what, "core dumps could not be disabled: {error}"),
    }
}
