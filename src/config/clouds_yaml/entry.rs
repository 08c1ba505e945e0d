//! Entries of clouds.yaml, parsed into the terms of a cloud-config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fields::{AUTH_FIELDS, FIELDS};
use super::unknown_keys;
use crate::config::diagnostic::Diagnostic;
use crate::config::key::Key;
use crate::config::location::{Location, Position};
use crate::config::raw::{Setting, Value};
use crate::config::redact;
use crate::config::yaml::{self, Mapping, Node, YamlError, YamlProblem};

/// The entries of one file.
pub(super) struct Document {
    pub(super) file: PathBuf,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Document {
    /// Reads a file whose entries are below the key `top`.
    pub(super) fn parse(file: &Path, bytes: &[u8], top: &'static str) -> Result<Self, YamlError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let position = Position::of_offset(bytes, error.valid_up_to());
            (position, YamlProblem::NotUtf8)
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

/// An entry, in the terms of a cloud-config.
#[derive(Default)]
pub(super) struct Entry {
    has_auth: bool,
    profile: Option<(String, Location)>,
    settings: BTreeMap<Key, Setting>,
    interface: Option<Setting>,
    warnings: Vec<Diagnostic>,
}

impl Entry {
    pub(super) fn has_auth(&self) -> bool {
        self.has_auth
    }

    /// The entry of clouds-public.yaml that this one is based on, and what says so.
    pub(super) fn profile(&self) -> Option<(String, Location)> {
        self.profile.clone()
    }

    /// The warnings about keys that are ignored.
    pub(super) fn take_warnings(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.warnings)
    }

    /// This entry, completed by another one.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (key, setting) in other.settings {
            self.settings.entry(key).or_insert(setting);
        }
        self.has_auth |= other.has_auth;
        self.profile = self.profile.or(other.profile);
        self.interface = self.interface.or(other.interface);
        self.warnings.extend(other.warnings);
        self
    }

    /// The settings, with `~` in front of a path replaced by `home`.
    pub(super) fn into_settings(mut self, home: Option<&Path>) -> BTreeMap<Key, Setting> {
        if let Some(interface) = self.interface {
            // `endpoint_type` has been read into the same key and takes precedence.
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

/// Where an entry is.
struct Context<'a> {
    file: &'a Path,
    /// Such as `clouds.prod`.
    path: String,
}

impl Context<'_> {
    fn entry(&self, mut written: Mapping) -> Result<Entry, YamlError> {
        let auth = mapping(&mut written, "auth")?;
        let named = |field, found: Option<(Position, String)>| {
            found.map(|(at, name)| (name, self.location(field, at)))
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
                let location = self.location("auth_type", at);
                let warning = Diagnostic::new(location, unknown_keys::AUTH_TYPE);
                entry.warnings.push(warning);
            }
        }
        self.fill(&mut entry, written, "", &FIELDS)?;
        self.fill(&mut entry, auth.unwrap_or_default(), "auth.", &AUTH_FIELDS)?;
        Ok(entry)
    }

    /// Takes the fields of the table; if two set one key, the first one is used.
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
                    location: self.location(&path, at),
                }),
                _ => text(&mut written, field)?.map(|text| self.setting(&path, text)),
            };
            if let Some(setting) = setting {
                entry.settings.entry(*key).or_insert(setting);
            }
        }
        for (name, node) in &written {
            if let Some(message) = unknown_keys::message(name, !prefix.is_empty()) {
                let field = format!("{prefix}{}", redact::name(name));
                let location = self.location(&field, node.position());
                entry.warnings.push(Diagnostic::new(location, message));
            }
        }
        Ok(())
    }

    fn setting(&self, field: &str, (at, text): (Position, String)) -> Setting {
        let value = Value::Text(text);
        let location = self.location(field, at);
        Setting { value, location }
    }

    fn location(&self, field: &str, position: Position) -> Location {
        Location {
            file: self.file.to_owned(),
            position,
            field: format!("{}.{field}", self.path),
        }
    }
}

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
