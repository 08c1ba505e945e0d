//! What is accepted and still deserves a word: for the log, and for `check`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::clouds_yaml::EntryDoubt;
use super::key::{Key, Section};
use super::location::Place;
use super::redact;
use super::resolve::duration::format_duration;
use super::typography::OddMarks;
use crate::key_id::KeyId;

/// Something in the configuration that probably is not meant that way.
///
/// Its `Display` is one line that names the place, what happens, and what to do.
/// Invariant: no value of a secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `password=abc#def`: the value is `abc`.
    CommentInValue(Place),
    /// `password='abc'`: the quotes are part of the value.
    SingleQuotes(Place),
    /// A key that is ignored because there is none of that name.
    UnknownKey {
        /// The key.
        place: Place,
        /// What was probably meant.
        meant: Option<Key>,
    },
    /// A section that is ignored and is called nearly like one of ours.
    UnknownSection {
        /// Its header.
        place: Place,
        /// What was probably meant.
        meant: Section,
    },
    /// A setting that has no effect because of another one.
    Ineffective {
        /// The setting.
        place: Place,
        /// Why.
        reason: Ineffective,
    },
    /// Two files say different things, and this one is not used.
    Overruled {
        /// The setting that is not used.
        place: Place,
        /// The one that is, if there is one.
        by: Option<Place>,
        /// `cloud`, if that is why.
        cloud: Option<Place>,
    },
    /// `cloud` without `use-clouds`.
    CloudAlone(Place),
    /// A key of the chosen cloud that has no effect.
    Entry {
        /// The key.
        place: Place,
        /// Why.
        doubt: EntryDoubt,
    },
    /// Typographic quotes and the like.
    OddMarks {
        /// The setting.
        place: Place,
        /// Which ones.
        marks: OddMarks,
    },
    /// Certificates are not verified.
    VerificationOff(Place),
    /// `tls-insecure` is neither `true` nor a way to say no.
    VerificationStaysOn(Place),
    /// A key is named twice in the ring.
    DuplicateKeyId {
        /// Where.
        place: Place,
        /// Which one.
        id: KeyId,
    },
    /// `max-cache-age` leaves no room for a confirmation that fails.
    ShortCacheAge {
        /// The setting.
        place: Place,
        /// `revalidate-interval`.
        interval: Duration,
    },
    /// A file with credentials can be read by every user of the host.
    WorldReadable {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Why a setting has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ineffective {
    /// `cloud` or `clouds-file` without `use-clouds`.
    WithoutUseClouds,
    /// A password beside an application credential.
    CredentialWins,
    /// A password or application credential beside a token.
    TokenWins,
    /// An application credential beside `trust-id`.
    TrustWins,
    /// `trustee-*` without `trust-id`.
    WithoutTrust,
    /// `cafilecontents` beside `ca-file`.
    CaFileWins,
    /// `cert-file` without `key-file` or the other way round.
    WithoutPartner(Key),
}

impl fmt::Display for Ineffective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutUseClouds => f.write_str("add `use-clouds = true` or remove it"),
            Self::CredentialWins => {
                f.write_str("the application credential is used; remove one of the two")
            }
            Self::TokenWins => f.write_str("`token` is used; remove one of the two"),
            Self::TrustWins => f.write_str(
                "a trust takes a password, not an application credential; remove one of the two",
            ),
            Self::WithoutTrust => f.write_str("it counts together with `trust-id` only"),
            Self::CaFileWins => f.write_str("`ca-file` is used; remove one of the two"),
            Self::WithoutPartner(partner) => {
                write!(
                    f,
                    "no client certificate is used; set `{}` too",
                    partner.name()
                )
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommentInValue(place) => write!(
                f,
                "{place}: a comment begins within the value and cuts it off; put the value into \
                 double quotes, or a blank before the comment"
            ),
            Self::SingleQuotes(place) => write!(
                f,
                "{place}: the single quotes are part of the value; write double quotes"
            ),
            Self::UnknownKey { place, meant } => {
                write!(f, "{place}: there is no such key, it is ignored")?;
                match meant {
                    None => Ok(()),
                    Some(key) => write!(f, "; did you mean {key}?"),
                }
            }
            Self::UnknownSection { place, meant } => write!(
                f,
                "{place}: the section is ignored; did you mean [{}]?",
                meant.name()
            ),
            Self::Ineffective { place, reason } => write!(f, "{place}: has no effect: {reason}"),
            Self::Overruled { place, by, cloud } => {
                write!(f, "{place}: has no effect: ")?;
                match (by, cloud) {
                    (Some(by), None) => write!(f, "{by} says something else and counts")?,
                    (Some(by), Some(cloud)) => write!(
                        f,
                        "{by} says something else and counts, since {cloud} has who logs in taken \
                         from there"
                    )?,
                    (None, Some(cloud)) => write!(
                        f,
                        "{cloud} has all that says who logs in taken from clouds.yaml"
                    )?,
                    (None, None) => f.write_str("it is not used")?,
                }
                f.write_str("; remove one of the two")
            }
            Self::CloudAlone(place) => write!(
                f,
                "{place}: who logs in is taken from clouds.yaml, all else from here; add \
                 `use-clouds = true` to have the rest from there too, or remove it"
            ),
            Self::Entry { place, doubt } => write!(f, "{place}: {doubt}"),
            Self::OddMarks { place, marks } => write!(f, "{place}: {marks}"),
            Self::VerificationOff(place) => write!(
                f,
                "{place}: CERTIFICATES ARE NOT VERIFIED: whoever can reach the network path can \
                 take the credentials and the key; set ca-file instead"
            ),
            Self::VerificationStaysOn(place) => write!(
                f,
                "{place}: certificates are still verified; only the exact text `true` turns that \
                 off"
            ),
            Self::DuplicateKeyId { place, id } => {
                write!(
                    f,
                    "{place}: key {id} is named twice; one of them is ignored"
                )
            }
            Self::ShortCacheAge { place, interval } => write!(
                f,
                "{place}: one confirmation that fails can wipe a good key, since \
                 revalidate-interval is {}; write {} or more, or 0 for no limit",
                format_duration(*interval),
                format_duration(*interval * 2)
            ),
            Self::WorldReadable { file, mode } => write!(
                f,
                "{}: every user of the host can read the credentials in it (mode {mode:04o}); run \
                 `chmod 600` on it",
                redact::path(file)
            ),
        }
    }
}
