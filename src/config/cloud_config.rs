//! From what the files say to [`Live`]: defaults, checks, decisions.
//!
//! Called by [`super::load()`] with the settings of the cloud-config, into which
//! those of clouds.yaml have been merged.

use std::path::Path;
use std::time::Duration;

use super::certificates::{self, InFile};
use super::duration::parse_duration;
use super::error::ConfigError;
use super::identity;
use super::key::Key;
use super::raw::{Raw, Setting, Text, Value};
use super::refusal::Refusal;
use super::sources::Sources;
use super::warning::{Ineffective, Warning};
use super::{Cloud, Interface, Live, Proxy, Ring, Roots, Tls, url};
use crate::key_id::KeyId;

/// Decides what the settings mean.
///
/// # Errors
/// On the first one that is missing or cannot be used.
pub(super) fn decide(
    mut raw: Raw,
    proxy: Proxy,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Live, ConfigError> {
    let keystone = keystone(&mut raw)?;
    let (identity, scope) = identity::decide(&mut raw, warnings)?;
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

fn keystone(raw: &mut Raw) -> Result<http::Uri, ConfigError> {
    let Some(url) = raw.take_text(Key::AuthUrl) else {
        return Err(raw.refused(None, Refusal::NoAuthUrl));
    };
    url::keystone(&url.text).map_err(|refusal| url.refused(refusal))
}

/// Ours: the Go plugin knows the catalog only.
fn barbican(raw: &mut Raw) -> Result<Option<http::Uri>, ConfigError> {
    let setting = raw.take_text(Key::KeyManagerEndpoint);
    let decided =
        setting.map(|url| url::barbican(&url.text).map_err(|refusal| url.refused(refusal)));
    decided.transpose()
}

/// Ours: the Go plugin wants the lower-case words and nothing else.
fn interface(raw: &mut Raw) -> Result<Interface, ConfigError> {
    let Some(setting) = raw.take_text(Key::EndpointType) else {
        return Ok(Interface::default());
    };
    let word = setting.text.trim().to_ascii_lowercase();
    match word.strip_suffix("url").unwrap_or(&word) {
        "public" => Ok(Interface::Public),
        "internal" => Ok(Interface::Internal),
        "admin" => Ok(Interface::Admin),
        _ => Err(setting.refused(Refusal::EndpointType)),
    }
}

fn tls(
    raw: &mut Raw,
    sources: &mut Sources<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Tls, ConfigError> {
    let verify = verify(raw, warnings);
    let ca_file = raw.take_text(Key::CaFile);
    let ca_contents = raw.take_text(Key::CaFileContents);
    let roots = match (ca_file, ca_contents) {
        (Some(file), contents) => {
            if let Some(contents) = contents {
                warnings.push(Warning::Ineffective {
                    place: contents.place,
                    reason: Ineffective::CaFileWins,
                });
            }
            let content = sources.read_named(Path::new(&file.text), &file.place)?;
            Roots::Only(
                certificates::authorities(&content.bytes)
                    .map_err(|error| file.refused(error.into()))?,
            )
        }
        (None, Some(contents)) => Roots::Only(
            certificates::authorities(contents.text.as_bytes())
                .map_err(|error| contents.refused(error.into()))?,
        ),
        (None, None) => Roots::Host,
    };
    let client = match (raw.take_text(Key::CertFile), raw.take_text(Key::KeyFile)) {
        (Some(chain), Some(key)) => {
            let chain_pem = sources.read_named(Path::new(&chain.text), &chain.place)?;
            let key_pem = sources.read_named(Path::new(&key.text), &key.place)?;
            warnings.extend(sources.world_readable(Path::new(&key.text), &key_pem));
            let client =
                certificates::client(chain_pem.bytes, key_pem.bytes).map_err(|(error, file)| {
                    match file {
                        InFile::Chain => chain.refused(error.into()),
                        InFile::Key => key.refused(error.into()),
                    }
                })?;
            Some(client)
        }
        (Some(alone), None) => lonely(alone, Key::KeyFile, warnings),
        (None, Some(alone)) => lonely(alone, Key::CertFile, warnings),
        (None, None) => None,
    };
    Ok(Tls {
        roots,
        client,
        verify,
    })
}

fn lonely<T>(setting: Text, partner: Key, warnings: &mut Vec<Warning>) -> Option<T> {
    warnings.push(Warning::Ineffective {
        place: setting.place,
        reason: Ineffective::WithoutPartner(partner),
    });
    None
}

/// As in Go, only the exact text `true` turns verification off.
fn verify(raw: &mut Raw, warnings: &mut Vec<Warning>) -> bool {
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
            warnings.push(Warning::VerificationOff(setting.place));
            return false;
        }
        no if ["false", "no", "off", "0"]
            .iter()
            .any(|word| no.eq_ignore_ascii_case(word)) => {}
        _ => warnings.push(Warning::VerificationStaysOn(setting.place)),
    }
    true
}

fn ring(raw: &mut Raw, warnings: &mut Vec<Warning>) -> Result<Ring, ConfigError> {
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
                may_wipe(age, revalidate_interval, &text, warnings)?;
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

/// A confirmation takes its time, and may fail without anything being wrong with the
/// key: the age must leave room for another one.
fn may_wipe(
    age: Duration,
    interval: Duration,
    setting: &Text,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    if age <= interval {
        return Err(setting.refused(Refusal::MaxCacheAge(interval)));
    }
    if age < interval * 2 {
        warnings.push(Warning::ShortCacheAge {
            place: setting.place.clone(),
            interval,
        });
    }
    Ok(())
}

fn write_key(raw: &mut Raw) -> Result<KeyId, ConfigError> {
    let Some(key) = raw.take_text(Key::KeyId) else {
        return Err(raw.refused(None, Refusal::NoKeyId));
    };
    let id = KeyId::from_reference(&key.text).map_err(|error| key.refused(error.into()))?;
    let Some(suffix) = raw.take_text(Key::KeyIdSuffix) else {
        return Ok(id);
    };
    if id.with_suffix(None) != Ok(id) {
        return Err(suffix.refused(Refusal::SuffixTwice));
    }
    id.with_suffix(Some(&suffix.text))
        .map_err(|error| suffix.refused(error.into()))
}

fn decrypt_keys(
    write: KeyId,
    setting: Setting,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<KeyId>, ConfigError> {
    let Value::List(items) = setting.value else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let id = KeyId::from_reference(item).map_err(|error| ConfigError::Setting {
            place: Box::new(setting.place.clone()),
            refusal: Refusal::ListedKeyId {
                number: index + 1,
                error,
            },
        })?;
        if id == write || ids.contains(&id) {
            let place = setting.place.clone();
            warnings.push(Warning::DuplicateKeyId { place, id });
        } else {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn duration(setting: &Text, least: Duration, most: Duration) -> Result<Duration, ConfigError> {
    let duration =
        parse_duration(setting.text.trim()).ok_or_else(|| setting.refused(Refusal::Duration))?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(setting.refused(Refusal::DurationRange { least, most }))
    }
}

const REVALIDATE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Less would only be load on Barbican: the payload of a secret cannot change.
const REVALIDATE_LEAST: Duration = Duration::from_secs(10);
const REVALIDATE_MOST: Duration = Duration::from_secs(24 * 3600);
/// More than anybody waits, and far from where times overflow.
const MAX_CACHE_AGE_MOST: Duration = Duration::from_secs(366 * 24 * 3600);
