//! `[KeyManager]`: which keys to hold, and for how long.
//!
//! Called by `resolve`.

use std::time::Duration;

use super::duration::{format_duration, parse_duration};
use crate::config::diagnostic::Diagnostic;
use crate::config::key::Key;
use crate::config::raw::{Raw, Setting, Text, Value};
use crate::config::settings::{Container, Ring};
use crate::key_id::{ContainerId, KeyId};

pub(super) fn resolve(raw: &mut Raw, warnings: &mut Vec<Diagnostic>) -> Result<Ring, Diagnostic> {
    let container = container(raw, warnings)?;
    let write = match container {
        Some(_) => None,
        None => Some(write_key(raw)?),
    };
    let decrypt = match raw.take(Key::DecryptKeyIds) {
        None => Vec::new(),
        Some(setting) => decrypt_keys(write, setting, warnings)?,
    };
    let revalidate_interval = match raw.take_text(Key::RevalidateInterval) {
        None => REVALIDATE_DEFAULT,
        Some(text) => duration(&text, REVALIDATE_LEAST, REVALIDATE_MOST)?,
    };
    let max_cache_age = match raw.take_text(Key::MaxCacheAge) {
        None => None,
        Some(text) => {
            let age = duration(&text, Duration::ZERO, MAX_CACHE_AGE_MOST)?;
            if age > Duration::ZERO {
                check_cache_age(age, revalidate_interval, &text, warnings)?;
            }
            (age > Duration::ZERO).then_some(age)
        }
    };
    Ok(Ring {
        write,
        decrypt,
        container,
        require_authentication: raw.flag(Key::RequireAuthentication),
        revalidate_interval,
        max_cache_age,
    })
}

/// A confirmation can fail although the key is good: the age must leave time for
/// another one.
fn check_cache_age(
    age: Duration,
    interval: Duration,
    setting: &Text,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let twice = format_duration(interval * 2);
    let interval_text = format_duration(interval);
    if age <= interval {
        return Err(setting.diagnostic(format!(
            "it must be longer than revalidate-interval ({interval_text}), otherwise keys are \
             wiped before they are confirmed; write at least twice the interval, {twice}, or 0 for \
             no limit"
        )));
    }
    if age < interval * 2 {
        warnings.push(setting.diagnostic(format!(
            "a single failed confirmation can wipe a good key, because revalidate-interval is \
             {interval_text}; write {twice} or more, or 0 for no limit"
        )));
    }
    Ok(())
}

/// The list that replaces `key-id`.
fn container(
    raw: &mut Raw,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<Container>, Diagnostic> {
    let owner = raw.take_text(Key::KeyContainerOwner);
    let Some(setting) = raw.take_text(Key::KeyContainer) else {
        if let Some(owner) = owner {
            warnings.push(owner.diagnostic(NO_CONTAINER));
        }
        return Ok(None);
    };
    let id = ContainerId::from_reference(&setting.text)
        .map_err(|error| setting.diagnostic(error.to_string()))?;
    if let Some(key) = raw.take_text(Key::KeyId) {
        return Err(key.diagnostic(KEY_AND_CONTAINER));
    }
    if let Some(suffix) = raw.take_text(Key::KeyIdSuffix) {
        return Err(suffix.diagnostic(SUFFIX_AND_CONTAINER));
    }
    let owner = owner.map(|owner| owner.text.trim().to_owned());
    Ok(Some(Container { id, owner }))
}

fn write_key(raw: &mut Raw) -> Result<KeyId, Diagnostic> {
    let Some(key) = raw.take_text(Key::KeyId) else {
        return Err(raw.missing(NO_KEY_ID));
    };
    let id = KeyId::from_reference(&key.text).map_err(|error| key.diagnostic(error.to_string()))?;
    let Some(suffix) = raw.take_text(Key::KeyIdSuffix) else {
        return Ok(id);
    };
    if id.with_suffix(None) != Ok(id) {
        return Err(suffix.diagnostic("key-id already has a suffix; remove one of the two"));
    }
    id.with_suffix(Some(&suffix.text))
        .map_err(|error| suffix.diagnostic(error.to_string()))
}

fn decrypt_keys(
    write: Option<KeyId>,
    setting: Setting,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Vec<KeyId>, Diagnostic> {
    let Value::List(items) = setting.value else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let id = KeyId::from_reference(item).map_err(|error| {
            let message = format!("element {}: {error}", index + 1);
            Diagnostic::new(&setting.location, message)
        })?;
        if Some(id) == write || ids.contains(&id) {
            let message = format!("key {id} is named twice; one of them is ignored");
            warnings.push(Diagnostic::new(&setting.location, message));
        } else {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn duration(setting: &Text, least: Duration, most: Duration) -> Result<Duration, Diagnostic> {
    let duration =
        parse_duration(setting.text.trim()).ok_or_else(|| setting.diagnostic(NOT_A_DURATION))?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (format_duration(least), format_duration(most));
        Err(setting.diagnostic(format!("it must be {least} to {most}")))
    }
}

const REVALIDATE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// A shorter one would only put load on Barbican: the payload of a secret cannot
/// change.
const REVALIDATE_LEAST: Duration = Duration::from_secs(10);
const REVALIDATE_MOST: Duration = Duration::from_secs(24 * 3600);
/// Longer than any outage, and far from where times overflow.
const MAX_CACHE_AGE_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

const NO_KEY_ID: &str = "key-id is missing in [KeyManager]; write the UUID of the key-encryption \
     key, which `openstack secret list` shows at the end of the secret href";
const NOT_A_DURATION: &str =
    "it is not a duration; write a number and its unit, such as 90s, 5m or 1h30m";
const NO_CONTAINER: &str = "has no effect without key-container; remove it";
const KEY_AND_CONTAINER: &str = "key-container names the list from which the write key comes, so \
     key-id cannot stand beside it: remove one of the two (first put this key into the container, \
     under a time that has passed: `openstack secret container get` shows what is in it)";
const SUFFIX_AND_CONTAINER: &str = "keys of key-container have no suffix: remove it, or keep key-id \
     instead of key-container (a key with a suffix can stay in decrypt-key-ids)";
