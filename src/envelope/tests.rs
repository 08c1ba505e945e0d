use proptest::prelude::*;

use super::*;
use crate::secret::KekWriter;

fn key(bytes: &[u8]) -> WrappingKey {
    WrappingKey::new(&kek(bytes))
}

fn kek(bytes: &[u8]) -> Kek {
    let mut writer = KekWriter::new();
    writer.push(bytes);
    writer.finish().expect("a key of the right length")
}

fn id() -> KeyId {
    "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
        .parse()
        .expect("a UUID")
}

#[test]
fn every_length_survives_the_round_trip_and_a_seed_alone_that_without_a_tag() {
    for size in [16, 24, 32] {
        let key = key(&vec![0x42; size]);
        for length in 0..=PLAINTEXT_MAX_BYTES {
            let plaintext = vec![7; length];
            let sealed = seal(&key, &id(), &plaintext, &[9; 16]).expect("it fits");
            assert!(sealed.ciphertext.len() <= CIPHERTEXT_MAX_BYTES);
            let tagged = open(
                &key,
                &id(),
                &sealed.ciphertext,
                Some(&sealed.tag),
                Untagged::Refuse,
            );
            assert_eq!(tagged.as_ref(), Ok(&plaintext), "{length}");
            let legacy = open(&key, &id(), &sealed.ciphertext, None, Untagged::Accept);
            let seed = length == SEED_BYTES;
            let expected = seed.then_some(plaintext).ok_or(OpenError::Invalid);
            assert_eq!(legacy, expected, "{length}");
        }
    }
}

#[test]
fn one_byte_more_than_fits_is_refused() {
    let too_long = [0; PLAINTEXT_MAX_BYTES + 1];
    assert_eq!(
        seal(&key(&[1; 32]), &id(), &too_long, &[0; 16]),
        Err(PlaintextTooLong)
    );
}

#[test]
fn any_flipped_bit_of_tagged_data_is_refused() {
    let key = key(&[1; 32]);
    let sealed = seal(&key, &id(), &[7; 32], &[9; 16]).expect("it fits");
    for bit in 0..sealed.ciphertext.len() * 8 {
        let mut ciphertext = sealed.ciphertext.clone();
        ciphertext[bit / 8] ^= 1 << (bit % 8);
        let opened = open(
            &key,
            &id(),
            &ciphertext,
            Some(&sealed.tag),
            Untagged::Accept,
        );
        assert_eq!(opened, Err(OpenError::Invalid), "bit {bit}");
    }
    for bit in 0..TAG_BYTES * 8 {
        let mut tag = sealed.tag;
        tag[bit / 8] ^= 1 << (bit % 8);
        let opened = open(
            &key,
            &id(),
            &sealed.ciphertext,
            Some(&tag),
            Untagged::Accept,
        );
        assert_eq!(opened, Err(OpenError::Invalid), "bit {bit}");
    }
}

#[test]
fn a_tag_of_another_length_is_refused() {
    let key = key(&[1; 32]);
    let sealed = seal(&key, &id(), &[7; 32], &[9; 16]).expect("it fits");
    let mut long = sealed.tag.to_vec();
    long.push(0);
    for tag in [&[][..], &sealed.tag[..31], &long] {
        let opened = open(&key, &id(), &sealed.ciphertext, Some(tag), Untagged::Accept);
        assert_eq!(opened, Err(OpenError::Invalid), "{} bytes", tag.len());
    }
}

#[test]
fn a_tag_belongs_to_one_key_id() {
    let key = key(&[1; 32]);
    let sealed = seal(&key, &id(), &[7; 32], &[9; 16]).expect("it fits");
    let other = id().with_suffix(Some("2")).expect("a suffix");
    let opened = open(
        &key,
        &other,
        &sealed.ciphertext,
        Some(&sealed.tag),
        Untagged::Accept,
    );
    assert_eq!(opened, Err(OpenError::Invalid));
}

#[test]
fn untagged_data_is_refused_where_policy_asks_for_a_tag() {
    let key = key(&[1; 32]);
    let sealed = seal(&key, &id(), &[7; 32], &[9; 16]).expect("it fits");
    let opened = open(&key, &id(), &sealed.ciphertext, None, Untagged::Refuse);
    assert_eq!(opened, Err(OpenError::Unauthenticated));
}

#[test]
fn a_key_recognises_the_kek_it_was_made_from() {
    let key = key(&[1; 32]);
    assert!(key.is_made_from(&kek(&[1; 32])));
    assert!(!key.is_made_from(&kek(&[2; 32])));
    assert!(!key.is_made_from(&kek(&[1; 16])));
}

proptest! {
    #[test]
    fn no_input_panics(
        ciphertext in proptest::collection::vec(any::<u8>(), 0..1100),
        tag in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    ) {
        let key = key(&[1; 32]);
        let opened = open(&key, &id(), &ciphertext, tag.as_deref(), Untagged::Accept);
        prop_assert!(tag.is_none() || opened.is_err());
    }
}
