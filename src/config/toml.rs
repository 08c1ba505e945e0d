//! The TOML dialect: strict and typed; unknown keys are errors.
//!
//! Called by [`super::load()`] for names that end in `.toml`. Invariant: no error
//! quotes the file. The `Display` of the parser's own errors prints the whole
//! line, so it is never used.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Message};
use super::key::{Key, Kind, Section};
use super::location::Position;
use super::raw::{Raw, Value};
use super::{redact, typography};

/// Reads the settings of `[Global]` and `[KeyManager]` out of a file.
///
/// # Errors
/// On what is not TOML, and on the first key of the file that is not known or has
/// a value of another type.
pub(super) fn read(
    file: &Path,
    source: &[u8],
    warnings: &mut Vec<Diagnostic>,
) -> Result<Raw, Diagnostic> {
    let source = source.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(source);
    let text = std::str::from_utf8(source).map_err(|error| {
        let position = Position::of_offset(source, error.valid_up_to());
        let message = "illegal UTF-8 encoding; save the file as UTF-8";
        Diagnostic::at(file, position, message)
    })?;
    let mut reader = Reader {
        text,
        raw: Raw::new(file),
    };
    reader.read(warnings)?;
    Ok(reader.raw)
}

struct Reader<'a> {
    text: &'a str,
    raw: Raw,
}

impl Reader<'_> {
    fn read(&mut self, warnings: &mut Vec<Diagnostic>) -> Result<(), Diagnostic> {
        let document = DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let rest = self.text.get(offset..).unwrap_or_default();
            let character = rest.chars().next();
            let message = match character.and_then(typography::describe) {
                Some(typography) => format!("not valid TOML: {typography}"),
                // The parser's own message quotes nothing.
                None => format!("not valid TOML: {} {SYNTAX}", error.message()),
            };
            self.error(offset, message)
        })?;
        for (name, value) in in_order(document.get_ref()) {
            let offset = name.span().start;
            let name: &str = name.get_ref();
            let section = Section::ALL
                .into_iter()
                .find(|section| section.name().eq_ignore_ascii_case(name));
            match (section, value.get_ref()) {
                (Some(section), _) if section.name() != name => {
                    let message = format!("[{name}] must be written [{}]", section.name());
                    return Err(self.error(offset, message));
                }
                (Some(section), DeValue::Table(table)) => self.read_section(section, table)?,
                (Some(section), _) => {
                    let name = section.name();
                    let message =
                        format!("{name} must be a section; write `[{name}]` on a line of its own");
                    return Err(self.error(offset, message));
                }
                (None, DeValue::Table(_) | DeValue::Array(_)) => {
                    self.raw
                        .check_section(name, self.position(offset), warnings);
                }
                (None, _) => {
                    let message = outside_sections(name);
                    return Err(self.error(offset, message));
                }
            }
        }
        Ok(())
    }

    fn read_section(&mut self, section: Section, table: &DeTable<'_>) -> Result<(), Diagnostic> {
        for (name, value) in in_order(table) {
            let text: &str = name.get_ref();
            let key = Key::all().find(|key| key.section() == Some(section) && key.name() == text);
            let Some(key) = key else {
                let message = unknown_key(section, text);
                return Err(self.error(name.span().start, message));
            };
            let typed = self.typed(key, value)?;
            self.raw.put(key, typed, self.position(value.span().start));
        }
        Ok(())
    }

    fn typed(&self, key: Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Diagnostic> {
        let offset = value.span().start;
        match (key.kind(), value.get_ref()) {
            (Kind::Word, DeValue::String(text)) if text.trim().is_empty() => {
                let message = format!("{key}: it must not be empty; remove the key instead");
                Err(self.error(offset, message))
            }
            (Kind::Text | Kind::Word, DeValue::String(text)) => {
                Ok(Value::Text(text.clone().into_owned()))
            }
            (Kind::Flag | Kind::Switch, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::List, DeValue::Array(array)) => self.list(key, array),
            (kind, found) => Err(self.wrong_type(key, offset, expected(kind), found)),
        }
    }

    fn list(&self, key: Key, array: &DeArray<'_>) -> Result<Value, Diagnostic> {
        let texts = array.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            found => Err(self.wrong_type(key, item.span().start, "an array of strings", found)),
        });
        texts.collect::<Result<_, _>>().map(Value::List)
    }

    fn wrong_type(
        &self,
        key: Key,
        offset: usize,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Diagnostic {
        let fix = match key.kind() {
            Kind::List => format!("write {} = [\"UUID\", \"UUID\"]", key.name()),
            Kind::Flag | Kind::Switch => "write true or false without quotes".to_owned(),
            Kind::Text | Kind::Word => "write it in double quotes".to_owned(),
        };
        let found = type_name(found);
        let message = format!("{key}: it must be {expected}, but is {found}; {fix}");
        self.error(offset, message)
    }

    fn position(&self, offset: usize) -> Position {
        Position::of_offset(self.text.as_bytes(), offset)
    }

    fn error(&self, offset: usize, message: impl Into<Message>) -> Diagnostic {
        Diagnostic::at(self.raw.file(), self.position(offset), message)
    }
}

const SYNTAX: &str = "(strings are in double quotes; the name of a file in the Go plugin's own \
     format must not end in .toml)";

fn outside_sections(name: &str) -> String {
    let meant = Key::all().find(|key| key.name() == name);
    let sections = match meant.and_then(Key::section) {
        Some(section) => format!("[{}]", section.name()),
        None => "[Global] or [KeyManager]".to_owned(),
    };
    let name = redact::name(name);
    format!("{name} is outside every section; write it below {sections}")
}

fn unknown_key(section: Section, name: &str) -> String {
    let fix = Key::nearest(section, name).map_or_else(
        || "remove it".to_owned(),
        |key| format!("did you mean {key}?"),
    );
    let (section, name) = (section.name(), redact::name(name));
    format!("[{section}] has no key {name}; {fix}")
}

/// The entries in the order of the file, so that the first error is reported.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<toml::de::DeString<'i>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Word => "a string",
        Kind::Flag | Kind::Switch => "true or false",
        Kind::List => "an array of strings",
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
