//! Messages of `check`: pure functions from what was found to text.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Identity, User, redact};
use crate::key_id::KeyId;
use crate::openstack::{Account, Endpoint, Metadata, Order, SOON, time_left};

/// A key that expires sooner than this is called urgent.
const EXPIRES_SOON: Duration = Duration::from_secs(90 * 24 * 3600);

pub(super) fn identity(identity: &Identity) -> String {
    let called = |word: &str, text: &str| {
        let shown = redact::name(text);
        if shown.is_redacted() {
            format!("{word} ({shown})")
        } else {
            format!("{word} {shown}")
        }
    };
    // Keystone's own ids look like keys: 16 bytes in hexadecimal.
    let by_id = |article: &str, word: &str, id: &str| {
        let shown = redact::name(id);
        if shown.is_redacted() {
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

/// What a stolen credential would allow beyond reading the key; `recommended` is the
/// better kind. Its access rules are checked elsewhere.
pub(super) fn too_powerful(
    account: &Account,
    identity: &Identity,
    recommended: &str,
) -> Vec<String> {
    let mut warnings = Vec::new();
    match (&account.application_credential, identity) {
        (Some(credential), _) => {
            if credential.access_rules.is_none() {
                warnings.push(format!(
                    "this application credential may do everything that its roles allow; use \
                     {recommended}"
                ));
            }
            if credential.restricted == Some(false) {
                warnings.push("it may create further credentials (unrestricted)".to_owned());
            }
        }
        (None, Identity::Token(_)) => {
            warnings.push(format!(
                "a token expires and cannot be renewed; use {recommended}"
            ));
        }
        (None, _) => warnings.push(format!(
            "this login may do everything that the user may do; use {recommended}"
        )),
    }
    if let Some(role) = account.roles.iter().find(|role| *role == "admin") {
        warnings.push(format!(
            "the role {role} allows far more than is needed to read a key"
        ));
    }
    warnings
}

/// With an access rule for any payload, the roles decide which secrets can be read.
pub(super) fn reads_all(account: &Account) -> Option<String> {
    let wide = ["member", "creator", "observer", "admin"];
    let role = account
        .roles
        .iter()
        .find(|role| wide.contains(&role.as_str()))?;
    Some(format!(
        "with the role {role} it can read every secret of the project that is not private; a user \
         with the role `reader` alone reads only the container and the keys on which it has a read \
         ACL (`openstack acl user add --user USER_ID HREF`)"
    ))
}

/// What to do about a credential that ends before long.
pub(super) fn ends_soon(end: Timestamp, now: Timestamp) -> Option<String> {
    let soon = jiff::SignedDuration::try_from(SOON).ok()?;
    (end.duration_since(now) < soon).then(|| {
        format!(
            "it ends in {}, and after that, a restarted sidecar cannot load its keys: create a new \
             one and write it to the cloud-config before; it is used without a restart",
            time_left(end, now)
        )
    })
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
    if metadata.secret_type.as_deref() == Some("passphrase") {
        warnings.push(
            "it is of type passphrase: a passphrase can be guessed, a random key cannot; create \
             one with `openstack secret order create`"
                .to_owned(),
        );
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
            "it expires {urgency}at {end}; after that, a restarted sidecar cannot load it, and the \
             data that it has wrapped cannot be read. Rotate to a key without expiration before"
        ));
    }
    if let Some(status) = &metadata.status
        && status != "ACTIVE"
    {
        warnings.push(format!("its status is {status}, not ACTIVE"));
    }
    warnings
}

/// Where Barbican is, and the catalog's endpoint if it is not used.
pub(super) fn place(endpoint: &Endpoint, catalog: Option<&Endpoint>) -> String {
    if !endpoint.is_of_setting() {
        return format!("key-manager at {endpoint}");
    }
    let instead = match catalog {
        Some(other) if other.url() == endpoint.url() => "the same".to_owned(),
        Some(other) => other.to_string(),
        None => "no matching endpoint".to_owned(),
    };
    format!(
        "key-manager at {endpoint}, from key-manager-endpoint; not used from the catalog: {instead}"
    )
}

/// No part of it is shown.
pub(super) fn printable_key() -> String {
    "all its bytes are printable characters, unlike those of a random key: it is a password, or \
     hex or base64 text of fewer bytes, and easier to guess; create a key with `openstack secret \
     order create` and rotate to it"
        .to_owned()
}

/// What to do if the id is that of an order instead of a secret.
pub(super) fn of_order(id: KeyId, order: &Order) -> String {
    let uuid = id.secret_uuid();
    match order.secret {
        Some(secret) => format!(
            "{uuid} is an order's id; the secret's is {}: write that into [KeyManager] instead",
            secret.secret_uuid()
        ),
        None => format!(
            "{uuid} is the id of an order that has created no secret: see `openstack secret order \
             get ORDER_HREF`, and write the secret's id into [KeyManager] instead"
        ),
    }
}

pub(super) fn short_key(bits: u64) -> String {
    format!("{bits} bits are fewer than the recommended 256")
}
