//! Which of two files counts: the cloud-config or the entry of clouds.yaml.
//!
//! As in the Go plugin, which is not what one would expect: field by field the
//! cloud-config wins, but with `cloud = NAME` all that says who logs in is taken from
//! the entry, and nothing of it from the cloud-config. Whoever is overruled is named.

use std::collections::BTreeMap;

use crate::config::key::Key;
use crate::config::location::Place;
use crate::config::raw::{Raw, Setting, Value};
use crate::config::warning::Warning;

/// What clouds.yaml and the files around it say about the chosen cloud.
pub(in crate::config) struct Chosen {
    pub(super) settings: BTreeMap<Key, Setting>,
    /// The cloud-config's `cloud`, if it names the entry.
    pub(super) named_by: Option<Place>,
    /// Without `use-clouds`, `cloud` brings in nothing but who logs in.
    pub(super) use_clouds: bool,
}

/// Adds the settings of the entry to those of the cloud-config.
pub(in crate::config) fn merge(raw: &mut Raw, entry: Chosen, warnings: &mut Vec<Warning>) {
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
                if let Some(ours) = ours.filter(|ours| !same(Some(ours), theirs.as_ref())) {
                    warnings.push(Warning::Overruled {
                        place: ours.place,
                        by: theirs.as_ref().map(|theirs| theirs.place.clone()),
                        cloud: Some(cloud.clone()),
                    });
                }
                if let Some(theirs) = theirs {
                    raw.insert(key, theirs);
                }
            }
            _ if !use_clouds => {}
            _ => match (raw.get(key), theirs) {
                (Some(ours), Some(theirs)) if !same(Some(ours), Some(&theirs)) => {
                    warnings.push(Warning::Overruled {
                        place: theirs.place,
                        by: Some(ours.place.clone()),
                        cloud: None,
                    });
                }
                (None, Some(theirs)) => raw.insert(key, theirs),
                _ => {}
            },
        }
    }
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
fn same(one: Option<&Setting>, other: Option<&Setting>) -> bool {
    match (one.map(|one| &one.value), other.map(|other| &other.value)) {
        (Some(Value::Text(text)), Some(Value::Flag(flag)))
        | (Some(Value::Flag(flag)), Some(Value::Text(text))) => (text == "true") == *flag,
        (one, other) => one == other,
    }
}
