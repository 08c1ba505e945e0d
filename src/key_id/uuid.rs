//! The one form of a UUID that is read and written.

use std::fmt;

/// The 8-4-4-4-12 form.
pub(super) const UUID_BYTES: usize = 36;

fn is_dash(at: usize) -> bool {
    matches!(at, 8 | 13 | 18 | 23)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uuid(pub(super) u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&uuid_text(self.0)).unwrap_or_default())
    }
}

// Both are part of every call, which is compiled for size: one plain loop each.

pub(super) fn uuid_text(uuid: u128) -> [u8; UUID_BYTES] {
    let mut text = [b'-'; UUID_BYTES];
    let mut rest = uuid;
    for (at, to) in text.iter_mut().enumerate().rev() {
        if !is_dash(at) {
            *to = hex_digit(u8::try_from(rest & 0xf).unwrap_or_default());
            rest >>= 4;
        }
    }
    text
}

/// The digit for `value`, which is less than 16.
pub(super) fn hex_digit(value: u8) -> u8 {
    match value {
        0..10 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

pub(super) fn parse_uuid(text: &str) -> Option<u128> {
    if text.len() != UUID_BYTES {
        return None;
    }
    let mut bits = 0_u128;
    for (at, byte) in text.bytes().enumerate() {
        if is_dash(at) {
            if byte != b'-' {
                return None;
            }
        } else {
            bits = bits << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some(bits)
}
