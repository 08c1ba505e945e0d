//! The gcfg dialect: what the Go plugin reads, as it reads it.
//!
//! git-config like, and unlike it in many small ways, so this follows gcfg v1.2.3
//! step by step: the same files are accepted with the same values, and refused at
//! the same place. The one deviation is a byte-order mark, which is skipped here.
//! Called by [`super::load()`]. Invariant: no error and no warning quotes a value.

mod scanner;
mod unicode;

use std::path::Path;

use scanner::{Scanner, Token, Value, position, unquote};

use super::key::{Key, Kind, Section};
use super::location::{Place, Position};
use super::raw::{self, Raw};
use super::typography::OddMarks;
use super::warning::Warning;

/// Why a file is not valid gcfg, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct GcfgError {
    /// The offending character or token.
    pub at: Position,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong, in the Go plugin's words, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A character that no name and no header may contain.
    #[error(
        "illegal character U+{:04X}{}; names consist of letters, digits and `-`, begin with a \
         letter, and are followed by `=`", u32::from(*.0), shown(*.0)
    )]
    IllegalCharacter(char),
    /// A zero byte.
    #[error("illegal character NUL; the file must be plain text")]
    Nul,
    /// Bytes that are not UTF-8.
    #[error("illegal UTF-8 encoding; save the file as UTF-8")]
    NotUtf8,
    /// A `"` without a second one on its line.
    #[error(
        "string not terminated; end it with `\"` on the same line, write a line break as `\\n`"
    )]
    StringNotTerminated,
    /// `\` and a character that has no meaning after it.
    #[error(
        "unknown escape sequence; within quotes write `\\\\`, `\\\"`, `\\n` or `\\t`, in the name of \
         a subsection the first two only"
    )]
    UnknownEscape,
    /// A `\` outside quotes.
    #[error(
        "unquoted '\\' must be followed by new line or double quote; put the value into double \
         quotes and write `\\\\` for each backslash"
    )]
    LoneBackslash,
    /// `[` without a name.
    #[error("expected section name; write `[Global]` or `[KeyManager]`")]
    ExpectedSectionName,
    /// `[x ""]`.
    #[error("empty subsection name; remove the `\"\"` or write a name into it")]
    EmptySubsection,
    /// `[x y`.
    #[error(
        "expected subsection name or right bracket; a header is `[name]` or `[name \"subsection\"]`"
    )]
    ExpectedSubsection,
    /// `[x "y" z`.
    #[error("expected right bracket; a header is `[name]` or `[name \"subsection\"]`")]
    ExpectedRightBracket,
    /// Something behind a header.
    #[error("expected EOL, EOF, or comment; write the key on a line of its own")]
    ExpectedEndOfLine,
    /// A key before any header.
    #[error("expected section header; write `[Global]` above the first key")]
    ExpectedHeader,
    /// A line that begins with neither `[` nor a name.
    #[error("expected section header or variable declaration; write `[section]` or `key = value`")]
    ExpectedHeaderOrKey,
    /// A name and something else than `=`.
    #[error("expected '='; write `key = value`")]
    ExpectedEquals,
    /// A key without a value that needs one.
    #[error("blank value not supported for {0}; write `=` and a value, or remove the line")]
    Blank(Key),
    /// Not one of the words for true and false.
    #[error("failed to parse the value of {0} as a boolean; write true or false")]
    NotABool(Key),
    /// A type with a closed set of values, of which the value is none.
    #[error("failed to parse the value of {0}; write one word without blanks, or remove the key")]
    NotAWord(Key),
}

fn shown(character: char) -> String {
    if let Some(what) = OddMarks::of_character(character) {
        return format!(", {what}");
    }
    if character.is_control() || character.is_whitespace() {
        String::new()
    } else {
        format!(" '{character}'")
    }
}

/// Reads the settings of `[Global]` and `[KeyManager]` out of a file.
///
/// # Errors
/// On the first thing that the Go plugin would refuse.
pub(super) fn read(
    file: &Path,
    source: &[u8],
    warnings: &mut Vec<Warning>,
) -> Result<Raw, GcfgError> {
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
    warnings: &'a mut Vec<Warning>,
}

