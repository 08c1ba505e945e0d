//! What a cloud-config says, before anything is decided: the same for both
//! dialects and for the entry of clouds.yaml that is merged in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::key::{Key, Section};
use super::location::{Place, Position};
use super::redact;
use super::refusal::Refusal;
use super::warning::Warning;

/// The settings of one file.
#[derive(Debug)]
pub(super) struct Raw {
    file: PathBuf,
    settings: BTreeMap<Key, Setting>,
}

/// One setting and where it stands.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value as both dialects can say it. It may be a secret, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    List(Vec<String>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(redacted)",
            Self::Flag(_) => "Flag(redacted)",
            Self::List(_) => "List(redacted)",
        })
    }
}

impl Value {
    /// An empty value counts as none, in every file.
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Flag(_) => false,
            Self::List(items) => items.is_empty(),
        }
    }
}

/// A text that is not empty, and where it stands.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Text {
    /// The error that this setting cannot be used.
    pub(super) fn refused(&self, refusal: Refusal) -> ConfigError {
        ConfigError::Setting {
            place: Box::new(self.place.clone()),
            refusal,
        }
    }
}

impl Raw {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            settings: BTreeMap::new(),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Sets a key; the last time that it is set counts.
    pub(super) fn put(&mut self, key: Key, value: Value, at: Position) {
        let place = Place::of_key(&self.file, at, key);
        self.settings.insert(key, Setting { value, place });
    }

    /// Sets a key to what another file says.
    pub(super) fn insert(&mut self, key: Key, setting: Setting) {
        self.settings.insert(key, setting);
    }

    /// All settings.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// A setting, unless it is empty.
    pub(super) fn get(&self, key: Key) -> Option<&Setting> {
        self.settings
            .get(&key)
            .filter(|setting| !setting.value.is_empty())
    }

    /// Takes a setting out, unless it is empty.
    pub(super) fn take(&mut self, key: Key) -> Option<Setting> {
        self.settings
            .remove(&key)
            .filter(|setting| !setting.value.is_empty())
    }

    /// Takes a text out, unless it is empty.
    pub(super) fn take_text(&mut self, key: Key) -> Option<Text> {
        let setting = self.take(key)?;
        match setting.value {
            Value::Text(text) => Some(Text {
                text,
                place: setting.place,
            }),
            Value::Flag(_) | Value::List(_) => None,
        }
    }

    /// The error at a setting if there is one, else that something is missing.
    pub(super) fn refused(&self, setting: Option<&Text>, refusal: Refusal) -> ConfigError {
        match setting {
            Some(setting) => setting.refused(refusal),
            None => ConfigError::Missing {
                file: self.file.clone(),
                refusal,
            },
        }
    }

    /// Whether a flag is set to true.
    pub(super) fn flag(&self, key: Key) -> bool {
        self.get(key)
            .is_some_and(|setting| setting.value == Value::Flag(true))
    }

    /// Whether one of the settings is a secret.
    pub(super) fn holds_secret(&self) -> bool {
        let secret =
            |(key, setting): (&Key, &Setting)| key.is_secret() && !setting.value.is_empty();
        self.settings.iter().any(secret)
    }

    /// Warns about a section that is not ours and is called nearly like one.
    pub(super) fn note_section(&self, name: &str, at: Position, warnings: &mut Vec<Warning>) {
        let is_ours = Section::ALL
            .iter()
            .any(|section| section.name().eq_ignore_ascii_case(name));
        if is_ours {
            return;
        }
        if let Some(meant) = Section::nearest(name) {
            warnings.push(Warning::UnknownSection {
                place: Place {
                    file: self.file.clone(),
                    at,
                    field: format!("[{}]", redact::name(name)),
                },
                meant,
            });
        }
    }

    /// The warning about a key that is none; `shown` when its name may be shown.
    pub(super) fn unknown_key(
        &self,
        section: Section,
        name: &str,
        shown: Option<&str>,
        at: Position,
    ) -> Warning {
        let meant = Key::nearest(section, name);
        let shown = shown.or_else(|| meant.map(|_| name));
        let field = match shown {
            Some(name) => format!("[{}] {}", section.name(), redact::name(name)),
            None => format!("[{}]", section.name()),
        };
        Warning::UnknownKey {
            place: Place {
                file: self.file.clone(),
                at,
                field,
            },
            meant,
        }
    }
}
