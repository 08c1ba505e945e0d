//! From what the files say to [`Live`]: defaults and checks.
//!
//! Called by [`super::load()`] with the settings of the cloud-config, into which
//! those of clouds.yaml have been merged.

mod certificates;
mod duration;
mod identity;
mod url;

pub(crate) use self::duration::parse_duration;
pub(crate) use self::url::escaped_url;

use std::path::Path;
use std::time::Duration;

use self::certificates::InFile;
use self::duration::format_duration;
use super::diagnostic::Diagnostic;
use super::key::Key;
use super::raw::{Raw, Setting, Text, Value};
use super::settings::{Cloud, Interface, Live, Proxy, Ring, Roots, Tls};
use super::sources::Sources;
use crate::key_id::KeyId;

/// Checks the settings and turns them into a configuration.
///
/// # Errors
/// On the first one that is missing or invalid.
pub(super) fn resolve(
    mut raw: Raw,
    proxy: Proxy,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Live, Diagnostic> {
    let keystone = keystone(&mut raw)?;
    let (identity, scope) = identity::resolve(&mut raw, warnings)?;
    let cloud = Cloud {
        keystone,
        identity,
        scope,
        region: raw.take_text(Key::Region).map(|region| region.text),
        interface: interface(&mut raw)?,
        barbican: barbican(&mut raw)?,
        tls: tls(&mut raw, sources, warnings)?,
        proxy,
    };
    let ring = ring(&mut raw, warnings)?;
    Ok(Live { cloud, ring })
}

fn keystone(raw: &mut Raw) -> Result<http::Uri, Diagnostic> {
    let Some(url) = raw.take_text(Key::AuthUrl) else {
        return Err(raw.missing(NO_AUTH_URL));
    };
    url::keystone(&url.text).map_err(|message| url.diagnostic(message))
}

/// Ours: the Go plugin knows the catalog only.
fn barbican(raw: &mut Raw) -> Result<Option<http::Uri>, Diagnostic> {
    let setting = raw.take_text(Key::KeyManagerEndpoint);
    let resolved =
        setting.map(|url| url::barbican(&url.text).map_err(|message| url.diagnostic(message)));
    resolved.transpose()
}

/// Any case, and `publicURL`: the Go plugin takes the lower-case words only.
fn interface(raw: &mut Raw) -> Result<Interface, Diagnostic> {
    let Some(setting) = raw.take_text(Key::EndpointType) else {
        return Ok(Interface::default());
    };
    let word = setting.text.trim().to_ascii_lowercase();
    match word.strip_suffix("url").unwrap_or(&word) {
        "public" => Ok(Interface::Public),
        "internal" => Ok(Interface::Internal),
        "admin" => Ok(Interface::Admin),
        _ => Err(setting.diagnostic("it must be public, internal or admin")),
    }
}

fn tls(
    raw: &mut Raw,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Tls, Diagnostic> {
    let verify = verify(raw, warnings);
    let ca_file = raw.take_text(Key::CaFile);
    let ca_contents = raw.take_text(Key::CaFileContents);
    let roots = match (ca_file, ca_contents) {
        (Some(file), contents) => {
            if let Some(contents) = contents {
                warnings.push(contents.diagnostic(CA_FILE_WINS));
            }
            let content = sources.read_named(Path::new(&file.text), &file.location)?;
            Roots::Only(
                certificates::authorities(&content.bytes)
                    .map_err(|message| file.diagnostic(message))?,
            )
        }
        (None, Some(contents)) => Roots::Only(
            certificates::authorities(contents.text.as_bytes())
                .map_err(|message| contents.diagnostic(message))?,
        ),
        (None, None) => Roots::Host,
    };
    let client = match (raw.take_text(Key::CertFile), raw.take_text(Key::KeyFile)) {
        (Some(chain), Some(key)) => {
            let chain_pem = sources.read_named(Path::new(&chain.text), &chain.location)?;
            let key_pem = sources.read_named(Path::new(&key.text), &key.location)?;
            warnings.extend(sources.world_readable(Path::new(&key.text), &key_pem));
            let client = certificates::client(chain_pem.bytes, key_pem.bytes).map_err(
                |(message, file)| match file {
                    InFile::Chain => chain.diagnostic(message),
                    InFile::Key => key.diagnostic(message),
                },
            )?;
            Some(client)
        }
        (Some(alone), None) => without_partner(&alone, Key::KeyFile, warnings),
        (None, Some(alone)) => without_partner(&alone, Key::CertFile, warnings),
        (None, None) => None,
    };
    Ok(Tls {
        roots,
        client,
        verify,
    })
}

fn without_partner<T>(setting: &Text, partner: Key, warnings: &mut Vec<Diagnostic>) -> Option<T> {
    let partner = partner.name();
    let message = format!("has no effect: no client certificate is used; set `{partner}` too");
    warnings.push(setting.diagnostic(message));
    None
}

/// As in Go, only the exact text `true` turns verification off.
fn verify(raw: &mut Raw, warnings: &mut Vec<Diagnostic>) -> bool {
    let Some(setting) = raw.take(Key::TlsInsecure) else {
        return true;
    };
    let text = match &setting.value {
        Value::Flag(true) => "true",
        Value::Flag(false) | Value::List(_) => "false",
        Value::Text(text) => text,
    };
    match text {
        "true" => {
            warnings.push(Diagnostic::new(setting.location, VERIFICATION_OFF));
            return false;
        }
        no if ["false", "no", "off", "0"]
            .iter()
            .any(|word| no.eq_ignore_ascii_case(word)) => {}
        _ => warnings.push(Diagnostic::new(setting.location, VERIFICATION_ON)),
    }
    true
}

fn ring(raw: &mut Raw, warnings: &mut Vec<Diagnostic>) -> Result<Ring, Diagnostic> {
    let write = write_key(raw)?;
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
    write: KeyId,
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
        if id == write || ids.contains(&id) {
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

const NO_AUTH_URL: &str = "auth-url is missing in [Global]; write Keystone's address, such as \
     `auth-url = \"https://keystone.example.com:5000/v3\"`";
const NO_KEY_ID: &str = "key-id is missing in [KeyManager]; write the UUID of the key-encryption \
     key, which `openstack secret list` shows at the end of the secret href";
const NOT_A_DURATION: &str =
    "it is not a duration; write a number and its unit, such as 90s, 5m or 1h30m";
const CA_FILE_WINS: &str = "has no effect: `ca-file` is used; remove one of the two";
const VERIFICATION_OFF: &str = "CERTIFICATES ARE NOT VERIFIED: anyone on the network path can \
     read the credentials and the key; set ca-file instead";
const VERIFICATION_ON: &str =
    "certificates are still verified; only the exact text `true` turns that off";
