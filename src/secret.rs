//! Secret values: filled in place, held in locked memory, wiped on drop.
//!
//! Everything here prints as `redacted`, cannot be cloned and cannot be
//! serialised. Reading a value takes a method whose name begins with `expose`,
//! so that every such place can be found. Used by every other module; uses none.

mod memory;

#[cfg(test)]
pub(crate) use memory::kept::keep_pages;
pub use memory::{Locked, LockedBytes, Protection, WipingAllocator, protection, scrubbed};

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// The longest AES key, in bytes.
pub const KEK_MAX_BYTES: usize = 32;

/// A key-encryption key as it came from Barbican: 16, 24 or 32 bytes.
///
/// It exists between the download and the key schedule only; see
/// [`crate::envelope::WrappingKey`].
pub struct Kek {
    bytes: Locked<[u8; KEK_MAX_BYTES]>,
    length: usize,
}

/// A KEK's bytes, by the AES variant that they are for.
pub enum ExposedKek<'a> {
    /// AES-128.
    Aes128(&'a [u8; 16]),
    /// AES-192.
    Aes192(&'a [u8; 24]),
    /// AES-256.
    Aes256(&'a [u8; 32]),
}

impl Kek {
    /// The key's bytes.
    pub fn expose(&self) -> ExposedKek<'_> {
        match (
            self.length,
            self.bytes.first_chunk(),
            self.bytes.first_chunk(),
        ) {
            (16, Some(bytes), _) => ExposedKek::Aes128(bytes),
            (24, _, Some(bytes)) => ExposedKek::Aes192(bytes),
            _ => ExposedKek::Aes256(&self.bytes),
        }
    }
}

impl ExposedKek<'_> {
    /// Whether all of it is printable ASCII, which a random key practically never is: a
    /// password, or hex or base64 of fewer bytes. All bytes are looked at in any case.
    pub fn looks_like_text(&self) -> bool {
        let others = self
            .as_slice()
            .iter()
            .filter(|byte| !matches!(byte, b' '..=b'~'));
        others.count() == 0
    }

    /// The bytes without their length in the type.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Aes128(bytes) => *bytes,
            Self::Aes192(bytes) => *bytes,
            Self::Aes256(bytes) => *bytes,
        }
    }
}

impl fmt::Debug for ExposedKek<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExposedKek({} bytes, redacted)", self.as_slice().len())
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({} bytes, redacted)", self.length)
    }
}

/// Collects a payload piece by piece, straight into locked memory.
///
/// More bytes than an AES key has are counted, not kept: the count is what the
/// error message needs.
#[derive(Debug)]
pub struct KekWriter {
    kek: Kek,
    received: usize,
    printable: bool,
}

impl KekWriter {
    /// An empty writer.
    pub fn new() -> Self {
        let bytes = Locked::new_with(|| [0; KEK_MAX_BYTES]);
        Self {
            kek: Kek { bytes, length: 0 },
            received: 0,
            printable: true,
        }
    }

    /// Appends `chunk`.
    pub fn push(&mut self, chunk: &[u8]) {
        self.printable &= chunk
            .iter()
            .all(|byte| byte.is_ascii_graphic() || *byte == b'\n');
        self.received = self.received.saturating_add(chunk.len());
        let room = self
            .kek
            .bytes
            .get_mut(self.kek.length..)
            .unwrap_or_default();
        let kept = room.len().min(chunk.len());
        for (to, from) in room.iter_mut().zip(chunk) {
            *to = *from;
        }
        self.kek.length += kept;
    }

    /// How many bytes have been pushed.
    pub fn received(&self) -> usize {
        self.received
    }

    /// The finished key.
    ///
    /// # Errors
    /// When the payload is not 16, 24 or 32 bytes long.
    pub fn finish(self) -> Result<Kek, KekLengthError> {
        match self.received {
            16 | 24 | 32 => Ok(self.kek),
            length => Err(KekLengthError {
                length,
                more: false,
                printable: self.printable,
            }),
        }
    }
}

impl Default for KekWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// A payload that cannot be an AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KekLengthError {
    /// The payload's length in bytes.
    pub length: usize,
    /// Whether it is longer than that, by an unknown number of bytes.
    pub more: bool,
    /// Whether all of it is printable ASCII, as base64 or hex text is.
    pub printable: bool,
}

