//! Colour, symbols and line breaks on a terminal; plain text otherwise.
//!
//! Scripts read the plain text, so it does not depend on the terminal.

use std::io::IsTerminal as _;

/// Lines are broken before this column, on a terminal.
const COLUMNS: usize = 80;

/// How to show things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Text and nothing else.
    Plain,
    /// For a terminal.
    Colour,
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is correct.
    Ok,
    /// It works, but should be improved.
    Warning,
    /// It does not work.
    Error,
    /// Less important.
    Note,
}

impl Severity {
    /// The symbol at the beginning of a line, so that colour is not the only sign.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Ok => "\u{2713}",
            Self::Warning => "!",
            Self::Error => "\u{2717}",
            Self::Note => "-",
        }
    }
}

impl Terminal {
    /// Colour if standard output is a terminal that supports it and `NO_COLOR` is not
    /// set (<https://no-color.org>).
    pub fn for_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    /// The text in the colour of its meaning.
    pub fn colour(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Ok => "32",
            Severity::Warning => "33",
            Severity::Error => "1;31",
            Severity::Note => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// Breaks a text into lines below 80 columns, each with this indentation. Words are
/// never broken: they may be ids and URLs.
pub fn wrap(text: &str, indent: usize) -> String {
    let blank = " ".repeat(indent);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there always is one");
        let columns = indent + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && columns > COLUMNS {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let lines: Vec<String> = lines.iter().map(|line| format!("{blank}{line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_column_80_and_words_stay_whole() {
        let long = "x".repeat(100);
        let text = format!("{} {long} end", "word ".repeat(40));
        let shown = wrap(&text, 4);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with("    ")));
        assert!(
            lines
                .iter()
                .all(|line| line.len() <= 80 || line.trim() == long),
            "{shown}"
        );
        assert_eq!(shown.split_whitespace().count(), 42);
    }

    #[test]
    fn plain_text_has_no_escape_codes() {
        assert_eq!(Terminal::Plain.colour(Severity::Error, "x"), "x");
        assert_eq!(
            Terminal::Colour.colour(Severity::Error, "x"),
            "\u{1b}[1;31mx\u{1b}[0m"
        );
    }
}