/// The section that the lines being read belong to.
#[derive(Clone, Copy)]
struct OpenSection<'a> {
    name: &'a str,
    /// A subsection is never one of ours, whatever it is called.
    is_subsection: bool,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Raw, GcfgError> {
        let (mut start, mut token) = self.scanner.scan();
        loop {
            self.check_scanner()?;
            (start, token) = match token {
                Token::EndOfFile => return Ok(self.raw),
                Token::EndOfLine => self.scanner.scan(),
                Token::LeftBracket => self.read_header()?,
                Token::Name(name) => self.read_key(start, name)?,
                _ if self.section.is_none() => {
                    return Err(self.error(start, Problem::ExpectedHeader));
                }
                _ => return Err(self.error(start, Problem::ExpectedHeaderOrKey)),
            };
        }
    }

    /// Reads on behind `[` and returns the token behind the header.
    fn read_header(&mut self) -> Result<(usize, Token<'a>), GcfgError> {
        let (name_start, token) = self.scan()?;
        let Token::Name(name) = token else {
            return Err(self.error(name_start, Problem::ExpectedSectionName));
        };
        let (mut start, mut token) = self.scan()?;
        let mut is_subsection = false;
        if let Token::Quoted(written) = token {
            if written.len() <= 2 {
                return Err(self.error(start, Problem::EmptySubsection));
            }
            is_subsection = true;
            (start, token) = self.scan()?;
        }
        if token != Token::RightBracket {
            let problem = if is_subsection {
                Problem::ExpectedRightBracket
            } else {
                Problem::ExpectedSubsection
            };
            return Err(self.error(start, problem));
        }
        // Unlike elsewhere, Go looks at the token before the scanner's errors here.
        let (start, token) = self.scanner.scan();
        if !matches!(token, Token::EndOfLine | Token::EndOfFile) {
            return Err(self.error(start, Problem::ExpectedEndOfLine));
        }
        self.section = Some(OpenSection {
            name,
            is_subsection,
        });
        if !is_subsection {
            let at = position(self.source, name_start);
            self.raw.note_section(name, at, self.warnings);
        }
        Ok((start, token))
    }

    /// Reads on behind a key and returns the token behind its value.
    fn read_key(
        &mut self,
        name_start: usize,
        name: &'a str,
    ) -> Result<(usize, Token<'a>), GcfgError> {
        let Some(section) = self.section else {
            return Err(self.error(name_start, Problem::ExpectedHeader));
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
            _ => return Err(self.error(start, Problem::ExpectedEquals)),
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
    ) -> Result<(), GcfgError> {
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
            let shown = has_value.then_some(name);
            let warning = self.raw.unknown_key(section, name, shown, at);
            self.warnings.push(warning);
            return Ok(());
        };
        let Some((value_start, value)) = value else {
            if key.kind() != Kind::Flag {
                return Err(self.error(name_start, Problem::Blank(key)));
            }
            self.raw.put(key, raw::Value::Flag(true), at);
            return Ok(());
        };
        let text = unquote(value.written);
        let at = position(self.source, value_start);
        self.warn(key, at, value);
        let value = match key.kind() {
            Kind::Flag => raw::Value::Flag(
                parse_bool(&text).ok_or_else(|| self.error(value_start, Problem::NotABool(key)))?,
            ),
            Kind::Word => raw::Value::Text(
                one_word(&text)
                    .ok_or_else(|| self.error(value_start, Problem::NotAWord(key)))?
                    .to_owned(),
            ),
            Kind::List => raw::Value::List(split_list(&text)),
            Kind::Text | Kind::Switch => raw::Value::Text(text),
        };
        self.raw.put(key, value, at);
        Ok(())
    }

    fn warn(&mut self, key: Key, at: Position, value: Value<'_>) {
        let place = || Place::of_key(self.raw.file(), at, key);
        if value.cut_by_comment {
            self.warnings.push(Warning::CommentInValue(place()));
        }
        if let [b'\'', .., b'\''] = value.written {
            self.warnings.push(Warning::SingleQuotes(place()));
        }
    }

    fn scan(&mut self) -> Result<(usize, Token<'a>), GcfgError> {
        let scanned = self.scanner.scan();
        self.check_scanner()?;
        Ok(scanned)
    }

    fn check_scanner(&self) -> Result<(), GcfgError> {
        match self.scanner.error() {
            None => Ok(()),
            Some((offset, problem)) => Err(self.error(offset, problem)),
        }
    }

    fn error(&self, offset: usize, problem: Problem) -> GcfgError {
        GcfgError {
            at: position(self.source, offset),
            problem,
        }
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

#[cfg(test)]
mod tests;
