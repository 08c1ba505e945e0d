//! What an entry of clouds.yaml may say, and what it means in a cloud-config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{YamlProblem, yaml};
use crate::config::key::Key;
use crate::config::place::{Place, Position};
use crate::config::raw::{Setting, Value};

/// The entries of one file.
pub(super) struct Document {
    pub(super) file: PathBuf,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Document {
    /// Reads a file whose entries stand below the key `top`.
    pub(super) fn parse(
        file: &Path,
        bytes: &[u8],
        top: &'static str,
    ) -> Result<Self, (Position, YamlProblem)> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = std::str::from_utf8(valid).unwrap_or_default();
            let at = Position::of_offset(text, text.len());
            (at, YamlProblem::NotUtf8)
        })?;
        let written: Option<WrittenFile> = yaml::parse(text)?;
        let written = written.unwrap_or_default();
        let written = match top {
            "clouds" => written.clouds,
            _ => written.public_clouds,
        };
        let entries = written
            .unwrap_or_default()
            .into_iter()
            .map(|(name, entry)| {
                let context = Context {
                    file,
                    text,
                    path: format!("{top}.{name}"),
                };
                let entry = context.entry(entry.unwrap_or_default())?;
                Ok((name, entry))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            file: file.to_owned(),
            entries,
        })
    }

    pub(super) fn holds_secret(&self) -> bool {
        let secret = |entry: &Entry| entry.settings.keys().any(|key| key.is_secret());
        self.entries.values().any(secret)
    }
}

/// An entry: what it says, in the terms of a cloud-config.
#[derive(Default)]
pub(super) struct Entry {
    has_auth: bool,
    profile: Option<String>,
    settings: BTreeMap<Key, Setting>,
    interface: Option<Setting>,
}

impl Entry {
    pub(super) fn has_auth(&self) -> bool {
        self.has_auth
    }

    /// The entry of clouds-public.yaml that this one is based on.
    pub(super) fn profile(&self) -> Option<String> {
        self.profile.clone()
    }

    /// This entry, completed by another one.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (key, setting) in other.settings {
            self.settings.entry(key).or_insert(setting);
        }
        self.has_auth |= other.has_auth;
        self.profile = self.profile.or(other.profile);
        self.interface = self.interface.or(other.interface);
        self
    }

    /// The settings, with `~` in front of a path replaced by `home`.
    pub(super) fn into_settings(mut self, home: Option<&Path>) -> BTreeMap<Key, Setting> {
        if let Some(interface) = self.interface {
            // `endpoint_type` has been read into the same key and wins.
            self.settings.entry(Key::EndpointType).or_insert(interface);
        }
        for key in [Key::CaFile, Key::CertFile, Key::KeyFile] {
            if let Some(Setting {
                value: Value::Text(text),
                ..
            }) = self.settings.get_mut(&key)
                && let (Some(below), Some(home)) = (text.strip_prefix("~/"), home)
            {
                *text = home.join(below).to_string_lossy().into_owned();
            }
        }
        self.settings
    }
}

/// A scalar of any kind is taken as the text that is written; null is none.
type Text = Option<Spanned<String>>;

#[derive(Default, Deserialize)]
struct WrittenFile {
    clouds: Option<BTreeMap<String, Option<WrittenEntry>>>,
    #[serde(rename = "public-clouds")]
    public_clouds: Option<BTreeMap<String, Option<WrittenEntry>>>,
}

#[derive(Default, Deserialize)]
struct WrittenEntry {
    cloud: Text,
    profile: Text,
    auth: Option<WrittenAuth>,
    region_name: Text,
    endpoint_type: Text,
    interface: Text,
    verify: Option<Spanned<bool>>,
    cacert: Text,
    cert: Text,
    key: Text,
}

#[derive(Deserialize)]
struct WrittenAuth {
    auth_url: Text,
    token: Text,
    username: Text,
    user_id: Text,
    password: Text,
    application_credential_id: Text,
    application_credential_name: Text,
    application_credential_secret: Text,
    project_name: Text,
    tenant_name: Text,
    project_id: Text,
    tenant_id: Text,
    user_domain_name: Text,
    user_domain_id: Text,
    project_domain_name: Text,
    project_domain_id: Text,
    domain_name: Text,
    domain_id: Text,
    default_domain: Text,
    trust_id: Text,
}

