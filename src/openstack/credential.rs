//! When the application credential ends: what logins and Keystone tell about it.
//!
//! Used by `session`. Pure. Invariant: what is said to be its end is one that Keystone
//! has named, as the credential's own or as that of tokens it has cut down to it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::keystone::Account;

/// So long before its end it is to be replaced.
pub const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often the log says so.
const REPEAT: Duration = Duration::from_secs(24 * 3600);

/// What is known about the end of an application credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialEnd {
    /// Then.
    At(Timestamp),
    /// It has none.
    Never,
    /// Keystone does not tell this credential, and it is further away than a token's life.
    #[default]
    Unknown,
}

impl CredentialEnd {
    /// When it ends, if it does and that is known.
    pub(super) fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(end) => Some(end),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// What is known of one application credential.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Keystone's own word: a credential cannot be changed, so it is asked for once.
    told: CredentialEnd,
    /// When the last token was made, and when it ends.
    last: Option<(Timestamp, Timestamp)>,
    /// By the tokens.
    cut: Option<Timestamp>,
    /// When the log last said that it ends soon.
    last_logged: Option<Instant>,
}

impl Ending {
    /// Whether Keystone has not told it yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.told == CredentialEnd::Unknown
    }

    /// A login has brought a token, and `told` what Keystone says about the credential.
    pub(super) fn note(&mut self, account: &Account, told: CredentialEnd) {
        if account.application_credential.is_none() {
            *self = Self::default();
            return;
        }
        if told != CredentialEnd::Unknown {
            self.told = told;
        }
        let (Some(made), Some(end)) = (account.issued_at, account.expires_at) else {
            return;
        };
        if let Some((earlier, earlier_end)) = self.last
            && made.as_second() > earlier.as_second()
        {
            // A token that lives shorter than the one before was cut as well. Half a
            // life is no rounding, and no operator's change of a minute.
            let shorter = end.duration_since(made) * 2 < earlier_end.duration_since(earlier);
            self.cut = (end.as_second() == earlier_end.as_second() || shorter).then_some(end);
        }
        self.last = Some((made, end));
    }

    /// When it ends: by Keystone's own word, else by the tokens.
    pub(super) fn end(&self) -> CredentialEnd {
        match (self.told, self.cut) {
            (CredentialEnd::Unknown, Some(end)) => CredentialEnd::At(end),
            (told, _) => told,
        }
    }

    /// Whether the log is to say now that it ends soon.
    pub(super) fn due(&mut self, now: Timestamp, at: Instant) -> bool {
        let soon = self.end().at().is_some_and(|end| is_soon(end, now, SOON));
        let new = self
            .last_logged
            .is_none_or(|last| at.saturating_duration_since(last) >= REPEAT);
        if soon && new {
            self.last_logged = Some(at);
        }
        soon && new
    }
}

fn is_soon(end: Timestamp, now: Timestamp, soon: Duration) -> bool {
    jiff::SignedDuration::try_from(soon).is_ok_and(|soon| end.duration_since(now) < soon)
}

/// How long it is until then, in words.
pub fn time_left(end: Timestamp, now: Timestamp) -> String {
    let left = end.duration_since(now);
    match (left.as_hours(), left.as_mins()) {
        (48.., _) => format!("{} days", left.as_hours() / 24),
        (2.., _) => format!("{} hours", left.as_hours()),
        (_, 2..) => format!("{} minutes", left.as_mins()),
        _ => format!("{} s", left.as_secs().max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::ApplicationCredential;

    fn account(made: &str, end: &str) -> Account {
        let at = |time: &str| Some(format!("2026-01-01T{time}Z").parse().expect("a time"));
        Account {
            issued_at: at(made),
            expires_at: at(end),
            application_credential: Some(ApplicationCredential {
                id: None,
                name: None,
                restricted: None,
                access_rules: None,
            }),
            ..Account::default()
        }
    }

    fn end(logins: &[(&str, &str)]) -> Option<String> {
        let mut ending = Ending::default();
        for (made, end) in logins {
            ending.note(&account(made, end), CredentialEnd::Unknown);
        }
        ending.end().at().map(|end| end.to_string())
    }

    #[test]
    fn two_tokens_that_end_together_tell_the_end() {
        let found = Some("2026-01-01T01:30:00Z".to_owned());
        assert_eq!(
            end(&[("01:00:00", "01:30:00"), ("01:00:02", "01:30:00")]),
            found
        );
        assert_eq!(
            end(&[("00:10:00", "01:10:00"), ("01:20:00", "01:30:00")]),
            found
        );
    }

    #[test]
    fn tokens_of_one_length_or_of_one_second_tell_nothing() {
        assert_eq!(end(&[("01:00:00", "02:00:00")]), None);
        assert_eq!(
            end(&[("01:00:00", "02:00:00"), ("01:00:02", "02:00:02")]),
            None
        );
        assert_eq!(
            end(&[("01:00:00", "02:00:00"), ("01:00:00", "02:00:00")]),
            None
        );
        assert_eq!(
            end(&[("01:00:00", "02:00:00"), ("01:48:00", "02:47:59")]),
            None
        );
    }

    #[test]
    fn keystones_own_word_counts_more() {
        let mut ending = Ending::default();
        ending.note(&account("01:00:00", "01:30:00"), CredentialEnd::Never);
        ending.note(&account("01:00:02", "01:30:00"), CredentialEnd::Unknown);
        assert_eq!(ending.end(), CredentialEnd::Never);
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_ends_soon_is_said_once_a_day() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut ending = Ending::default();
        let late: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a time");
        ending.note(&account("00:00:00", "01:00:00"), CredentialEnd::At(late));
        assert!(!ending.due(now, Instant::now()));
        let soon: Timestamp = "2026-01-21T00:00:00Z".parse().expect("a time");
        ending.note(&account("00:00:00", "01:00:00"), CredentialEnd::At(soon));
        assert!(ending.due(now, Instant::now()));
        assert!(!ending.due(now, Instant::now()));
        tokio::time::advance(REPEAT).await;
        assert!(ending.due(now, Instant::now()));
        assert_eq!(time_left(soon, now), "20 days");
    }
}