impl KekLengthError {
    /// Of a payload that is longer than `cap`, and was not read further.
    pub fn beyond(cap: usize) -> Self {
        Self {
            length: cap,
            more: true,
            printable: false,
        }
    }
}

impl fmt::Display for KekLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the payload is {}{} bytes long, an AES key is 16, 24 or 32",
            if self.more { "more than " } else { "" },
            self.length
        )?;
        match (self.printable, self.length) {
            (_, 0) => f.write_str("; the secret is empty"),
            (true, 24..=25 | 32..=33 | 44..=45) => f.write_str(
                "; it looks like base64 or hex text that was stored without decoding: store the \
                 raw bytes (application/octet-stream)",
            ),
            (true, 48..=49 | 64..=65) => f.write_str(
                "; it looks like hex text that was stored without decoding: store the raw bytes \
                 (application/octet-stream)",
            ),
            _ => Ok(()),
        }?;
        f.write_str(
            "; create a suitable key with `openstack secret order create --algorithm aes --mode \
             cbc --bit-length 256 --payload-content-type=application/octet-stream key`",
        )
    }
}

impl std::error::Error for KekLengthError {}

/// Defines a secret text type; each kind gets a type of its own so that a
/// password cannot be sent where a token belongs.
macro_rules! secret_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(LockedBytes);

        impl $name {
            /// Takes the text over and wipes the original.
            pub fn new(mut text: String) -> Self {
                let locked = LockedBytes::copy_of(text.as_bytes());
                text.zeroize();
                Self(locked)
            }

            /// The text in clear.
            pub fn expose_text(&self) -> &str {
                std::str::from_utf8(self.0.expose()).unwrap_or_default()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }

        /// In constant time for texts of equal length.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.expose().ct_eq(other.0.expose()).into()
            }
        }

        impl Eq for $name {}
    };
}

secret_text! {
    /// A password or the secret of an application credential.
    Password
}
secret_text! {
    /// A Keystone token.
    Token
}
secret_text! {
    /// A private key in PEM form.
    PrivateKeyPem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_24_or_32_bytes_and_nothing_else() {
        for length in 0..100 {
            let mut writer = KekWriter::new();
            for chunk in vec![7_u8; length].chunks(5) {
                writer.push(chunk);
            }
            let finished = writer.finish();
            assert_eq!(finished.is_ok(), matches!(length, 16 | 24 | 32), "{length}");
            if let Ok(kek) = finished {
                assert_eq!(kek.expose().as_slice(), vec![7_u8; length]);
            }
        }
    }

    #[test]
    fn a_key_of_printable_characters_is_doubted() {
        for (bytes, doubted) in [
            (&b"correct horse battery staple 42!"[..], true),
            (b"00112233445566778899aabbccddeeff", true),
            (b"Zm9vYmFyYmF6cXV4MDEyMzQ1", true),
            (b"correct horse battery staple 42\n", false),
            (&[0xa7; 32], false),
        ] {
            let mut writer = KekWriter::new();
            writer.push(bytes);
            let kek = writer.finish().expect("a key's length");
            assert_eq!(kek.expose().looks_like_text(), doubted);
        }
    }

    #[test]
    fn a_base64_text_in_place_of_a_key_is_recognised() {
        let mut writer = KekWriter::new();
        writer.push(b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        let error = writer.finish().expect_err("44 bytes are no key");
        assert_eq!(
            error,
            KekLengthError {
                length: 44,
                more: false,
                printable: true
            }
        );
        assert!(error.to_string().contains("looks like base64"), "{error}");
    }

    #[test]
    fn secrets_print_as_redacted() {
        let mut writer = KekWriter::new();
        writer.push(&[b'k'; 32]);
        let printed = format!(
            "{writer:?} {:?} {:?}",
            Password::new("hunter2".to_owned()),
            Token::new("gAAAA".to_owned())
        );
        assert!(
            !printed.contains("kkk") && !printed.contains("hunter2"),
            "{printed}"
        );
        assert!(
            !printed.contains("gAAAA") && !printed.contains("107"),
            "{printed}"
        );
    }
}
