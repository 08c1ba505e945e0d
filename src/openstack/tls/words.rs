//! What an error of TLS means for the person who configures this.
//!
//! Used by `tls`, `connect` and `http`. Pure. Invariant: what the library prints for
//! programmers (`CaUsedAsEndEntity`, `DnsName("x")`) is in no message.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use crate::openstack::error::TlsProblem;

/// The alerts' names in RFC 8446, as other programs print them.
const ALERTS: [(u8, &str); 27] = [
    (0, "close notify"),
    (10, "unexpected message"),
    (20, "bad record mac"),
    (22, "record overflow"),
    (40, "handshake failure"),
    (42, "bad certificate"),
    (43, "unsupported certificate"),
    (44, "certificate revoked"),
    (45, "certificate expired"),
    (46, "certificate unknown"),
    (47, "illegal parameter"),
    (48, "unknown ca"),
    (49, "access denied"),
    (50, "decode error"),
    (51, "decrypt error"),
    (70, "protocol version"),
    (71, "insufficient security"),
    (80, "internal error"),
    (86, "inappropriate fallback"),
    (90, "user canceled"),
    (109, "missing extension"),
    (110, "unsupported extension"),
    (112, "unrecognized name"),
    (113, "bad certificate status response"),
    (115, "unknown psk identity"),
    (116, "certificate required"),
    (120, "no application protocol"),
];

/// What is wrong, by the error that the library gives.
pub(super) fn problem(error: &Error) -> TlsProblem {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsProblem::Dates(dates(error)),
            CertificateError::NotValidForName => TlsProblem::Name("it does not say which".into()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                TlsProblem::Name(names(presented))
            }
            _ => TlsProblem::Certificate(certificate(&Error::InvalidCertificate(error.clone()))),
        },
        // The first bytes are no TLS record.
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => TlsProblem::NotTls,
        Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied),
        ) => TlsProblem::ClientCertificate(name_of(*alert)),
        Error::AlertReceived(
            alert @ (AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity),
        ) => TlsProblem::NothingInCommon(name_of(*alert)),
        Error::AlertReceived(alert) => TlsProblem::Alert(name_of(*alert)),
        Error::PeerIncompatible(_) => {
            TlsProblem::NothingInCommon("its version or cipher is an old one".to_owned())
        }
        Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => TlsProblem::Other(
            "the server violates the protocol; something on the way may alter the data".into(),
        ),
        Error::NoCertificatesPresented => {
            TlsProblem::Certificate("the server has sent none".to_owned())
        }
        Error::DecryptError => {
            TlsProblem::Other("the received data cannot be decrypted".to_owned())
        }
        Error::FailedToGetCurrentTime => {
            TlsProblem::Other("this machine's clock cannot be read".to_owned())
        }
        Error::FailedToGetRandomBytes => {
            TlsProblem::Other("the system provides no random numbers".to_owned())
        }
        _ => TlsProblem::Other("the handshake cannot be completed".to_owned()),
    }
}

/// What is wrong with one certificate.
pub(super) fn certificate(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else {
        return "it is not a certificate that can be used".to_owned();
    };
    match error {
        CertificateError::BadEncoding => "it is damaged, or not an X.509 certificate".to_owned(),
        // Where the chain can be read, `chain` has more to say.
        CertificateError::UnknownIssuer => "it is not signed by a trusted authority".to_owned(),
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a signature in its chain is not accepted".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::UnhandledCriticalExtension => {
            "it has an unknown critical extension".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for servers: its extended key usage lacks serverAuth".to_owned()
        }
        CertificateError::Other(other) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => "it is marked as an authority (CA:TRUE), but is used by a \
                                    server: set it as ca-file, or issue a certificate for the \
                                    server"
                .to_owned(),
            "EndEntityUsedAsCa" => {
                "one of its issuers is not marked as an authority (CA:TRUE)".to_owned()
            }
            "UnsupportedCertVersion" => "it is not an X.509 version 3 certificate".to_owned(),
            "PathLenConstraintViolated" | "NameConstraintViolation" => {
                "it is beyond what its authority may issue".to_owned()
            }
            _ => "the TLS library does not accept it".to_owned(),
        },
        _ => "the TLS library does not accept it".to_owned(),
    }
}

/// Why a client certificate and its key cannot be used.
pub(super) fn pair(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        Error::InvalidCertificate(_) => format!("cert-file: {}", certificate(error)),
        _ => "the kind of the key is not supported: supported are RSA of 2048 bits or more, ECDSA \
              on P-256 or P-384, and Ed25519"
            .to_owned(),
    }
}

