//! Merges the cloud-config and the entry of clouds.yaml, and decides which takes precedence.
//!
//! The rules are the Go plugin's: field by field the cloud-config wins, but with `cloud
//! = NAME` all login settings are taken from the entry, and none from the cloud-config.
//! There is a warning about each setting that is not used.

use std::collections::BTreeMap;

use crate::config::diagnostic::Diagnostic;
use crate::config::key::Key;
use crate::config::location::Location;
use crate::config::raw::{Raw, Setting, Value};

/// What clouds.yaml and the files around it say about the chosen cloud.
pub(in crate::config) struct Chosen {
    pub(super) settings: BTreeMap<Key, Setting>,
    /// The cloud-config's `cloud`, if it names the entry.
    pub(super) named_by: Option<Location>,
    /// Without `use-clouds`, `cloud` adds nothing but the credentials.
    pub(super) use_clouds: bool,
}

/// Adds the settings of the entry to those of the cloud-config.
pub(in crate::config) fn merge(raw: &mut Raw, entry: Chosen, warnings: &mut Vec<Diagnostic>) {
    let Chosen {
        mut settings,
        named_by,
        use_clouds,
    } = entry;
    for key in Key::all() {
        let theirs = settings.remove(&key);
        match &named_by {
            Some(cloud) if is_login(key) => {
                let ours = raw.take(key);
                if let Some(ours) =
                    ours.filter(|ours| theirs.as_ref().is_none_or(|theirs| !same(ours, theirs)))
                {
                    let reason = match &theirs {
                        Some(theirs) => format!(
                            "{} has another value and takes precedence, because {cloud} takes the \
                             credentials from there",
                            theirs.location
                        ),
                        None => {
                            format!("{cloud} takes the credentials from clouds.yaml")
                        }
                    };
                    warnings.push(overruled(&ours, &reason));
                }
                if let Some(theirs) = theirs {
                    raw.insert(key, theirs);
                }
            }
            _ if !use_clouds => {}
            _ => match (raw.get(key), theirs) {
                (Some(ours), Some(theirs)) if !same(ours, &theirs) => {
                    let reason =
                        format!("{} has another value and takes precedence", ours.location);
                    warnings.push(overruled(&theirs, &reason));
                }
                (None, Some(theirs)) => raw.insert(key, theirs),
                _ => {}
            },
        }
    }
}

fn overruled(setting: &Setting, reason: &str) -> Diagnostic {
    let message = format!("has no effect: {reason}; remove one of the two");
    Diagnostic::new(&setting.location, message)
}

/// Who logs in, how, and for what. A trust is not part of it: the Go plugin takes that
/// from the cloud-config in any case.
fn is_login(key: Key) -> bool {
    matches!(
        key,
        Key::Username
            | Key::UserId
            | Key::Password
            | Key::TenantId
            | Key::TenantName
            | Key::DomainId
            | Key::DomainName
            | Key::TenantDomainId
            | Key::TenantDomainName
            | Key::UserDomainId
            | Key::UserDomainName
            | Key::CredentialId
            | Key::CredentialName
            | Key::CredentialSecret
            | Key::Token
            | Key::DefaultDomain
    )
}

/// A cloud-config writes flags as texts.
fn same(one: &Setting, other: &Setting) -> bool {
    match (&one.value, &other.value) {
        (Value::Text(text), Value::Flag(flag)) | (Value::Flag(flag), Value::Text(text)) => {
            (text == "true") == *flag
        }
        (one, other) => one == other,
    }
}
