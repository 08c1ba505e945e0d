//! The byte format that is stored in etcd: `seal` writes it, `open` reads it.
//!
//! Pure and total: every input gives a result or one opaque error. The format is
//! frozen; `tests/vectors/` holds it.
//!
//! ```text
//! ciphertext  = IV (16 random bytes) || AES-CBC(KEK, IV, PKCS#7(plaintext))
//! tag         = HMAC-SHA256(mac key, "barbican-kms/v1" || be32(len key id) || key id || ciphertext)
//! mac key     = HKDF-SHA256(ikm = KEK, no salt, info = "barbican-kms/v1/hmac", 32 bytes)
//! ```
//!
//! The ciphertext is what the Go plugin writes. The tag travels beside it as an
//! annotation, which the Go plugin ignores: each reads the other's data.
//!
//! Without a tag, anybody can ask what an altered ciphertext decrypts to. An answer that
//! depended on a part of the padding would give away the plaintext byte by byte
//! (Vaudenay, 2002). So without a tag only a seed is opened, whose padding is a whole
//! block: a forgery has to hit all its 128 bits at once.

use std::fmt;

use aes::cipher::block_padding::{NoPadding, Pkcs7};
use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit,
};
use aes::{Aes128, Aes192, Aes256};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::key_id::KeyId;
use crate::secret::{ExposedKek, Kek, Locked, Protection, scrubbed};

/// The annotation that carries the tag. Kubernetes wants a domain name here.
pub const TAG_ANNOTATION: &str = "hmac-sha256.kms.barbican.openstack.org";

/// An AES block, and so the length of the IV, in bytes.
pub const BLOCK_BYTES: usize = 16;

/// The length of the tag, in bytes.
pub const TAG_BYTES: usize = 32;

/// An IV and one block: what an empty plaintext makes.
pub const CIPHERTEXT_MIN_BYTES: usize = 2 * BLOCK_BYTES;

/// The most that kube-apiserver stores (k8s.io/apiserver, kmsv2/envelope.go).
pub const CIPHERTEXT_MAX_BYTES: usize = 1024;

/// The most plaintext that fits: the IV and at least one byte of padding go off.
pub const PLAINTEXT_MAX_BYTES: usize = CIPHERTEXT_MAX_BYTES - BLOCK_BYTES - 1;

/// What kube-apiserver has wrapped, in bytes, and so all that the Go plugin has written.
pub const SEED_BYTES: usize = 32;

/// IV, seed, and a whole block of padding: all that data without a tag can be.
const UNTAGGED_BYTES: usize = BLOCK_BYTES + SEED_BYTES + BLOCK_BYTES;

/// PKCS#7 after a plaintext of whole blocks.
const WHOLE_PADDING: [u8; BLOCK_BYTES] = [16; BLOCK_BYTES];

const TAG_CONTEXT: &[u8] = b"barbican-kms/v1";
const FINGERPRINT_CONTEXT: &[u8] = b"barbican-kms/v1/fingerprint";
const MAC_KEY_INFO: &[u8] = b"barbican-kms/v1/hmac";

/// A KEK made ready for use: the AES key schedule and the key of the tag with what
/// HMAC makes of it, in locked memory, wiped on drop.
pub struct WrappingKey {
    state: Locked<State>,
}

/// What is remembered of a key that has been wiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

struct State {
    cipher: Cipher,
    mac_key: [u8; TAG_BYTES],
    /// Has taken the key in: a tag then costs three hash blocks instead of five.
    mac: Hmac<Sha256>,
}

enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

/// What `seal` makes of a plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// IV and encrypted blocks.
    pub ciphertext: Vec<u8>,
    /// The tag over key id and ciphertext.
    pub tag: [u8; TAG_BYTES],
}

/// The plaintext is longer than [`PLAINTEXT_MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plaintext is longer than {PLAINTEXT_MAX_BYTES} bytes")]
pub struct PlaintextTooLong;

