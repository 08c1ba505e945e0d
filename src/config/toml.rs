//! The TOML dialect: strict and typed, unknown keys refused.
//!
//! Called by [`super::load()`] for names that end in `.toml`. Invariant: no error
//! quotes the file. The `Display` of the parser's own errors prints the whole
//! line, so it is never used.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::key::{Key, Kind, Section};
use super::location::Position;
use super::raw::{Raw, Value};
use super::redact::{self, Shown};
use super::typography::OddMarks;
use super::warning::Warning;

/// Why a TOML file cannot be used, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct TomlError {
    /// The offending character, key or value.
    pub at: Position,
    /// What is wrong with it.
    pub problem: TomlProblem,
}

/// What is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TomlProblem {
    /// Bytes that are not UTF-8.
    #[error("illegal UTF-8 encoding; save the file as UTF-8")]
    NotUtf8,
    /// Not TOML; the parser's own words, which quote nothing.
    #[error(
        "not valid TOML: {0} (texts stand in double quotes; a file in the Go plugin's own format \
         must not be called *.toml)"
    )]
    Syntax(Box<str>),
    /// A character that comes from a word processor.
    #[error("not valid TOML: {0}")]
    OddMark(&'static str),
    /// A key outside every section.
    #[error("{name} stands outside every section; write it below {}", section_names(*meant))]
    OutsideSections {
        /// The key.
        name: Shown,
        /// The key that is called so.
        meant: Option<Key>,
    },
    /// A name of ours in another spelling, which TOML takes for another name.
    #[error("[{found}] must be spelt [{}]", meant.name())]
    SectionSpelling {
        /// What is there.
        found: Box<str>,
        /// What it should be.
        meant: Section,
    },
    /// Something else than a table.
    #[error("{} must be a section; write `[{}]` on a line of its own", .0.name(), .0.name())]
    NotASection(Section),
    /// No such key.
    #[error("[{}] has no key {name}{}", section.name(), did_you_mean(*meant))]
    UnknownKey {
        /// The section.
        section: Section,
        /// The key.
        name: Shown,
        /// What was probably meant.
        meant: Option<Key>,
    },
    /// A value of another type.
    #[error("{key}: it must be {expected} and is {found}{}", advice(*key, found))]
    Type {
        /// The key.
        key: Key,
        /// The type that is wanted.
        expected: &'static str,
        /// The type that is there.
        found: &'static str,
    },
    /// A text without any character where the Go plugin wants a word.
    #[error("{0}: it must not be empty; remove the key instead")]
    Empty(Key),
}

fn section_names(meant: Option<Key>) -> String {
    let section = meant.and_then(Key::section);
    section.map_or_else(
        || "[Global] or [KeyManager]".to_owned(),
        |section| format!("[{}]", section.name()),
    )
}

fn did_you_mean(meant: Option<Key>) -> String {
    meant.map_or_else(
        || "; remove it".to_owned(),
        |key| format!("; did you mean {key}?"),
    )
}

fn advice(key: Key, found: &str) -> String {
    match (key.kind(), found) {
        (Kind::List, _) => format!("; write {} = [\"UUID\", \"UUID\"]", key.name()),
        (Kind::Flag | Kind::Switch, _) => "; write true or false without quotes".to_owned(),
        _ => "; write it in double quotes".to_owned(),
    }
}

