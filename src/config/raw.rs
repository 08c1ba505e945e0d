//! What a cloud-config says, before anything is checked: the same for both
//! dialects and for the entry of clouds.yaml that is merged in.
//!
//! Between the readers, which fill it, and `resolve`, which empties it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Message};
use super::key::{Key, Section};
use super::location::{Location, Position};
use super::redact;

/// The settings of one file.
#[derive(Debug)]
pub(super) struct Raw {
    file: PathBuf,
    settings: BTreeMap<Key, Setting>,
}

/// One setting with its location.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) location: Location,
}

/// A value of either dialect. It may be a secret, so it is not printed.
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
    /// An empty value means that the key is not set, in every file.
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Flag(_) => false,
            Self::List(items) => items.is_empty(),
        }
    }
}

/// A text that is not empty, with its location.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) location: Location,
}

impl Text {
    /// An error or a warning about this setting.
    pub(super) fn diagnostic(&self, message: impl Into<Message>) -> Diagnostic {
        Diagnostic::new(&self.location, message)
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

    /// Sets a key; the last value wins.
    pub(super) fn put(&mut self, key: Key, value: Value, position: Position) {
        let location = Location::of_key(&self.file, position, key);
        self.settings.insert(key, Setting { value, location });
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
                location: setting.location,
            }),
            Value::Flag(_) | Value::List(_) => None,
        }
    }

    /// The error that a setting is missing.
    pub(super) fn missing(&self, message: impl Into<Message>) -> Diagnostic {
        Diagnostic::of_file(&self.file, message)
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

    /// Warns about a section that is not ours and has nearly the name of one.
    pub(super) fn check_section(
        &self,
        name: &str,
        position: Position,
        warnings: &mut Vec<Diagnostic>,
    ) {
        let is_ours = Section::ALL
            .iter()
            .any(|section| section.name().eq_ignore_ascii_case(name));
        if let Some(meant) = Section::nearest(name).filter(|_| !is_ours) {
            let location = self.location(position, format!("[{}]", redact::name(name)));
            let meant = meant.name();
            let message = format!("the section is ignored; did you mean [{meant}]?");
            warnings.push(Diagnostic::new(location, message));
        }
    }

    /// The warning about an unknown key. Its name may be part of a secret: without
    /// `show_name`, it is shown only where it is nearly one of ours.
    pub(super) fn unknown_key(
        &self,
        section: Section,
        name: &str,
        show_name: bool,
        position: Position,
    ) -> Diagnostic {
        let meant = Key::nearest(section, name);
        let section = section.name();
        let field = if show_name || meant.is_some() {
            format!("[{section}] {}", redact::name(name))
        } else {
            format!("[{section}]")
        };
        let meant = meant.map_or_else(String::new, |key| format!("; did you mean {key}?"));
        let message = format!("there is no such key, it is ignored{meant}");
        Diagnostic::new(self.location(position, field), message)
    }

    fn location(&self, position: Position, field: String) -> Location {
        Location {
            file: self.file.clone(),
            position,
            field,
        }
    }
}
