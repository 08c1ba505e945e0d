//! The content of certificates, for the messages of refusals and warnings.
//!
//! Used by `tls`. Pure. Invariant: total for any bytes, in time linear in their number;
//! nothing here makes a certificate trusted, which is webpki's part alone.

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::{CertificateError, Error};

use crate::openstack::error::TlsProblem;
use crate::openstack::excerpt::Excerpt;

/// The longest chain that is looked at; webpki's own limit is six intermediates.
const LONGEST: usize = 8;
/// The longest part of a name that is shown, in characters.
const NAME_CHARS: usize = 64;
/// The shortest RSA key that the TLS library takes.
const RSA_BITS: usize = 2048;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
/// `[0] EXPLICIT`, the version, which version 1 leaves out.
const VERSION: u8 = 0xa0;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
/// Signatures that the TLS library refuses, by what makes them weak.
const WEAK: &[(&[u8], &str)] = &[
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "SHA-1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "SHA-1"),
    (b"\x2a\x86\x48\xce\x38\x04\x03", "SHA-1"),
    (b"\x2b\x0e\x03\x02\x1d", "SHA-1"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "MD5"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x02", "MD2"),
];
const NAMES: [(&[u8], &str); 2] = [(b"\x55\x04\x03", "CN"), (b"\x55\x04\x0a", "O")];

/// The fields of a certificate that are shown.
pub(super) struct Certificate<'a> {
    /// The object identifier of the algorithm that signed it.
    signature: &'a [u8],
    issuer: &'a [u8],
    pub(super) not_before: Option<Timestamp>,
    pub(super) not_after: Option<Timestamp>,
    subject: &'a [u8],
    key: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let certificate = Reader(der).of(SEQUENCE)?;
        let mut fields = Reader(Reader(certificate).of(SEQUENCE)?);
        let (tag, _) = fields.next()?;
        if tag == VERSION {
            fields.of(INTEGER)?;
        }
        let signature = Reader(fields.of(SEQUENCE)?).of(OBJECT_IDENTIFIER)?;
        let issuer = fields.of(SEQUENCE)?;
        let mut validity = Reader(fields.of(SEQUENCE)?);
        Some(Self {
            signature,
            issuer,
            not_before: validity.next().and_then(time),
            not_after: validity.next().and_then(time),
            subject: fields.of(SEQUENCE)?,
            key: fields.of(SEQUENCE)?,
        })
    }

    pub(super) fn subject(&self) -> String {
        name(self.subject)
    }
}

/// The more exact words for a chain that was refused, where there are any. `sent` begins
/// with the server's own certificate.
pub(super) fn refusal(
    error: &Error,
    sent: &[&CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
) -> Option<TlsProblem> {
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    let unknown = match error {
        CertificateError::UnknownIssuer => true,
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => false,
        _ => return None,
    };
    let sent = sent.iter().take(LONGEST);
    let sent: Vec<Certificate<'_>> = sent.filter_map(|der| Certificate::read(der)).collect();
    let (server, others) = sent.split_first()?;
    if unknown && server.issuer == server.subject {
        return Some(TlsProblem::SelfSigned);
    }
    let mut last = server;
    let mut whose = "the server's certificate".to_owned();
    for _ in 0..LONGEST {
        let weak = WEAK.iter().find(|(id, _)| *id == last.signature);
        if let (false, Some((_, algorithm))) = (unknown, weak) {
            return Some(TlsProblem::Signature {
                whose,
                algorithm: (*algorithm).to_owned(),
            });
        }
        let anchor = anchors
            .iter()
            .find(|anchor| anchor.subject.as_ref() == last.issuer);
        let issuer = others.iter().find(|other| other.subject == last.issuer);
        let key = match (anchor, issuer) {
            (Some(anchor), _) => anchor.subject_public_key_info.as_ref(),
            (None, Some(issuer)) => issuer.key,
            (None, None) => break,
        };
        if let (false, Some(bits)) = (unknown, short_key(key)) {
            let whose = format!("the authority {}", name(last.issuer));
            return Some(TlsProblem::ShortKey { whose, bits });
        }
        match issuer {
            Some(issuer) if anchor.is_none() && issuer.issuer != issuer.subject => {
                whose = format!("the intermediate certificate {}", issuer.subject());
                last = issuer;
            }
            _ => break,
        }
    }
    let issuer = name(last.issuer);
    Some(match error {
        CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer(issuer),
        CertificateError::BadSignature => TlsProblem::WrongAuthority(issuer),
        _ => TlsProblem::Signature {
            whose: "one of the server's certificates".to_owned(),
            algorithm: "none of RSA or ECDSA with SHA-256, SHA-384 or SHA-512, and Ed25519"
                .to_owned(),
        },
    })
}

/// Why the signature of a handshake is refused: the key is too short, or not at hand.
pub(super) fn handshake(error: &Error, server: &CertificateDer<'_>) -> Option<TlsProblem> {
    let Error::InvalidCertificate(CertificateError::BadSignature) = error else {
        return None;
    };
    let bits = Certificate::read(server).and_then(|server| short_key(server.key));
    Some(match bits {
        Some(bits) => TlsProblem::ShortKey {
            whose: "the server's certificate".to_owned(),
            bits,
        },
        None => TlsProblem::OtherKey,
    })
}

/// The bits of an RSA key that is too short; `None` for any other.
fn short_key(key: &[u8]) -> Option<usize> {
    let mut fields = Reader(key);
    let algorithm = Reader(fields.of(SEQUENCE)?).of(OBJECT_IDENTIFIER)?;
    if algorithm != RSA {
        return None;
    }
    // The first byte counts unused bits.
    let (_, key) = fields.of(BIT_STRING)?.split_first()?;
    let modulus = Reader(Reader(key).of(SEQUENCE)?).of(INTEGER)?;
    let mut bytes = modulus.iter().skip_while(|byte| **byte == 0);
    let first = bytes.next()?;
    let bits = 8 * bytes.count() + usize::try_from(8 - first.leading_zeros()).ok()?;
    (bits < RSA_BITS).then_some(bits)
}

/// The common name and the organization, printable and short.
fn name(der: &[u8]) -> String {
    let mut parts: [Option<String>; NAMES.len()] = [const { None }; NAMES.len()];
    let mut sets = Reader(der);
    while let Some(set) = sets.of(SET) {
        let mut attributes = Reader(set);
        while let Some(attribute) = attributes.of(SEQUENCE) {
            let mut fields = Reader(attribute);
            let (Some(kind), Some(value)) = (fields.of(OBJECT_IDENTIFIER), fields.next()) else {
                continue;
            };
            for (part, (known, short)) in parts.iter_mut().zip(NAMES) {
                if known == kind && part.is_none() {
                    *part = text(value).map(|text| format!("{short}={text}"));
                }
            }
        }
    }
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "(an issuer without CN or O)".to_owned();
    }
    parts.join(", ")
}

