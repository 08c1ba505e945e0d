//! Text to tokens, as gcfg v1.2.3 does it.
//!
//! Used by [`super`] only. The scanner reads one character ahead and goes on after
//! an error, both as in Go: which of several errors is the first one, and so the
//! one reported, depends on it.

use super::unicode::{is_digit, is_letter};
use crate::config::diagnostic::Message;
use crate::config::location::Position;
use crate::config::typography;

/// What a line is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    EndOfFile,
    EndOfLine,
    /// The name of a section or a key.
    Name(&'a str),
    /// A subsection's name, its quotes included.
    Quoted(&'a [u8]),
    LeftBracket,
    RightBracket,
    Equals,
    Illegal,
}

/// A value as it is written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) written: &'a [u8],
    /// A comment ends the value and no blank stands before it.
    pub(super) cut_by_comment: bool,
}

/// Reads tokens from the bytes of a file.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    source: &'a [u8],
    /// The character under the cursor, `None` at the end.
    character: Option<char>,
    /// Where that character begins.
    offset: usize,
    /// Where the next one begins.
    next_offset: usize,
    first_error: Option<(usize, Message)>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a [u8]) -> Self {
        let mut scanner = Self {
            source,
            character: Some(' '),
            offset: 0,
            next_offset: 0,
            first_error: None,
        };
        scanner.advance();
        scanner
    }

    /// The first error so far, with its offset.
    pub(super) fn error(&self) -> Option<&(usize, Message)> {
        self.first_error.as_ref()
    }

    /// The next token and the offset where it begins.
    pub(super) fn scan(&mut self) -> (usize, Token<'a>) {
        loop {
            self.skip_blanks();
            let start = self.offset;
            if self.character.is_some_and(is_letter) {
                return (start, Token::Name(self.scan_name()));
            }
            let character = self.character;
            self.advance();
            let token = match character {
                None => Token::EndOfFile,
                Some('\n') => Token::EndOfLine,
                Some('"') => Token::Quoted(self.scan_quoted()),
                Some('[') => Token::LeftBracket,
                Some(']') => Token::RightBracket,
                Some('=') => Token::Equals,
                Some(';' | '#') => {
                    while !matches!(self.character, None | Some('\n')) {
                        self.advance();
                    }
                    continue;
                }
                Some(other) => {
                    self.report(start, illegal_character(other));
                    Token::Illegal
                }
            };
            return (start, token);
        }
    }

    /// What follows [`Token::Equals`], and the offset where it begins.
    pub(super) fn scan_value(&mut self) -> (usize, Value<'a>) {
        self.skip_blanks();
        let start = self.offset;
        let mut end = start;
        let mut in_quotes = false;
        while in_quotes || !matches!(self.character, None | Some('\n' | ';' | '#')) {
            let character = self.character;
            self.advance();
            match character {
                Some('\\') if in_quotes => self.scan_escape(true),
                Some('\\') => {
                    if self.character == Some('\r') {
                        self.advance();
                    }
                    if !matches!(self.character, Some('\n' | '"')) {
                        self.report(start, LONE_BACKSLASH);
                        break;
                    }
                    self.advance();
                }
                Some('"') => in_quotes = !in_quotes,
                // Outside quotes the loop has ended at these.
                None | Some('\n') => {
                    self.report(start, STRING_NOT_TERMINATED);
                    break;
                }
                Some(_) => {}
            }
            if in_quotes || !is_blank(character) {
                end = self.offset;
            }
        }
        let before = self
            .offset
            .checked_sub(1)
            .and_then(|at| self.source.get(at));
        let value = Value {
            written: self.source.get(start..end).unwrap_or_default(),
            cut_by_comment: matches!(self.character, Some(';' | '#'))
                && !matches!(before, Some(b' ' | b'\t' | b'\r')),
        };
        (start, value)
    }

    fn skip_blanks(&mut self) {
        while is_blank(self.character) {
            self.advance();
        }
    }

    fn advance(&mut self) {
        self.offset = self.next_offset;
        let rest = self.source.get(self.offset..).unwrap_or_default();
        let (character, length) = match decode(rest) {
            Decoded::End => (None, 0),
            Decoded::Character('\0') => {
                self.report(self.offset, NUL);
                (Some('\0'), 1)
            }
            Decoded::Character(character) => (Some(character), character.len_utf8()),
            Decoded::NotUtf8 => {
                self.report(self.offset, NOT_UTF8);
                (Some(char::REPLACEMENT_CHARACTER), 1)
            }
        };
        self.next_offset += length;
        self.character = character;
    }

    fn report(&mut self, offset: usize, message: impl Into<Message>) {
        self.first_error
            .get_or_insert_with(|| (offset, message.into()));
    }

    fn scan_name(&mut self) -> &'a str {
        let start = self.offset;
        while self
            .character
            .is_some_and(|c| is_letter(c) || is_digit(c) || c == '-')
        {
            self.advance();
        }
        std::str::from_utf8(self.since(start)).unwrap_or_default()
    }

    /// The opening quote is behind the cursor.
    fn scan_quoted(&mut self) -> &'a [u8] {
        let start = self.offset - 1;
        while self.character != Some('"') {
            let character = self.character;
            self.advance();
            match character {
                None | Some('\n') => {
                    self.report(start, STRING_NOT_TERMINATED);
                    break;
                }
                Some('\\') => self.scan_escape(false),
                Some(_) => {}
            }
        }
        self.advance();
        self.since(start)
    }

    fn scan_escape(&mut self, in_value: bool) {
        let start = self.offset;
        let character = self.character;
        self.advance();
        match character {
            Some('\\' | '"') => {}
            Some('n' | 't') if in_value => {}
            _ => self.report(start, UNKNOWN_ESCAPE),
        }
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.source.get(start..self.offset).unwrap_or_default()
    }
}

