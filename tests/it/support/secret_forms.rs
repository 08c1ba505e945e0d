//! The forms in which a secret could get into text.

use std::collections::HashMap;

/// Secrets in raw, hexadecimal, base64 and decimal form.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    /// Any part of a form would do harm enough; with the name of its secret.
    windows: HashMap<[u8; WINDOW], String>,
}

/// So many bytes in a row are no coincidence.
const WINDOW: usize = 12;

impl Forms {
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(
            secret.len() >= WINDOW,
            "{name} is too short to be looked for"
        );
        let hex = super::hex::encode(secret);
        let decimal = |separator: &str| {
            let numbers: Vec<_> = secret.iter().map(ToString::to_string).collect();
            numbers.join(separator).into_bytes()
        };
        let mut forms = vec![
            secret.to_vec(),
            hex.clone().into_bytes(),
            hex.to_uppercase().into_bytes(),
            decimal(", "),
            decimal(","),
        ];
        // Base64 depends on where in its text the secret begins.
        for offset in 0..3 {
            let padded = [&[0; 2][..offset], secret].concat();
            let text = base64(&padded);
            let inner = text[4..text.len() - 4].to_vec();
            let url: Vec<u8> = inner
                .iter()
                .map(|letter| match letter {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                })
                .collect();
            forms.extend([inner, url]);
        }
        for window in forms.iter().flat_map(|form| form.windows(WINDOW)) {
            let window = window.try_into().expect("as long as all");
            self.windows.insert(window, name.to_owned());
        }
    }

    /// Panics when any form of any secret is in `output`.
    pub(crate) fn assert_absent(&self, output: &[u8], whose: &str) {
        for window in output.windows(WINDOW) {
            if let Some(name) = self.windows.get(window) {
                let output = String::from_utf8_lossy(output);
                panic!("{name} is in {whose}:\n{output}");
            }
        }
    }
}

pub(crate) fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (letter, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let index = usize::try_from(bits >> shift & 63).expect("six bits");
            text.push(if letter <= chunk.len() {
                LETTERS[index]
            } else {
                b'='
            });
        }
    }
    text
}

#[test]
fn every_form_of_a_secret_is_found() {
    let secret = b"correct horse battery staple!?>";
    let mut forms = Forms::default();
    forms.add("it", secret);
    for text in [
        "x correct horse battery staple!?> x",
        "72656374 20686f727365206261 \u{1b} 636f727265637420686f7273652062617474657279",
        "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZSE/Pg==",
        "AGNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGUhPz4=",
        "[99, 111, 114, 114, 101, 99, 116, 32, 104, 111]",
        "only a part: orse battery st",
    ] {
        let found = std::panic::catch_unwind(|| forms.assert_absent(text.as_bytes(), "a text"));
        assert!(found.is_err(), "not found in {text}");
    }
    forms.assert_absent(b"nothing of it, and this is long enough", "a text");
}
