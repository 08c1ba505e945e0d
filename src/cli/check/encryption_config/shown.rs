//! What may be shown of a value: a secret may stand where a name belongs.

/// Longer texts are described.
const MOST: usize = 80;

/// 16 bytes or more in base64; hex of as many is longer.
const SECRET: usize = 22;

/// The text, or what it is like.
pub(super) fn shown(text: &str) -> String {
    let length = text.chars().count();
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=_".contains(c);
    let secret = length >= SECRET && text.chars().all(of_base64);
    if secret || length > MOST || text.chars().any(char::is_control) {
        format!("a text of {length} characters")
    } else {
        text.to_owned()
    }
}

/// The text in quotes, or what it is like.
pub(super) fn quoted(text: &str) -> String {
    let shown = shown(text);
    if shown == text {
        format!("{text:?}")
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_what_may_be_a_secret_is_redacted() {
        assert_eq!(quoted("barbican"), "\"barbican\"");
        assert_eq!(quoted("unix:///run/k.sock "), "\"unix:///run/k.sock \"");
        for secret in [
            "c2VjcmV0IGlzIHNlY3VyZQ==",
            "00112233445566778899aabbccddeeff",
            "-----BEGIN PRIVATE KEY-----\nMII",
        ] {
            let described = quoted(secret);
            assert!(described.starts_with("a text of "), "{described}");
        }
        assert_eq!(shown(&"- ".repeat(50)), "a text of 100 characters");
    }
}
