//! What names in Kubernetes are made of.

use std::net::IpAddr;

/// The longest name within a name.
const LABEL: usize = 63;
/// The longest name.
const SUBDOMAIN: usize = 253;
/// The longest name of a port.
const PORT: usize = 15;

/// What a text must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Anything but nothing.
    Given,
    /// Small letters, digits and `-`.
    Label,
    /// Labels with dots between.
    Subdomain,
    /// The key of a label or an annotation: `example.com/name`.
    Key,
    /// The value of a label.
    LabelValue,
    /// The name of an environment variable: printable, without `=`.
    Variable,
    /// The name of a header of HTTP.
    Header,
    /// The name of a port.
    Port,
    /// An IP address.
    Address,
    /// A path that leads down from where it begins.
    Down,
}

impl Form {
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Given => !text.is_empty(),
            Self::Label => is_label(text),
            Self::Subdomain => text.len() <= SUBDOMAIN && text.split('.').all(is_dns_part),
            Self::Key => match text.split_once('/') {
                Some((prefix, name)) => Self::Subdomain.fits(prefix) && is_key_part(name),
                None => is_key_part(text),
            },
            Self::LabelValue => text.is_empty() || is_key_part(text),
            Self::Variable => {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|one| (b' '..=b'~').contains(&one) && one != b'=')
            }
            Self::Header => {
                let allowed = |one: char| one.is_ascii_alphanumeric() || one == '-';
                !text.is_empty() && text.chars().all(allowed)
            }
            Self::Port => {
                text.len() <= PORT
                    && is_label(text)
                    && text.contains(|one: char| one.is_ascii_lowercase())
                    && !text.contains("--")
            }
            Self::Address => text.parse::<IpAddr>().is_ok(),
            Self::Down => !text.starts_with('/') && text.split('/').all(|part| part != ".."),
        }
    }

    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Given => "it must not be empty",
            Self::Label => {
                "up to 63 lower-case letters, digits and `-` are expected, without `-` at the ends"
            }
            Self::Subdomain => "lower-case letters, digits, `-` and `.` are expected",
            Self::Key => "a name such as `app` or `example.com/app` is expected",
            Self::LabelValue => "up to 63 letters, digits, `-`, `_` and `.` are expected",
            Self::Variable => "printable characters other than `=` are expected",
            Self::Header => "letters, digits and `-` are expected",
            Self::Port => {
                "up to 15 lower-case letters, digits and `-` are expected, with at least \
                           one letter"
            }
            Self::Address => "an IP address is expected",
            Self::Down => "a path without `..` and without `/` at its beginning is expected",
        }
    }
}

pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL && is_dns_part(text)
}

fn is_dns_part(text: &str) -> bool {
    let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_key_part(text: &str) -> bool {
    let allowed = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
    let ends = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric());
    text.len() <= LABEL
        && text.chars().all(allowed)
        && ends(text.chars().next())
        && ends(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_says() {
        for (form, text, fits) in [
            (Form::Label, "a-1", true),
            (Form::Label, "a.b", false),
            (Form::Label, "", false),
            (Form::Label, "-a", false),
            (Form::Subdomain, "a.b-c", true),
            (Form::Subdomain, "a..b", false),
            (Form::Key, "example.com/A_b", true),
            (Form::Key, "a/b/c", false),
            (Form::Key, "_a", false),
            (Form::LabelValue, "", true),
            (Form::LabelValue, "a b", false),
            (Form::Variable, "A B", true),
            (Form::Variable, "A=B", false),
            (Form::Port, "probe-port", true),
            (Form::Port, "6443", false),
            (Form::Port, "probe-port-of-it", false),
            (Form::Address, "192.0.2.1", true),
            (Form::Address, "localhost", false),
            (Form::Down, "a/../b", false),
            (Form::Down, "a..b", true),
        ] {
            assert_eq!(form.fits(text), fits, "{form:?} {text}");
        }
    }
}
