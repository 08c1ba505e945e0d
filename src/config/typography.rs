//! Typography from word processors and web pages that becomes part of a value.
//!
//! Called by [`super::load()`] on the settings of all files together. Nothing is
//! changed: a password may contain such characters.

use super::diagnostic::Diagnostic;
use super::raw::{Raw, Value};

/// Warns about every setting with such characters.
pub(super) fn check(raw: &Raw, warnings: &mut Vec<Diagnostic>) {
    for setting in raw.settings() {
        let message = match &setting.value {
            Value::Text(text) => in_value(text),
            Value::List(texts) => texts.iter().find_map(|text| in_value(text)),
            Value::Flag(_) => None,
        };
        warnings.extend(message.map(|message| Diagnostic::new(&setting.location, message)));
    }
}

fn in_value(text: &str) -> Option<&'static str> {
    let ends = [text.chars().next(), text.chars().next_back()];
    let at_ends = |is: fn(char) -> bool| ends.into_iter().flatten().any(is);
    match () {
        () if at_ends(is_quote) => {
            Some("typographic quotes are part of the value; write plain ones, `\"`")
        }
        () if at_ends(is_backtick) => {
            Some("backticks are part of the value; write double quotes, `\"`")
        }
        () if text.chars().any(is_invisible) => Some(
            "a no-break space or another invisible character is part of the value; remove it, or \
             write a plain space",
        ),
        () => None,
    }
}

/// What a character is that is not allowed where it is, and what to write.
pub(super) fn describe(character: char) -> Option<&'static str> {
    match character {
        c if is_quote(c) => Some("a typographic quote; write a plain one, `\"`"),
        c if is_backtick(c) => Some("a backtick; write a double quote, `\"`"),
        c if is_invisible(c) => {
            Some("a no-break space or another invisible character; write a plain space")
        }
        _ => None,
    }
}

fn is_backtick(character: char) -> bool {
    matches!(character, '`' | '´')
}

fn is_quote(character: char) -> bool {
    matches!(
        character,
        '\u{2018}'..='\u{201f}' | '«' | '»' | '‹' | '›' | '″' | '＂'
    )
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{a0}' | '\u{ad}' | '\u{2000}'
            ..='\u{200d}' | '\u{202f}' | '\u{2060}' | '\u{3000}' | '\u{feff}'
    )
}