/// The position of an offset. As in Go, a line feed that ends the file does not begin
/// another line.
pub(super) fn position(source: &[u8], offset: usize) -> Position {
    match source.strip_suffix(b"\n") {
        Some(shorter) if offset >= source.len() => {
            let last = Position::of_offset(source, shorter.len());
            Position {
                column: last.column + 1,
                ..last
            }
        }
        _ => Position::of_offset(source, offset),
    }
}

/// What the quotes and escapes of a value stand for.
///
/// Only for what the scanner has accepted: then every escape is known and every
/// quote is closed.
pub(super) fn unquote(written: &[u8]) -> String {
    let text = std::str::from_utf8(written).unwrap_or_default();
    let mut value = String::with_capacity(text.len());
    let mut escaped = false;
    for character in text.chars() {
        match (std::mem::take(&mut escaped), character) {
            // A carriage return vanishes everywhere, so also behind a backslash.
            (was_escaped, '\r') => escaped = was_escaped,
            (false, '\\') => escaped = true,
            // The continuation of a line, and a quote.
            (true, '\n') | (false, '"') => {}
            (true, 'n') => value.push('\n'),
            (true, 't') => value.push('\t'),
            (_, other) => value.push(other),
        }
    }
    value
}

enum Decoded {
    End,
    Character(char),
    NotUtf8,
}

fn decode(bytes: &[u8]) -> Decoded {
    let Some(first) = bytes.first() else {
        return Decoded::End;
    };
    if first.is_ascii() {
        return Decoded::Character(char::from(*first));
    }
    let character = (2..=4).find_map(|length| {
        let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
        text.chars().next()
    });
    character.map_or(Decoded::NotUtf8, Decoded::Character)
}

fn is_blank(character: Option<char>) -> bool {
    matches!(character, Some(' ' | '\t' | '\r'))
}

fn illegal_character(character: char) -> String {
    let shown = if let Some(what) = typography::describe(character) {
        format!(", {what}")
    } else if character.is_control() || character.is_whitespace() {
        String::new()
    } else {
        format!(" '{character}'")
    };
    let code = u32::from(character);
    format!(
        "illegal character U+{code:04X}{shown}; names consist of letters, digits and `-`, begin \
         with a letter, and are followed by `=`"
    )
}

// In the Go plugin's words, and what to write instead.
const NUL: &str = "illegal character NUL; the file must be plain text";
const NOT_UTF8: &str = "illegal UTF-8 encoding; save the file as UTF-8";
const STRING_NOT_TERMINATED: &str =
    "string not terminated; end it with `\"` on the same line, write a line break as `\\n`";
const UNKNOWN_ESCAPE: &str = "unknown escape sequence; within quotes write `\\\\`, `\\\"`, `\\n` \
                              or `\\t`, in the name of a subsection only the first two";
const LONE_BACKSLASH: &str = "unquoted '\\' must be followed by new line or double quote; put the \
     value into double quotes and write `\\\\` for each backslash";