fn dates(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                "it expired at {}, and it is now {}",
                date(*not_after),
                date(*time)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "it begins at {}, and it is now {}",
                date(*not_before),
                date(*time)
            )
        }
        CertificateError::NotValidYet => "it is not valid yet".to_owned(),
        _ => "it has expired".to_owned(),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a time far away".to_owned(), |time| time.to_string())
}

/// `DnsName("x")` is `x`, and so on.
fn names(presented: &[String]) -> String {
    const MOST: usize = 5;
    let bare = |name: &String| {
        let inner = name
            .split_once('(')
            .map_or(name.as_str(), |(_, inner)| inner);
        inner.trim_matches([')', '(', '"']).to_owned()
    };
    let mut names: Vec<String> = presented.iter().take(MOST).map(bare).collect();
    if presented.len() > MOST {
        names.push(format!("{} more", presented.len() - MOST));
    }
    if names.is_empty() {
        return "it has no subject alternative name".to_owned();
    }
    format!("it is for {}", names.join(", "))
}

fn name_of(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    let known = ALERTS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("alert {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::{InconsistentKeys, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[derive(Debug, thiserror::Error)]
    #[error("CaUsedAsEndEntity")]
    struct Marked;

    #[test]
    fn no_message_is_in_the_languages_of_the_library() {
        let certificates = [
            CertificateError::BadEncoding,
            CertificateError::Expired,
            CertificateError::ExpiredContext {
                time: at(1_800_000_000),
                not_after: at(1_700_000_000),
            },
            CertificateError::NotValidYet,
            CertificateError::NotValidYetContext {
                time: at(1),
                not_before: at(2),
            },
            CertificateError::Revoked,
            CertificateError::UnhandledCriticalExtension,
            CertificateError::UnknownIssuer,
            CertificateError::BadSignature,
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![1],
                supported_algorithms: Vec::new(),
            },
            CertificateError::NotValidForName,
            CertificateError::NotValidForNameContext {
                expected: "a.example".try_into().expect("a name"),
                presented: vec![
                    "DnsName(\"b.example\")".to_owned(),
                    "IpAddress(10.0.0.1)".to_owned(),
                ],
            },
            CertificateError::InvalidPurpose,
            CertificateError::ApplicationVerificationFailure,
            CertificateError::Other(OtherError(std::sync::Arc::new(Marked))),
        ];
        let mut errors: Vec<Error> = certificates
            .into_iter()
            .map(Error::InvalidCertificate)
            .collect();
        errors.extend((0..=255).map(|alert| Error::AlertReceived(AlertDescription::from(alert))));
        errors.extend([
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerMisbehaved(PeerMisbehaved::IncorrectBinder),
            Error::NoCertificatesPresented,
            Error::DecryptError,
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch),
            Error::General("x".to_owned()),
        ]);
        for error in errors {
            let problem = problem(&error);
            for said in [problem.to_string(), certificate(&error), pair(&error)] {
                let own = [
                    "TLS", "URL", "DNS", "CA", "TRUE", "ECDHE", "GCM", "AES", "RSA", "SHA",
                ];
                for word in said.split(|one: char| !one.is_alphanumeric()) {
                    let humps = word
                        .chars()
                        .skip(1)
                        .filter(char::is_ascii_uppercase)
                        .count();
                    let allowed = own.iter().any(|one| word.contains(one))
                        || [
                            "X",
                            "ChaCha20",
                            "ECDSA",
                            "Ed25519",
                            "serverAuth",
                            "SubjectAltName",
                        ]
                        .contains(&word)
                        || word.starts_with(|one: char| one.is_ascii_digit());
                    assert!(humps == 0 || allowed, "{word} in {said}");
                }
                assert!(!said.contains("Some(") && !said.contains("Name("), "{said}");
            }
            assert!(!problem.next_step().is_empty());
        }
    }

    #[test]
    fn dates_are_dates_and_names_are_names() {
        let expired = Error::InvalidCertificate(CertificateError::ExpiredContext {
            time: at(1_800_000_000),
            not_after: at(1_700_000_000),
        });
        let said = problem(&expired).to_string();
        assert!(said.contains("it ended at 2023-11-14T22:13:20Z"), "{said}");
        let names = names(&["DnsName(\"b.example\")".to_owned()]);
        assert_eq!(names, "it is for b.example");
    }
}