fn text((tag, value): (u8, &[u8])) -> Option<String> {
    let whole = if tag == BMP_STRING {
        let units = value.chunks_exact(2).map(|pair| match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        });
        char::decode_utf16(units)
            .map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    } else {
        String::from_utf8_lossy(value).into_owned()
    };
    let mut shown: String = whole.chars().take(NAME_CHARS).collect();
    if shown.len() < whole.len() {
        shown.push('…');
    }
    Excerpt::of_text(&shown).map(|shown| shown.to_string())
}

/// RFC 5280, 4.1.2.5: `YYMMDDHHMMSSZ`, or with four digits for the year.
fn time((tag, value): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = |from, to| text.get(from..to);
    let day = format!("{}-{}-{}", at(0, 4)?, at(4, 6)?, at(6, 8)?);
    let hour = format!("{}:{}:{}", at(8, 10)?, at(10, 12)?, at(12, 14)?);
    format!("{day}T{hour}Z").parse().ok()
}

/// Values of DER, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value with its tag. Each takes two bytes or more.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
                (length.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, where it has this tag.
    fn of(&mut self, expected: u8) -> Option<&'a [u8]> {
        let (tag, value) = self.next()?;
        (tag == expected).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(4000, 1, 1);
        let name = &mut params.distinguished_name;
        name.push(
            rcgen::DnType::CommonName,
            "a\u{1b}[31m\u{202e} CA".repeat(20),
        );
        name.push(rcgen::DnType::OrganizationName, "Example");
        let key = rcgen::KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn names_are_printable_and_short_and_dates_are_dates() {
        let der = certificate();
        let read = Certificate::read(&der).expect("a certificate");
        let said = read.subject();
        assert!(said.starts_with("CN=a"), "{said}");
        assert!(said.ends_with("…, O=Example"), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
        assert!(said.chars().count() < 12 * NAME_CHARS, "{said}");
        let date = |time: Option<Timestamp>| time.expect("a date").to_string();
        assert_eq!(date(read.not_before), "2020-01-01T00:00:00Z");
        assert_eq!(date(read.not_after), "4000-01-01T00:00:00Z");
    }

    #[test]
    fn damaged_certificates_are_read_or_not_but_never_panic() {
        let good = certificate();
        let error = Error::InvalidCertificate(CertificateError::BadSignature);
        for at in 0..good.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
                let mut der = good.clone();
                if let Some(byte) = der.get_mut(at) {
                    *byte = value;
                }
                for der in [&der[..], &der[..at]] {
                    let der = CertificateDer::from(der);
                    let _ = refusal(&error, &[&der, &der], &[]);
                    let _ = handshake(&error, &der);
                }
            }
        }
    }
}
