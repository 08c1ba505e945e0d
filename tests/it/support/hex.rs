//! Hexadecimal text, for vectors and for looking at bytes.

/// Panics on what is not hexadecimal: a broken vector.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    assert!(
        text.len().is_multiple_of(2),
        "{text:?} has an odd number of digits"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
