//! A refused command line, without what must not be shown.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::redact;

/// A flag's value may be a secret in the wrong place, as a value of a file may be.
pub(super) fn without_values(mut error: clap::Error) -> clap::Error {
    // Otherwise it is the name of one of our flags.
    let unknown = (error.kind() == ErrorKind::UnknownArgument).then_some(ContextKind::InvalidArg);
    let given = [ContextKind::InvalidValue, ContextKind::InvalidSubcommand];
    for kind in given.into_iter().chain(unknown) {
        let Some(ContextValue::String(text)) = error.get(kind) else {
            continue;
        };
        let bare = text.trim_start_matches('-');
        let number = bare.len() < SHORT_NUMBER && bare.chars().all(|c| c.is_ascii_digit());
        let value = redact::name(bare);
        if value.is_redacted() && !number && !text.is_empty() {
            error.insert(kind, ContextValue::String(value.to_string()));
            // These repeat it.
            error.insert(ContextKind::Suggested, ContextValue::None);
        }
    }
    error
}

/// Longer ones could be a secret.
const SHORT_NUMBER: usize = 12;
