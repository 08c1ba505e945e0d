//! PEM files: certificate authorities, and the client certificate with its key.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::diagnostic::Message;
use crate::config::settings::ClientCertificate;
use crate::secret::PrivateKeyPem;

/// The certificates of a PEM file in DER form, at least one.
///
/// As in Go, blocks of other kinds are skipped, and so are those with headers.
///
/// # Errors
/// When there is none, or when one is damaged.
pub(super) fn authorities(pem: &[u8]) -> Result<Vec<Vec<u8>>, Message> {
    let certificates: Vec<_> = blocks(pem)
        .filter(|block| block.label == b"CERTIFICATE" && !block.has_headers)
        .enumerate()
        .map(|(index, block)| decode(block.text).ok_or_else(|| damaged(index + 1)))
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(NO_CERTIFICATE.into());
    }
    Ok(certificates)
}

/// A client certificate from the contents of its two files.
///
/// # Errors
/// When one of them does not contain what it must, with which of them it is.
pub(super) fn client(chain: Vec<u8>, key: Vec<u8>) -> Result<ClientCertificate, (Message, InFile)> {
    authorities(&chain).map_err(|error| (error, InFile::Chain))?;
    let encrypted = blocks(&key).any(|block| {
        let contains = |text: &[u8]| block.text.windows(text.len()).any(|part| part == text);
        block.label == b"ENCRYPTED PRIVATE KEY"
            || (block.has_headers && contains(b"Proc-Type: 4,ENCRYPTED"))
    });
    if encrypted {
        return Err((ENCRYPTED_KEY.into(), InFile::Key));
    }
    let usable = PrivateKeyDer::from_pem_slice(&key).is_ok();
    let text = String::from_utf8(key).ok().filter(|_| usable);
    let key_pem = text
        .map(PrivateKeyPem::new)
        .ok_or((NO_KEY.into(), InFile::Key))?;
    Ok(ClientCertificate {
        chain_pem: chain,
        key_pem,
    })
}

fn damaged(number: usize) -> Message {
    format!("certificate {number} in it is damaged; copy the file again").into()
}

const NO_CERTIFICATE: &str = "there is no certificate in it; it must contain at least one block \
     from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`";
const NO_KEY: &str = "there is no private key in it; it must contain a block `-----BEGIN PRIVATE \
     KEY-----` (or RSA or EC PRIVATE KEY)";
const ENCRYPTED_KEY: &str = "the private key in it has a passphrase, which the sidecar cannot \
                             enter; remove it with `openssl pkey -in FILE -out NEW`";

/// Which of the two files of a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InFile {
    Chain,
    Key,
}

fn decode(block: &[u8]) -> Option<Vec<u8>> {
    let der = CertificateDer::from_pem_slice(block).ok()?;
    // Every certificate is an ASN.1 sequence.
    (der.first() == Some(&0x30)).then(|| der.to_vec())
}

struct Block<'a> {
    label: &'a [u8],
    /// Everything from `-----BEGIN` to `-----END`, both included.
    text: &'a [u8],
    has_headers: bool,
}

fn blocks(pem: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let mut lines = pem.split_inclusive(|byte| *byte == b'\n');
    let mut offset = 0;
    std::iter::from_fn(move || {
        let mut open: Option<(usize, &[u8], bool)> = None;
        for line in lines.by_ref() {
            let start = offset;
            offset += line.len();
            let line = line.trim_ascii_end();
            if let Some(label) = between(line, b"-----BEGIN ") {
                open = Some((start, label, false));
            } else if let (Some((from, label, has_headers)), Some(end)) =
                (open, between(line, b"-----END "))
            {
                open = None;
                if label == end {
                    return Some(Block {
                        label,
                        text: pem.get(from..offset).unwrap_or_default(),
                        has_headers,
                    });
                }
            } else if let Some((_, _, has_headers)) = &mut open {
                *has_headers |= line.contains(&b':');
            }
        }
        None
    })
}

fn between<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)?.strip_suffix(b"-----")
}
