//! All that AES-256 and the tag make of a key, computed from the standards (FIPS 197,
//! RFC 5869) alone, so that it can be looked for.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::support::scan::Needle;

/// The key's halves are the first two round keys of encryption.
pub(super) fn traces(name: &str, key: &[u8; 32]) -> Vec<Needle> {
    let rounds = expand(key);
    let mut needles = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        needles.push(Needle::new(
            &format!("{name} encryption round {number}"),
            round,
        ));
        // The first and the last are the same for decryption.
        if (1..14).contains(&number) {
            let inverse = inverse_mix(round);
            needles.push(Needle::new(
                &format!("{name} decryption round {number}"),
                &inverse,
            ));
        }
    }
    let mut tag_key = [0; 32];
    Hkdf::<Sha256>::new(None, key)
        .expand(b"barbican-kms/v1/hmac", &mut tag_key)
        .expect("32 bytes");
    needles.push(Needle::new(&format!("{name} tag key"), &tag_key));
    // HMAC's state begins with the key and a constant.
    for (pad, byte) in [("inner", 0x36), ("outer", 0x5c)] {
        let padded = tag_key.map(|part| part ^ byte);
        needles.push(Needle::new(&format!("{name} {pad} pad"), &padded));
    }
    needles
}

/// FIPS 197, 5.2.
fn expand(key: &[u8; 32]) -> [[u8; 16]; 15] {
    let sbox = sbox();
    let mut words = [[0_u8; 4]; 60];
    for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
        word.copy_from_slice(bytes);
    }
    let mut constant = 1;
    for at in 8..60 {
        let mut word = words[at - 1];
        if at % 8 == 0 {
            word.rotate_left(1);
            word = word.map(|byte| sbox[usize::from(byte)]);
            word[0] ^= constant;
            constant = double(constant);
        } else if at % 8 == 4 {
            word = word.map(|byte| sbox[usize::from(byte)]);
        }
        for (byte, before) in word.iter_mut().zip(words[at - 8]) {
            *byte ^= before;
        }
        words[at] = word;
    }
    let mut rounds = [[0; 16]; 15];
    for (to, from) in rounds.iter_mut().flatten().zip(words.iter().flatten()) {
        *to = *from;
    }
    rounds
}

/// What decryption uses instead of a middle round key (FIPS 197, 5.3.5).
fn inverse_mix(round: &[u8; 16]) -> [u8; 16] {
    let mut mixed = [0; 16];
    for (column, from) in mixed.chunks_exact_mut(4).zip(round.chunks_exact(4)) {
        for (row, to) in column.iter_mut().enumerate() {
            let factor = |at: usize| [14, 11, 13, 9][(4 + at - row) % 4];
            *to = (0..4).fold(0, |sum, at| sum ^ times(from[at], factor(at)));
        }
    }
    mixed
}

fn sbox() -> [u8; 256] {
    let mut sbox = [0; 256];
    for (byte, to) in (0..=255_u8).zip(&mut sbox) {
        let inverse = (0..=255).find(|other| times(byte, *other) == 1);
        let inverse = inverse.unwrap_or(0);
        *to = (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn));
    }
    sbox
}

fn double(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 == 0 { 0 } else { 0x1b }
}

fn times(byte: u8, factor: u8) -> u8 {
    let mut sum = 0;
    let mut power = byte;
    for bit in 0..8 {
        if factor & (1 << bit) != 0 {
            sum ^= power;
        }
        power = double(power);
    }
    sum
}

#[test]
fn the_schedule_is_the_one_of_the_standard() {
    // FIPS 197, A.3.
    let key = crate::support::hex::decode(
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    );
    let rounds = expand(&key.try_into().expect("32 bytes"));
    assert_eq!(
        crate::support::hex::encode(&rounds[14]),
        "fe4890d1e6188d0b046df344706c631e"
    );
    // The inverse of MixColumns' example in the same standard's B.
    let mixed: [u8; 16] = crate::support::hex::decode("046681e5e0cb199a48f8d37a2806264c")
        .try_into()
        .expect("16 bytes");
    assert_eq!(
        crate::support::hex::encode(&inverse_mix(&mixed)),
        "d4bf5d30e0b452aeb84111f11e2798e5"
    );
}