/// Where an entry stands.
struct Context<'a> {
    file: &'a Path,
    text: &'a str,
    /// Such as `clouds.prod`.
    path: String,
}

impl Context<'_> {
    fn entry(&self, written: WrittenEntry) -> Result<Entry, (Position, YamlProblem)> {
        let mut entry = Entry {
            has_auth: written.auth.is_some(),
            profile: filled(written.profile)
                .or(filled(written.cloud))
                .map(|profile| profile.value),
            interface: self.setting("interface", written.interface),
            settings: BTreeMap::new(),
        };
        let fields = [
            (Key::Region, "region_name", written.region_name),
            (Key::EndpointType, "endpoint_type", written.endpoint_type),
            (Key::CaFile, "cacert", written.cacert),
            (Key::CertFile, "cert", written.cert),
            (Key::KeyFile, "key", written.key),
        ];
        let auth = written.auth.map(auth_fields);
        for (key, field, value) in fields.into_iter().chain(auth.into_iter().flatten()) {
            if let Some(setting) = self.setting(field, value) {
                entry.settings.entry(key).or_insert(setting);
            }
        }
        if let Some(verify) = written.verify {
            let at = position(&verify);
            self.check_unquoted(&verify)
                .map_err(|problem| (at, problem))?;
            let value = Value::Flag(!verify.value);
            let place = self.place("verify", at);
            let setting = Setting { value, place };
            entry.settings.insert(Key::TlsInsecure, setting);
        }
        Ok(entry)
    }

    /// As in Go, `verify: "false"` is a text and no boolean.
    fn check_unquoted(&self, verify: &Spanned<bool>) -> Result<(), YamlProblem> {
        let first = verify
            .defined
            .span()
            .byte_offset()
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.text.as_bytes().get(offset));
        match first {
            Some(b'"' | b'\'') => Err(YamlProblem::Boolean),
            _ => Ok(()),
        }
    }

    fn setting(&self, field: &str, value: Text) -> Option<Setting> {
        let value = filled(value)?;
        let place = self.place(field, position(&value));
        let value = Value::Text(value.value);
        Some(Setting { value, place })
    }

    fn place(&self, field: &str, at: Position) -> Place {
        Place {
            file: self.file.to_owned(),
            at,
            field: format!("{}.{field}", self.path),
        }
    }
}

/// The fields of `auth:`; of two that mean the same, the first one counts.
fn auth_fields(auth: WrittenAuth) -> [(Key, &'static str, Text); 20] {
    [
        (Key::AuthUrl, "auth.auth_url", auth.auth_url),
        (Key::Token, "auth.token", auth.token),
        (Key::Username, "auth.username", auth.username),
        (Key::UserId, "auth.user_id", auth.user_id),
        (Key::Password, "auth.password", auth.password),
        (
            Key::CredentialId,
            "auth.application_credential_id",
            auth.application_credential_id,
        ),
        (
            Key::CredentialName,
            "auth.application_credential_name",
            auth.application_credential_name,
        ),
        (
            Key::CredentialSecret,
            "auth.application_credential_secret",
            auth.application_credential_secret,
        ),
        (Key::TenantName, "auth.project_name", auth.project_name),
        (Key::TenantName, "auth.tenant_name", auth.tenant_name),
        (Key::TenantId, "auth.project_id", auth.project_id),
        (Key::TenantId, "auth.tenant_id", auth.tenant_id),
        (
            Key::UserDomainName,
            "auth.user_domain_name",
            auth.user_domain_name,
        ),
        (
            Key::UserDomainId,
            "auth.user_domain_id",
            auth.user_domain_id,
        ),
        (
            Key::TenantDomainName,
            "auth.project_domain_name",
            auth.project_domain_name,
        ),
        (
            Key::TenantDomainId,
            "auth.project_domain_id",
            auth.project_domain_id,
        ),
        (Key::DomainName, "auth.domain_name", auth.domain_name),
        (Key::DomainId, "auth.domain_id", auth.domain_id),
        (
            Key::DefaultDomain,
            "auth.default_domain",
            auth.default_domain,
        ),
        (Key::TrustId, "auth.trust_id", auth.trust_id),
    ]
}

fn filled(value: Text) -> Text {
    value.filter(|value| !value.value.is_empty())
}

fn position<T>(value: &Spanned<T>) -> Position {
    yaml::position(value.referenced)
}