/// Why a ciphertext was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Tag, length or padding is wrong, or it is untagged and no seed. One variant for
    /// all of them, so that nobody learns which.
    #[error("the ciphertext is damaged, or was not made with this key")]
    Invalid,
    /// There is no tag and policy asks for one.
    #[error("the data has no authentication tag, and require-authentication is set")]
    Unauthenticated,
}

/// Whether data without a tag, as the Go plugin writes it, is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// Open it, if it is a seed of [`SEED_BYTES`].
    Accept,
    /// Refuse it.
    Refuse,
}

impl WrappingKey {
    /// Expands `kek`. The caller drops, and so wipes, the original.
    pub fn new(kek: &Kek) -> Self {
        let state = Locked::new_with(|| {
            let mac_key = derive_mac_key(kek);
            State {
                cipher: match kek.expose() {
                    ExposedKek::Aes128(key) => Cipher::Aes128(Aes128::new(key.into())),
                    ExposedKek::Aes192(key) => Cipher::Aes192(Aes192::new(key.into())),
                    ExposedKek::Aes256(key) => Cipher::Aes256(Aes256::new(key.into())),
                },
                mac: Hmac::new_from_slice(&mac_key).expect("HMAC takes a key of any length"),
                mac_key,
            }
        });
        Self { state }
    }

    /// Whether `kek` is the key that this was made from, in constant time.
    ///
    /// Compares derived keys: the original is not kept.
    pub fn is_made_from(&self, kek: &Kek) -> bool {
        scrubbed(|| derive_mac_key(kek).ct_eq(&self.state.mac_key).into())
    }

    /// Tells this key from others, and nothing about it.
    pub fn fingerprint(&self) -> Fingerprint {
        scrubbed(|| {
            let mut hash = Sha256::new();
            hash.update(FINGERPRINT_CONTEXT);
            hash.update(self.state.mac_key);
            Fingerprint(hash.finalize().into())
        })
    }

    /// How well the key schedule is protected.
    pub fn protection(&self) -> Protection {
        self.state.protection()
    }

    fn tag(&self, key_id: &KeyId, ciphertext: &[u8]) -> Hmac<Sha256> {
        let id = key_id.text();
        let id_bytes = u32::try_from(id.len()).expect("a key id has at most 53 bytes");
        let mut mac = self.state.mac.clone();
        mac.update(TAG_CONTEXT);
        mac.update(&id_bytes.to_be_bytes());
        mac.update(id.as_bytes());
        mac.update(ciphertext);
        mac
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({}, redacted)", self.protection().as_str())
    }
}

/// Wraps `plaintext` under `key`. `iv` must be random, and new for each call.
///
/// # Errors
/// When the plaintext is too long.
pub fn seal(
    key: &WrappingKey,
    key_id: &KeyId,
    plaintext: &[u8],
    iv: &[u8; BLOCK_BYTES],
) -> Result<Sealed, PlaintextTooLong> {
    if plaintext.len() > PLAINTEXT_MAX_BYTES {
        return Err(PlaintextTooLong);
    }
    let padded_bytes = (plaintext.len() / BLOCK_BYTES + 1) * BLOCK_BYTES;
    let mut ciphertext = vec![0; BLOCK_BYTES + padded_bytes];
    let tag = scrubbed(|| {
        let (head, body) = ciphertext.split_at_mut(BLOCK_BYTES);
        head.copy_from_slice(iv);
        match &key.state.cipher {
            Cipher::Aes128(aes) => encrypt(aes, iv, plaintext, body),
            Cipher::Aes192(aes) => encrypt(aes, iv, plaintext, body),
            Cipher::Aes256(aes) => encrypt(aes, iv, plaintext, body),
        }
        key.tag(key_id, &ciphertext).finalize().into_bytes().into()
    });
    Ok(Sealed { ciphertext, tag })
}

