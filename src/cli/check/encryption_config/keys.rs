//! The keys of the providers that have them in the file. No message quotes one.

use super::configuration::Keys;
use crate::cli::check::findings::Findings;

pub(super) fn check(keys: &Keys, findings: &mut Findings) {
    let lengths: &[usize] = match keys.kind {
        "secretbox" => &[32],
        _ => &[16, 24, 32],
    };
    let Some(list) = &keys.list else {
        return;
    };
    if list.is_empty() {
        findings.error(
            format!("{}: at least one is required", keys.path),
            format!("add a key, or remove {}", keys.kind),
        );
    }
    for (number, key) in list.iter().enumerate() {
        let path = format!("{}[{number}]", keys.path);
        if key.name.as_deref() == Some("") {
            findings.error(
                format!("{path}.name: missing"),
                "add one, such as `name: key1`; it is stored with every object",
            );
        }
        let Some(secret) = key.secret.as_deref() else {
            continue;
        };
        let path = format!("{path}.secret");
        let fix = "write what `head -c 32 /dev/urandom | base64` prints";
        match decoded_length(secret) {
            _ if secret.is_empty() => findings.error(format!("{path}: missing"), fix),
            None => findings.error(format!("{path}: not base64"), fix),
            Some(length) if !lengths.contains(&length) => {
                let lengths: Vec<_> = lengths.iter().map(ToString::to_string).collect();
                findings.error(
                    format!(
                        "{path}: {length} bytes; a key of {} has {}",
                        keys.kind,
                        lengths.join(" or ")
                    ),
                    fix,
                );
            }
            Some(_) => {}
        }
    }
}

/// How many bytes a text stands for in base64 as Go reads it: with padding, with line
/// breaks anywhere, and with any bits below the last byte.
fn decoded_length(text: &str) -> Option<usize> {
    let mut digits = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits += 1,
            _ => return None,
        }
    }
    match (digits % 4, padding) {
        (0, 0) | (3, 1) | (2, 2) => Some(digits * 3 / 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, length) in [
            ("", Some(0)),
            ("AA==", Some(1)),
            ("AAA=", Some(2)),
            ("AAAA", Some(3)),
            ("AA\n=\r\n=", Some(1)),
            ("AB==", Some(1)),
            ("AA", None),
            ("AA=", None),
            ("A===", None),
            ("====", None),
            ("AA==AA==", None),
            ("AA-_", None),
            ("AA A", None),
        ] {
            assert_eq!(decoded_length(text), length, "{text:?}");
        }
    }
}
