//! `Listing`: what a container in Barbican says about the keys of a ring. Pure.
//!
//! Made by a [`super::KeySource`], read by the roster. A reference that is named by a
//! time in UTC makes its secret the write key from then on; under any other name it can
//! be read, no more. Invariant: of a reference's href only the UUID counts, so no
//! container can make anybody ask another server, or for anything but a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::key_id::KeyId;

/// The references of one container, as they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In no order.
    pub references: Vec<Reference>,
}

/// One secret of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name in the container, which may be empty.
    pub name: String,
    /// The secret's href, whose host is Barbican's own idea of its name.
    pub secret_ref: String,
}

/// The keys that a listing comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedKeys {
    /// Each key, and from when on it is the write key: the earliest of its times.
    pub keys: BTreeMap<KeyId, Option<SystemTime>>,
    /// What is ignored, and why: for a person.
    pub warnings: Vec<String>,
}

/// What keeps a container from being followed. Each has one fixed text, which
/// kube-apiserver may show to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerProblem {
    /// Not read yet.
    Pending,
    /// OpenStack did not answer.
    Unavailable,
    /// Keystone refused the credentials.
    Login,
    /// Barbican refused access.
    Denied,
    /// Barbican has no such container.
    NotFound,
    /// It is of another type.
    NotGeneric,
    /// Its description is longer than what is read.
    TooLarge,
    /// The answer is none that Barbican gives.
    Invalid,
    /// It lists no key.
    Empty,
    /// It lists no key whose time has come.
    NoActiveKey,
    /// The reading has panicked.
    Crashed,
}

impl ContainerProblem {
    /// Every problem.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Unavailable,
        Self::Login,
        Self::Denied,
        Self::NotFound,
        Self::NotGeneric,
        Self::TooLarge,
        Self::Invalid,
        Self::Empty,
        Self::NoActiveKey,
        Self::Crashed,
    ];

    /// The word used in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unavailable => "unavailable",
            Self::Login => "login-refused",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::NotGeneric => "not-generic",
            Self::TooLarge => "too-large",
            Self::Invalid => "invalid",
            Self::Empty => "empty",
            Self::NoActiveKey => "no-active-key",
            Self::Crashed => "crashed",
        }
    }
}

impl fmt::Display for ContainerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "it is being read",
            Self::Unavailable => "OpenStack is unavailable",
            Self::Login => "Keystone refuses the login",
            Self::Denied => "Barbican refuses access to it",
            Self::NotFound => "Barbican has no such container",
            Self::NotGeneric => "it is not of type generic",
            Self::TooLarge => "it is larger than 64 KiB",
            Self::Invalid => "the answer is not a container's description",
            Self::Empty => "it lists no key",
            Self::NoActiveKey => "it lists no key whose time has come",
            Self::Crashed => "its reading crashed, which is a bug",
        })
    }
}

impl Listing {
    /// What it says about keys.
    pub fn keys(&self) -> ListedKeys {
        let mut listed = ListedKeys::default();
        for reference in &self.references {
            // Quoted below, so that nothing unprintable comes through.
            let shown: String = reference.name.chars().take(SHOWN_CHARS).collect();
            let Some(id) = secret(&reference.secret_ref) else {
                let why = "its href has no secret's UUID after /secrets/";
                listed.warn(format!("the reference {shown:?} is ignored: {why}"));
                continue;
            };
            let time = match Meaning::of(&reference.name) {
                Meaning::From(time) => Some(time),
                Meaning::Staged => None,
                Meaning::NearlyATime => {
                    listed.warn(format!(
                        "the reference {shown:?} of {id} makes no write key: its name is no time \
                         in UTC like 2026-12-01T09:00:00Z; add the key again under a right one"
                    ));
                    None
                }
            };
            let known = listed.keys.entry(id).or_default();
            *known = match (*known, time) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        listed
    }
}

impl ListedKeys {
    fn warn(&mut self, text: String) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(text);
        }
    }
}

/// How much of a name is shown.
const SHOWN_CHARS: usize = 64;

