//! `KeyProblem`: why a key is not loaded, or not confirmed.

use std::fmt;

/// The problem that prevents a key from being loaded or confirmed. Each has one fixed text, which
/// kube-apiserver may show to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// Not tried yet.
    Pending,
    /// OpenStack did not answer.
    Unavailable,
    /// Keystone refused the credentials.
    Login,
    /// Barbican refused access.
    Denied,
    /// Barbican has no such secret, or it has expired.
    NotFound,
    /// The payload is not an AES key.
    NotAKey,
    /// Another user has created it than the configuration says.
    Foreign,
    /// The payload differs from the one that is held.
    Altered,
    /// The download has panicked.
    Crashed,
    /// Wiped: unconfirmed for longer than `max-cache-age`, and no attempt has failed:
    /// the last one still goes on.
    Unconfirmed,
}

impl KeyProblem {
    /// The word used in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unavailable => "unavailable",
            Self::Login => "login-refused",
            Self::Denied => "access-denied",
            Self::NotFound => "not-found",
            Self::NotAKey => "not-a-key",
            Self::Foreign => "foreign",
            Self::Altered => "altered",
            Self::Crashed => "crashed",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// Whether Barbican itself has said that it will not give this key out, whoever waits.
    pub(super) fn is_refusal(self) -> bool {
        self.is_final() || matches!(self, Self::Denied | Self::Foreign)
    }

    /// Whether Barbican itself has answered, which it does only after Keystone has accepted the
    /// login.
    pub(super) fn is_an_answer(self) -> bool {
        self.withholds().is_some()
    }

    /// Whether Barbican keeps the key back; `None` where it has said nothing about it.
    pub(super) fn withholds(self) -> Option<bool> {
        match self {
            Self::NotFound | Self::Denied => Some(true),
            Self::NotAKey | Self::Foreign | Self::Altered => Some(false),
            Self::Pending | Self::Unavailable | Self::Login | Self::Crashed | Self::Unconfirmed => {
                None
            }
        }
    }

    /// Whether Barbican itself has said that there is no such key to be had.
    pub fn is_final(self) -> bool {
        matches!(self, Self::NotFound | Self::NotAKey)
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "it is being loaded",
            Self::Unavailable => "OpenStack is unavailable",
            Self::Login => "Keystone refuses the login",
            Self::Denied => "Barbican refuses access to it",
            Self::NotFound => "Barbican has no such secret",
            Self::NotAKey => "the secret is not an AES key",
            Self::Foreign => "another user has created it than key-container-owner says",
            Self::Altered => "the secret has changed in Barbican",
            Self::Crashed => "its download crashed, which is a bug",
            Self::Unconfirmed => "Barbican has not confirmed it within max-cache-age",
        })
    }
}
