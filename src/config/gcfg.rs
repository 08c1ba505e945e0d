//! The gcfg dialect: what the Go plugin reads, as it reads it.
//!
//! The format resembles that of git-config but differs in details, so this follows
//! gcfg v1.2.3 step by step: the same files are accepted with the same values, and
//! refused at the same position. The one deviation is a byte-order mark, which is
//! skipped here.
//! Called by [`super::load()`]. Invariant: no error and no warning quotes a value.

mod scanner;
mod unicode;

use std::path::Path;

use scanner::{Scanner, Token, Value, position, unquote};

use super::diagnostic::{Diagnostic, Message};
use super::key::{Key, Kind, Section};
use super::location::{Location, Position};
use super::raw::{self, Raw};

/// Reads the settings of `[Global]` and `[KeyManager]` out of a file.
///
/// # Errors
/// On the first thing that the Go plugin would refuse.
pub(super) fn read(
    file: &Path,
    source: &[u8],
    warnings: &mut Vec<Diagnostic>,
) -> Result<Raw, Diagnostic> {
    let source = source.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(source);
    Reader {
        source,
        scanner: Scanner::new(source),
        section: None,
        raw: Raw::new(file),
        warnings,
    }
    .read()
}

struct Reader<'a> {
    source: &'a [u8],
    scanner: Scanner<'a>,
    section: Option<OpenSection<'a>>,
    raw: Raw,
    warnings: &'a mut Vec<Diagnostic>,
}

/// The section that the lines being read belong to.
#[derive(Clone, Copy)]
struct OpenSection<'a> {
    name: &'a str,
    /// A subsection is never one of ours, whatever its name.
    is_subsection: bool,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Raw, Diagnostic> {
        let (mut start, mut token) = self.scanner.scan();
        loop {
            self.check_scanner()?;
            (start, token) = match token {
                Token::EndOfFile => return Ok(self.raw),
                Token::EndOfLine => self.scanner.scan(),
                Token::LeftBracket => self.read_header()?,
                Token::Name(name) => self.read_key(start, name)?,
                _ if self.section.is_none() => {
                    return Err(self.error(start, EXPECTED_HEADER));
                }
                _ => return Err(self.error(start, EXPECTED_HEADER_OR_KEY)),
            };
        }
    }

    /// Reads on behind `[` and returns the token behind the header.
    fn read_header(&mut self) -> Result<(usize, Token<'a>), Diagnostic> {
        let (name_start, token) = self.scan()?;
        let Token::Name(name) = token else {
            return Err(self.error(name_start, EXPECTED_SECTION_NAME));
        };
        let (mut start, mut token) = self.scan()?;
        let mut is_subsection = false;
        if let Token::Quoted(written) = token {
            if written.len() <= 2 {
                return Err(self.error(start, EMPTY_SUBSECTION));
            }
            is_subsection = true;
            (start, token) = self.scan()?;
        }
        if token != Token::RightBracket {
            let message = if is_subsection {
                EXPECTED_RIGHT_BRACKET
            } else {
                EXPECTED_SUBSECTION
            };
            return Err(self.error(start, message));
        }
        // Unlike elsewhere, Go looks at the token before the scanner's errors here.
        let (start, token) = self.scanner.scan();
        if !matches!(token, Token::EndOfLine | Token::EndOfFile) {
            return Err(self.error(start, EXPECTED_END_OF_LINE));
        }
        self.section = Some(OpenSection {
            name,
            is_subsection,
        });
        if !is_subsection {
            let at = position(self.source, name_start);
            self.raw.check_section(name, at, self.warnings);
        }
        Ok((start, token))
    }

    /// Reads on behind a key and returns the token behind its value.
    fn read_key(
        &mut self,
        name_start: usize,
        name: &'a str,
    ) -> Result<(usize, Token<'a>), Diagnostic> {
        let Some(section) = self.section else {
            return Err(self.error(name_start, EXPECTED_HEADER));
        };
        let (start, token) = self.scan()?;
        let (value, next) = match token {
            Token::EndOfLine | Token::EndOfFile => (None, (start, token)),
            Token::Equals => {
                let value = self.scanner.scan_value();
                self.check_scanner()?;
                // What ends a value is the end of the line or of the file.
                (Some(value), self.scan()?)
            }
            _ => return Err(self.error(start, EXPECTED_EQUALS)),
        };
        self.set(section, name, name_start, value)?;
        Ok(next)
    }

    fn set(
        &mut self,
        section: OpenSection<'a>,
        name: &'a str,
        name_start: usize,
        value: Option<(usize, Value<'a>)>,
    ) -> Result<(), Diagnostic> {
        let ours = Section::ALL
            .into_iter()
            .find(|ours| !section.is_subsection && equal_fold(section.name, ours.name()));
        let Some(section) = ours else {
            return Ok(());
        };
        let at = position(self.source, name_start);
        let Some(key) = Key::all().find(|key| {
            // A key that only clouds.yaml has belongs to no section of this file.
            key.section() == Some(section) && equal_fold(name, key.name())
        }) else {
            let has_value = value.is_some_and(|(_, value)| {
                !value.written.is_empty() && !value.written.starts_with(b"=")
            });
            // The rest of a secret that was broken over two lines looks like a key
            // without a value, or like one whose value is base64 padding.
            let warning = self.raw.unknown_key(section, name, has_value, at);
            self.warnings.push(warning);
            return Ok(());
        };
        let Some((value_start, value)) = value else {
            if key.kind() != Kind::Flag {
                return Err(self.error(
                    name_start,
                    format!(
                        "blank value not supported for {key}; write `=` and a value, or remove the \
                         line"
                    ),
                ));
            }
            self.raw.put(key, raw::Value::Flag(true), at);
            return Ok(());
        };
        let text = unquote(value.written);
        let at = position(self.source, value_start);
        self.check_quoting(key, at, value);
        let invalid = |rest: &str| {
            let message = format!("failed to parse the value of {key}{rest}");
            self.error(value_start, message)
        };
        let value = match key.kind() {
            Kind::Flag => raw::Value::Flag(
                parse_bool(&text).ok_or_else(|| invalid(" as a boolean; write true or false"))?,
            ),
            Kind::Word => raw::Value::Text(
                one_word(&text)
                    .ok_or_else(|| invalid("; write one word without spaces, or remove the key"))?
                    .to_owned(),
            ),
            Kind::List => raw::Value::List(split_list(&text)),
            Kind::Text | Kind::Switch => raw::Value::Text(text),
        };
        self.raw.put(key, value, at);
        Ok(())
    }

    fn check_quoting(&mut self, key: Key, at: Position, value: Value<'_>) {
        let location = || Location::of_key(self.raw.file(), at, key);
        if value.cut_by_comment {
            self.warnings
                .push(Diagnostic::new(location(), COMMENT_IN_VALUE));
        }
        if let [b'\'', .., b'\''] = value.written {
            let message = "the single quotes are part of the value; write double quotes";
            self.warnings.push(Diagnostic::new(location(), message));
        }
    }

    fn scan(&mut self) -> Result<(usize, Token<'a>), Diagnostic> {
        let scanned = self.scanner.scan();
        self.check_scanner()?;
        Ok(scanned)
    }

    fn check_scanner(&self) -> Result<(), Diagnostic> {
        match self.scanner.error() {
            None => Ok(()),
            Some((offset, message)) => Err(self.error(*offset, message.clone())),
        }
    }

    fn error(&self, offset: usize, message: impl Into<Message>) -> Diagnostic {
        Diagnostic::at(self.raw.file(), position(self.source, offset), message)
    }
}

