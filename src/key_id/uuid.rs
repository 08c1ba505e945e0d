//! The one form of a UUID that is read and written.

use std::fmt;

/// The 8-4-4-4-12 form.
pub(super) const UUID_BYTES: usize = 36;
const DASHES: [usize; 4] = [8, 13, 18, 23];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uuid(pub(super) u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&uuid_text(self.0)).unwrap_or_default())
    }
}

pub(super) fn uuid_text(uuid: u128) -> [u8; UUID_BYTES] {
    let mut text = [b'-'; UUID_BYTES];
    let bytes = uuid.to_be_bytes();
    let mut digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (at, to) in text.iter_mut().enumerate() {
        if !DASHES.contains(&at) {
            *to = hex_digit(digits.next().unwrap_or_default());
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
    text.bytes()
        .enumerate()
        .try_fold(0_u128, |bits, (at, byte)| {
            if DASHES.contains(&at) {
                (byte == b'-').then_some(bits)
            } else {
                Some(bits << 4 | u128::from(char::from(byte).to_digit(16)?))
            }
        })
}
