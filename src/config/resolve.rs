//! From what the files say to [`Live`]: defaults and checks.
//!
//! Called by [`super::load()`] with the settings of the cloud-config, into which
//! those of clouds.yaml have been merged.

mod certificates;
mod duration;
mod identity;
mod ring;
mod url;

pub(crate) use self::duration::parse_duration;
pub(crate) use self::url::escaped_url;

use std::path::Path;

use self::certificates::InFile;
use super::diagnostic::Diagnostic;
use super::key::Key;
use super::raw::{Raw, Text, Value};
use super::settings::{Cloud, Interface, Live, Proxy, Roots, Tls};
use super::sources::Sources;

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
    let ring = ring::resolve(&mut raw, warnings)?;
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

const NO_AUTH_URL: &str = "auth-url is missing in [Global]; write Keystone's address, such as \
     `auth-url = \"https://keystone.example.com:5000/v3\"`";
const CA_FILE_WINS: &str = "has no effect: `ca-file` is used; remove one of the two";
const VERIFICATION_OFF: &str = "CERTIFICATES ARE NOT VERIFIED: anyone on the network path can \
     read the credentials and the key; set ca-file instead";
const VERIFICATION_ON: &str =
    "certificates are still verified; only the exact text `true` turns that off";