/// Go's `strings.EqualFold` for an ASCII `name`: two characters beyond ASCII fold
/// into it, the Kelvin sign and the long s.
fn equal_fold(text: &str, name: &str) -> bool {
    let fold = |character: char| match character {
        '\u{212A}' => 'k',
        '\u{17F}' => 's',
        other => other.to_ascii_lowercase(),
    };
    text.chars().map(fold).eq(name.chars().map(fold))
}

fn parse_bool(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match () {
        () if is(["true", "yes", "on", "1"]) => Some(true),
        () if is(["false", "no", "off", "0"]) => Some(false),
        () => None,
    }
}

/// Go's `fmt.Sscanf` with `%v%s`: one word, with blanks around it but no line feed.
fn one_word(text: &str) -> Option<&str> {
    if text.contains('\n') {
        return None;
    }
    let word = text.trim();
    (!word.is_empty() && !word.contains(char::is_whitespace)).then_some(word)
}

fn split_list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

// In the Go plugin's words, and what to write instead.
const EXPECTED_SECTION_NAME: &str = "expected section name; write `[Global]` or `[KeyManager]`";
const EMPTY_SUBSECTION: &str = "empty subsection name; remove the `\"\"` or write a name into it";
const EXPECTED_SUBSECTION: &str =
    "expected subsection name or right bracket; a header is `[name]` or `[name \"subsection\"]`";
const EXPECTED_RIGHT_BRACKET: &str =
    "expected right bracket; a header is `[name]` or `[name \"subsection\"]`";
const EXPECTED_END_OF_LINE: &str =
    "expected EOL, EOF, or comment; write the key on a line of its own";
const EXPECTED_HEADER: &str = "expected section header; write `[Global]` above the first key";
const EXPECTED_HEADER_OR_KEY: &str =
    "expected section header or variable declaration; write `[section]` or `key = value`";
const EXPECTED_EQUALS: &str = "expected '='; write `key = value`";
const COMMENT_IN_VALUE: &str = "a comment begins within the value and cuts it off; put the value \
                                into double quotes, or a space before the comment";

#[cfg(test)]
mod tests;
