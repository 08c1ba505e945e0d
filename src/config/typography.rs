//! Characters that come from word processors and web pages, and stay part of a value.
//!
//! Called by [`super::load()`] on the settings of all files together. Nothing is
//! changed: a password may have them.

use std::fmt;

use super::raw::{Raw, Value};
use super::warning::Warning;

/// What kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddMarks {
    /// `“abc”`.
    Quotes,
    /// `` `abc` ``.
    Backticks,
    /// U+00A0 and others that look like a blank, or like nothing.
    Blanks,
}

impl fmt::Display for OddMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quotes => "typographic quotes are part of the value; write plain ones, `\"`",
            Self::Backticks => "backticks are part of the value; write double quotes, `\"`",
            Self::Blanks => {
                "a no-break space or another invisible character is part of the value; remove it, \
                 or write a plain blank"
            }
        })
    }
}

impl OddMarks {
    /// Those in a value.
    fn of(text: &str) -> Option<Self> {
        let ends = [text.chars().next(), text.chars().next_back()];
        let at_ends = |is: fn(char) -> bool| ends.into_iter().flatten().any(is);
        match () {
            () if at_ends(is_quote) => Some(Self::Quotes),
            () if at_ends(|c| matches!(c, '`' | '´')) => Some(Self::Backticks),
            () if text.chars().any(is_odd_blank) => Some(Self::Blanks),
            () => None,
        }
    }

    /// The kind of a character that stands where none may stand.
    pub(super) fn of_character(character: char) -> Option<&'static str> {
        match character {
            c if is_quote(c) => Some("a typographic quote; write a plain one, `\"`"),
            '`' | '´' => Some("a backtick; write a double quote, `\"`"),
            c if is_odd_blank(c) => {
                Some("a no-break space or another invisible character; write a plain blank")
            }
            _ => None,
        }
    }
}

/// Warns about every setting that has some.
pub(super) fn warn(raw: &Raw, warnings: &mut Vec<Warning>) {
    for setting in raw.settings() {
        let marks = match &setting.value {
            Value::Text(text) => OddMarks::of(text),
            Value::List(texts) => texts.iter().find_map(|text| OddMarks::of(text)),
            Value::Flag(_) => None,
        };
        if let Some(marks) = marks {
            let place = setting.place.clone();
            warnings.push(Warning::OddMarks { place, marks });
        }
    }
}

fn is_quote(character: char) -> bool {
    matches!(
        character,
        '\u{2018}'..='\u{201f}' | '«' | '»' | '‹' | '›' | '″' | '＂'
    )
}

fn is_odd_blank(character: char) -> bool {
    matches!(
        character,
        '\u{a0}' | '\u{ad}' | '\u{2000}'
            ..='\u{200d}' | '\u{202f}' | '\u{2060}' | '\u{3000}' | '\u{feff}'
    )
}
