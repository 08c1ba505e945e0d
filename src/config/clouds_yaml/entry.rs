//! What an entry of clouds.yaml may say, and what it means in a cloud-config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::unknown_keys::{self, EntryDoubt};
use crate::config::key::Key;
use crate::config::location::{Place, Position};
use crate::config::raw::{Setting, Value};
use crate::config::redact;
use crate::config::warning::Warning;
use crate::config::yaml::{self, Mapping, Node, YamlError, YamlProblem};

/// The entries of one file.
pub(super) struct Document {
    pub(super) file: PathBuf,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Document {
    /// Reads a file whose entries stand below the key `top`.
    pub(super) fn parse(file: &Path, bytes: &[u8], top: &'static str) -> Result<Self, YamlError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = std::str::from_utf8(valid).unwrap_or_default();
            let at = Position::of_offset(text, text.len());
            (at, YamlProblem::NotUtf8)
        })?;
        let mut written = yaml::parse(text)?.into_mapping()?.unwrap_or_default();
        let entries = mapping(&mut written, top)?.unwrap_or_default();
        let entries = entries.into_iter().map(|(name, entry)| {
            let path = format!("{top}.{}", redact::name(&name));
            let context = Context { file, path };
            let entry = context.entry(entry.into_mapping()?.unwrap_or_default())?;
            Ok((name, entry))
        });
        Ok(Self {
            file: file.to_owned(),
            entries: entries.collect::<Result<_, _>>()?,
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
    profile: Option<(String, Place)>,
    settings: BTreeMap<Key, Setting>,
    interface: Option<Setting>,
    doubts: Vec<Warning>,
}

impl Entry {
    pub(super) fn has_auth(&self) -> bool {
        self.has_auth
    }

    /// The entry of clouds-public.yaml that this one is based on, and what says so.
    pub(super) fn profile(&self) -> Option<(String, Place)> {
        self.profile.clone()
    }

    /// The keys that somebody counts on in vain.
    pub(super) fn take_doubts(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.doubts)
    }

    /// This entry, completed by another one.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (key, setting) in other.settings {
            self.settings.entry(key).or_insert(setting);
        }
        self.has_auth |= other.has_auth;
        self.profile = self.profile.or(other.profile);
        self.interface = self.interface.or(other.interface);
        self.doubts.extend(other.doubts);
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

/// Where an entry stands.
struct Context<'a> {
    file: &'a Path,
    /// Such as `clouds.prod`.
    path: String,
}

impl Context<'_> {
    fn entry(&self, mut written: Mapping) -> Result<Entry, YamlError> {
        let auth = mapping(&mut written, "auth")?;
        let named = |field, found: Option<(Position, String)>| {
            found.map(|(at, name)| (name, self.place(field, at)))
        };
        let profile = named("profile", text(&mut written, "profile")?);
        let cloud = named("cloud", text(&mut written, "cloud")?);
        let interface = text(&mut written, "interface")?;
        let mut entry = Entry {
            has_auth: auth.is_some(),
            profile: profile.or(cloud),
            interface: interface.map(|text| self.setting("interface", text)),
            ..Entry::default()
        };
        if let Some(node) = written.remove("auth_type") {
            let at = node.position();
            let known = node.into_text().ok().flatten();
            if known.is_some_and(|(_, kind)| !unknown_keys::is_supported(&kind)) {
                let place = self.place("auth_type", at);
                let doubt = EntryDoubt::AuthType;
                entry.doubts.push(Warning::Entry { place, doubt });
            }
        }
        self.fill(&mut entry, written, "", &FIELDS)?;
        self.fill(&mut entry, auth.unwrap_or_default(), "auth.", &AUTH_FIELDS)?;
        Ok(entry)
    }

    /// Takes the fields of the table; of two for one key, the first one counts.
    fn fill(
        &self,
        entry: &mut Entry,
        mut written: Mapping,
        prefix: &str,
        fields: &[(&'static str, Key)],
    ) -> Result<(), YamlError> {
        for (field, key) in fields {
            let path = format!("{prefix}{field}");
            let setting = match key {
                Key::TlsInsecure => flag(&mut written, field)?.map(|(at, verify)| Setting {
                    value: Value::Flag(!verify),
                    place: self.place(&path, at),
                }),
                _ => text(&mut written, field)?.map(|text| self.setting(&path, text)),
            };
            if let Some(setting) = setting {
                entry.settings.entry(*key).or_insert(setting);
            }
        }
        for (name, node) in &written {
            if let Some(doubt) = unknown_keys::about(name, !prefix.is_empty()) {
                let field = format!("{prefix}{}", redact::name(name));
                let place = self.place(&field, node.position());
                entry.doubts.push(Warning::Entry { place, doubt });
            }
        }
        Ok(())
    }

    fn setting(&self, field: &str, (at, text): (Position, String)) -> Setting {
        let value = Value::Text(text);
        let place = self.place(field, at);
        Setting { value, place }
    }

    fn place(&self, field: &str, at: Position) -> Place {
        Place {
            file: self.file.to_owned(),
            at,
            field: format!("{}.{field}", self.path),
        }
    }
}

/// The fields of an entry, and what they mean; others are not for us.
pub(super) const FIELDS: [(&str, Key); 6] = [
    ("region_name", Key::Region),
    ("endpoint_type", Key::EndpointType),
    ("verify", Key::TlsInsecure),
    ("cacert", Key::CaFile),
    ("cert", Key::CertFile),
    ("key", Key::KeyFile),
];

/// The fields of `auth:`.
pub(super) const AUTH_FIELDS: [(&str, Key); 20] = [
    ("auth_url", Key::AuthUrl),
    ("token", Key::Token),
    ("username", Key::Username),
    ("user_id", Key::UserId),
    ("password", Key::Password),
    ("application_credential_id", Key::CredentialId),
    ("application_credential_name", Key::CredentialName),
    ("application_credential_secret", Key::CredentialSecret),
    ("project_name", Key::TenantName),
    ("tenant_name", Key::TenantName),
    ("project_id", Key::TenantId),
    ("tenant_id", Key::TenantId),
    ("user_domain_name", Key::UserDomainName),
    ("user_domain_id", Key::UserDomainId),
    ("project_domain_name", Key::TenantDomainName),
    ("project_domain_id", Key::TenantDomainId),
    ("domain_name", Key::DomainName),
    ("domain_id", Key::DomainId),
    ("default_domain", Key::DefaultDomain),
    ("trust_id", Key::TrustId),
];

fn mapping(of: &mut Mapping, field: &str) -> Result<Option<Mapping>, YamlError> {
    of.remove(field).map_or(Ok(None), Node::into_mapping)
}

fn flag(of: &mut Mapping, field: &str) -> Result<Option<(Position, bool)>, YamlError> {
    of.remove(field).map_or(Ok(None), Node::into_flag)
}

/// A text that is not empty.
fn text(of: &mut Mapping, field: &str) -> Result<Option<(Position, String)>, YamlError> {
    let text = of.remove(field).map_or(Ok(None), Node::into_text)?;
    Ok(text.filter(|(_, text)| !text.is_empty()))
}