/// Unwraps what [`seal`], or the Go plugin, has made.
///
/// # Errors
/// When the data is not intact, or carries no tag where one is asked for.
pub fn open(
    key: &WrappingKey,
    key_id: &KeyId,
    ciphertext: &[u8],
    tag: Option<&[u8]>,
    untagged: Untagged,
) -> Result<Vec<u8>, OpenError> {
    let valid = (CIPHERTEXT_MIN_BYTES..=CIPHERTEXT_MAX_BYTES).contains(&ciphertext.len())
        && ciphertext.len().is_multiple_of(BLOCK_BYTES);
    if !valid {
        return Err(OpenError::Invalid);
    }
    if tag.is_none() && untagged == Untagged::Refuse {
        return Err(OpenError::Unauthenticated);
    }
    scrubbed(|| {
        let Some(tag) = tag else {
            return open_untagged(key, ciphertext);
        };
        key.tag(key_id, ciphertext)
            .verify_slice(tag)
            .map_err(|_| OpenError::Invalid)?;
        let (iv, body) = ciphertext.split_first_chunk().ok_or(OpenError::Invalid)?;
        match &key.state.cipher {
            Cipher::Aes128(aes) => decrypt(aes, iv, body),
            Cipher::Aes192(aes) => decrypt(aes, iv, body),
            Cipher::Aes256(aes) => decrypt(aes, iv, body),
        }
    })
}

/// Every answer but a seed is the same, whatever the padding is like.
fn open_untagged(key: &WrappingKey, ciphertext: &[u8]) -> Result<Vec<u8>, OpenError> {
    if ciphertext.len() != UNTAGGED_BYTES {
        return Err(OpenError::Invalid);
    }
    let (iv, body) = ciphertext.split_first_chunk().ok_or(OpenError::Invalid)?;
    match &key.state.cipher {
        Cipher::Aes128(aes) => decrypt_seed(aes, iv, body),
        Cipher::Aes192(aes) => decrypt_seed(aes, iv, body),
        Cipher::Aes256(aes) => decrypt_seed(aes, iv, body),
    }
}

/// A cipher is borrowed, never moved: its key schedule stays in locked memory.
fn encrypt<C>(aes: &C, iv: &[u8; BLOCK_BYTES], plaintext: &[u8], body: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    cbc::Encryptor::inner_iv_init(aes, iv.into())
        .encrypt_padded_b2b::<Pkcs7>(plaintext, body)
        .expect("the body was made as long as the padded plaintext");
}

fn decrypt<C>(aes: &C, iv: &[u8; BLOCK_BYTES], body: &[u8]) -> Result<Vec<u8>, OpenError>
where
    C: BlockCipherDecrypt<BlockSize = U16>,
{
    let mut plaintext = vec![0; body.len()];
    let length = cbc::Decryptor::inner_iv_init(aes, iv.into())
        .decrypt_padded_b2b::<Pkcs7>(body, &mut plaintext)
        .map_err(|_| OpenError::Invalid)?
        .len();
    plaintext.truncate(length);
    Ok(plaintext)
}

fn decrypt_seed<C>(aes: &C, iv: &[u8; BLOCK_BYTES], body: &[u8]) -> Result<Vec<u8>, OpenError>
where
    C: BlockCipherDecrypt<BlockSize = U16>,
{
    let mut plaintext = vec![0; body.len()];
    cbc::Decryptor::inner_iv_init(aes, iv.into())
        .decrypt_padded_b2b::<NoPadding>(body, &mut plaintext)
        .map_err(|_| OpenError::Invalid)?;
    let padding = plaintext.get(SEED_BYTES..).unwrap_or_default();
    let whole: bool = padding.ct_eq(&WHOLE_PADDING).into();
    plaintext.truncate(SEED_BYTES);
    whole.then_some(plaintext).ok_or(OpenError::Invalid)
}

fn derive_mac_key(kek: &Kek) -> [u8; TAG_BYTES] {
    let mut mac_key = [0; TAG_BYTES];
    Hkdf::<Sha256>::new(None, kek.expose().as_slice())
        .expand(MAC_KEY_INFO, &mut mac_key)
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    mac_key
}

#[cfg(test)]
mod tests {
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
}
