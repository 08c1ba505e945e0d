//! What of the texts of manifests and encryption configurations may be in a message:
//! people put secrets into the wrong place of them too.

use std::path::Path;

use crate::config::redact;

/// A path as a flag or a mount names it, with the quotes and `$(NAME)` that somebody left.
pub(super) fn path(text: &str) -> String {
    let bare = text
        .trim_matches(['"', '\''])
        .replace("$(", "")
        .replace(')', "");
    let shown = redact::path(Path::new(&bare));
    if shown.is_redacted() {
        redact::path(Path::new(text)).to_string()
    } else if bare == text {
        shown.to_string()
    } else {
        text.to_owned()
    }
}

/// A name, of whatever length, if it is made of ordinary words.
pub(super) fn name(text: &str) -> String {
    let shown = redact::path(Path::new(&format!("/{text}")));
    if text.is_empty() {
        "without a name".to_owned()
    } else if shown.is_redacted() {
        format!("({})", redact::name(text))
    } else {
        text.to_owned()
    }
}

/// A value that is not the expected one.
pub(super) fn word(text: &str) -> String {
    let shown = redact::path(Path::new(&format!("/{text}")));
    if text.is_empty() {
        "empty".to_owned()
    } else if shown.is_redacted() {
        redact::name(text).to_string()
    } else {
        format!("{text:?}")
    }
}

/// A value of any form that is not the expected one, in quotes.
pub(super) fn value(text: &str) -> String {
    let shown = redact::value(text);
    if text.is_empty() {
        "empty".to_owned()
    } else if shown.is_redacted() {
        shown.to_string()
    } else {
        format!("{text:?}")
    }
}

/// What the parser of our command line says, which repeats words of it.
pub(super) fn sentence(text: &str) -> String {
    /// So short, nothing is a secret.
    const SHORT: usize = 16;
    let ends = |one: char| one.is_whitespace() || "'\"`=<>[](),;".contains(one);
    let pieces = text.split_inclusive(ends).map(|piece| {
        let end = piece.chars().last().filter(|end| ends(*end));
        let word = piece.trim_end_matches(ends);
        let shown = redact::path(Path::new(&format!("/{word}")));
        let end = end.map(String::from).unwrap_or_default();
        if word.len() >= SHORT && shown.is_redacted() {
            format!("(not shown){end}")
        } else {
            piece.to_owned()
        }
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_shown_and_keys_are_not() {
        let plain = "/etc/kubernetes/encryption/encryption-config.yaml";
        assert_eq!(path(plain), plain);
        assert_eq!(path("\"/etc/x.yaml\""), "\"/etc/x.yaml\"");
        assert_eq!(path("$(DIRECTORY)/x.yaml"), "$(DIRECTORY)/x.yaml");
        let long = "usr-local-share-ca-certificates";
        assert_eq!(name(long), long);
        assert_eq!(word("Sometimes"), "\"Sometimes\"");
        assert_eq!(value("PT3S"), "\"PT3S\"");
        assert_eq!(value("unix:///run/k.sock "), "\"unix:///run/k.sock \"");
        let said = "unexpected argument '--sockets=/run/x.sock' found";
        assert_eq!(sentence(said), said);
        for secret in [
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIP\n",
            "8f14e45fceea167a5a36dedd4bea2543",
            "c2VjcmV0IGlzIHNlY3VyZQ==",
            "jxRl9zqhTzWQ0m1yB7nGk5u2vP8sXcAe",
        ] {
            for shown in [path(secret), name(secret), word(secret), value(secret)] {
                assert!(shown.contains("a text of"), "{shown}");
            }
            let said = sentence(&format!(
                "invalid value '{secret}' for '--metrics-address <A>'"
            ));
            let last = secret.lines().last().unwrap_or_default();
            assert!(
                said.contains("(not shown)") && !said.contains(last),
                "{said}"
            );
        }
    }
}