/// Nobody reads more of them.
const MOST_WARNINGS: usize = 16;

/// What the name of a reference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Write key from then on.
    From(SystemTime),
    /// Readable.
    Staged,
    /// Readable, and probably a mistake.
    NearlyATime,
}

impl Meaning {
    /// A time is one of RFC 3339 in UTC, written with `T` and `Z` in either case. Anything
    /// that begins like a date and is no such time is a mistake, and makes nothing a write key.
    fn of(name: &str) -> Self {
        if let Some(time) = utc_time(name) {
            return Self::From(time);
        }
        let mut bytes = name.trim_start().bytes();
        let digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
        let year = (0..4).all(|_| digit(bytes.next()));
        let month = bytes.next() == Some(b'-') && digit(bytes.next());
        if year && month {
            Self::NearlyATime
        } else {
            Self::Staged
        }
    }
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, and nothing that is only like it. A leap
/// second is none: the clocks that it is compared with have none. The `openstack` command
/// writes the names of a container in lower case, as RFC 3339 allows.
pub(super) fn utc_time(text: &str) -> Option<SystemTime> {
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let text = text.to_ascii_uppercase();
    let (head, tail) = text.as_bytes().split_at_checked(shape.len())?;
    let fits = head.iter().zip(shape).all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        literal => byte == literal,
    });
    let fraction = tail.strip_suffix(b"Z")?;
    let has_fraction = match fraction.split_first() {
        None => true,
        Some((b'.', digits)) => {
            (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
        Some(_) => false,
    };
    if !fits || !has_fraction || head.ends_with(b":60") {
        return None;
    }
    let civil: DateTime = text.strip_suffix('Z')?.parse().ok()?;
    let time: Timestamp = Offset::UTC.to_timestamp(civil).ok()?;
    let since = time.as_duration();
    let (epoch, far) = (SystemTime::UNIX_EPOCH, since.unsigned_abs());
    if since.is_negative() {
        epoch.checked_sub(far)
    } else {
        epoch.checked_add(far)
    }
}

/// The secret of an href, without a suffix: in a container the UUID is the key id.
pub(super) fn secret(href: &str) -> Option<KeyId> {
    let (_, last) = href.rsplit_once("/secrets/")?;
    let id: KeyId = last.strip_suffix('/').unwrap_or(last).parse().ok()?;
    (id.with_suffix(None) == Ok(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

    fn time(text: &str) -> SystemTime {
        let time: Timestamp = text.parse().expect("a time");
        system(time)
    }

    fn system(time: Timestamp) -> SystemTime {
        let far = Duration::from_secs(62_135_596_800);
        let since = time.as_duration() + far.try_into().expect("short");
        SystemTime::UNIX_EPOCH - far + since.unsigned_abs()
    }

    fn listing(references: &[(&str, &str)]) -> Listing {
        let references = references.iter().map(|(name, secret)| Reference {
            name: (*name).to_owned(),
            secret_ref: format!("https://b/v1/secrets/{secret}"),
        });
        Listing {
            references: references.collect(),
        }
    }

    #[test]
    fn a_time_in_utc_makes_a_write_key() {
        for name in [
            "2026-12-01T09:00:00Z",
            "2026-12-01t09:00:00z",
            "2026-12-01T09:00:00.5Z",
            "2024-02-29T23:59:59.123456789Z",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(Meaning::of(name), Meaning::From(time(name)), "{name}");
        }
    }

    #[test]
    fn what_is_nearly_a_time_makes_no_write_key_and_is_warned_about() {
        for name in [
            "2026-12-01",
            "2026-12-01T09:00Z",
            "2026-12-01T09:00:00",
            "2026-12-01 09:00:00Z",
            " 2026-12-01T09:00:00Z",
            "2026-12-01T09:00:00Z ",
            "2026-12-01T09:00:00+00:00",
            "2026-12-01T09:00:00+01:00",
            "2026-12-01T09:00:00-05:00",
            "2026-12-01T09:00:00.Z",
            "2026-12-01T09:00:00,5Z",
            "2026-12-01T09:00:00.1234567890Z",
            "2026-12-01T09:00:00ZZ",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-12-32T00:00:00Z",
            "2026-12-01T24:00:00Z",
            "2026-12-01T09:60:00Z",
            "2016-12-31T23:59:60Z",
            // Beyond what can be represented; it would never come.
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(Meaning::of(name), Meaning::NearlyATime, "{name}");
            let listed = listing(&[(name, UUID)]).keys();
            assert_eq!(listed.keys.values().collect::<Vec<_>>(), [&None], "{name}");
            let named = listed.warnings.first().expect("a warning");
            assert!(named.contains(UUID), "{named}");
        }
    }

    #[test]
    fn any_other_name_makes_a_key_readable_without_a_warning() {
        for name in [
            "",
            "staged",
            "k8s",
            "staged 2026-11-26T10:50:00Z",
            "10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "20261201T090000Z",
        ] {
            let listed = listing(&[(name, UUID)]).keys();
            assert_eq!(listed.keys.values().collect::<Vec<_>>(), [&None], "{name}");
            assert!(listed.warnings.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_earliest_time_of_a_key_counts() {
        let names = ["2026-12-01T09:00:00Z", "k8s", "2026-11-01T00:00:00Z", ""];
        let listed = listing(&names.map(|name| (name, UUID))).keys();
        let times: Vec<_> = listed.keys.into_iter().collect();
        let earliest = time("2026-11-01T00:00:00Z");
        assert_eq!(times, [(UUID.parse().expect("a UUID"), Some(earliest))]);
    }

    #[test]
    fn of_an_href_only_the_uuid_counts() {
        let upper = UUID.to_uppercase();
        for href in [
            format!("http://elsewhere.example/v1/secrets/{UUID}"),
            format!("https://user:word@host:1/prefix/v1/secrets/{upper}/"),
            format!("/secrets/{UUID}"),
        ] {
            let id = secret(&href).expect("a secret");
            assert_eq!(id.to_string(), UUID, "{href}");
        }
    }

    #[test]
    fn a_reference_to_anything_but_a_secret_is_ignored_with_a_warning_and_the_rest_counts() {
        for href in [
            String::new(),
            UUID.to_owned(),
            format!("https://b/v1/orders/{UUID}"),
            format!("https://b/v1/containers/{UUID}"),
            format!("https://b/v1/secrets/{UUID}/payload"),
            format!("https://b/v1/secrets/{UUID}_002"),
            format!("https://b/v1/secrets/{UUID}?x"),
            "https://b/v1/secrets/../acl".to_owned(),
        ] {
            let mut listing = listing(&[("k8s", "11111111-2222-3333-4444-555555555555")]);
            listing.references.push(Reference {
                name: "bad".to_owned(),
                secret_ref: href.clone(),
            });
            let listed = listing.keys();
            assert_eq!(listed.keys.len(), 1, "{href}");
            assert_eq!(listed.warnings.len(), 1, "{href}");
            assert!(listed.warnings.concat().contains("bad"), "{href}");
        }
    }

    #[test]
    fn warnings_have_an_end() {
        let bad = Reference {
            name: "x".to_owned(),
            secret_ref: String::new(),
        };
        let listing = Listing {
            references: vec![bad; 500],
        };
        assert_eq!(listing.keys().warnings.len(), MOST_WARNINGS);
    }

    proptest! {
        #[test]
        fn any_name_and_href_has_a_meaning(name in "\\PC{0,40}", href in "\\PC{0,80}") {
            let reference = Reference { name, secret_ref: href };
            let listed = Listing { references: vec![reference] }.keys();
            prop_assert!(listed.keys.len() + listed.warnings.len() >= 1);
        }

        #[test]
        fn any_time_in_utc_is_read_as_jiff_reads_it(second in -62_135_596_800_i64..253_370_764_800) {
            let time = Timestamp::from_second(second).expect("in range");
            prop_assert_eq!(Meaning::of(&time.to_string()), Meaning::From(system(time)));
        }
    }
}