/// Reads the settings of `[Global]` and `[KeyManager]` out of a file.
///
/// # Errors
/// On what is not TOML, and on the first key of the file that is not known or has
/// a value of another type.
pub(super) fn read(
    file: &Path,
    source: &[u8],
    warnings: &mut Vec<Warning>,
) -> Result<Raw, TomlError> {
    let source = source.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(source);
    let text = std::str::from_utf8(source).map_err(|error| {
        let valid = source.get(..error.valid_up_to()).unwrap_or_default();
        let text = std::str::from_utf8(valid).unwrap_or_default();
        TomlError {
            at: Position::of_offset(text, text.len()),
            problem: TomlProblem::NotUtf8,
        }
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
    fn read(&mut self, warnings: &mut Vec<Warning>) -> Result<(), TomlError> {
        let document = DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let rest = self.text.get(offset..).unwrap_or_default();
            let mark = rest.chars().next().and_then(OddMarks::of_character);
            let syntax = || TomlProblem::Syntax(error.message().into());
            self.error(offset, mark.map_or_else(syntax, TomlProblem::OddMark))
        })?;
        for (name, value) in in_order(document.get_ref()) {
            let offset = name.span().start;
            let name: &str = name.get_ref();
            let section = Section::ALL
                .into_iter()
                .find(|section| section.name().eq_ignore_ascii_case(name));
            match (section, value.get_ref()) {
                (Some(section), _) if section.name() != name => {
                    let problem = TomlProblem::SectionSpelling {
                        found: name.into(),
                        meant: section,
                    };
                    return Err(self.error(offset, problem));
                }
                (Some(section), DeValue::Table(table)) => self.read_section(section, table)?,
                (Some(section), _) => {
                    return Err(self.error(offset, TomlProblem::NotASection(section)));
                }
                (None, DeValue::Table(_) | DeValue::Array(_)) => {
                    let at = Position::of_offset(self.text, offset);
                    self.raw.note_section(name, at, warnings);
                }
                (None, _) => {
                    let problem = TomlProblem::OutsideSections {
                        name: redact::name(name),
                        meant: Key::all().find(|key| key.name() == name),
                    };
                    return Err(self.error(offset, problem));
                }
            }
        }
        Ok(())
    }

    fn read_section(&mut self, section: Section, table: &DeTable<'_>) -> Result<(), TomlError> {
        for (name, value) in in_order(table) {
            let text: &str = name.get_ref();
            let key = Key::all().find(|key| key.section() == Some(section) && key.name() == text);
            let Some(key) = key else {
                let problem = TomlProblem::UnknownKey {
                    section,
                    name: redact::name(text),
                    meant: Key::nearest(section, text),
                };
                return Err(self.error(name.span().start, problem));
            };
            let typed = self.typed(key, value)?;
            let at = Position::of_offset(self.text, value.span().start);
            self.raw.put(key, typed, at);
        }
        Ok(())
    }

    fn typed(&self, key: Key, value: &Spanned<DeValue<'_>>) -> Result<Value, TomlError> {
        let offset = value.span().start;
        match (key.kind(), value.get_ref()) {
            (Kind::Word, DeValue::String(text)) if text.trim().is_empty() => {
                Err(self.error(offset, TomlProblem::Empty(key)))
            }
            (Kind::Text | Kind::Word, DeValue::String(text)) => {
                Ok(Value::Text(text.clone().into_owned()))
            }
            (Kind::Flag | Kind::Switch, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::List, DeValue::Array(array)) => self.list(key, array),
            (kind, found) => Err(self.wrong_type(key, offset, expected(kind), found)),
        }
    }

    fn list(&self, key: Key, array: &DeArray<'_>) -> Result<Value, TomlError> {
        let texts = array.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            found => Err(self.wrong_type(key, item.span().start, "an array of texts", found)),
        });
        texts.collect::<Result<_, _>>().map(Value::List)
    }

    fn wrong_type(
        &self,
        key: Key,
        offset: usize,
        expected: &'static str,
        found: &DeValue<'_>,
    ) -> TomlError {
        let problem = TomlProblem::Type {
            key,
            expected,
            found: described(found),
        };
        self.error(offset, problem)
    }

    fn error(&self, offset: usize, problem: TomlProblem) -> TomlError {
        TomlError {
            at: Position::of_offset(self.text, offset),
            problem,
        }
    }
}

/// The entries as they stand in the file, so that the first error is reported.
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
        Kind::Text | Kind::Word => "a text",
        Kind::Flag | Kind::Switch => "true or false",
        Kind::List => "an array of texts",
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
