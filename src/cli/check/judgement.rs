//! What `check` thinks of what it finds: pure functions from findings to words.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Identity, User, shown};
use crate::key_id::KeyId;
use crate::openstack::{AccessRule, Account, Metadata};

/// A key that ends sooner than this is called urgent.
const EXPIRES_SOON: Duration = Duration::from_secs(90 * 24 * 3600);

pub(super) fn identity(identity: &Identity) -> String {
    let called = |word: &str, text: &str| {
        let shown = shown::name(text);
        if shown.is_described() {
            format!("{word} ({shown})")
        } else {
            format!("{word} {shown}")
        }
    };
    // Keystone's own ids look like keys: 16 bytes in hexadecimal.
    let by_id = |article: &str, word: &str, id: &str| {
        let shown = shown::name(id);
        if shown.is_described() {
            format!("{article}{word} by id")
        } else {
            format!("{word} id {shown}")
        }
    };
    let of = |user: &User| match user {
        User::Id(id) => by_id("a ", "user", id),
        User::Name { name, .. } => called("user", name),
    };
    match identity {
        Identity::Password { user, .. } => format!("password of {}", of(user)),
        Identity::ApplicationCredentialId { id, .. } => by_id("", "application credential", id),
        Identity::ApplicationCredentialName { name, user, .. } => {
            let credential = called("application credential", name);
            format!("{credential} of {}", of(user))
        }
        Identity::Token(_) => "a token".to_owned(),
    }
}

/// What a thief of the credential could do beyond reading the key.
pub(super) fn too_powerful(account: &Account, identity: &Identity) -> Vec<String> {
    const RECOMMENDED: &str = "an application credential with the access rule GET \
         /v1/secrets/KEY-ID/payload for the service key-manager";
    let mut warnings = Vec::new();
    match (&account.application_credential, identity) {
        (Some(credential), _) => {
            match &credential.access_rules {
                None => warnings.push(format!(
                    "this application credential may do all that its roles allow; use {RECOMMENDED}"
                )),
                Some(rules) => warnings.extend(
                    rules
                        .iter()
                        .filter(|rule| !reads_payload(rule))
                        .map(|rule| {
                            format!(
                                "an access rule allows more than reading payloads: {} {} {}",
                                rule.service, rule.method, rule.path
                            )
                        }),
                ),
            }
            if credential.restricted == Some(false) {
                warnings.push("it may create further credentials (unrestricted)".to_owned());
            }
        }
        (None, Identity::Token(_)) => {
            warnings.push(format!(
                "a token ends and cannot be renewed; use {RECOMMENDED}"
            ));
        }
        (None, _) => warnings.push(format!(
            "this login may do all that the user may; use {RECOMMENDED}"
        )),
    }
    if let Some(role) = account.roles.iter().find(|role| *role == "admin") {
        warnings.push(format!(
            "the role {role} is far more than reading a key needs"
        ));
    }
    warnings
}

fn reads_payload(rule: &AccessRule) -> bool {
    rule.service == "key-manager" && rule.method == "GET" && rule.path.ends_with("/payload")
}

pub(super) fn described(id: KeyId, metadata: &Metadata) -> String {
    let words = [
        metadata.name.as_deref(),
        metadata.secret_type.as_deref(),
        metadata.algorithm.as_deref(),
        metadata.mode.as_deref(),
        metadata.status.as_deref(),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let bits = metadata
        .bit_length
        .map(|bits| format!(", {bits} bits"))
        .unwrap_or_default();
    let ends = metadata
        .expiration
        .map(|end| format!(", until {end}"))
        .unwrap_or_default();
    format!("{id}: {}{bits}{ends}", words.join(" "))
}

pub(super) fn doubts(metadata: &Metadata, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(algorithm) = &metadata.algorithm
        && !algorithm.eq_ignore_ascii_case("aes")
    {
        warnings.push(format!(
            "its algorithm is {algorithm}, not aes; the label is not enforced"
        ));
    }
    if let Some(bits) = metadata.bit_length
        && bits < 256
    {
        warnings.push(short_key(bits));
    }
    if let Some(end) = metadata.expiration {
        let left = end.duration_since(now);
        let soon = jiff::SignedDuration::try_from(EXPIRES_SOON).is_ok_and(|soon| left < soon);
        let urgency = if soon { "soon, " } else { "" };
        warnings.push(format!(
            "it expires {urgency}at {end}; from then on a restarted sidecar cannot load it, and \
             what it has wrapped cannot be read. Rotate to a key without expiration before"
        ));
    }
    if let Some(status) = &metadata.status
        && status != "ACTIVE"
    {
        warnings.push(format!("its status is {status}, not ACTIVE"));
    }
    warnings
}

pub(super) fn short_key(bits: u64) -> String {
    format!("{bits} bits are fewer than the recommended 256")
}
